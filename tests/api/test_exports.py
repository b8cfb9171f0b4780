"""What `lfm_policy` itself exports."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import textwrap
from pathlib import Path

import pytest

import lfm_policy
from lfm_policy import api
from lfm_policy.api import dataset, evaluation, exporting, training
from lfm_policy.policy import policy


def test_every_name_is_there_typed_and_documented() -> None:
    tree = ast.parse(Path(lfm_policy.__file__).read_text(encoding="utf-8"))
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {a.name for n in typed.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert seen - {"Any"} == set(lfm_policy._WHERE) == set(lfm_policy.__all__) - {"__version__"}
    for name in lfm_policy.__all__:
        value = getattr(lfm_policy, name)
        assert name == "__version__" or (callable(value) and value.__doc__), name
    assert set(lfm_policy.__all__) <= set(dir(lfm_policy))
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        lfm_policy.trian  # noqa: B018


def test_functions_are_not_hidden_by_rooms() -> None:
    import lfm_policy.distillation.student
    import lfm_policy.exporting.export  # noqa: F401
    from lfm_policy import distill, evaluate, export, train

    assert all(callable(function) for function in (distill, evaluate, export, train))


def test_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = doctest.testmod(dataset)
    assert result.attempted > 8 and not result.failed


def snippets() -> list[str]:
    """Return the code of docstrings, what is indented below a line that ends in ``::``."""
    modules = (lfm_policy, api, training, evaluation, exporting, policy)
    texts = [ast.parse(Path(str(module.__file__)).read_text()) for module in modules]
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    nodes = [node for tree in texts for node in ast.walk(tree) if isinstance(node, kinds)]
    docs = [found for node in nodes if (found := ast.get_docstring(node)) and "::\n" in found]
    below = [re.findall(r"::\n\n((?:    .*\n|\n)+)", f"{text}\n") for text in docs]
    return [textwrap.dedent(code) for codes in below for code in codes]


def test_snippets_call_what_there_is() -> None:
    called = set()
    for code in snippets():
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "lfm_policy":
                assert {alias.name for alias in node.names} <= set(lfm_policy.__all__)
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            name = node.func.id
            if name in lfm_policy.__all__:
                keywords = {key.arg: 0 for key in node.keywords if key.arg is not None}
                inspect.signature(getattr(lfm_policy, name)).bind(*node.args, **keywords)
                called.add(name)
    assert called >= {"train", "distill", "evaluate", "export", "load_policy", "OnnxPolicy"}
