"""Every command and every line of Python on a page does what a reader is told that it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from snippets.pages import ROOT, blocks_of, pages, stray_marks
from snippets.run import SnippetError, prepare, run_page, server_of_commands
from snippets.stand_ins import stand_ins

PAGES = pages()
NAMES = [page.relative_to(ROOT).as_posix() for page in PAGES]
OTHER_NAMES = {"sh", "shell", "console", "py", "pycon", "yml", "txt"}
"""Of languages that are bash, python, yaml and text here."""


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    with server_of_commands(tmp_path_factory.mktemp("commands")) as environment:
        yield environment


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stand-ins")


def run(page: Path, folder: Path, commands: dict[str, str], data: Path) -> int:
    prepare(folder / "page", stand_ins(page.read_text(encoding="utf-8"), data))
    log = folder / "printed"
    log.touch()
    return run_page(page, folder / "page", commands, log)


@pytest.mark.slow
@pytest.mark.simulator
@pytest.mark.timeout(1800)  # a page has many commands, each with a limit of its own
@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_a_page(page: Path, tmp_path: Path, commands: dict[str, str], data: Path) -> None:
    if not any(block.is_run for block in blocks_of(page.read_text(encoding="utf-8"))):
        pytest.skip("nothing on this page is run")
    if page.stem == "aloha":
        pytest.importorskip("gym_aloha", reason="gym-aloha is not installed: lfm-policy[aloha]")
    run(page, tmp_path, commands, data)


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_blocks_are_marked_well(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert not stray_marks(text), "marks 'not run' before no block, by line"
    for block in blocks_of(text):
        assert block.language not in OTHER_NAMES, f"line {block.line}: {block.language}"
        assert block.reason != "", f"line {block.line}: not run, and no reason"


def test_what_is_not_run(record_property: pytest.RecordProperty) -> None:
    """Print what is not run and why: `pytest -rP` shows it."""
    left_out, count = [], 0
    for name, page in zip(NAMES, PAGES, strict=True):
        blocks = blocks_of(page.read_text(encoding="utf-8"))
        count += sum(block.is_run for block in blocks)
        left_out += [f"{name}:{b.line}: {b.reason}" for b in blocks if b.reason is not None]
    print("\n".join(left_out))
    print(f"{count} blocks are run, {len(left_out)} are not")
    record_property("not_run", len(left_out))
    assert len(left_out) <= count / 4


GOOD = """\
A page.

```bash
X=1   # a comment
lfm-policy inspect my_robot.hdf5 | head -2 && echo "$X" > said
cat <<END \\
  > more
two words
END
sleep 60 &
```

```python title="my_module.py"
NUMBER = 7
```

```python
from my_module import NUMBER
again = NUMBER
```

<!-- not run: a robot -->
```bash
false
```

  ```python
  assert again == 7 and open("said").read() == "1\\n"
  ```

```bash
kill $!
python -c "import my_module; print(my_module.NUMBER)" > number && test "$(cat number)" = 7
```
"""


@pytest.mark.slow
def test_what_a_page_may_do(tmp_path: Path, commands: dict[str, str], data: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(GOOD, encoding="utf-8")
    assert run(page, tmp_path, commands, data) == 4
    assert (tmp_path / "page" / "more").read_text() == "two words\n"


BAD = {
    "```bash\ntrue\nlfm-policy train no/such && echo done\n```\n": (
        r"page.md:3: ended with 2:\nlfm-policy train(.|\n)*no configuration 'no/such'"
    ),
    "```bash\nfalse | cat\n```\n\n```python\nx = 1\n\nraise KeyError(x)\n```\n": (
        r"page.md:6: ended with 1:(.|\n)*page.md\", line 8(.|\n)*KeyError: 1"
    ),
    "```bash\nexit 0\ntrue\n```\n": r"page.md:2: ended with no exit code",
    "```bash\nif true; then\n```\n": r"page.md:2: ended with (1|2)(.|\n)*syntax error",
}


@pytest.mark.slow
@pytest.mark.parametrize("text", BAD, ids=range(len(BAD)))
def test_a_page_that_fails(text: str, tmp_path: Path, commands: dict[str, str], data: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(text, encoding="utf-8")
    with pytest.raises(SnippetError, match=BAD[text]):
        run(page, tmp_path, commands, data)
