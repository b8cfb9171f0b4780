"""``lfm-policy demo``: it can be stopped, goes on, and says what is wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lfm_envs
import pytest

from lfm_policy import assets
from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig
from lfm_policy.config.flow import FlowConfig
from lfm_policy.config.sampler import SamplerConfig
from lfm_policy.demo import demo as demo_module
from lfm_policy.demo import evaluations, options
from lfm_policy.distillation.group import group_edges
from lfm_policy.errors import InputError

pytestmark = pytest.mark.slow

POLICIES = ("teacher", "student-nfe2", "student-nfe1")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], demo_options: list[str]) -> Run:
    """Return a function that runs the small demo with further arguments."""

    def call(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["demo", *demo_options, *[str(argument) for argument in arguments]])
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


@pytest.fixture
def copied(demo_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(demo_folder, tmp_path / "demo"))


@pytest.fixture
def no_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out what takes longest and is tested elsewhere."""
    monkeypatch.setattr(demo_module, "write_flow_film", lambda *arguments: None)
    monkeypatch.setattr(demo_module, "demo_page", lambda results: "page")


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list of the run folders whose policies are evaluated from now on."""
    seen: list[str] = []
    really = evaluations.evaluate

    def evaluate(policy, *arguments, **options):  # type: ignore[no-untyped-def]
        seen.append(Path(policy.info["checkpoint"]).parent.parent.name)
        return really(policy, *arguments, **options)

    monkeypatch.setattr(evaluations, "evaluate", evaluate)
    return seen


def contents(folder: Path) -> dict[str, int]:
    """Return when every file that takes long to make was written."""
    kept = ("*/checkpoints/**/*", "teacher/pairs/**/*", "eval/**/*")
    return {
        str(path.relative_to(folder)): path.stat().st_mtime_ns
        for pattern in kept
        for path in folder.glob(pattern)
        if path.is_file()
    }


def test_a_finished_demo_is_kept(
    run: Run, copied: Path, evaluated: list[str], no_drawing: None
) -> None:
    before, seconds = contents(copied), json.loads((copied / "seconds.json").read_text())
    code, out, err = run("--output", copied, "--resume")
    assert code == 0, err
    assert contents(copied) == before and not evaluated
    assert out.count("kept: ") == 3 and f"{copied / 'demo.html'}" in out
    after = json.loads((copied / "seconds.json").read_text())
    assert list(after) == list(seconds) and all(after[k] >= v for k, v in seconds.items())


def test_only_what_is_missing_is_made(
    run: Run, copied: Path, evaluated: list[str], no_drawing: None
) -> None:
    before = contents(copied)
    shutil.rmtree(copied / "student-nfe1")
    (copied / "eval/student-nfe2/eval.json").write_text("{ damaged")
    next((copied / "eval/teacher/videos").glob("*.mp4")).with_suffix(".png").unlink()
    code, _, err = run("--output", copied, "--resume", "--quiet")
    assert code == 0, err
    # The student is the same again, to the bit, but its checkpoint tells other seconds.
    assert evaluated == ["student-nfe2", "student-nfe1"]
    after = contents(copied)
    assert after.keys() == before.keys()
    changed = {name for name in before if before[name] != after[name]}
    assert not any(name.startswith(("teacher/", "student-nfe2/")) for name in changed)
    assert sum(name.startswith("eval/teacher/") for name in changed) == 2


def test_other_episodes_are_other_evaluations(
    run: Run, copied: Path, evaluated: list[str], no_drawing: None
) -> None:
    code, out, err = run("--output", copied, "--resume", "--episodes", 1, "--json")
    assert code == 0, err
    assert sorted(evaluated) == sorted(POLICIES)
    report = json.loads(out)
    assert report["page"] == str(copied / "demo.html")
    assert [policy["summary"]["n"] for policy in report["policies"]] == [1, 1, 1]
    assert [policy["name"] for policy in report["policies"]] == list(POLICIES)
    for name in POLICIES:
        videos = sorted(path.name for path in (copied / "eval" / name / "videos").iterdir())
        assert videos == ["episode_0000_failure.mp4", "episode_0000_failure.png"]


@pytest.mark.parametrize("stage", ["train", "distill", "evaluate_once", "film"])
def test_an_interrupted_demo_goes_on(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    copied: Path,
    no_drawing: None,
    stage: str,
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demo_module, stage, interrupt)
        code, _, err = run("--output", copied, "--resume", "--quiet")
        assert code == 130 and err == "interrupted\n"
    assert run("--output", copied, "--resume", "--quiet")[0] == 0


def test_a_demo_is_not_overwritten(run: Run, copied: Path) -> None:
    before = contents(copied)
    code, out, err = run("--output", copied)
    assert code == 2 and not out
    assert err.startswith(f"error: {copied}: there is a demo already; continue it with --resume")
    code, _, err = run("--output", copied, "--resume", "network.width=8")
    assert code == 2 and "cannot resume with other options: network.width was 16, is now 8" in err
    assert contents(copied) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset", "missing.zarr"], "missing.zarr"),
        (["--dataset", "{folder}/a: b #.zarr"], "a: b #.zarr"),
        (["--output", "{folder}/file"], "file: is a file, expected a folder or nothing"),
        (["--output", "{folder}/mine"], "mine: exists already and holds no demo"),
        (["--device", "gpu"], "device 'gpu': expected auto, cpu, cuda"),
        (["traning.x=1"], "unknown key 'traning': did you mean 'training'?"),
        (["flow.step_sizes=[0.1]"], "flow.step_sizes has 1 elements"),
        (["env.id=Other-v0"], "env.id is 'Other-v0': the demo draws the board of PushT"),
        (["dataset.obs_keys=[poze]"], "there is no array data/poze"),
    ],
)
def test_bad_input(
    run: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").touch()
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(*[argument.format(folder=tmp_path) for argument in arguments])
    assert code == 2 and not out
    assert err.startswith("error: ") and message in err and err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_missing_simulator_is_said_at_once(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*arguments: object, **options: object) -> None:
        raise lfm_envs.MissingSimulatorError('PushT needs it: pip install "lfm-policy[sim]"')

    monkeypatch.setattr(lfm_envs, "make_vector_env", missing)
    code, _, err = run("--output", tmp_path / "demo")
    assert code == 2 and err.startswith("error: PushT needs it")
    assert not (tmp_path / "demo").exists()


def test_the_bundled_demonstrations_are_the_default(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(options, "bundled_demonstrations", lambda: tmp_path / 'a "b".zarr')
    assert options.demo_config(None, []).dataset.path == str(tmp_path / 'a "b".zarr')
    assert options.demo_config(tmp_path / "mine", []).dataset.path == str(tmp_path / "mine")
    assert options.demo_config(None, ["dataset.path=other"]).dataset.path == "other"


@pytest.mark.parametrize(
    ("n_blocks", "groups"), [(1, ()), (2, ()), (3, (2, 1)), (4, ()), (5, (3, 2)), (8, ())]
)
def test_any_number_of_blocks_is_shared_out_among_two_students(
    n_blocks: int, groups: tuple[int, ...]
) -> None:
    flow = FlowConfig(n_blocks=n_blocks, step_sizes=[0.1] * (n_blocks - 1))
    config = replace(ExperimentConfig(), flow=flow, sampler=SamplerConfig(nfe=8))
    assert options.student_groups(config, 2) == groups
    assert options.student_groups(config, 1) == ()
    assert len(group_edges(n_blocks, 2, groups)) == 3


def test_an_installation_without_demonstrations_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(assets, "DEMONSTRATIONS", "nothing.zarr")
    with pytest.raises(InputError, match=r"nothing\.zarr.*install lfm-policy again.*--dataset"):
        assets.bundled_demonstrations()
