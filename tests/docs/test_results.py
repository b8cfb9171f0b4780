"""Pages of results say what the data say, in words, and checks of this fail when they should."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from PIL import Image

from lfm_policy.cli.main import build_parser
from lfm_policy.config import load_config
from lfm_policy.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 150_000
ELSEWHERE = {"encoders", "demonstrations"}
"""Parts of studies on pages that are not these."""
TEACHERS = {"runs/pusht-image-lfm": "pusht/image_lfm"}
"""Configurations of runs that pages distil, where it matters."""


@pytest.fixture(scope="module")
def made() -> Iterator[Any]:
    """Return the package of `scripts/results`."""
    before = list(sys.path)
    sys.path.insert(0, str(ROOT / "scripts" / "results"))
    import resultpages
    import resultpages.checking
    import resultpages.pages
    import resultpages.rules

    yield resultpages
    sys.path[:] = before
    own = ("resultpages", "listed", "pieces", "bundled_cards")
    for name in [name for name in sys.modules if name.partition(".")[0] in own]:
        del sys.modules[name]


@pytest.fixture(scope="module")
def names(made: Any) -> set[str]:
    """Return the names of all models of the studies."""
    found = {name for study in _studies().values() for name in study.labels}
    return found - {"block1", "unet1d"}  # what options are called, too


@pytest.fixture()
def copied(made: Any, tmp_path: Path) -> Path:
    """Return a copy of what says numbers, and of the data."""
    shutil.copytree(ROOT / "docs" / "results", tmp_path / "docs" / "results")
    for path in (ROOT / "lfm_policy" / "assets").glob("*/README.md"):
        target = tmp_path / path.relative_to(ROOT)
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    return tmp_path


def _studies() -> Any:
    from listed import listed_studies

    return listed_studies()


def found(made: Any, root: Path) -> list[str]:
    return list(made.checking.differences(made.pages.Results(root)))


def pages() -> list[Path]:
    return sorted((ROOT / "docs" / "results").glob("*.md"))


def templates() -> list[Path]:
    return sorted((ROOT / "scripts" / "results" / "pages").rglob("*.md"))


def test_every_page_mark_card_and_figure_says_what_the_data_say(made: Any) -> None:
    assert found(made, ROOT) == []


def test_another_number_on_a_page_is_found(made: Any, copied: Path) -> None:
    page = copied / "docs" / "results" / "few_steps.md"
    lines = page.read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith("| LFM, 3 U-Net blocks | 16"))
    changed = lines[at].replace("| 0.6", "| 0.7", 1)
    assert changed != lines[at]
    page.write_text("\n".join([*lines[:at], changed, *lines[at + 1 :]]))
    assert found(made, copied) == [
        f"docs/results/few_steps.md:{at + 1}: found {changed!r}, expected {lines[at]!r}"
    ]


def test_another_number_between_marks_is_found_and_mended(made: Any, copied: Path) -> None:
    mark = "<!-- number few_steps.two.success -->{}<!-- /number -->"
    readme = copied / "README.md"
    readme.write_text(f"# A\n\nIt solves {mark.format('0.641')}.\n")
    (said,) = found(made, copied)
    assert said.startswith("README.md:3: found") and "0.641" in said and "0.640" in said
    text = made.marks.filled(readme.read_text(), "README.md", made.pages.Results(copied).number)
    assert text == f"# A\n\nIt solves {mark.format('0.640')}.\n"
    readme.write_text(text)
    assert found(made, copied) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "a\n<!-- number few_steps.who -->1<!-- /number -->",
            "README.md:2: .*'few_steps.who'",
        ),
        ("<!-- number few_steps.n -->600", "README.md:1: .*without <!-- /number -->"),
    ],
)
def test_a_mark_that_cannot_be_filled_names_its_line(made: Any, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        made.marks.filled(text, "README.md", made.pages.Results(ROOT).number)


def test_another_number_in_a_model_card_is_found(made: Any, copied: Path) -> None:
    card = copied / "lfm_policy" / "assets" / "pusht-state" / "README.md"
    text = card.read_text()
    assert "735/1000" in text
    card.write_text(text.replace("735/1000", "736/1000", 1))
    (said,) = found(made, copied)
    assert said.startswith("lfm_policy/assets/pusht-state/README.md:") and "736/1000" in said


def test_other_data_are_found_on_pages_and_in_figures(made: Any, copied: Path) -> None:
    path = copied / "docs" / "results" / "data" / "pusht_state.json"
    cells = json.loads(path.read_text())
    cells["lfm3 seed0 euler16-noise0.6 n200 from100000"]["summary"]["score"] += 0.03
    path.write_text(json.dumps(cells))
    said = "\n".join(found(made, copied))
    assert re.search(r"docs/results/few_steps.md:\d+: found", said)
    assert "docs/results/figures/few_steps.png shows other data than there are" in said
    assert "docs/results/figures/noise.png" not in said


def test_check_fails_and_writing_mends(
    made: Any, copied: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import write

    monkeypatch.delitem(sys.modules, "write")
    monkeypatch.setattr(write, "Results", lambda: made.pages.Results(copied))
    page, figure = (copied / "docs" / "results" / p for p in ("noise.md", "figures/noise.png"))
    text, drawn = page.read_text(), made.pictures.drawn_digest(figure)
    page.write_text(text.replace("# How much noise", "# How much", 1))
    figure.unlink()
    monkeypatch.setattr(sys, "argv", ["write.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        write.main()
    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "docs/results/noise.md:1: found '# How much to start from'" in said
    assert not figure.exists() and page.read_text() != text
    monkeypatch.setattr(sys, "argv", ["write.py"])
    write.main()
    assert page.read_text() == text and made.pictures.drawn_digest(figure) == drawn
    monkeypatch.setattr(sys, "argv", ["write.py", "--check"])
    write.main()


def test_a_missing_page_and_figures_of_nothing_are_found(made: Any, copied: Path) -> None:
    results = copied / "docs" / "results"
    (results / "noise.md").unlink()
    (results / "figures" / "noise.png").rename(results / "figures" / "other.png")
    assert set(found(made, copied)) == {
        "docs/results/noise.md is missing",
        "docs/results/figures/noise.png is missing",
        "docs/results/figures/other.png is drawn by nothing",
    }


def test_an_error_in_a_template_names_its_line(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.md").write_text('# A\n\n{{ state("lfm3 16@0.6").scor }}\n')
    (folder / "b.md").write_text('# A\n{{ state("lfm3 17@0.6").score }}\n')
    (folder / "c.md").write_text("# A\n\n\n{{ 1 + }}\n")
    monkeypatch.setattr(made.pages, "TEMPLATES", folder)
    results = made.pages.Results(ROOT)
    for name, message in [
        ("a", "a.md:3: .*scor"),
        ("b", "b.md:2: .*'lfm3 17@0.6'"),
        ("c", "c.md:4"),
    ]:
        with pytest.raises(InputError, match=message):
            results.page(name)


def test_two_subjects_may_not_give_one_name(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    twins = [
        SimpleNamespace(__name__=module, names=lambda data: {"rate": 1}) for module in ("a", "b")
    ]
    monkeypatch.setattr(made.pages, "_subjects", lambda: twins)
    with pytest.raises(InputError, match="b: 'rate' is a name in templates already"):
        made.pages.Results(ROOT).number("few_steps.n")


@pytest.mark.parametrize("path", templates(), ids=lambda path: path.stem)
def test_no_measured_number_is_typed(made: Any, path: Path) -> None:
    assert made.rules.typed_numbers(path.read_text()) == []


def test_typed_numbers_are_found(made: Any) -> None:
    text = "It has 0.640,\n376/600 and {{ 0.123 }} at `0.003`,\n```\n0.5 ms\n```\n"
    text += "p = 0.02, 9 ms +0.012"
    assert made.rules.typed_numbers(text) == [
        (1, "0.640"),
        (2, "376/600"),
        (6, "p = 0"),
        (6, "9 ms"),
        (6, "+0.012"),
    ]


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.stem)
def test_pages_are_narrow_and_in_words(made: Any, names: set[str], path: Path) -> None:
    text = path.read_text()
    assert made.rules.wide_tables(text) == []
    assert made.rules.internal_names(text, names) == []


def test_wide_tables_and_internal_names_are_found(made: Any, names: set[str]) -> None:
    text = f"a\n{'| b ' * 9}|\nfm-wider and `lfm3` of pusht/lfm3, regression\n```\nfm-wider\n```\n"
    assert made.rules.wide_tables(text) == [(2, f"{'| b ' * 9}|")]
    assert made.rules.internal_names(text, names) == [(3, "fm-wider"), (3, "lfm3")]
    with pytest.raises(ValueError, match="9 columns"):
        made.tables.table("|".join("abcdefghi"), [])


def test_series_of_a_panel_can_be_told_apart(made: Any, tmp_path: Path) -> None:
    pictures = made.pages.Results(ROOT).pictures.values()
    assert pictures
    for picture in pictures:
        assert picture.alt and len(picture.panels) > 0
        for panel in picture.panels:
            assert 0 < len(panel.series) <= made.pictures.MOST_SERIES, picture.name
            styles = [s.style if s.style is not None else i for i, s in enumerate(panel.series)]
            assert len(set(styles)) == len(styles)
    for a, b in combinations(made.pictures.STYLES, 2):  # without colour as well
        assert (a["marker"], a["linestyle"]) != (b["marker"], b["linestyle"])
        assert a["marker"] != b["marker"]
    series = tuple(made.pictures.Series(str(i), (0.0, 1.0), (0.0, 1.0)) for i in range(6))
    panel = made.pictures.Panel(series, "score")
    with pytest.raises(ValueError, match="6 series"):
        made.pictures.draw(made.pictures.Picture("a", "b", (panel,)), tmp_path / "a.png")


def test_figures_are_small_and_carry_what_they_show(made: Any, tmp_path: Path) -> None:
    for path in (ROOT / "docs" / "results" / "figures").glob("*.png"):
        assert path.stat().st_size < MOST_BYTES, path.name
    picture = made.pages.Results(ROOT).pictures["dropout"]
    made.pictures.draw(picture, tmp_path / "a.png")
    assert made.pictures.drawn_digest(tmp_path / "a.png") == picture.digest()
    with Image.open(tmp_path / "a.png") as image:
        assert image.width > 2 * image.height


def test_every_cell_of_a_study_is_on_a_page(made: Any) -> None:
    text = "\n".join(path.read_text() for path in pages())
    results = ROOT / "docs" / "results" / "data"
    for listed in _studies().values():
        study = made.cells.StudyResults(listed, results)
        for part in listed.parts.keys() - ELSEWHERE:
            rows = study.rows(part)
            assert rows
            for cells in rows:
                assert f"| {cells.label} | {cells.sampler} | {cells.counts} " in text or (
                    f"| {cells.label} | {cells.sampler} | {cells.score} | {cells.counts} " in text
                ), (part, cells.label)


def test_every_note_says_how_it_was_measured(made: Any, tmp_path: Path) -> None:
    notes = made.notes.read_notes(ROOT / "docs" / "results" / "data")
    assert {"few_steps", "blocks", "students", "sweep"} <= set(notes)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.yaml").write_text(yaml.safe_dump({"one": {"n": "2", "value": 3}}))
    with pytest.raises(InputError, match="one does not say how"):
        made.notes.read_notes(tmp_path)


def commands(text: str) -> list[str]:
    """Return the commands of the bash blocks of a page."""
    blocks = re.findall(r"^```bash[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    lines = "\n".join(blocks).replace("\\\n", " ").split("\n")
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def check_command(line: str) -> None:
    """Fail unless what a command calls is there, and takes these arguments."""
    words = shlex.split(line, comments=True)
    if words[0] == "lfm-policy":
        settings = [word for word in words[2:] if re.match(r"[a-z_]+\.?[\w.]*=", word)]
        # What `main` does with settings behind options.
        late = build_parser().parse_known_args(words[1:])[1]
        assert set(late) <= set(settings), line
        if words[1] in ("train", "distill"):
            config = words[2] if words[1] == "train" else TEACHERS.get(words[2], "pusht/lfm3")
            # A student has other blocks than this teacher.
            load_config(config, [s for s in settings if not s.startswith("training.block_shares=")])
        return
    assert words[0] == "python", line
    script = ROOT / words[1]
    if words[1] == "-m":
        spec = find_spec(words[2])
        assert spec is not None and spec.origin is not None, line
        script = Path(spec.origin)
    text = script.read_text() + (ROOT / "scripts" / "studies" / "pieces.py").read_text()
    flags = set(re.findall(r'"(--[\w-]+)"', text))
    assert {word for word in words if word.startswith("--")} <= flags, line
    if "--parts" in words:
        parts = {name for study in _studies().values() for name in study.parts}
        named = words[words.index("--parts") + 1 :]
        assert set(named) <= parts, line


@pytest.mark.parametrize("path", pages(), ids=lambda path: path.stem)
def test_commands_of_result_pages_are_there(made: Any, path: Path) -> None:
    for line in commands(path.read_text()):
        check_command(line)


@pytest.mark.parametrize(
    "line",
    [
        "python scripts/studies/nothing.py",
        "python scripts/studies/pusht_study.py --tables-only",
        "python scripts/studies/pusht_study.py --parts sweeep",
        "lfm-policy eval a --episode-count 3",
        "lfm-policy train pusht/lfm3 network.widht=3",
    ],
)
def test_commands_that_are_not_there_are_found(made: Any, line: str) -> None:
    with pytest.raises((AssertionError, FileNotFoundError, SystemExit, InputError)):
        check_command(line)
