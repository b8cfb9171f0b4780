"""Loading plugins: by name, by path, in processes that inherit them, from installed packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from lfm_runtime import plugins
from lfm_runtime.errors import InputError
from lfm_runtime.plugins import load_plugin, loaded_plugins
from lfm_runtime.registry import Registry

COLOURS: Registry[str] = Registry("colour", {})

PLUGIN = """
from tests.runtime.test_plugins import COLOURS

COLOURS.add({name!r}, "builtins:int")
"""


@pytest.fixture(autouse=True)
def as_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Forget what a test loads."""
    monkeypatch.setattr(plugins, "_loaded", {})
    monkeypatch.setattr(plugins, "_broken", [])
    monkeypatch.setattr(plugins, "_looked_for_more", False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(plugins.INHERITED, "[]")
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_module_of_the_working_folder(tmp_path: Path) -> None:
    (tmp_path / "my_colours.py").write_text(PLUGIN.format(name="red"))
    module = load_plugin("my_colours")
    assert module is load_plugin("my_colours") is load_plugin("my_colours.py")
    assert loaded_plugins() == ("my_colours",)
    assert COLOURS.plugin_of("red") == "my_colours" and COLOURS.get("red") is int
    assert sys.path[-1] == str(tmp_path)


def test_a_file_anywhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "far_colours.py").write_text(PLUGIN.format(name="blue"))
    load_plugin(str(tmp_path / "elsewhere" / "far_colours.py"))
    assert COLOURS.plugin_of("blue") == "far_colours"
    assert json.loads(os.environ[plugins.INHERITED]) == [
        [str(tmp_path / "elsewhere"), "far_colours"]
    ]


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import json\n\njson.loads('')\n")
    (tmp_path / "taken.py").write_text(PLUGIN.format(name="green"))
    (tmp_path / "again.py").write_text(
        PLUGIN.format(name="green").replace("builtins:int", "builtins:float")
    )
    (tmp_path / "json.py").write_text("")
    load_plugin("taken")
    for name, message in {
        "absent_module": "plugin 'absent_module': no module named 'absent_module'; looked in "
        f"{tmp_path} and where Python finds packages",
        "absent.py": "plugin 'absent.py': no such file",
        "not a name": "expected the name of a module, such as my_module, or the path of its file",
        "broken": r"module 'broken' cannot be imported: JSONDecodeError: .*\.py, line \d+",
        "again": "plugin 'again': the colour 'green' is there already: builtins:int, of the "
        "plugin 'taken'; builtins:float needs another name",
        "./json.py": "plugin '.*/json.py': another module is called 'json' already .*: rename",
    }.items():
        with pytest.raises(InputError, match=message):
            load_plugin(name)
    assert loaded_plugins() == ("taken",)


def test_a_started_process_loads_them_when_it_needs_them(tmp_path: Path) -> None:
    (tmp_path / "child_colours.py").write_text(PLUGIN.format(name="violet"))
    load_plugin("child_colours")
    code = "from tests.runtime.test_plugins import COLOURS; print(COLOURS.get('violet'))"
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": root},
        cwd="/",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "<class 'int'>"


def install(folder: Path, distribution: str, module: str, code: str) -> None:
    (folder / f"{module}.py").write_text(textwrap.dedent(code))
    info = folder / f"{distribution}-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(f"[{plugins.ENTRY_POINTS}]\nany_name = {module}\n")


def test_installed_packages_are_asked_for_an_unknown_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    install(site, "good_colours", "good_colours", PLUGIN.format(name="cyan"))
    install(site, "bad_colours", "bad_colours", "raise RuntimeError('no display')")
    monkeypatch.syspath_prepend(str(site))
    assert "good_colours" not in sys.modules
    COLOURS.add("black", "builtins:int")
    COLOURS.get("black")  # nobody is asked for what is known
    assert "good_colours" not in sys.modules
    assert COLOURS.get("cyan") is int
    assert COLOURS.plugin_of("cyan") == "good_colours"
    with pytest.raises(
        InputError,
        match="unknown colour 'cyaan': did you mean 'cyan'.; plugin 'bad_colours': .* cannot be "
        "imported: RuntimeError: no display .*; it belongs to bad_colours 1.5, which is installed",
    ):
        COLOURS.get("cyaan")


def test_a_variable_that_nobody_of_us_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(plugins.INHERITED, "my_module")
    with pytest.raises(InputError, match="LFM_POLICY_PLUGINS is 'my_module'.*--plugin"):
        COLOURS.get("octarine")
