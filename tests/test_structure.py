"""The shape of the house: no circles of imports, no long files, no crowded folders, no way back.

What is not so yet stands in the lists of exceptions, which may only become shorter: a test fails
when an entry is no exception any more.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {
    "lfm_policy": ROOT / "lfm_policy",
    "lfm_runtime": ROOT / "runtime" / "lfm_runtime",
    "lfm_envs": ROOT / "envs",
    "lerobot_policy_lfm": ROOT / "integrations" / "lerobot_policy_lfm" / "lerobot_policy_lfm",
}
MOST_LINES, MOST_FILES = 400, 12

CIRCLES: list[set[str]] = []
"""Circles that are still there: the modules of each."""

LONG_FILES: set[str] = set()
"""Files of more lines."""

CROWDED_FOLDERS: set[str] = set()
"""Folders of more Python files."""

FORBIDDEN: list[tuple[str, str, tuple[str, ...]]] = [
    (
        "lfm_policy.flow",
        "lfm_policy",
        ("lfm_policy.flow", "lfm_policy.errors", "lfm_policy.options"),
    ),
    ("lfm_policy.flow", "lfm_runtime", ("lfm_runtime.errors", "lfm_runtime.registry")),
    ("lfm_policy.flow", "lfm_envs", ()),
    ("lfm_envs", "lfm_policy.training", ()),
    ("lfm_runtime", "lfm_policy", ()),
    ("lfm_runtime", "lfm_envs", ()),
    ("lfm_runtime", "torch", ()),
    ("lfm_policy", "lerobot_policy_lfm", ()),
    ("lfm_policy.lerobot", "lerobot", ()),
    ("lfm_policy.importing", "lerobot", ()),
]
"""A package, what it imports nothing of, and the parts of that which it may import after all."""


@cache
def modules() -> dict[str, Path]:
    """Return the file of every module by its name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join([package, *parts]).removesuffix(".__init__")] = path
    return found


def nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes that run: those below ``if TYPE_CHECKING`` do not."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        children = ast.iter_child_nodes(node)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            children = iter(node.orelse)
        waiting += children


@cache
def imported(module: str) -> frozenset[str]:
    """Return what a module imports, at its top and inside functions: modules, by whole names."""
    path, found = modules()[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1]
            start = ".".join([*(up if node.level else []), *([node.module] if node.module else [])])
            inside = {f"{start}.{alias.name}" for alias in node.names}
            found |= {name if name in modules() else start for name in inside}
    return frozenset(found - {module})


def circles() -> list[set[str]]:
    """Return the sets of modules that import one another, directly or through others."""
    graph = {module: imported(module) & modules().keys() for module in modules()}

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            new = graph[waiting.pop()] - found
            found |= new
            waiting += new
        return found

    reach = {module: reached(module) for module in modules()}
    found: list[set[str]] = []
    for module in modules():
        if module in reach[module] and not any(module in circle for circle in found):
            found.append({other for other in reach[module] if module in reach[other]})
    return found


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_circles_of_imports() -> None:
    assert sorted(map(sorted, circles())) == sorted(map(sorted, CIRCLES))


def test_long_files() -> None:
    found = {
        relative(path)
        for path in modules().values()
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert found == LONG_FILES


def test_crowded_folders() -> None:
    folders = {path.parent for path in modules().values()}
    found = {relative(f) for f in folders if len(list(f.glob("*.py"))) > MOST_FILES}
    assert found == CROWDED_FOLDERS


@pytest.mark.parametrize(("package", "other", "allowed"), FORBIDDEN)
def test_no_way_back(package: str, other: str, allowed: tuple[str, ...]) -> None:
    found = {
        (module, name)
        for module in modules()
        if is_below(module, package)
        for name in imported(module)
        if is_below(name, other) and not any(is_below(name, part) for part in allowed)
    }
    assert not found


DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md")),
]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_what_documents_name_is_there(document: str) -> None:
    text = (ROOT / document).read_text()
    named = re.findall(r"`((?:lfm_policy|runtime|envs|tests|integrations)/[\w/.]+)`", text)
    named += re.findall(r"(scripts/[\w/]+\.(?:py|sh))", text)
    named += re.findall(r"\]\(((?!http)[\w/.]+)\)", text)  # links, which start at the document
    folders = (ROOT, (ROOT / document).parent)
    assert not {path for path in named if not any((f / path).exists() for f in folders)}


def test_lerobot_is_imported_only_when_it_is_used() -> None:
    found = set()
    for module, path in modules().items():
        if is_below(module, "lfm_policy"):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                if isinstance(node, ast.Import):
                    found |= {a.name for a in node.names if is_below(a.name, "lerobot")}
                elif isinstance(node, ast.ImportFrom) and is_below(node.module or "", "lerobot"):
                    found.add(node.module)
    assert not found


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_a_circle_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = {
        "__init__": "",
        "a": "from p import b",
        "b": "def late():\n    from p.c import x",
        "c": "import p.a\nx = 1",
        "d": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from p.e import y\nz = 1",
        "e": "from p.d import z\ny = z",
    }
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.setattr(f"{__name__}.PACKAGES", {"p": tmp_path})
    for cached in (modules, imported):
        cached.cache_clear()
    try:
        assert circles() == [{"p.a", "p.b", "p.c"}]
    finally:
        for cached in (modules, imported):
            cached.cache_clear()
