from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.training.run_folder.state import (
    BLOCK_FILE,
    CHUNKS_FILE,
    PUSH,
    STATE_FILE,
    BlockRecord,
    Progress,
    read_train_state,
    write_train_state,
)

PROGRESS = Progress(
    block=2,
    phase=PUSH,
    pushed=48,
    world=2,
    records=[BlockRecord(steps=10, train_seconds=1.5, loss=0.1, push_nfe=14), BlockRecord()],
    trainer={"step": 10, "average_steps": 20, "scaler": {}},
)
BLOCK = {"online/network.w": torch.randn(3, 2), "optimizer/network.w/step": torch.tensor(10.0)}
CHUNKS = {"train": torch.randn(5, 4, 2), "pushed": torch.randn(2, 4, 2)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_train_state(tmp_path, PROGRESS, BLOCK, CHUNKS)
    return tmp_path


def test_the_state_comes_back(folder: Path) -> None:
    progress, block, chunks = read_train_state(folder)
    assert progress == PROGRESS
    for found, expected in ((block, BLOCK), (chunks, CHUNKS)):
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_nothing_to_store_is_fine(tmp_path: Path) -> None:
    write_train_state(tmp_path, Progress(block=1), {}, {})
    assert read_train_state(tmp_path) == (Progress(block=1), {}, {})


def test_nothing_is_pickled(folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [BLOCK_FILE, CHUNKS_FILE, STATE_FILE]
    )
    json.loads((folder / STATE_FILE).read_text())


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))


@pytest.mark.parametrize("name", [BLOCK_FILE, CHUNKS_FILE])
@pytest.mark.parametrize("damage", [_truncate, _flip])
def test_damaged_tensors_are_noticed(
    folder: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(folder / name)
    with pytest.raises(InputError, match=f"{name}: does not match its checksum"):
        read_train_state(folder)


def test_what_to_do_about_a_damaged_one(tmp_path: Path) -> None:
    for name in ("older", "newer"):
        state = tmp_path / "run" / "checkpoints" / name / "train_state"
        state.mkdir(parents=True)
        write_train_state(state, PROGRESS, BLOCK, CHUNKS)
    (tmp_path / "run" / "checkpoints" / "best").mkdir()  # a policy, with which nothing goes on
    advice = f"; bring it back from a copy, or write older into {tmp_path / 'run' / 'latest'}"
    _flip(state / BLOCK_FILE)
    with pytest.raises(InputError) as caught:
        read_train_state(state)
    assert str(caught.value).endswith(advice)
    (state / STATE_FILE).write_text("{")
    with pytest.raises(InputError) as caught:
        read_train_state(state)
    assert str(caught.value).endswith(advice)


@pytest.mark.parametrize("name", [BLOCK_FILE, CHUNKS_FILE, STATE_FILE])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InputError, match=f"{name}: expected a file"):
        read_train_state(folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "{}",
        '{"progress": 1, "files": {}}',
        '{"progress": {"block": 1, "records": []}}',
        '{"progress": {"block": 1, "records": [], "surprise": 1}, "files": {}}',
        '{"progress": {"block": 1, "records": [{"surprise": 1}]}, "files": {}}',
        '{"progress": {"block": 1, "records": [3]}, "files": {}}',
        '{"progress": {"block": 1, "records": []}, "files": [1]}',
        "[" * 100_000,
    ],
)
def test_other_json_is_refused(folder: Path, text: str) -> None:
    (folder / STATE_FILE).write_text(text)
    with pytest.raises(InputError, match=f"{STATE_FILE}: not the state of a run"):
        read_train_state(folder)


def test_bytes_that_are_no_text_are_refused(folder: Path) -> None:
    (folder / STATE_FILE).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=f"{STATE_FILE}: not the state of a run"):
        read_train_state(folder)
