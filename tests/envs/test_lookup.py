"""Environments of modules in the working folder, and what is said of those that are not there."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from lfm_envs import EnvLookupError, make_named_env, make_vector_env, working_folder

MODULE = """
import gymnasium as gym
import numpy as np

class Still(gym.Env):
    metadata = {{"render_modes": []}}
    observation_space = gym.spaces.Dict({{"x": gym.spaces.Box(-1, 1, (1,), np.float32)}})
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, start=0.0, **options):
        if options:
            raise RuntimeError("cannot draw")
        self.start = start

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {{"x": np.full(1, self.start, np.float32)}}, {{}}

    def step(self, action):
        return {{"x": np.zeros(1, np.float32)}}, 1.0, False, False, {{"is_success": True}}

gym.register("{name}-v0", entry_point="{entry_point}")
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Return a function that writes a module into the working folder and returns its name."""
    monkeypatch.chdir(tmp_path)
    names: list[str] = []

    def write(text: str = MODULE, entry_point: str = "") -> str:
        name = f"own_{tmp_path.name.replace('-', '_')}_{len(names)}"
        names.append(name)
        filled = text.format(name=name.title(), entry_point=entry_point or f"{name}:Still")
        (tmp_path / f"{name}.py").write_text(filled)
        return name

    return write


@pytest.mark.parametrize("context", [None, "spawn", "in this process"])
def test_a_module_in_the_working_folder(module: Callable[..., str], context: str | None) -> None:
    name = module()
    before = list(sys.path)
    own = context != "in this process"
    options = {"processes": True, "context": context} if own else {}
    envs = make_vector_env(f"{name}:{name.title()}-v0", 2, start=0.5, **options)  # type: ignore[arg-type]
    try:
        obs, _ = envs.reset(seed=[1, 2])
        np.testing.assert_array_equal(obs["x"], [[0.5], [0.5]])
        *_, infos = envs.step(np.zeros((2, 1), np.float32))
        assert infos["success"].tolist() == [True, True]
    finally:
        envs.close()
    assert sys.path == before


def test_a_module_in_another_folder(
    module: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = module()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    env_id = f"{name}:{name.title()}-v0"
    with pytest.raises(
        EnvLookupError, match=f"no module named '{name}'; looked in .*elsewhere and"
    ):
        make_vector_env(env_id, 1)
    make_vector_env(env_id, 1, module_folder=str(tmp_path)).close()


def test_the_class_may_be_in_a_module_of_its_own(
    module: Callable[..., str], tmp_path: Path
) -> None:
    there = module()
    text = "import gymnasium as gym\ngym.register('Other-v0', entry_point='{entry_point}')\n"
    name = module(text, entry_point=f"{there}:Still")
    make_named_env(f"{name}:Other-v0", working_folder(), {}).close()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import nothing_of_that_name",
            r"cannot be imported: ModuleNotFoundError: No module.*line 1",
        ),
        ("1 / 0", r"cannot be imported: ZeroDivisionError: division by zero \(.*\.py, line 1\)"),
        ("def", r"cannot be imported: SyntaxError"),
        ("raise SystemExit(3)", r"cannot be imported: SystemExit: 3"),
        ("", r"; module '.*' \(.*\.py\) registers no environment"),
        (MODULE, r"; module '.*' \(.*\.py\) registers Own_.*-v0"),
    ],
)
def test_modules_that_are_no_good(module: Callable[..., str], text: str, message: str) -> None:
    name = module(text)
    before = list(sys.path)
    with pytest.raises(EnvLookupError, match=message):
        make_named_env(f"{name}:Nothing-v0", working_folder(), {})
    assert sys.path == before


@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("no_such_module_at_all:X-v0", "no module named 'no_such_module_at_all'; looked in /"),
        ("no_such.module:X-v0", "no module named 'no_such.module'; looked in /"),
        ("folder/file.py:X-v0", "expected an id such as lfm/PushT-v0, or module:Name-v0"),
        ("a:b:c-v0", "expected an id such as"),
        (":c-v0", "expected an id such as"),
        ("json:", "expected an id such as"),
        ("lfm/Nothing-v0", "one of your own is named as module:Name-v0"),
        ("json:X-v0", r"module 'json' \(.*\) registers no environment"),
        (
            "lfm_envs:lfm/PushT-v9",
            r"module 'lfm_envs' \(.*\) registers lfm/AlohaInsertion-v0, .*lfm/Can-v0, ",
        ),
    ],
)
def test_ids_of_nothing(env_id: str, message: str) -> None:
    with pytest.raises(EnvLookupError, match=message):
        make_named_env(env_id, working_folder(), {})


def test_a_constructor_that_raises(module: Callable[..., str]) -> None:
    name = module()
    with pytest.raises(EnvLookupError, match=r"RuntimeError: cannot draw \(.*\.py, line 12\)"):
        make_named_env(f"{name}:{name.title()}-v0", working_folder(), {"size": 3})


def test_a_working_folder_that_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert working_folder() == ""
    with pytest.raises(EnvLookupError, match="looked in no working folder and where Python"):
        make_named_env("no_such_module_at_all:X-v0", working_folder(), {})
