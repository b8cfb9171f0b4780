"""Record one episode, and replay one."""

from __future__ import annotations

from typing import Any

import numpy as np

from lfm_policy.collect.demonstrator import Demonstrator, Observation
from lfm_policy.collect.options import CollectOptions
from lfm_policy.data.robomimic.demos import Demo
from lfm_policy.data.robomimic.names import TASK_ATTRIBUTE
from lfm_policy.errors import InputError


def record_episode(demonstrator: Demonstrator, options: CollectOptions, seed: int) -> Demo | None:
    """Demonstrate the task once.

    Args:
        demonstrator: where.
        options: ``seed`` and ``verify`` count here.
        seed: of the environment; with ``options.seed`` it determines the episode.

    Returns:
        The demo, with the attribute ``seed``; None if the demonstrator failed, or if the demo,
        replayed, did.
    """
    generator = np.random.default_rng([options.seed, seed])
    shortest, longest = demonstrator.tail
    tail = int(generator.integers(shortest, longest + 1))
    obs = _own(demonstrator.start(seed, generator))
    first = demonstrator.scene()
    steps: list[tuple[Observation, np.ndarray, np.ndarray, float, bool]] = []
    solved_for = 0
    while solved_for <= tail:
        if len(steps) == demonstrator.max_steps:
            return None
        # A copy, as of all that an environment may keep and change.
        states = np.array((demonstrator.scene() if steps else first).get("states", []))
        action = np.array(demonstrator.act(_own(obs)))
        # A copy, because an environment may change the action that it is given.
        following, reward, solved = demonstrator.step(action.copy())
        if getattr(demonstrator, "ended", False) and not solved:
            return None  # what comes after the end shows nothing
        steps.append((obs, action, states, reward, solved))
        solved_for = solved_for + 1 if solved else 0
        obs = _own(following)
    demo = _demo(steps, first, seed, getattr(demonstrator, "task", ""))
    return None if options.verify and not replays(demonstrator, demo) else demo


def replays(demonstrator: Demonstrator, demo: Demo) -> bool:
    """Whether repeating the actions of a demo from its first state solves the task again.

    Raises:
        InputError: the demo has no states, because its environment has none that can be set.
    """
    if demo.states is None:
        raise InputError("a demo without states cannot be replayed: leave --verify out")
    scene = {"states": demo.states[0], "model": demo.model_file, "ep_meta": demo.ep_meta}
    demonstrator.restart({key: value for key, value in scene.items() if value is not None})
    solved = False
    for action in demo.actions:
        _, _, solved = demonstrator.step(action.copy())
    return solved


def _own(obs: Observation) -> Observation:
    """Return a copy: environments may return the same arrays at every step."""
    return {key: np.array(value) for key, value in obs.items()}


def _demo(
    steps: list[tuple[Observation, np.ndarray, np.ndarray, float, bool]],
    first: dict[str, Any],
    seed: int,
    task: str,
) -> Demo:
    observations, actions, states, rewards, solved = zip(*steps, strict=True)
    dones = np.array(solved, dtype=np.int64)
    dones[-1] = 1
    return Demo(
        actions=np.stack(actions),
        obs={key: np.stack([obs[key] for obs in observations]) for key in observations[0]},
        rewards=np.array(rewards, dtype=np.float64),
        dones=dones,
        states=np.stack(states) if "states" in first else None,
        model_file=first.get("model"),
        ep_meta=first.get("ep_meta"),
        attributes={"seed": seed} | ({TASK_ATTRIBUTE: task} if task else {}),
    )
