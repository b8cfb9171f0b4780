"""What an installed package holds, and what it must not claim."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib import resources
from pathlib import Path

import pytest
import yaml

from lfm_policy.version import __version__

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parent.parent


PLUGIN = "integrations/lerobot_policy_lfm"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return built(tmp_path_factory.mktemp("wheel")).namelist()


def built(folder: Path, part: str = "") -> zipfile.ZipFile:
    """Return the wheel of the repository, or of a distribution in a folder of it."""
    source = folder / "source"
    # A copy: the build leaves folders behind, and two tests may build at the same time.
    files = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\n")
    for name in filter(None, files):
        path = REPOSITORY / name
        if path.is_file() and not name.startswith("tests/"):
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation"),
            "--ignore-requires-python",  # a wheel is made, not installed
            *("-w", str(folder), str(source / part)),
        ],
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_wheel_holds_every_module_and_configuration(wheel: list[str]) -> None:
    for top, name in (("lfm_policy", "lfm_policy"), ("envs", "lfm_envs")):
        for path in (REPOSITORY / top).rglob("*.py"):
            assert f"{name}/{path.relative_to(REPOSITORY / top)}" in wheel
        assert f"{name}/py.typed" in wheel
    # What is no module: the template of the demo's page, and the bundled demonstrations with all
    # their chunks and hidden files.
    for folder in (REPOSITORY / "lfm_policy/demo", REPOSITORY / "lfm_policy/assets"):
        for path in folder.rglob("*"):
            if path.is_file() and path.suffix not in (".py", ".pyc"):
                assert str(path.relative_to(REPOSITORY)) in wheel
    for path in (REPOSITORY / "configs").rglob("*.yaml"):
        assert f"lfm_policy/configs/{path.relative_to(REPOSITORY / 'configs')}" in wheel


def test_wheel_claims_only_its_own_names(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"lfm_policy", "lfm_envs"}


def test_lerobot_finds_the_plugin_by_its_name(tmp_path: Path) -> None:
    """It looks for distributions whose name begins with lerobot_policy_, underscores and all."""
    wheel = built(tmp_path, PLUGIN)
    names = wheel.namelist()
    modules = {path.name for path in (REPOSITORY / PLUGIN / "lerobot_policy_lfm").glob("*.py")}
    inside = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert inside == {f"lerobot_policy_lfm/{name}" for name in (*modules, "py.typed")}
    (metadata,) = (name for name in names if name.endswith("/METADATA"))
    lines = wheel.read(metadata).decode().splitlines()
    assert "Name: lerobot_policy_lfm" in lines
    assert [line for line in lines if line.startswith("Requires-Python: <3.14,>=3.12")]


def test_the_citation_names_this_version() -> None:
    citation = yaml.safe_load((REPOSITORY / "CITATION.cff").read_text())
    assert citation["version"] == __version__ and citation["license"] == "MIT"


def test_bundled_configurations_are_found_by_the_installed_package() -> None:
    assert resources.files("lfm_policy.configs").joinpath("pusht", "fm.yaml").is_file()


def test_help_and_environments_do_not_wait_for_torch() -> None:
    code = (
        "import sys, lfm_policy, lfm_envs; from lfm_policy.cli.main import build_parser; "
        "build_parser(); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_training_and_inference_need_no_simulator() -> None:
    code = (
        "import sys\n"
        "for name in ('gym_pusht', 'pymunk', 'pygame', 'robosuite', 'mujoco'):\n"
        "    sys.modules[name] = None\n"
        "import lfm_policy.training, lfm_policy.evaluation\n"
        "from lfm_policy import load_policy\n"
        "import lfm_envs\n"
        "try:\n"
        "    lfm_envs.make_vector_env('lfm/PushT-v0', 1)\n"
        "except lfm_envs.MissingSimulatorError as error:\n"
        "    assert '.[sim]' in str(error)\n"
        "else:\n"
        "    raise SystemExit('no error')\n"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
