"""What would be sent, and what is refused before anything is."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from lfm_policy import load_policy
from lfm_policy.checkpoint_folders import CHECKPOINT_FILES, CHECKPOINTS
from lfm_policy.cli.main import main
from lfm_policy.config import load_config
from lfm_policy.errors import InputError
from lfm_policy.policy import find_checkpoint, read_header
from lfm_policy.sharing.push import PushOptions, prepare_push
from lfm_policy.training import train

REPO = "someone/small-arm"


def test_dry_run_writes_the_folder_and_sends_nothing(
    run: Path, empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(run), REPO, "--dry-run", "--license", "mit"]) == 0
    folder = empty_folder / "small-arm-hub"
    assert {p.name for p in folder.iterdir()} == {*CHECKPOINT_FILES, "README.md"}
    for name in CHECKPOINT_FILES:
        assert (folder / name).read_bytes() == (find_checkpoint(run) / name).read_bytes()
    out, err = capsys.readouterr()
    assert (folder / "README.md").read_text() in out and "written: small-arm-hub" in out
    assert "'not evaluated'" in err and "no licence" not in err
    assert f"where the demonstrations were: {read_header(run).config.dataset.path}" in err  # type: ignore[attr-defined]
    load_policy(folder)
    assert main(["push", str(run), REPO, "--dry-run"]) == 2
    assert "small-arm-hub: exists already" in capsys.readouterr().err


def test_json(run: Path, empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(run), REPO, "--dry-run", "--output", "there", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["folder"] == "there" and report["commit"] is None
    assert report["files"]["README.md"] == (empty_folder / "there" / "README.md").stat().st_size


def test_a_training_that_is_not_complete(small_config: Path, tmp_path: Path) -> None:
    changes = ["training.checkpoint_every=2", "training.keep_checkpoints=9"]
    run = tmp_path / "run"
    train(load_config(str(small_config), changes), run, device="cpu", quiet=True)
    early = run / CHECKPOINTS / "block2-train-000000006"
    with pytest.raises(InputError, match=r"not complete \(6 gradient steps done\): .*--incomplete"):
        prepare_push(early, REPO, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    prepared = prepare_push(early, REPO, tmp_path / "out", PushOptions(incomplete=True))
    assert prepared.files.keys() == {*CHECKPOINT_FILES, "README.md"}  # no train_state
    assert "training was not complete" in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.slow
def test_exports_go_with_their_checkpoint(run: Path, small_export: Path, tmp_path: Path) -> None:
    from lfm_runtime import OnnxPolicy

    exported = Path(shutil.copytree(small_export, tmp_path / "arm-onnx"))
    prepared = prepare_push(run, REPO, tmp_path / "out", PushOptions(onnx=[exported]))
    assert {"onnx/arm-onnx/policy.onnx", "onnx/arm-onnx/policy.json"} <= prepared.files.keys()
    OnnxPolicy(prepared.folder / "onnx" / "arm-onnx")
    assert 'OnnxPolicy("policy/onnx/arm-onnx")' in (prepared.folder / "README.md").read_text()
    with pytest.raises(InputError, match=r"was exported from the checkpoint .*: export it again"):
        prepare_push("pusht-state", REPO, tmp_path / "other", PushOptions(onnx=[exported]))
    with pytest.raises(InputError, match="push the checkpoint that it was made of"):
        prepare_push(exported, REPO, tmp_path / "other")


@pytest.mark.parametrize(
    ("repo", "options", "message"),
    [
        ("small-arm", PushOptions(), "'small-arm' is no name on the hub: expected user/name"),
        ("a/b/c", PushOptions(), "is no name on the hub"),
        (REPO, PushOptions(license="my own licence"), "expected one word"),
        (REPO, PushOptions(onnx=[Path("nowhere")]), "not an exported policy"),
        (REPO, PushOptions(reports=[Path("nowhere")]), "nowhere"),
    ],
)
def test_what_is_refused(
    run: Path, tmp_path: Path, repo: str, options: PushOptions, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        prepare_push(run, repo, tmp_path / "out", options)
    assert not (tmp_path / "out").exists()


def test_what_is_damaged_is_not_sent(run: Path, tmp_path: Path) -> None:
    weights = find_checkpoint(run) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match="does not match the checksum"):
        prepare_push(run, REPO, tmp_path / "out")


def test_a_policy_of_no_checkpoint(run: Path) -> None:
    policy = load_policy(run)
    policy.info.clear()
    with pytest.raises(InputError, match="was not loaded from a checkpoint"):
        policy.push_to_hub(REPO)


def test_a_folder_that_has_gone(run: Path) -> None:
    policy = load_policy(run)
    shutil.rmtree(run)
    with pytest.raises(InputError, match="no such checkpoint"):
        policy.push_to_hub(REPO)


@pytest.mark.parametrize(
    "options", [["--license", "mit"], ["--description", "x"], ["--report", "nowhere.json"]]
)
def test_options_of_a_card_that_is_not_written(
    run: Path, empty_folder: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["push", str(run), REPO, "--dry-run", "--no-card", *options]) == 2
    assert f"{options[0]} is for the card" in capsys.readouterr().err
