"""What `lfm_policy` itself exports."""

from __future__ import annotations

import ast
import doctest
from pathlib import Path

import pytest

import lfm_policy
from lfm_policy.api import dataset


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
