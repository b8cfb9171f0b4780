"""The pages of the reference hold all that the code offers, and say of it what the code says."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

import lfm_policy
import lfm_policy.flow
import lfm_runtime
from lfm_policy.cli.main import COMMANDS, build_parser
from lfm_policy.config import ExperimentConfig, bundled_config_names, config_to_dict, load_config
from lfm_policy.config.describe import describe_options

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = REPOSITORY / "docs" / "reference"
MODULES = ("markdown", "commands", "options", "bundled", "docstrings")

DIRECTIVE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
HEADING = re.compile(r"^(#+) (.+) \{#(\S+)\}$", re.MULTILINE)
IN_FENCE = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def made() -> Iterator[SimpleNamespace]:
    """The modules that make the pages; removed again, as their names are short."""
    names = ["reference", *(f"reference_{name}" for name in MODULES)]
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(REPOSITORY / "scripts" / "docs"))
        modules = {name: importlib.import_module(name) for name in names}
        bundled = modules["reference_bundled"]
        patch.setattr(bundled, "bundled_reference", functools.cache(bundled.bundled_reference))
        reference = modules["reference"]
        patch.setattr(reference, "filled_in", functools.cache(reference.filled_in))
        yield SimpleNamespace(**modules)
    for name in names:
        sys.modules.pop(name, None)


def page(made: SimpleNamespace, name: str) -> str:
    text: str = made.reference.filled_in((PAGES / f"{name}.md").read_text())
    return text


# -- commands --------------------------------------------------------------------------------------


def section_of(text: str, name: str) -> str:
    return text.split(f"\n## {name} {{#{name}}}\n")[1].split("\n## ")[0]


def test_every_command_has_a_section(made: SimpleNamespace) -> None:
    found = [h[3] for h in HEADING.finditer(page(made, "commands")) if h[1] == "##"]
    assert found == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_sections_of_commands_hold_what_their_help_says(made: SimpleNamespace, name: str) -> None:
    section = section_of(page(made, "commands"), name)
    with pytest.raises(SystemExit), pytest.MonkeyPatch.context() as patch:
        shown: list[str] = []
        patch.setattr(sys.stdout, "write", shown.append)
        build_parser().parse_args([name, "--help"])
    text = "".join(shown)
    flags = set(re.findall(r"(?<![\w`'-])--[a-z][a-z-]+", text.partition("\noptions:")[2])) - {
        "--help"
    }
    assert flags and all(flag in section for flag in flags)
    examples = [line[2:] for line in text.splitlines() if line.startswith("  lfm-policy ")]
    assert examples and all(example in section for example in examples)


def test_what_markdown_would_read_as_marks_stays_as_it_is(made: SimpleNamespace) -> None:
    prose = made.reference_markdown.prose
    assert prose("a <b> `x*y` --flag __c__ d_e") == (r"a &lt;b&gt; `x*y` `--flag` \_\_c\_\_ d_e")


def test_pages_of_the_documentation_become_links(made: SimpleNamespace) -> None:
    prose = made.reference_markdown.prose
    assert prose("see docs/how/lfm.md.") == "see [docs/how/lfm.md](../how/lfm.md)."
    assert prose("(docs/results/)") == "([docs/results/](../results/index.md))"


def test_paragraphs_and_examples_of_a_docstring(made: SimpleNamespace) -> None:
    text = "One\ntwo.\n\nexamples:\n  lfm-policy demo\n  lfm-policy init x\n\nThen::\n\n    a = 1\n"
    assert list(made.reference_markdown.blocks(text)) == [
        "One two.",
        "Examples:",
        "```bash\nlfm-policy demo\nlfm-policy init x\n```",
        "Then:",
        "```text\na = 1\n```",
    ]


# -- configuration ---------------------------------------------------------------------------------


def test_every_option_has_a_heading(made: SimpleNamespace) -> None:
    described = describe_options(ExperimentConfig())
    keys = set(re.findall(r"^ *([\w.]+): .+ = ", described, re.MULTILINE))
    headings = [h for h in HEADING.finditer(page(made, "configuration")) if "`" not in h[2]]
    assert {h[2] for h in headings} - {"General"} - keys == {"encoder.image.name"}
    assert keys <= {h[2] for h in headings}
    assert len(keys) > 100


def test_anchors_are_there_once_and_begin_with_their_key(made: SimpleNamespace) -> None:
    anchors = [(h[2].strip("`"), h[3]) for h in HEADING.finditer(page(made, "configuration"))]
    assert {count for count in Counter(anchor for _, anchor in anchors).values()} == {1}
    for key in ("training.total_steps", "encoder.image.resize", "dataset.path", "network.width"):
        assert (key, key) in anchors


def test_options_say_default_bounds_and_choices(made: SimpleNamespace) -> None:
    text = page(made, "configuration")

    def said(key: str) -> str:
        return text.split(f" {key} {{#{key}}}\n")[1].partition("\n#")[0]

    assert "integer · default `24000` · often set" in said("training.total_steps")
    assert "1000000000" in said("training.total_steps")
    assert "list of integers or `auto` · default `auto`" in said("encoder.image.resize")
    assert "One of `keep`, `refit`." in said("init.normalizer")
    assert "- `trigonometric`: " in said("flow.interpolant")
    assert "integer or `null` · default `null`" in said("training.warmup_steps")


def test_what_one_usually_sets_are_the_options_that_train_lists(made: SimpleNamespace) -> None:
    described = describe_options(load_config("own/cameras"), everything=False)
    keys = set(re.findall(r"^ *([\w.]+): .+ = ", described, re.MULTILINE))
    shown = set(re.findall(r"^\| \[`([\w.]+)`\]", made.reference_options.common_options(), re.M))
    assert keys <= shown


# -- bundled configurations ------------------------------------------------------------------------


def merged(into: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    for key, value in options.items():
        both = isinstance(value, dict) and isinstance(into.get(key), dict)
        into[key] = merged(into[key], value) if both and value else value
    return into


def read_back(made: SimpleNamespace, name: str) -> ExperimentConfig:
    """Return the configuration that a reader of the page would write down."""
    group = made.reference_bundled.bundled_reference(name.partition("/")[0])
    before, _, behind = group.partition(f"\n### {name} {{#{name}}}\n")
    options: dict[str, Any] = {}
    for text in IN_FENCE.findall(before.partition("\n### ")[0]):
        merged(options, yaml.safe_load(text))
    section = behind.partition("\n### ")[0]
    if "(#plain-students)" in section:
        plain = IN_FENCE.search(made.reference_bundled.plain_students())
        assert plain is not None
        merged(options, yaml.safe_load(plain[1]))
    for text in IN_FENCE.findall(section):
        merged(options, yaml.safe_load(text))
    return load_config({**options, "name": load_config(name).name})


@pytest.mark.parametrize("name", bundled_config_names())
def test_bundled_configurations_are_what_the_page_says(made: SimpleNamespace, name: str) -> None:
    assert config_to_dict(read_back(made, name)) == config_to_dict(load_config(name))
    assert f"[`{name}`](#{name})" in page(made, "bundled")


# -- Python ----------------------------------------------------------------------------------------


def directives() -> list[str]:
    return [
        name for path in PAGES.glob("python*.md") for name in DIRECTIVE.findall(path.read_text())
    ]


@pytest.mark.parametrize("package", [lfm_policy, lfm_policy.flow, lfm_runtime])
def test_every_public_name_is_in_the_reference(package: Any) -> None:
    there = {id(located(name)) for name in directives()}
    missing = [
        name
        for name in package.__all__
        if name != "__version__" and id(getattr(package, name)) not in there
    ]
    assert not missing


def test_names_in_the_reference_are_there_once() -> None:
    found = directives()
    assert all(located(name) is not None for name in found)
    assert [name for name, count in Counter(found).items() if count > 1] == []


def located(name: str) -> Any:
    """Return what a name of the reference stands for; a module before what hides it."""
    parts = re.sub(r"^envs\.", "lfm_envs.", name).split(".")
    for end in range(len(parts) - 1, 0, -1):
        with contextlib.suppress(ModuleNotFoundError):
            found: Any = importlib.import_module(".".join(parts[:end]))
            return functools.reduce(getattr, parts[end:], found)
    return None


@pytest.mark.parametrize("name", [n for n in directives() if not n.isupper()])
def test_docstrings_name_every_argument(name: str) -> None:
    """Functions and constructors in the reference say what each argument is."""
    for owner, function in functions_of(name):
        text = inspect.getdoc(function) or ""
        if function.__name__ == "__init__":
            text += inspect.getdoc(owner) or ""
        # What is not told argument by argument is told in the text or by another function.
        if "Args:" not in text:
            continue
        arguments = inspect.signature(function).parameters
        unsaid = [
            a
            for a in arguments
            if a not in ("self", "cls") and not re.search(rf"^ +\**{a}:", text, re.M)
        ]
        assert not unsaid, f"{owner.__name__}.{function.__name__}"


def functions_of(name: str) -> Iterator[tuple[Any, Any]]:
    found = located(name)
    if inspect.isfunction(found):
        yield found, found
    if inspect.isclass(found):
        for function in vars(found).values():
            plain = getattr(function, "__func__", function)
            shown = inspect.isfunction(plain) and not plain.__name__.startswith("_")
            if shown or getattr(plain, "__name__", "") == "__init__":
                yield found, plain


def test_literal_blocks_of_docstrings_become_fences(made: SimpleNamespace) -> None:
    docstring = inspect.cleandoc(
        """Runs a robot::

            loop = ControlLoop(robot)
            loop.run()

        See :meth:`run`.

        ::

            step   0   1   2
        """
    )
    assert made.reference_docstrings.in_markdown(docstring).strip() == (
        "Runs a robot:\n\n```python\nloop = ControlLoop(robot)\nloop.run()\n```\n\n"
        "See `run`.\n\n```text\nstep   0   1   2\n```"
    )


# -- pages -----------------------------------------------------------------------------------------


def test_everything_that_is_made_stands_on_a_page(made: SimpleNamespace) -> None:
    lines = [
        m for p in PAGES.glob("*.md") for m in re.findall(r"<!-- made: (.+) -->", p.read_text())
    ]
    assert sorted(lines) == sorted(made.reference.MADE)


def test_contents_beside_long_pages_are_short(made: SimpleNamespace) -> None:
    def link(level: int, *children: Any) -> SimpleNamespace:
        return SimpleNamespace(level=level, children=list(children))

    contents = [link(1, link(2, link(3, link(4))), link(2))]
    file = SimpleNamespace(src_uri="reference/configuration.md")
    shown = made.reference.on_page_content("html", page=SimpleNamespace(file=file, toc=contents))
    assert shown == "html"
    assert contents[0].children[0].children == []
    assert len(contents[0].children) == 2
