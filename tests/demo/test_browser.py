"""The page in a real browser."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.browser

WIDTH, HEIGHT = 1280, 2400


@pytest.fixture(scope="module")
def browser() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    pytest.skip("there is no chromium to look at the page with")


def look(browser: str, page: Path, profile: Path, *flags: str) -> str:
    """Open the page without a window; returns what the browser prints."""
    done = subprocess.run(
        [
            browser,
            *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--disable-dev-shm-usage", "--hide-scrollbars", "--virtual-time-budget=3000"),
            *(f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}"),
            *flags,
            page.as_uri(),
        ],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout


@pytest.mark.parametrize("dark", [False, True])
def test_it_looks_like_something(
    browser: str, demo_folder: Path, tmp_path: Path, dark: bool
) -> None:
    shot = tmp_path / "shot.png"
    flags = ["--blink-settings=preferredColorScheme=0"] if dark else []
    look(browser, demo_folder / "demo.html", tmp_path / "p", f"--screenshot={shot}", *flags)
    image = Image.open(shot).convert("RGB")
    assert image.size == (WIDTH, HEIGHT)
    pixels = np.asarray(image)
    # Some colours of the page at its edge, and many more of pictures and text inside.
    background = pixels[5, 5]
    assert (background < 60).all() if dark else (background > 220).all()
    colours = np.unique(pixels[::3, ::3].reshape(-1, 3), axis=0)
    assert len(colours) > 200
    # No part of it is empty: every stretch of it has something on it.
    for part in np.array_split(pixels, 8):
        assert part.std() > 2


def test_the_browser_finds_tables_and_loads_every_picture(
    browser: str, demo_folder: Path, tmp_path: Path
) -> None:
    # A copy that says in its title which pictures could not be shown.
    script = (
        "<script>addEventListener('load',()=>{document.title='broken '+[...document.images]"
        ".filter(i=>!i.naturalWidth).length+' of '+document.images.length+', wide '"
        "+(document.documentElement.scrollWidth>innerWidth)})</script></body>"
    )
    text = (demo_folder / "demo.html").read_text(encoding="utf-8")
    copy = tmp_path / "demo.html"
    copy.write_text(text.replace("</body>", script), encoding="utf-8")
    page = look(browser, copy, tmp_path / "p", "--dump-dom")
    assert "<title>broken 0 of 3, wide false</title>" in page
    assert page.count("<table") == 3
    assert '<th scope="row">Student, 2 evaluations</th>' in page
    # The script has run.
    assert page.count("<button") == page.count('<article class="films"') >= 2
