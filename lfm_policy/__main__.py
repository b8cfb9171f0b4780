"""``python -m lfm_policy``: the same as the command ``lfm-policy``."""

from __future__ import annotations

from lfm_policy.cli.main import entry_point

if __name__ == "__main__":
    entry_point()
