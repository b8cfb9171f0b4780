"""Rollouts on a local Ray of two workers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from lfm_policy.errors import InputError
from lfm_policy.evaluation import EpisodeResult, RolloutConfig, rollout
from lfm_policy.evaluation.ray_runner import RayRunner
from lfm_policy.policy import Policy, find_checkpoint, load_policy

pytestmark = [pytest.mark.simulator, pytest.mark.ray]

# Ray makes its workers wait for everything else on the machine: for other tests, too.
os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - what Ray calls it
pytest.importorskip("ray", reason="the runner 'ray' needs the extra 'ray'")
pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")

CONFIG = RolloutConfig("lfm/PushT-v0", seed_start=200_000, max_episode_steps=40)
POLICY = "pusht-state"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(POLICY)


@pytest.fixture(scope="module")
def runner() -> Iterator[RayRunner]:
    with RayRunner(find_checkpoint(POLICY), workers=2, episodes_per_task=2) as runner:
        yield runner


def test_results_are_those_of_this_machine(policy: Policy, runner: RayRunner) -> None:
    told: list[EpisodeResult] = []
    results = runner(policy, CONFIG, range(5), on_episode=told.append)
    assert results == rollout(policy, CONFIG, range(5))
    assert sorted(told, key=lambda result: result.episode) == results
    assert [result.restarts for result in results] == [0] * 5


def test_the_sampler_is_the_one_that_was_set(policy: Policy, runner: RayRunner) -> None:
    before = rollout(policy, CONFIG, range(2))
    try:
        policy.set_sampler(nfe=[1, 3], times=[[], [0.6, 0.2]], noise_scale=0.0)
        policy.n_action_steps = 3
        there = runner(policy, CONFIG, range(2))
        assert there == rollout(policy, CONFIG, range(2))
        assert there != before
        assert {result.nfe for result in there} == {4}
    finally:
        policy.set_sampler()
        policy.n_action_steps = policy.config.policy.n_action_steps


def test_a_lost_worker_loses_no_episode(policy: Policy, runner: RayRunner) -> None:
    killed: list[int] = []

    def kill_once(_: EpisodeResult) -> None:
        if not killed:
            # The first task is done; its successor and the other worker's task are under way.
            for process in psutil.process_iter(["name", "cmdline"]):
                if "ray::_roll_out" in " ".join(process.info["cmdline"] or []):
                    killed.append(process.pid)
                    process.kill()

    long = replace(CONFIG, max_episode_steps=150)
    results = runner(policy, long, range(12), on_episode=kill_once)
    assert killed
    assert sum(result.restarts for result in results) >= 2  # a task of two episodes
    assert results == rollout(policy, long, range(12))


def test_bad_input_in_a_worker_is_the_same_error(policy: Policy, runner: RayRunner) -> None:
    with pytest.raises(InputError, match=r"lfm/Nothing-v0.*cannot be created"):
        runner(policy, replace(CONFIG, env_id="lfm/Nothing-v0"), range(2))


def test_a_module_of_the_folder_that_the_runner_was_made_in(
    policy: Policy, runner: RayRunner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = (
        "import gymnasium as gym\nimport lfm_envs\n"
        "gym.register('Elsewhere-v0', entry_point='lfm_envs.pusht:PushTEnv', max_episode_steps=9)\n"
    )
    (tmp_path / "only_in_this_folder.py").write_text(module)
    config = replace(CONFIG, env_id="only_in_this_folder:Elsewhere-v0")
    monkeypatch.setattr(runner, "_module_folder", str(tmp_path / "other"))
    with pytest.raises(
        InputError, match="no module named 'only_in_this_folder'; looked in .*other"
    ):
        runner(policy, config, range(2))
    monkeypatch.setattr(runner, "_module_folder", str(tmp_path))
    assert runner(policy, config, range(2)) == rollout(policy, CONFIG, range(2))


def test_a_cluster_that_is_not_there_is_an_error() -> None:
    import ray

    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(InputError, match=r"no Ray cluster at 'auto'"):
        RayRunner(find_checkpoint(POLICY), address="auto")
