"""Pictures of the tutorials are parts of what commands drew, light, and described in words."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lfm_policy.evaluation.recording import write_video

ROOT = Path(__file__).resolve().parents[2]
TUTORIALS = ROOT / "docs" / "tutorials"


@pytest.fixture
def drawing(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts" / "docs"))
    import tutorial_pictures

    return tutorial_pictures


def test_every_picture_is_drawn_shown_and_light(drawing: Any) -> None:
    pages = "\n".join(page.read_text("utf-8") for page in TUTORIALS.glob("*.md"))
    shown = re.findall(r"!\[([^\]]{20,})\]\(pictures/(\w+)\.png\)", pages)
    there = {path.stem for path in (TUTORIALS / "pictures").iterdir()}
    assert {name for _, name in shown} == there == set(drawing.DRAWN)
    for path in (TUTORIALS / "pictures").iterdir():
        assert path.stat().st_size <= drawing.HEAVIEST, path.name


def test_a_part_and_a_strip(drawing: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    half = np.zeros((40, 80, 3), np.uint8)
    half[:, 40:] = 255
    Image.fromarray(half).save(tmp_path / "half.png")
    part = drawing.Part("half.png", left=0.5, width=20).draw(tmp_path / "half.png")
    assert part.size == (20, 20) and np.asarray(part).min() == 255
    write_video(tmp_path / "film.mp4", [np.full((40, 60, 3), 60 * n, np.uint8) for n in range(4)])
    strip = drawing.Strip("film.mp4", frames=2, height=40).draw(tmp_path / "film.mp4")
    assert strip.size == (126, 40)
    first, last = (np.asarray(strip)[20, x].mean() for x in (30, 96))
    assert first < 20 and last > 160
    monkeypatch.setattr(drawing, "PICTURES", tmp_path)
    drawn = {"white": drawing.Part("half.png"), "no": drawing.Strip("no.mp4")}
    monkeypatch.setattr(drawing, "DRAWN", drawn)
    monkeypatch.setattr(sys, "argv", ["tutorial_pictures.py", str(tmp_path)])
    drawing.main()
    with Image.open(tmp_path / "white.png") as image:
        assert image.size == (1000, 500)
    assert not (tmp_path / "no.png").exists()
