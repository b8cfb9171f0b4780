"""What a run needs to go on exactly where it stopped: the folder ``train_state/``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from torch import Tensor

from lfm_policy.checkpoint_folders import or_another
from lfm_policy.errors import InputError
from lfm_policy.policy.tensors import read_tensors, sha256_of, write_tensors
from lfm_runtime.disk.files import write_json
from lfm_runtime.disk.input_files import read_bounded

STATE_FILE = "state.json"
BLOCK_FILE = "block.safetensors"
CHUNKS_FILE = "chunks.safetensors"

MAXIMUM_STATE_BYTES = 16_000_000

TRAIN = "train"
PUSH = "push_forward"


@dataclass
class BlockRecord:
    """What became of one block, for checkpoints and reports.

    Times are wall-clock seconds, summed over interruptions.
    """

    steps: int = 0
    train_seconds: float = 0.0
    push_seconds: float = 0.0
    push_nfe: int = 0
    loss: float | None = None
    validation_loss: float | None = None


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        block: the part in work: a block, 1..N; 0 is the joint training of encoder and blocks; None
            before the first of a pass.
        phase: ``train`` or ``push_forward`` (of that block).
        pushed: rows of the training set pushed through it so far.
        world: processes that train together; batches depend on it.
        records: one per block.
        encoder: the record of the joint training.
        passed: passes that are done, see `lfm_policy.training.steps.Pass`.
        looked: gradient steps of all parts at the last rollouts.
    """

    block: int | None = None
    phase: str = TRAIN
    pushed: int = 0
    world: int = 1
    records: list[BlockRecord] = field(default_factory=list)
    trainer: dict[str, Any] = field(default_factory=dict)
    encoder: BlockRecord = field(default_factory=BlockRecord)
    passed: int = 0
    looked: int = -1

    def record(self, n: int) -> BlockRecord:
        """Return the record of block n, or of the joint training for 0."""
        return self.records[n - 1] if n else self.encoder

    def left(self, numbers: Sequence[int]) -> Sequence[int]:
        """Return what is left of the parts of a pass, given in their order."""
        return numbers if self.block is None else numbers[numbers.index(self.block) :]


def progress_after(training: Mapping[str, Any], *, passed: int, world: int) -> Progress:
    """Return where a run stands that was complete and is continued with more steps.

    Args:
        training: what its final checkpoint says, see `CheckpointHeader.training`.
        passed: passes that are done.
        world: processes that train together.
    """
    known = {field.name for field in fields(BlockRecord)}
    records = [
        BlockRecord(**{k: v for k, v in record.items() if k in known})
        for record in training["blocks"]
    ]
    encoder = BlockRecord(
        steps=training.get("encoder_steps", 0), train_seconds=training.get("encoder_seconds", 0.0)
    )
    return Progress(world=world, records=records, encoder=encoder, passed=passed)


def write_train_state(
    folder: Path, progress: Progress, block: Mapping[str, Tensor], chunks: Mapping[str, Tensor]
) -> None:
    """Write the state into an existing folder.

    Args:
        folder: ``train_state`` of a checkpoint that is being written.
        progress: where the run stands.
        block: weights, EMA and optimiser of the part in work.
        chunks: ``train`` (the block's data, from block 2 on) and ``pushed`` (what has been pushed
            through it so far).
    """
    files = {
        BLOCK_FILE: write_tensors(folder / BLOCK_FILE, block),
        CHUNKS_FILE: write_tensors(folder / CHUNKS_FILE, chunks),
    }
    write_json(folder / STATE_FILE, {"progress": asdict(progress), "files": files})


def read_train_state(folder: Path) -> tuple[Progress, dict[str, Tensor], dict[str, Tensor]]:
    """Read what `write_train_state` wrote.

    Raises:
        InputError: something is missing, damaged, or not what it has to be.
    """
    file = folder / STATE_FILE
    try:
        content = json.loads(read_bounded(file, MAXIMUM_STATE_BYTES).decode("utf-8"))
        progress = Progress(**content["progress"])
        progress.records = [BlockRecord(**record) for record in content["progress"]["records"]]
        progress.encoder = BlockRecord(**content["progress"].get("encoder", {}))
        files = dict(content["files"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{file}: not the state of a run: {str(error)[:200]}; {_or_another(folder)}"
        ) from None
    tensors = {}
    for name in (BLOCK_FILE, CHUNKS_FILE):
        if sha256_of(folder / name) != files.get(name):
            raise InputError(
                f"{folder / name}: does not match its checksum: it is damaged; "
                + _or_another(folder)
            )
        tensors[name] = read_tensors(folder / name)
    return progress, tensors[BLOCK_FILE], tensors[CHUNKS_FILE]


def _or_another(folder: Path) -> str:
    checkpoint = folder.parent
    return or_another(checkpoint.parent.parent, checkpoint.name, folder.name)
