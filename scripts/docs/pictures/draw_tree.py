"""Pictures of docs/flow.md: a tree in the plane, as it is and as flows learn it.

The code is that of the page, which is read and run here: what the pictures show is what it says.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from look import page_figure, plain, save_picture
from matplotlib.axes import Axes
from torch import Tensor

from lfm_policy.flow import SolverSpec, log_prob
from lfm_policy.pictures import Theme, drawing

PAGE = Path(__file__).resolve().parents[3] / "docs" / "flow.md"
N_BLOCKS, STEPS, ROWS, WIDTH = 6, 2_000, 200_000, 128
"""Those of the page."""
WIDER = 316
"""Of one network with as many weights as six have."""
SOLVER = SolverSpec("midpoint", 16)
REACH = (-2.1, 1.8)
"""What is drawn of the plane."""


def draw(folder: Path, *, quick: bool) -> list[Path]:
    """Draw them all into a folder; ``quick``: as rough as it may be."""
    steps, n_rows, n_points = (2, 2_000, 300) if quick else (STEPS, ROWS, 10_000)
    began = time.process_time()
    names = of_the_page(steps, n_rows)
    print(f"the code of the page: {time.process_time() - began:.0f} s of one thread")
    tree, held_out = names["tree"], names["held_out"][: 50 if quick else None]
    chains = {"N = 6": names["chain"]}
    for name, width in (("N = 1", WIDTH), ("N = 1, as large as six", WIDER)):
        torch.manual_seed(0)
        x = tree.sample(n_rows)
        chains[name] = names["estimate"](x, 1, N_BLOCKS * steps, width)
    shown = {f"the tree itself: {tree.log_prob(held_out).mean():.2f}": tree.sample(n_points)}
    for name in ("N = 1", "N = 1, as large as six", "N = 6"):
        found = log_prob(chains[name], held_out, solver=SolverSpec("dopri5")).log_prob.mean()
        with torch.no_grad():
            points = chains[name].sample(torch.randn(n_points, 2), solver=SOLVER).x
        shown[f"{name}: {found:.2f}"] = points
    return [
        draw_trees(folder / "flow_tree.png", shown),
        draw_pushed(folder / "flow_pushed.png", names["chain"], tree.sample(n_points)),
    ]


def of_the_page(steps: int, n_rows: int) -> dict[str, Any]:
    """Run the first two blocks of Python of the page; returns the names that they define.

    Args:
        steps: gradient steps of each block, in place of those of the page.
        n_rows: points to learn from, in the same way.
    """
    page = PAGE.read_text(encoding="utf-8")
    (_, tree), (_, estimator), *_ = re.findall(r"^```python(.*?)\n(.*?)^```", page, re.M | re.S)
    for there, wanted in ((f"steps={STEPS:_})", f"steps={steps})"), (f"{ROWS:_}", str(n_rows))):
        if there not in estimator:
            raise ValueError(f"{PAGE}: '{there}' is not found in the estimator")
        estimator = estimator.replace(there, wanted)
    names: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tree.py").write_text(tree, encoding="utf-8")
        sys.path.insert(0, folder)
        try:
            exec(estimator, names)
        finally:
            sys.path.remove(folder)
            sys.modules.pop("tree", None)
    return names


def draw_trees(path: Path, shown: dict[str, Tensor]) -> Path:
    """Draw points of each distribution, with its title."""
    with drawing() as theme:
        picture = page_figure(4.6)
        panels: Any = picture.subplots(2, 2)
        for axes, (title, points) in zip(panels.flat, shown.items(), strict=True):
            _scatter(axes, points, theme, theme.policy_colour())
            axes.set_title(title, fontsize=9.5)
        return save_picture(picture, path)


def draw_pushed(path: Path, chain: Any, points: Tensor) -> Path:
    """Draw the data as one block after the other pushes them on, up to the noise."""
    with drawing() as theme:
        picture = page_figure(3.4)
        panels: Any = picture.subplots(2, 3)
        for n, axes in zip((0, 1, 3, 4, 5, 6), panels.flat, strict=True):
            pushed = points
            if n:
                with torch.no_grad():
                    pushed = chain.push_forward(points, solver=SOLVER, last=n).x
            _scatter(axes, pushed, theme, theme.block_colour(n) if n else theme.ink)
            axes.set_title(f"$p_{n}$" + {0: ", data", 6: ", noise"}.get(n, ""), fontsize=9.5)
        return save_picture(picture, path)


def _scatter(axes: Axes, points: Tensor, theme: Theme, colour: str) -> None:
    plain(axes)
    axes.plot(*points.T, ".", color=colour, alpha=0.35, markersize=1.4, markeredgewidth=0)
    axes.set(xlim=REACH, ylim=REACH, aspect="equal")
