"""Pages of docs/results/, and numbers elsewhere, from what was measured: see `write.py`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
RESULTS = ROOT / "docs" / "results"
DATA = RESULTS / "data"
FIGURES = RESULTS / "figures"
TEMPLATES = ROOT / "scripts" / "results" / "pages"

# What the studies measure is listed beside the scripts that do it, and those of the model cards are
# made by a script as well; neither is a package.
for _folder in ("studies", "tools"):
    sys.path.append(str(ROOT / "scripts" / _folder))
