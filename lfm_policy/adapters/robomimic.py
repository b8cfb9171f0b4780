"""A policy where robomimic expects one: ``start_episode()`` and ``policy(ob=..., goal=None)``.

    policy = RolloutPolicy(load_policy("runs/lift"))
    run_rollout(policy, env, horizon=400)  # robomimic.utils.train_utils

Where the package robomimic can be imported, it is an instance of robomimic's own class, which
robomimic's rollouts insist on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from einops import rearrange

from lfm_policy.errors import InputError
from lfm_runtime.policy.chunk_policy import ChunkPolicy
from lfm_runtime.policy.spec import is_image

try:
    from robomimic.algo import RolloutPolicy as _Base
except (ImportError, RuntimeError):  # RuntimeError: its torchvision does not fit the torch
    _Base = object


class RolloutPolicy(_Base):  # type: ignore[misc,unused-ignore]
    """Answers observations of robomimic's environments with actions for them.

    Observations may be as robomimic's environments give them (images float, channels first, 0 to
    1) or as its files hold them (uint8, channels last), and may be stacks of frames (robomimic's
    FrameStackWrapper), of which only the newest counts: a policy keeps its own history.
    """

    def __init__(
        self,
        policy: ChunkPolicy,
        *,
        rename: Mapping[str, str] | None = None,
        axis_angle: bool | None = None,
        seed: int | None = None,
    ) -> None:
        """Wrap a policy.

        Args:
            policy: see `lfm_policy.load_policy`.
            rename: what the policy calls an observation of robomimic; by default what its dataset
                configuration says.
            axis_angle: whether to turn absolute actions of 10 numbers per arm into the 7 that
                robosuite takes; by default where the policy was trained on absolute actions.
            seed: of the noise, episode by episode; not reproducible by default.
        """
        dataset = getattr(getattr(policy, "config", None), "dataset", None)
        named = getattr(dataset, "rename", {}) if rename is None else rename
        self.policy = policy
        self.obs_normalization_stats = None  # the policy does it; robomimic asks
        self._names = {new: old for old, new in named.items()}
        if axis_angle is None:
            axis_angle = getattr(dataset, "action_space", "stored") == "absolute"
        self._axis_angle = axis_angle
        self._seed = seed
        self._episode = -1

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.policy!r})"

    def start_episode(self) -> None:
        """Forget the history; call before the first observation of an episode."""
        self._episode += 1
        self.policy.reset()
        if self._seed is not None:
            self.policy.sample_seed(self._seed, self._episode)

    def __call__(self, ob: Mapping[str, Any], goal: Mapping[str, Any] | None = None) -> np.ndarray:
        """Return the next action, (action_dim,) float32.

        Args:
            ob: the newest observation, or a stack of frames, by robomimic's names; others than the
                policy's are ignored.
            goal: must be None: no policy here is given goals.

        Raises:
            InputError: a goal, or an observation is missing, of another shape, or not finite.
        """
        if goal is not None:
            raise InputError("a goal was given, but this policy takes none: turn use_goals off")
        frame = {}
        for key, shape in self.policy.spec.obs_shapes.items():
            name = self._names.get(key, key)
            if name not in ob:
                raise InputError(
                    f"observation '{name}' is missing: found {sorted(ob) or 'nothing'}; the "
                    "environment must observe what the policy was trained on"
                )
            frame[key] = _frame(name, ob[name], shape)
        action = self.policy.select_action(frame)
        if self._axis_angle:
            from lfm_envs.robosuite.absolute_actions import to_controller

            action = to_controller(action).astype(np.float32)
        return action


def _frame(name: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Return one frame as the policy takes it."""
    array = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
    if array.ndim == len(shape) + 1 and len(array):
        array = array[-1]
    if is_image(shape) and array.dtype.kind == "f":
        height, width, channels = shape
        if array.shape != (channels, height, width):
            raise InputError(
                f"observation '{name}' has shape {array.shape} and dtype {array.dtype}; expected "
                f"float images ({channels}, {height}, {width}), or uint8 {tuple(shape)}"
            )
        # `not`, so that NaN does not pass either
        if not (array.min() >= 0 and array.max() <= 1):
            raise InputError(
                f"observation '{name}' ranges from {array.min():g} to {array.max():g}; expected "
                "float images of 0 to 1, as robomimic's environments give them"
            )
        return np.rint(rearrange(array, "c h w -> h w c") * 255).astype(np.uint8)
    if array.ndim == 0 and shape == (1,):
        array = array.reshape(1)
    return array
