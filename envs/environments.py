"""The environments by their gymnasium ids, and what has to be known of each before it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym

from lfm_runtime.errors import InputError
from lfm_runtime.registry import Registry

from .metaworld.tasks import CAMERAS, MAX_EPISODE_STEPS, MT50
from .robosuite.tasks import ROBOSUITE_TYPE, TASKS, task_of


@dataclass(frozen=True)
class Environment:
    """What an environment says of itself.

    Attributes:
        entry_point: its class, or ``module:Class``, which is imported when it is created.
        max_episode_steps: steps until an episode is truncated.
        arguments: of the class.
        prefers_processes: whether it is slow enough for a process of its own.
        takes_render_size: whether the class has the argument ``render_size``, the width and
            height of what ``render()`` returns.
    """

    entry_point: str | Callable[..., gym.Env[Any, Any]]
    max_episode_steps: int
    arguments: Mapping[str, Any] = field(default_factory=dict)
    prefers_processes: bool = False
    takes_render_size: bool = False


def _register(env_id: str, environment: Environment) -> None:
    there = gym.registry.get(env_id)
    if there is not None:
        if there.entry_point != environment.entry_point:
            raise InputError(
                f"the environment '{env_id}' is registered with gymnasium already: "
                f"{there.entry_point}; {environment.entry_point} needs another id"
            )
        del gym.registry[env_id]  # otherwise gymnasium warns, as after importlib.reload
    gym.register(
        id=env_id,
        entry_point=environment.entry_point,
        max_episode_steps=environment.max_episode_steps,
        kwargs=dict(environment.arguments),
    )


_ANY_ROBOSUITE = "lfm/Robosuite-v0"


def _own() -> dict[str, Environment]:
    """Return the environments of this package."""

    def pusht(name: str) -> Environment:
        return Environment(f"{__package__}.pusht:{name}", 300, takes_render_size=True)

    def robosuite(max_episode_steps: int, **arguments: Any) -> Environment:
        return Environment(
            f"{__package__}.robosuite.env:RobosuiteEnv",
            max_episode_steps,
            arguments,
            prefers_processes=True,
            takes_render_size=True,
        )

    environments = {
        "lfm/PushT-v0": pusht("PushTEnv"),
        "lfm/PushTImage-v0": pusht("PushTImageEnv"),
        "lfm/PushTImageState-v0": pusht("PushTImageStateEnv"),
        _ANY_ROBOSUITE: robosuite(500),
    }
    for name, task_name, steps in (
        ("TransferCube", "transfer_cube", 400),
        ("Insertion", "insertion", 500),
    ):
        entry, given = f"{__package__}.aloha:AlohaEnv", {"task": task_name}
        for image, more in (("", {}), ("Image", {"cameras": ("top",)})):
            environments[f"lfm/Aloha{name}{image}-v0"] = Environment(
                entry, steps, given | more, prefers_processes=True, takes_render_size=True
            )
    for name, task in TASKS.items():
        steps, cameras = task.max_episode_steps, task.cameras
        environments[f"lfm/{name}-v0"] = robosuite(steps, task=name)
        environments[f"lfm/{name}Image-v0"] = robosuite(steps, task=name, cameras=cameras)
    for name in MT50:
        environments[f"lfm/MetaWorld-{name}"] = _metaworld(task=name)
        environments[f"lfm/MetaWorldImage-{name}"] = _metaworld(task=name, cameras=CAMERAS)
    return environments


def _metaworld(**arguments: Any) -> Environment:
    return Environment(
        f"{__package__}.metaworld.env:MetaWorldEnv",
        MAX_EPISODE_STEPS,
        arguments,
        takes_render_size=True,
    )


ENVIRONMENTS: Registry[Environment] = Registry("environment", _own(), added=_register)
"""What is here is registered with gymnasium, too."""


def declared(env_id: str) -> Environment | None:
    """Return what an environment says of itself; None for one that only gymnasium knows.

    Args:
        env_id: gymnasium id; of ``module:Name-v0`` the module has to be imported already.
    """
    name = env_id.rpartition(":")[2]
    return ENVIRONMENTS.get(name) if name in ENVIRONMENTS else None


def prefers_processes(env_id: str) -> bool:
    """Whether an environment is slow enough for a process of its own; False for unknown ones."""
    environment = declared(env_id)
    return environment is not None and environment.prefers_processes


def env_id_of(env_args: Mapping[str, Any]) -> str:
    """Return the id for a description of an environment, as in a robomimic file.

    Those of robosuite (type 1) take the description as their option ``env_args``. Empty for an
    environment that is not here.
    """
    name = str(env_args.get("env_name"))
    if env_args.get("type") != ROBOSUITE_TYPE:
        return name if name in ENVIRONMENTS else ""
    task = task_of(name)
    return _ANY_ROBOSUITE if task is None else f"lfm/{task}-v0"
