"""Collect demonstrations: run episodes until enough of them have succeeded, then write the file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from lfm_policy.collect.demonstrator import make_demonstrator
from lfm_policy.collect.options import CollectOptions
from lfm_policy.collect.workers import RayWorkers, Workers
from lfm_policy.data.hdf5.errors import as_text
from lfm_policy.data.hdf5.file import Hdf5File, Hdf5Group
from lfm_policy.data.robomimic.demos import DemoRecording, train_valid_masks
from lfm_policy.data.robomimic.file import RobomimicFile
from lfm_policy.errors import CollectError, InputError, Interrupted
from lfm_runtime.disk.files import exists
from lfm_runtime.interrupt import InterruptFlag

ATTRIBUTE = "lfm_collect"
"""Of ``data``: JSON of the options with which the file was collected."""

_POLL_SECONDS = 0.5
_FACTS_BYTES = 2**20


@dataclass(frozen=True)
class Collected:
    """What a file holds.

    Attributes:
        path: of the file.
        demos: number of demonstrations.
        attempts: number of episodes up to the last one that is kept.
        steps: of all demonstrations.
        crashes: how often a process died meanwhile.
    """

    path: str
    demos: int
    attempts: int
    steps: int
    crashes: int

    @property
    def success_rate(self) -> float:
        """Part of the episodes that succeeded."""
        return self.demos / self.attempts

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return asdict(self) | {"success_rate": self.success_rate}


def collect(
    path: str | Path,
    options: CollectOptions,
    *,
    workers: int = 1,
    runner: str = "local",
    ray_address: str | None = None,
    quiet: bool = True,
) -> Collected:
    """Collect demonstrations into a robomimic file, or go on where an interrupted call stopped.

    The file holds the first ``options.episodes`` successful episodes in the order of their seeds;
    it is the same for every number of workers.

    Args:
        path: of the file; until it is complete, finished demos are in ``<path>.parts``.
        options: what is collected.
        workers: episodes at the same time, one thread each.
        runner: ``local`` for processes of this machine, ``ray`` for tasks of a Ray cluster.
        ray_address: of a running cluster; one on this machine is started when None.
        quiet: no progress bar.

    Raises:
        InputError: the file exists and was collected with other options, or the recording that is
            to be continued was; or the simulator is missing.
        CollectError: almost no episode succeeds, or an episode crashes again and again.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; what is finished is kept.
    """
    path = Path(path).expanduser()
    if workers < 1:
        raise InputError(f"workers is {workers}, expected at least 1")
    if runner not in ("local", "ray"):
        raise InputError(f"runner is '{runner}', expected local or ray")
    if ray_address and runner != "ray":
        raise InputError(f"the address of a Ray cluster is {ray_address}, which needs runner ray")
    if exists(path):
        return _collected_before(path, options)
    recording = DemoRecording(path, options.facts())
    with recording.only_recorder():
        # Fails early and with a clear message where the simulator is missing.
        demonstrator = make_demonstrator(options)
        env_args = demonstrator.env_args
        demonstrator.close()
        team: Workers | RayWorkers = (
            RayWorkers(workers, recording.path, options, address=ray_address)
            if runner == "ray"
            else Workers(workers, recording.path, options)
        )
        crashes = _record(recording, options, team, quiet)
        kept = _kept(set(recording.demos()), set(recording.skipped()), options)
        assert kept is not None
        attempts = kept[-1] - options.seed_start + 1
        collected = {**options.facts(), "episodes": options.episodes, "attempts": attempts}
        recording.finish(
            env_args,
            numbers=kept,
            masks=train_valid_masks(kept, seed=options.seed),
            attributes={ATTRIBUTE: json.dumps(collected)},
            quiet=True,
        )
    return Collected(str(path), len(kept), attempts, _total(path), crashes)


def _record(
    recording: DemoRecording, options: CollectOptions, workers: Workers | RayWorkers, quiet: bool
) -> int:
    """Run episodes until enough have succeeded; returns how often a process died."""
    succeeded, failed = set(recording.demos()), set(recording.skipped())
    done = False
    with (
        InterruptFlag() as interrupted,
        tqdm(
            total=options.episodes,
            initial=min(len(succeeded), options.episodes),
            desc=options.task,
            unit="demo",
            disable=quiet,
        ) as bar,
    ):
        try:
            while not (done := _kept(succeeded, failed, options) is not None):
                if interrupted:
                    raise Interrupted(
                        f"{interrupted.name}: {len(succeeded)} demos are in "
                        f"{recording.path}.parts; the same command goes on from there"
                    )
                while len(workers.running) < workers.number:
                    seed = _next_seed(succeeded | workers.running, failed, options)
                    if seed is None:
                        break
                    workers.submit(seed)
                for seed, success in workers.collect(_POLL_SECONDS):
                    (succeeded if success else failed).add(seed)
                    bar.update(int(success))
                    bar.set_postfix(success=f"{len(succeeded) / len(succeeded | failed):.0%}")
        finally:
            workers.close(now=not done)
    return workers.crashes


def _kept(succeeded: Set[int], failed: Set[int], options: CollectOptions) -> list[int] | None:
    """Return the seeds whose demos the file will hold; None as long as that is open."""
    kept: list[int] = []
    seed = options.seed_start
    while len(kept) < options.episodes:
        if seed in succeeded:
            kept.append(seed)
        elif seed not in failed:
            return None
        seed += 1
    return kept


def _next_seed(hopeful: Set[int], failed: Set[int], options: CollectOptions) -> int | None:
    """Return the seed to try next; None if enough would succeed without it.

    Args:
        hopeful: seeds that have succeeded or are being tried.
        failed: seeds that have not.
        options: how many are needed.

    Raises:
        CollectError: too many have failed.
    """
    seed, needed = options.seed_start, options.episodes
    while seed in hopeful or seed in failed:
        if seed not in failed:
            needed -= 1
        seed += 1
        if needed == 0:
            return None
    if seed - options.seed_start >= options.max_attempts:
        raise CollectError(
            f"{options.task}: {len(failed)} of {seed - options.seed_start} episodes failed, which "
            f"is too many to go on for {options.episodes} demonstrations"
        )
    return seed


def _collected_before(path: Path, options: CollectOptions) -> Collected:
    """Return what a complete file holds, if it was collected with the same options."""
    found = facts_of(path)
    if found is None:
        raise InputError(
            f"{path} exists already and was not collected: remove it or choose another name"
        )
    wanted = {**options.facts(), "episodes": options.episodes}
    for key, value in wanted.items():
        if found.get(key) != value:
            raise InputError(
                f"{path} was collected with {key} {found.get(key)!r}, now it is {value!r}: remove "
                "it or choose another name"
            )
    return Collected(str(path), options.episodes, int(found["attempts"]), _total(path), 0)


def facts_of(path: Path) -> Mapping[str, Any] | None:
    """Return the options with which a file was collected; None for other files."""
    try:
        with Hdf5File(path) as file:
            data = file.root.find("data")
            if not isinstance(data, Hdf5Group):
                return None
            found = json.loads(as_text(data.attribute(ATTRIBUTE, _FACTS_BYTES)))
    except (TypeError, ValueError):  # InputError among them
        return None
    return found if isinstance(found, Mapping) else None


def _total(path: Path) -> int:
    with RobomimicFile(path) as file:
        return sum(file.num_samples(demo) for demo in file.demos)
