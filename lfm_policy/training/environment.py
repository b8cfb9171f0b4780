"""Where a policy will be rolled out, as its demonstrations say."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfm_policy.config import EnvConfig, ExperimentConfig
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import is_file

if TYPE_CHECKING:
    from lfm_policy.data.robomimic.file import RobomimicFile

_IMAGE = "_image"


def with_environment(config: ExperimentConfig) -> ExperimentConfig:
    """Fill in the environment of demonstrations that say in which one they were recorded.

    That is robomimic's format. For robosuite the description becomes ``env.options.env_args`` (it
    says how actions are to be understood), with the cameras that are observed. Nothing changes
    where that option is given already, where ``env.id`` is another task than the file's, and where
    the file says nothing of an environment that is known: training does not need it, and evaluation
    will say it (`why_no_environment`).

    Raises:
        InputError: the file cannot be read.

    Warns:
        UserWarning: ``env.id`` is given, but not described as it should be.
    """
    env = config.env
    path = _robomimic_file(config)
    if path is None or "env_args" in env.options:
        return config  # what is wrong with the data is said by who loads them
    import gymnasium
    import lfm_envs
    from lfm_envs.robosuite.tasks import ROBOSUITE_TYPE

    from lfm_policy.data.robomimic.file import RobomimicFile

    with RobomimicFile(path) as file:
        if not file.has_env_args:
            return config
        try:
            env_args = file.env_args()
        except InputError as error:
            if env.id:
                warnings.warn(
                    f"{error}: the policy will be evaluated in {env.id} as env.options describe it",
                    stacklevel=2,
                )
            return config
        env_id = lfm_envs.env_id_of(env_args)
        image_id = env_id.replace("-v0", "Image-v0")
        if not env_id or env.id not in ("", env_id, image_id):
            return config
        options: dict[str, Any] = {}
        if env_args["type"] == ROBOSUITE_TYPE:
            options = {"env_args": env_args, "cameras": _cameras(config, file)}
            if getattr(config.dataset, "action_space", "stored") == "absolute":
                options["absolute_actions"] = True
    steps = env.max_episode_steps
    if not env.id and steps == EnvConfig().max_episode_steps:
        steps = gymnasium.spec(env_id).max_episode_steps or steps
    filled = EnvConfig(
        id=env.id or env_id, max_episode_steps=steps, options=options | dict(env.options)
    )
    return replace(config, env=filled)


def why_no_environment(config: ExperimentConfig) -> str:
    """Say why demonstrations do not tell of an environment to evaluate in.

    ``""`` where they are not there any more, or are of a format that never does.
    """
    path = _robomimic_file(config)
    if path is None:
        return ""
    from lfm_policy.data.robomimic.file import read_env_args

    try:
        described = read_env_args(path)
    except InputError as error:
        return str(error)
    return (
        f"{path}: data.attrs['env_args'] has env_name '{described['env_name']:.100}', type "
        f"{described['type']}, which is no environment of this package"
    )


def _robomimic_file(config: ExperimentConfig) -> Path | None:
    """Return the file of the demonstrations if it is robomimic's and there."""
    path = Path(str(getattr(config.dataset, "path", ""))).expanduser()
    return path if config.dataset.name == "robomimic" and is_file(path) else None


def _cameras(config: ExperimentConfig, file: RobomimicFile) -> list[str]:
    """Return the cameras whose images are observed."""
    keys = getattr(config.dataset, "obs_keys", None) or file.observation_keys(file.demos[0])
    return [key.removesuffix(_IMAGE) for key in keys if key.endswith(_IMAGE)]
