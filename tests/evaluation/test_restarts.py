"""Processes of environments that die in the middle of an evaluation."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from lfm_envs import WorkerDiedError, make_vector_env

from lfm_policy.errors import EvaluationError
from lfm_policy.evaluation import Cell, RolloutConfig, evaluation_to_dict, rollout
from lfm_policy.evaluation.environments import choose_workers
from lfm_policy.evaluation.report import footnote
from lfm_policy.policy import Policy
from lfm_runtime.policy.sampler import Sampler

pytestmark = pytest.mark.simulator

pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")

if "fork" not in multiprocessing.get_all_start_methods():
    pytest.skip("processes must inherit the test's environment", allow_module_level=True)

ENV_ID = "lfm-test/Mortal-v0"


class MortalEnv(gym.Wrapper):
    """PushT whose process is killed in a step of one episode, so many times."""

    def __init__(self, notes: str, seed: int, step: int, times: int) -> None:
        from lfm_envs.pusht import PushTEnv

        super().__init__(PushTEnv())
        self._notes, self._fatal = Path(notes), (seed, step)
        self._times = times
        self._now = (0, 0)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        self._now = (seed or 0, 0)
        self._die_if_it_is_time()
        return super().reset(seed=seed, options=options)

    def step(self, action: Any) -> Any:
        self._now = (self._now[0], self._now[1] + 1)
        self._die_if_it_is_time()
        return super().step(action)

    def _die_if_it_is_time(self) -> None:
        deaths = len(list(self._notes.iterdir()))
        if self._now == self._fatal and deaths < self._times:
            assert multiprocessing.parent_process() is not None
            (self._notes / f"death{deaths}").touch()
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.fixture(autouse=True)
def registered() -> None:
    if ENV_ID not in gym.registry:
        gym.register(ENV_ID, entry_point=MortalEnv, max_episode_steps=300)


def mortal(notes: Path, *, seed: int, step: int, times: int = 1, **more: Any) -> RolloutConfig:
    notes.mkdir(exist_ok=True)
    return RolloutConfig(
        ENV_ID,
        seed_start=200_000,
        max_episode_steps=20,
        num_envs=2,
        processes=True,
        env_options={"notes": str(notes), "seed": seed, "step": step, "times": times, **more},
    )


@pytest.mark.parametrize("step, times", [(0, 1), (1, 1), (9, 2)])
def test_episodes_begin_again_with_the_same_results(
    policy: Policy, tmp_path: Path, step: int, times: int
) -> None:
    plain = RolloutConfig("lfm/PushT-v0", seed_start=200_000, max_episode_steps=20)
    expected = rollout(policy, plain, range(5))
    again: list[int] = []
    finished: list[int] = []

    def restarted(episodes: Sequence[int]) -> None:
        again.extend(episodes)

    config = mortal(tmp_path / "notes", seed=200_002, step=step, times=times)
    results = rollout(
        policy,
        config,
        range(5),
        on_restart=restarted,
        on_episode=lambda result: finished.append(result.episode),
    )
    assert results == expected
    assert sorted(finished) == list(range(5))
    assert results[2].restarts == times and again.count(2) == times
    assert [r.restarts for r in results] == [again.count(i) for i in range(5)]

    cells = [Cell(Sampler("euler", 1.0, None), {"threads": 1, "device": "cpu"}, results)]
    report = evaluation_to_dict(policy, config, cells, 1.0)
    listed = sorted(set(again))
    assert report["cells"][0]["summary"]["restarted_episodes"] == listed
    assert report["cells"][0]["episodes"][2]["restarts"] == times
    cells = [replace(cells[0], latency={"threads": 1, "device": "cpu"})]
    text = footnote(policy, config, cells)
    assert f"{len(listed)} episodes began again" in text
    assert "began again" not in footnote(policy, config, [replace(cells[0], episodes=expected)])


def test_an_episode_that_always_dies_is_given_up(policy: Policy, tmp_path: Path) -> None:
    config = mortal(tmp_path / "notes", seed=200_001, step=3, times=99)
    message = r"episode 1 \(seed 200001\) was given up.*died 3 times.*exit code -9"
    with pytest.raises(EvaluationError, match=message):
        rollout(policy, config, range(4))
    assert len(list((tmp_path / "notes").iterdir())) == 3


def test_who_died_is_said_and_closing_does_not_wait(tmp_path: Path) -> None:
    config = mortal(tmp_path / "notes", seed=7, step=1)
    envs = make_vector_env(ENV_ID, 3, processes=True, **config.env_options)
    envs.reset(seed=[5, 6, 7])
    with pytest.raises(WorkerDiedError, match=r"environment 2 died \(exit code -9\)") as caught:
        envs.step(np.full((3, 2), 256.0, dtype=np.float32))
    assert caught.value.workers == (2,)
    envs.close()
    assert not any(process.is_alive() for process in envs.processes)


def test_slow_simulators_get_a_process_each() -> None:
    assert choose_workers("lfm/PushT-v0") == (32, False)
    assert choose_workers("lfm/PushT-v0", 4, True) == (4, True)
    number, processes = choose_workers("lfm/Lift-v0")
    assert processes and 4 <= number <= max(4, os.cpu_count() or 1)
    assert choose_workers("lfm/SquareImage-v0", processes=False) == (32, False)
    assert choose_workers("somebody/Else-v0") == (32, False)
