"""Pictures of the site: the script makes what pages show, and its exact blocks are exact."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from lfm_policy.flow import GaussianBlockVelocity, OUSchedule, OUStep, SolverSpec, log_prob

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts" / "docs" / "pictures"
IMAGES = ROOT / "docs" / "how" / "images"
LARGEST = 150_000
SHOWN = re.compile(r"!\[([^\]]*)\]\(((?:how/)?images/[\w.]+)\)")


def shown() -> dict[str, set[str]]:
    """Return which pictures pages show, by the name of the page."""
    pages = [ROOT / "docs" / "flow.md", *(ROOT / "docs" / "how").glob("*.md")]
    return {
        page.name: {Path(path).name for _, path in SHOWN.findall(page.read_text("utf-8"))}
        for page in pages
    }


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "/").parent == SCRIPTS:
            del sys.modules[name]


def test_pages_show_what_is_there_and_say_what_it_is() -> None:
    on_pages = set().union(*shown().values())
    assert on_pages == {path.name for path in IMAGES.iterdir()}
    assert all(shown().values()), "a page without a picture"
    for page in (ROOT / "docs" / "flow.md", *(ROOT / "docs" / "how").glob("*.md")):
        assert all(len(alt) > 20 for alt, _ in SHOWN.findall(page.read_text("utf-8"))), page


@pytest.mark.parametrize("path", sorted(IMAGES.iterdir()), ids=lambda path: path.name)
def test_a_picture_is_light_and_wide_enough(path: Path) -> None:
    assert path.stat().st_size <= LARGEST
    with Image.open(path) as image:
        assert image.format == "PNG" and 700 <= image.width <= 800


@pytest.mark.slow
@pytest.mark.simulator
@pytest.mark.parametrize(
    "page",
    [
        *("lfm", "one_evaluation", "diffusion", "distillation", "noise", "guidance"),
        *("blocks", "joining", "tree"),
    ],
)
def test_the_script_makes_what_pages_show(scripts: None, page: str, tmp_path: Path) -> None:
    from make_pictures import PAGES, make

    assert page in PAGES
    made = make([page], tmp_path, quick=True)
    names = {"noise": "noise_scale", "blocks": "encoders_and_blocks", "tree": "flow"}
    assert {path.name for path in made} == shown()[f"{names.get(page, page)}.md"]
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in made}


@pytest.mark.slow
def test_the_same_picture_has_the_same_bytes(scripts: None, tmp_path: Path) -> None:
    from make_pictures import make

    twice = [make(["joining", "blocks"], tmp_path / name, quick=True) for name in ("a", "b")]
    for first, second in zip(*twice, strict=True):
        assert first.read_bytes() == second.read_bytes()


@pytest.fixture
def mixture(scripts: None) -> Any:
    from mixture import Mixture

    weights, means = torch.tensor([0.3, 0.7]), torch.tensor([[-0.5, 1.0], [0.8, -0.2]])
    return Mixture(weights.double(), means.double(), 0.3)


@pytest.mark.parametrize("step", [OUStep(0.2), OUStep(None)], ids=["step", "free"])
def test_the_velocity_of_one_mode_is_the_gaussian_one(mixture: Any, step: OUStep) -> None:
    from mixture import Mixture, MixtureVelocity

    mean = mixture.means[:1]
    one = MixtureVelocity(Mixture(torch.ones(1).double(), mean, 0.3), step)
    exact = GaussianBlockVelocity(mean[0], 0.09 * torch.eye(2).double(), step)
    x, t = torch.randn(5, 2).double(), torch.full((5,), 0.4).double()
    torch.testing.assert_close(one(x, t), exact(x, t))


@pytest.mark.parametrize("step_sizes", [(), (0.01, 0.1), (0.3,)], ids=str)
def test_exact_blocks_have_the_density_of_the_mixture(
    mixture: Any, step_sizes: tuple[float, ...]
) -> None:
    from mixture import exact_chain

    torch.manual_seed(0)
    x = mixture.sample(8)
    found = log_prob(exact_chain(mixture, step_sizes), x, solver=SolverSpec("midpoint", 200))
    torch.testing.assert_close(found.log_prob, mixture.log_prob(x), atol=5e-3, rtol=0)


def test_a_mixture_after_steps_is_that_of_the_process(mixture: Any) -> None:
    schedule = OUSchedule((0.2, 0.3))
    step_by_step = mixture.after(schedule.step(1)).after(schedule.step(2))
    at_once = mixture.after(schedule.marginal(2))
    torch.testing.assert_close(step_by_step.means, at_once.means)
    assert step_by_step.std == pytest.approx(at_once.std)
    assert mixture.between(OUStep(0.4), 1.0).std == pytest.approx(mixture.after(OUStep(0.4)).std)
    assert mixture.after(OUStep(None)).std == 1
