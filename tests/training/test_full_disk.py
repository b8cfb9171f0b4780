"""A training that cannot write: one error, the last good checkpoint, and how to go on."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig
from lfm_policy.errors import InputError
from lfm_policy.policy import read_header
from lfm_policy.training import train
from lfm_policy.training.run_folder import state as state_module
from lfm_policy.training.run_folder.checkpoints import RunFolder
from lfm_policy.training.run_folder.metrics import MetricsLog, read_metrics

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
WriteConfig = Callable[[ExperimentConfig, Path], str]


def run_limited(arguments: list[str], n_bytes: int) -> subprocess.CompletedProcess[str]:
    """Run a command whose files cannot become larger, as on a disk that is nearly full."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))

    return subprocess.run(
        [sys.executable, "-m", "lfm_policy", *arguments],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )


def arguments_of(config: str, folder: Path) -> list[str]:
    return ["train", config, "--output", str(folder), "--device", "cpu", "--quiet"]


@pytest.fixture
def config(make_config: MakeConfig, write_config: WriteConfig, tmp_path: Path) -> str:
    return write_config(make_config({"training.checkpoint_every": 4}), tmp_path / "tiny.yaml")


def test_a_checkpoint_that_does_not_fit(config: str, tmp_path: Path) -> None:
    done = run_limited(arguments_of(config, tmp_path / "run"), 4096)
    assert done.returncode == 2
    assert done.stderr.startswith("error: [Errno 27] File too large: '")
    assert done.stderr.count("\n") == 1
    (path,) = [text for text in done.stderr.split("'") if text.endswith(".safetensors")]
    assert Path(path).is_relative_to(tmp_path / "run/checkpoints/block1-train-000000004")
    assert "no checkpoint is there: make room, then continue with --resume" in done.stderr
    assert not list((tmp_path / "run/checkpoints").iterdir())
    assert main([*arguments_of(config, tmp_path / "run"), "--resume"]) == 0
    assert read_header(tmp_path / "run").complete


def test_metrics_that_do_not_fit(config: str, tmp_path: Path) -> None:
    """TensorBoard writes in a thread of its own, whose error must not be printed beside ours."""
    many = ["training.log_every=1", "training.checkpoint_every=1000", "network.width=4"]
    done = run_limited([*arguments_of(config, tmp_path / "run"), *many], 2800)
    assert done.returncode == 2
    assert done.stderr.startswith("error: [Errno 27] File too large: '")
    assert done.stderr.count("\n") == 1
    assert "metrics.jsonl" in done.stderr or "tensorboard" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a small disk")
def test_a_full_disk(config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("nothing can be mounted here")
    try:
        keep = ["training.keep_checkpoints=1000", "training.checkpoint_every=1"]
        assert main([*arguments_of(config, disk / "run"), *keep]) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: [Errno 28] No space left on device: '")
        assert error.count("\n") == 1
        latest = RunFolder(disk / "run", keep=1).latest()
        assert f"bytes are free there without it; the last good checkpoint is {latest}: " in error
        assert read_header(disk / "run").folder == latest
        assert not list(disk.rglob(".tmp-*")) and not list(disk.rglob(".lock*"))
        subprocess.run(["mount", "-o", "remount,size=40m", str(disk)], check=True)
        assert main([*arguments_of(config, disk / "run"), *keep, "--resume"]) == 0
        assert read_header(disk / "run").complete
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOSPC, "make room"), (errno.EDQUOT, "quota is used up"), (errno.EIO, "mend that")],
)
def test_the_last_good_checkpoint_is_kept(
    make_config: MakeConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    words: str,
) -> None:
    write, calls = state_module.write_tensors, []

    def fail_later(path: Path, tensors: Any) -> str:
        calls.append(path)
        if len(calls) > 4:
            raise OSError(number, os.strerror(number), str(path))
        return write(path, tensors)

    monkeypatch.setattr(state_module, "write_tensors", fail_later)
    with pytest.raises(InputError, match=words) as caught:
        train(make_config(checkpoints=True), tmp_path / "run", device="cpu", quiet=True)
    header = read_header(tmp_path / "run")
    assert header.folder.name == "block1-train-000000008"
    assert f"the last good checkpoint is {header.folder}" in str(caught.value)
    assert str(caught.value).endswith("then continue with --resume")
    assert "block1-train-000000012/train_state/block.safetensors" in str(caught.value)
    monkeypatch.setattr(state_module, "write_tensors", write)
    train(make_config(checkpoints=True), tmp_path / "run", device="cpu", quiet=True, resume=True)
    assert read_header(tmp_path / "run").complete


def test_a_log_that_cannot_be_closed_hides_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), MetricsLog(tmp_path) as log:
        log.write("train", block=1, step=1, loss=1.0)
        log._file.close()
        log._file = open("/dev/full", "w")  # noqa: SIM115
        log._file.write("x")
        raise ZeroDivisionError
    assert [record["step"] for record in read_metrics(tmp_path / "metrics.jsonl")] == [1]
    log = MetricsLog(tmp_path)
    log._file.close()
    log._file = open("/dev/full", "w", buffering=1)  # noqa: SIM115
    with pytest.raises(OSError, match="No space left") as caught:
        log.write("train", block=1, step=2, loss=1.0)
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    with pytest.raises(OSError, match="No space left"):
        log.close()
