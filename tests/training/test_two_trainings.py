"""Two trainings in one run folder: the second one says so and changes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lfm_policy.cli.main import main
from lfm_policy.config import ExperimentConfig
from lfm_policy.errors import InputError
from lfm_policy.policy import read_header
from lfm_policy.training import BlockPlan, Run, train, train_parts
from lfm_policy.training.run_folder.checkpoints import LOCK, RunFolder
from lfm_runtime.disk.locks import FileLock

pytestmark = pytest.mark.slow

MakeConfig = Callable[..., ExperimentConfig]
WriteConfig = Callable[[ExperimentConfig, Path], str]
BeforeStep = Callable[[int, int, Callable[[], None]], None]

WAITING = """
import os, sys
from lfm_policy.cli.main import main
from lfm_policy.training.trainer import Trainer
original = Trainer.train_step
def train_step(trainer):
    if trainer.step == 6:
        os.write(int(os.environ["READY"]), b"x")
        sys.stdin.readline()
    return original(trainer)
Trainer.train_step = train_step
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def arguments(make_config: MakeConfig, write_config: WriteConfig, tmp_path: Path) -> list[str]:
    config = write_config(make_config({"training.checkpoint_every": 4}), tmp_path / "tiny.yaml")
    return ["train", config, "--output", str(tmp_path / "run"), "--device", "cpu", "--quiet"]


@pytest.fixture
def other(arguments: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that trains, in the middle of it, until it is given a line."""
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-c", WAITING, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        pass_fds=(writing,),
        env={**os.environ, "READY": str(writing)},
    )
    os.close(writing)
    assert os.read(reading, 1) == b"x"
    yield process
    process.kill()
    process.communicate()
    os.close(reading)


def changes(folder: Path) -> dict[Path, int]:
    """Return when each path was changed; of what a thread of the board still writes, its name."""
    return {
        path: 0 if path.name.startswith("events.") else path.stat().st_mtime_ns
        for path in folder.rglob("*")
    }


@pytest.mark.parametrize("more", [[], ["--resume"]])
def test_the_second_one_names_the_first(
    other: subprocess.Popen[bytes],
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    more: list[str],
) -> None:
    before = changes(tmp_path / "run")
    assert main([*arguments, *more]) == 2
    error = capsys.readouterr().err
    host = os.uname().nodename
    assert error == (
        f"error: {tmp_path / 'run'}: process {other.pid} on {host} is training in this folder: "
        "wait until it has ended or stop it, or choose another folder with --output\n"
    )
    assert changes(tmp_path / "run") == before
    other.communicate(b"\n" * 10)
    assert other.returncode == 0 and read_header(tmp_path / "run").complete
    assert not (tmp_path / "run" / LOCK).exists()


def test_the_lock_ends_with_its_process(
    other: subprocess.Popen[bytes], arguments: list[str], tmp_path: Path
) -> None:
    other.kill()
    other.communicate()
    assert (tmp_path / "run" / LOCK).exists()
    assert main([*arguments, "--resume"]) == 0
    assert read_header(tmp_path / "run").complete
    assert not (tmp_path / "run" / LOCK).exists()


def test_both_were_started_at_once(make_config: MakeConfig, tmp_path: Path) -> None:
    """Neither finds a run when it starts; what the first one wrote is not cleared away."""
    first, second = (
        Run(make_config(), tmp_path / "run", device="cpu", quiet=True) for _ in range(2)
    )
    checkpoint = train_parts(first, BlockPlan(first))
    with pytest.raises(InputError, match="run: another process has trained there meanwhile"):
        train_parts(second, BlockPlan(second))
    assert read_header(tmp_path / "run").folder == checkpoint


def test_while_the_first_one_has_written_nothing_yet(
    make_config: MakeConfig, tmp_path: Path, before_step: BeforeStep
) -> None:
    late = Run(make_config(), tmp_path / "run", device="cpu", quiet=True)
    seen = []

    def start_late() -> Path:
        return train_parts(late, BlockPlan(late))

    def also() -> None:
        for start in (start_late, lambda: train(make_config(), tmp_path / "run", quiet=True)):
            with pytest.raises(InputError, match=f"process {os.getpid()} on .* is training in th"):
                start()
            seen.append(start)

    before_step(1, 2, also)
    train(make_config(), tmp_path / "run", device="cpu", quiet=True)
    assert len(seen) == 2


def test_blocks_in_processes(make_config: MakeConfig, tmp_path: Path) -> None:
    config = make_config({"training.block_training": "parallel", "training.parallel_processes": 2})
    (tmp_path / "run").mkdir()
    lock = FileLock.take(tmp_path / "run" / LOCK)
    with pytest.raises(InputError, match="is training in this folder"):
        train(config, tmp_path / "run", device="cpu", quiet=True)
    lock.release()
    assert [path.name for path in (tmp_path / "run").iterdir()] == []


def test_only_the_first_of_launched_processes_holds_it(
    make_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be training already when the others are still reading the data."""
    with RunFolder(tmp_path / "run", keep=1).running(None):
        monkeypatch.setenv("RANK", "1")
        Run(make_config(), tmp_path / "run", device="cpu", quiet=True)
        monkeypatch.setenv("RANK", "0")
        with pytest.raises(InputError, match="is training in this folder"):
            Run(make_config(), tmp_path / "run", device="cpu", quiet=True)
