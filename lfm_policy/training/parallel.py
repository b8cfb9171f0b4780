"""Training all blocks at once, each in a process of its own.

Possible because in the parallel mode block n's data are the exact OU marginal of the
demonstrations, not what block n-1 pushes forward. The result does not depend on the number of
processes.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import get_int_from_env
from torch import Tensor

from lfm_policy.checkpoint_folders import LATEST_FILE
from lfm_policy.config import (
    EvalConfig,
    ExperimentConfig,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
)
from lfm_policy.device import choose_device
from lfm_policy.errors import InputError, Interrupted, TrainingError
from lfm_policy.policy.checkpoint import (
    CheckpointHeader,
    read_header,
    read_model_state,
    read_normalizer,
    write_checkpoint,
)
from lfm_policy.text.warned import one_line_warnings, warnings_said
from lfm_policy.training.blocks import BlockPlan
from lfm_policy.training.estimate.training import estimate_run
from lfm_policy.training.rows.data import IMAGE_CACHE, data_spec, load_datasets
from lfm_policy.training.run import Run
from lfm_policy.training.run_folder.checkpoints import RunFolder
from lfm_policy.training.run_folder.resume import (
    CONFIG_COPY,
    already_begun,
    check_same_data,
    find_resumable,
    is_finished,
)
from lfm_policy.training.start.source import kept_normalizer
from lfm_policy.training.train import train_parts
from lfm_runtime.child_processes import deaf_to_ctrl_c
from lfm_runtime.disk.files import write_text
from lfm_runtime.disk.full import explain
from lfm_runtime.interrupt import HANGUP, InterruptFlag

BLOCKS = "blocks"

EXIT_DONE, EXIT_FAILED, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 1, 2, 3
_EXITS_STOPPED = (EXIT_INTERRUPTED, -signal.SIGTERM, *([] if HANGUP is None else [-HANGUP]))


def block_folder(folder: Path, n: int) -> Path:
    """Return the run folder of block n inside the run folder of the whole chain."""
    return folder / BLOCKS / f"block{n}"


def wants_processes(config: ExperimentConfig, folder: Path, *, resume: bool) -> bool:
    """Whether the blocks are trained in processes of their own: as asked for, or as begun."""
    if config.training.block_training != "parallel" or config.flow.n_blocks == 1:
        return False
    if (folder / BLOCKS).is_dir():
        return True
    if resume and (folder / LATEST_FILE).exists():
        return False
    return config.training.parallel_processes > 1


def train_blocks_in_processes(
    config: ExperimentConfig,
    folder: Path,
    *,
    device: str,
    resume: bool,
    source: CheckpointHeader | None = None,
    quiet: bool,
) -> Path:
    """Train every block in its own process, then join them; returns the final checkpoint.

    An encoder with weights is trained with block 1 first; the others then share it, frozen.

    Raises:
        Interrupted: SIGINT, SIGTERM or SIGHUP came; every block wrote a checkpoint.
        TrainingError: a block failed; its own message was printed.
    """
    launched = get_int_from_env(["WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE"], 1)
    if launched > 1:
        raise InputError(
            f"training.parallel_processes is {config.training.parallel_processes} and {launched} "
            "processes were launched, each of which would start processes of its own; launch one "
            "process, or set training.parallel_processes=1 and choose a new folder"
        )
    config = replace(config, encoder=config.encoder.resolved())
    run_folder = RunFolder(folder, keep=config.training.keep_checkpoints)
    run_folder.check_not_running()
    complete, config = find_resumable(folder, config, resume=resume)
    blocks = list(range(1, config.flow.n_blocks + 1))
    if not resume and any((block_folder(folder, n) / LATEST_FILE).exists() for n in blocks):
        raise already_begun(folder)
    begun = []
    for n in blocks:
        header, config = find_resumable(block_folder(folder, n), config, resume=True)
        begun.append(header)
    # Read here too, so that bad data is one message and not one from each process.
    known = next((header for header in (complete, *begun) if header is not None), source)
    kept = kept_normalizer(config, known)
    cache = folder.parent / IMAGE_CACHE
    spec = data_spec(load_datasets(config, cache, kept=kept, for_training=True, quiet=quiet))
    config = replace(config, encoder=config.encoder.with_sizes(spec.obs_shapes))
    for header in (complete, *begun):
        if header is not None:
            check_same_data(header, spec)
    if complete is not None and is_finished(complete, config):
        return complete.folder
    found = None if complete is None else complete.folder
    encoder = config.encoder.create(dict(spec.obs_shapes), config.policy.n_obs_steps)
    with run_folder.writing(), run_folder.running(found), InterruptFlag() as interrupt:
        write_text(folder / CONFIG_COPY, config_to_yaml(config))
        for wave in [blocks[:1], blocks[1:]] if encoder.has_parameters else [blocks]:
            _run_wave(
                config,
                folder,
                wave,
                device=device,
                resume=resume,
                source=source,
                quiet=quiet,
                interrupt=interrupt,
            )
        return _join(config, run_folder)


def _run_wave(
    config: ExperimentConfig,
    folder: Path,
    blocks: list[int],
    *,
    device: str,
    resume: bool,
    source: CheckpointHeader | None,
    quiet: bool,
    interrupt: InterruptFlag,
) -> None:
    """Run the blocks, at most ``parallel_processes`` at a time."""
    # spawn: forked processes inherit torch's thread pools and CUDA contexts in a broken state.
    context = multiprocessing.get_context("spawn")
    waiting = list(blocks)
    running: dict[int, SpawnProcess] = {}
    failed: dict[int, int | None] = {}  # block -> exit code
    stopped = False
    told_to_stop = False
    while waiting or running:
        while waiting and not interrupt and len(running) < config.training.parallel_processes:
            n = waiting.pop(0)
            process = context.Process(
                target=_train_one,
                args=(
                    *(config_to_dict(config), str(folder), n, device, resume, quiet),
                    None if source is None else str(source.folder),
                    warnings_said(),
                ),
            )
            # Ctrl-C would end a process while it imports torch; the parent is told and passes it
            # on as SIGTERM.
            with deaf_to_ctrl_c():
                process.start()
            running[n] = process
        for n, process in list(running.items()):
            if not process.is_alive():
                process.join()
                del running[n]
                # Signals end a process that has not begun to train yet.
                if process.exitcode in _EXITS_STOPPED:
                    stopped = True
                elif process.exitcode != EXIT_DONE:
                    failed[n] = process.exitcode
        if (interrupt or failed or stopped) and not told_to_stop:
            for process in running.values():
                process.terminate()  # SIGTERM: the block saves a checkpoint and stops
            told_to_stop = True
            waiting = []
        time.sleep(0.1)
    if failed:
        message = (
            f"training of block {', '.join(map(str, failed))} failed (see above); the others were "
            f"saved in {folder / BLOCKS}"
        )
        bad_input = set(failed.values()) == {EXIT_BAD_INPUT}
        raise InputError(message) if bad_input else TrainingError(message)
    if interrupt or stopped:
        by = interrupt.name or "a signal to one process"
        raise Interrupted(f"stopped by {by}; saved in {folder}; continue with --resume")


def device_of_block(name: str, n: int) -> str:
    """Return the device that block n trains on: of several GPUs, one after the other.

    Args:
        name: ``auto``, ``cpu``, ``cuda``, or one GPU by its number, which all blocks share then.
        n: 1 to N.

    Raises:
        InputError: there is no such device here.
    """
    device = choose_device(name)
    if device.type == "cuda" and device.index is None and torch.cuda.device_count() > 1:
        return f"cuda:{(n - 1) % torch.cuda.device_count()}"
    return name


def _train_one(
    options: dict[str, Any],
    folder: str,
    n: int,
    device: str,
    resume: bool,
    quiet: bool,
    source: str | None,
    said: Sequence[str],
) -> None:
    """Entry point of a process: train block n in its own run folder."""
    with one_line_warnings(said):  # the parent has read the same data
        _train_block(options, Path(folder), n, device, resume, quiet, source)


def _train_block(
    options: dict[str, Any],
    root: Path,
    n: int,
    device: str,
    resume: bool,
    quiet: bool,
    source: str | None,
) -> None:
    try:
        config = config_from_dict(options, "configuration")
        config = replace(config, eval=EvalConfig())  # a block is no policy
        if not config.training.num_threads:
            torch.set_num_threads(
                max(1, torch.get_num_threads() // config.training.parallel_processes)
            )
        own = block_folder(root, n)
        run = Run(
            config,
            own,
            device=device_of_block(device, n),
            resume=resume and (own / LATEST_FILE).exists(),
            bar_position=n - 1,
            quiet=quiet,
            image_cache=root.parent / IMAGE_CACHE,
            source=None if source is None else read_header(source),
        )
        encoder = _encoder_of_first_block(root) if n > 1 else None
        plan = BlockPlan(run, only_block=n, initial_encoder=encoder)
        train_parts(run, plan, lambda: estimate_run(run, plan))
    except Interrupted:
        sys.exit(EXIT_INTERRUPTED)
    except (InputError, OSError, TrainingError) as error:
        reason = explain(error) if isinstance(error, OSError) else error
        print(f"block {n}: error: {reason}", file=sys.stderr)
        sys.exit(EXIT_FAILED if isinstance(error, TrainingError) else EXIT_BAD_INPUT)


def _encoder_of_first_block(folder: Path) -> dict[str, Tensor] | None:
    first = block_folder(folder, 1)
    if not (first / LATEST_FILE).exists():
        return None
    header = read_header(first)
    if not header.complete:
        return None
    state = read_model_state(header)
    prefix = "encoder."
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)} or None


def _join(config: ExperimentConfig, run_folder: RunFolder) -> Path:
    """Make one checkpoint of the blocks that were trained apart."""
    folder = run_folder.path
    headers = [read_header(block_folder(folder, n)) for n in range(1, config.flow.n_blocks + 1)]
    state = read_model_state(headers[0])
    records = []
    for n, header in enumerate(headers, start=1):
        own = read_model_state(header)
        state |= {k: v for k, v in own.items() if k.startswith(f"blocks.{n - 1}.")}
        records.append(header.training["blocks"][n - 1])
    training = {
        **headers[0].training,
        "complete": True,
        "block_steps": [record["steps"] for record in records],
        "steps": sum(record["steps"] for record in records),
        "train_seconds": sum(record["train_seconds"] for record in records),
        "blocks": records,
    }

    def fill(temporary: Path) -> None:
        write_checkpoint(
            temporary,
            config=config,
            spec=headers[0].spec,
            model_state=state,
            normalizer=read_normalizer(headers[0]),
            training=training,
        )

    steps = training["steps"] + training["encoder_steps"]
    return run_folder.write(run_folder.final_name(len(config.training.pass_ends), steps), fill)
