"""The board of PushT at the start of an episode: what a policy observes there, and its outlines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from lfm_policy.demo.flow_states import flow_states
from lfm_policy.environments import make_env
from lfm_policy.policy import Policy

AGENT_RADIUS = 15
GOAL_POSE = (256.0, 256.0, math.pi / 4)
"""x, y and angle of the goal zone."""

# The corners of the T as `lfm_envs.pusht_features` numbers them, along its outline.
_OUTLINE = (0, 1, 2, 5, 6, 7, 4, 3)


@dataclass(frozen=True)
class Scene:
    """The start of an episode.

    Attributes:
        seed: environment seed.
        agent: (2,) position of the agent, in pixels.
        block: (8, 2) outline of the T, in pixels.
        goal: (8, 2) outline of the goal zone, in pixels.
        obs: the observation of a policy by name, each (n_obs_steps, *shape).
    """

    seed: int
    agent: np.ndarray
    block: np.ndarray
    goal: np.ndarray
    obs: Mapping[str, np.ndarray]


def start_scenes(policy: Policy, env_id: str, seeds: Sequence[int]) -> list[Scene]:
    """Return the starts of PushT episodes as the policy sees them.

    Raises:
        InputError: the simulator is not installed.
    """
    scenes = []
    with make_env(env_id) as env:
        for seed in seeds:
            obs, _ = env.reset(seed=seed)
            state = env.unwrapped.state
            scenes.append(
                Scene(
                    seed=seed,
                    agent=state[:2],
                    block=block_outline(state[2:]),
                    goal=block_outline(np.array(GOAL_POSE)),
                    # The first observation of an episode fills its history.
                    obs={
                        key: np.repeat(np.asarray(obs[key])[None], policy.n_obs_steps, axis=0)
                        for key in policy.spec.obs_shapes
                    },
                )
            )
    return scenes


def block_outline(pose: np.ndarray) -> np.ndarray:
    """Return the outline (8, 2) of a T at ``pose``, (3,): x, y in pixels and an angle."""
    from lfm_envs.pusht_features import state_features

    corners = state_features(np.array([0.0, 0.0, *pose]))["keypoints"].reshape(-1, 2)
    return np.asarray(corners[list(_OUTLINE)])


def most_open_scene(policy: Policy, scenes: Sequence[Scene], noise: torch.Tensor) -> Scene:
    """Return the scene in which the policy's chunks end in the most different places.

    Args:
        policy: with its sampler.
        scenes: at least one.
        noise: (S, horizon, action_dim), see `flow_states`.
    """

    def spread(scene: Scene) -> float:
        ends = flow_states(policy, scene.obs, noise)[-1].chunks[:, -1]
        return float(ends.var(axis=0).sum())

    return max(scenes, key=spread)
