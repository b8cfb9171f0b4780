"""Rollouts on a Ray cluster, with the same results episode by episode as on this machine.

The checkpoint travels as the bytes of its files; every machine needs this package and the
simulator.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import lfm_envs

from lfm_policy.errors import EvaluationError
from lfm_policy.evaluation.episodes import EpisodeResult, RolloutConfig
from lfm_policy.evaluation.exported import ExportedPolicy
from lfm_policy.evaluation.rollouts import rollout
from lfm_policy.evaluation.subject import EvaluatedPolicy
from lfm_policy.policy import load_policy
from lfm_policy.ray_cluster import MAXIMUM_LOSSES, RayPool, WorkerLostError
from lfm_runtime.disk.files import temporary_folder
from lfm_runtime.export.file import is_export
from lfm_runtime.policy.sampler import Sampler

EPISODES_PER_TASK = 4
"""Few, so that a lost worker costs little; more than one, because a batch costs little more."""


class RayRunner:
    """Rolls out episodes as tasks of a Ray cluster, a few episodes each.

    Use it as a context manager; it takes the place of `rollout`. A task whose worker or machine
    is lost is done again from the start, and since an episode depends on its number alone, with
    the same result; `EpisodeResult.restarts` counts that.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        address: str | None = None,
        workers: int | None = None,
        episodes_per_task: int = EPISODES_PER_TASK,
    ) -> None:
        """Connect to a cluster, or start a local one.

        Args:
            checkpoint: folder of the policy, a checkpoint or an export.
            address: of a running cluster (``auto``, ``host:port``); a local one when None.
            workers: CPUs of the local cluster; all of them when None.
            episodes_per_task: episodes that one task rolls out together.

        Raises:
            InputError: Ray is not installed, or there is no cluster at the address.
        """
        self._pool = RayPool(_roll_out, address=address, cpus=workers)
        files = [path for path in sorted(Path(checkpoint).iterdir()) if path.is_file()]
        self._files = self._pool.put({path.name: path.read_bytes() for path in files})
        self._per_task = episodes_per_task
        # That of the workers is another one.
        self._module_folder = lfm_envs.working_folder()

    def __enter__(self) -> RayRunner:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the cluster; a local one is stopped."""
        self._pool.close()

    def __call__(
        self,
        policy: EvaluatedPolicy,
        config: RolloutConfig,
        episodes: Sequence[int],
        *,
        on_episode: Callable[[EpisodeResult], None] | None = None,
    ) -> list[EpisodeResult]:
        """Run episodes and return their results in the order of ``episodes``; see `rollout`.

        Raises:
            InputError: as `rollout`.
            EvaluationError: the worker of a task was lost `MAXIMUM_LOSSES` times.
        """
        steps, sampler = policy.n_action_steps, policy.sampler
        for begin in range(0, len(episodes), self._per_task):
            shard = tuple(episodes[begin : begin + self._per_task])
            self._pool.submit(
                shard, self._files, sampler, steps, config, self._module_folder, shard
            )
        results: dict[int, EpisodeResult] = {}
        while self._pool.running:
            try:
                ended = self._pool.ended()
            except WorkerLostError as error:
                raise EvaluationError(
                    f"episodes {error.key[0]} to {error.key[-1]}: their worker was lost "
                    f"{MAXIMUM_LOSSES} times, the last time with: {error}"
                ) from None
            for _, of_shard, losses in ended:
                for one in of_shard:
                    result = dataclasses.replace(one, restarts=one.restarts + losses)
                    results[result.episode] = result
                    if on_episode is not None:
                        on_episode(result)
        return [results[episode] for episode in episodes]


@lru_cache(maxsize=1)
def _policy_of(files: tuple[tuple[str, bytes], ...]) -> EvaluatedPolicy:
    import torch

    torch.set_num_threads(1)
    with temporary_folder() as folder:
        for name, content in files:
            (folder / name).write_bytes(content)
        return ExportedPolicy(folder) if is_export(folder) else load_policy(folder)


def _roll_out(
    files: Mapping[str, bytes],
    sampler: Sampler,
    n_action_steps: int,
    config: RolloutConfig,
    module_folder: str,
    shard: Sequence[int],
) -> list[EpisodeResult]:
    policy = _policy_of(tuple(files.items()))
    policy.set_sampler(**sampler.asked())
    policy.n_action_steps = n_action_steps
    here = dataclasses.replace(config, processes=False, num_envs=min(config.num_envs, len(shard)))
    return rollout(policy, here, shard, module_folder=module_folder)
