"""The page of a demo: what it says, and that it needs nothing from anywhere else."""

from __future__ import annotations

import base64
import html
import io
import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import av
import pytest
from PIL import Image

from lfm_policy.evaluation import EpisodeResult
from lfm_policy.evaluation.episodes import describe_outcome

pytestmark = pytest.mark.slow

POLICIES = ("teacher", "student-nfe2", "student-nfe1")
SECTIONS = ("results", "flow", "rollouts", "training", "made")


@pytest.fixture(scope="module")
def reports(demo_folder: Path) -> dict[str, dict[str, Any]]:
    return {
        name: json.loads((demo_folder / "eval" / name / "eval.json").read_text())
        for name in POLICIES
    }


def embedded(page: str, kind: str) -> list[bytes]:
    """Return everything of one media type that the page holds."""
    found = re.findall(rf'"data:{re.escape(kind)};base64,([^"]+)"', page)
    return [base64.b64decode(text, validate=True) for text in found]


def test_the_table_holds_the_numbers_of_the_evaluations(
    page: str, reports: dict[str, dict[str, Any]], demo_folder: Path
) -> None:
    summary_of_demo = json.loads((demo_folder / "demo.json").read_text())
    for policy in summary_of_demo["policies"]:
        (cell,) = reports[policy["name"]]["cells"]
        summary, latency = cell["summary"], cell["latency"]
        assert policy["summary"] == summary and policy["latency"] == latency
        row = re.search(rf'<tr class="{policy["name"]}">(.*?)</tr>', page)
        assert row is not None
        low, high = summary["success_interval"]
        for text in (
            f"<td>{summary['successes']}/3</td>",
            f"<td>{low:.3f} to {high:.3f}</td>",
            f"<td>{summary['score']:.3f}</td>",
            f"<td>{cell['nfe']:g}</td>",
            f"<td>{latency['median_ms']:.2f} <small>({latency['p95_ms']:.2f})</small></td>",
            f"<td>{reports[policy['name']]['parameters']['total']:,}</td>",
            f"<td>{reports[policy['name']]['gradient_steps']}</td>",
        ):
            assert text in row[1]
    assert [policy["nfe"] for policy in summary_of_demo["policies"]] == [16, 2, 1]


def test_below_a_film_stands_what_became_of_the_episode(
    page: str, reports: dict[str, dict[str, Any]]
) -> None:
    shown = re.findall(r"<figcaption><b>[^<]+</b>: ([^<]+)</figcaption>", page)
    outcomes = {
        describe_outcome(EpisodeResult(**episode))
        for report in reports.values()
        for episode in report["cells"][0]["episodes"]
    }
    assert shown and set(shown) <= outcomes


def test_every_section_is_there(page: str) -> None:
    for section in SECTIONS:
        assert f'<section id="{section}">' in page
    for mark in ("$", "{{", "{%"):
        assert mark not in re.sub(r'"data:[^"]*"', "", page), "a placeholder was not filled"
    assert page.count("<table") == page.count("</table>") == 3


def test_nothing_comes_from_elsewhere(page: str) -> None:
    assert not re.findall(r"https?://", page)
    addresses = re.findall(r'\b(?:src|href|srcset|poster|data|action)="([^"]*)"', page)
    assert addresses and all(address.startswith(("data:", "#")) for address in addresses)
    assert not re.search(r"@import|url\(", page)
    assert "default-src 'none'" in page
    for picture in embedded(page, "image/svg+xml"):
        names = re.findall(r"https?://[^\s\"'<>]+", picture.decode())
        links = re.findall(r'href="([^"]*)"', picture.decode())
        assert all(link.startswith(("#", "data:")) for link in links)
        # Names of vocabularies, which nobody fetches.
        hosts = {re.split(r"[/#]", name)[2] for name in names}
        assert hosts <= {"www.w3.org", "purl.org", "creativecommons.org", "matplotlib.org"}


def test_pictures_and_films_can_be_decoded(page: str, reports: dict[str, dict[str, Any]]) -> None:
    drawings = embedded(page, "image/svg+xml")
    assert len(drawings) == 4  # two charts, light and dark
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).tag.endswith("svg")
    for picture in embedded(page, "image/png"):
        image = Image.open(io.BytesIO(picture)).convert("L")
        low, high = image.getextrema()
        assert low < high, "a blank picture"
    assert len(set(drawings)) == 4
    films = [frames_of(video) for video in embedded(page, "video/mp4")]
    flow, *rollouts = films
    assert flow > 30
    steps = {
        episode["steps"] + 1
        for report in reports.values()
        for episode in report["cells"][0]["episodes"]
    }
    assert len(rollouts) % 3 == 0 and rollouts and set(rollouts) <= steps


def frames_of(video: bytes) -> int:
    with av.open(io.BytesIO(video)) as container:
        return sum(1 for _ in container.decode(video=0))


def test_those_who_cannot_see_are_told(page: str) -> None:
    images = re.findall(r"<img ([^>]*)>", page)
    assert len(images) == 3
    for image in images:
        alt = re.search(r'alt="([^"]+)"', image)
        assert alt is not None and len(html.unescape(alt[1])) > 40
    for video in re.findall(r"<video ([^>]*)>", page):
        assert re.search(r'aria-label="[^"]{20,}"', video) and "controls" in video


def test_it_says_how_it_was_made(page: str, demo_folder: Path) -> None:
    summary = json.loads((demo_folder / "demo.json").read_text())
    assert summary["command"].startswith("lfm-policy demo dataset.derive=null")
    assert summary["command"] not in page and summary["command"] in html.unescape(page)
    seconds = json.loads((demo_folder / "seconds.json").read_text())
    assert list(seconds)[:2] == ["train the teacher", "distil to 2 evaluations"]
    for stage in summary["seconds"]:
        assert stage in page
    for policy in summary["policies"]:
        assert policy["checkpoint_sha256"][:12] in page
    header = json.loads((demo_folder / "teacher/checkpoints/final/config.json").read_text())
    assert header["data"]["fingerprint"] in page
    assert "small.zarr: 6 episodes, 70 steps" in page
    assert "seeds 100000 to 100002, noise seed 0" in page


def test_it_is_small_enough_to_be_sent(demo_folder: Path) -> None:
    # Mail takes 25 MB. What does not compress is the film of the noise, here with a policy that
    # has learnt nothing.
    assert (demo_folder / "demo.html").stat().st_size < 15_000_000
