"""Where a policy will be rolled out, as its demonstrations say."""

from __future__ import annotations

import warnings
from dataclasses import replace

from lfm_policy.config.schema import EnvConfig, ExperimentConfig
from lfm_policy.errors import InputError


def with_environment(config: ExperimentConfig) -> ExperimentConfig:
    """Fill in the environment of demonstrations that say in which one they were recorded.

    The format of the dataset knows (`DatasetConfig.recorded_in`). Nothing changes where the
    options describe an environment already, where ``env.id`` is another task than that of the
    demonstrations, and where they say nothing of an environment that is known: training does not
    need it, and evaluation will say it (`why_no_environment`).

    Raises:
        InputError: the data cannot be read.

    Warns:
        UserWarning: ``env.id`` is given, but not described as it should be.
    """
    env = config.env
    recorded = None if "env_args" in env.options else config.dataset.recorded_in()
    if recorded is None:
        return config
    if recorded.damaged and env.id:
        warnings.warn(
            f"{recorded.problem}: the policy will be evaluated in {env.id} as env.options "
            "describe it",
            stacklevel=2,
        )
    if not recorded.env_id or env.id not in ("", recorded.env_id, *recorded.variants):
        return config
    import gymnasium
    import lfm_envs  # noqa: F401  (registers the environments)

    steps = env.max_episode_steps
    if not env.id and steps == EnvConfig().max_episode_steps:
        steps = gymnasium.spec(recorded.env_id).max_episode_steps or steps
    filled = replace(
        env,
        id=env.id or recorded.env_id,
        max_episode_steps=steps,
        options=dict(recorded.options) | dict(env.options),
        observations=dict(env.observations) or dict(recorded.observations),
    )
    return replace(config, env=filled)


def why_no_environment(config: ExperimentConfig) -> str:
    """Say why demonstrations do not tell of an environment to evaluate in.

    ``""`` where they do, where they are not there any more, or are of a format that never does.
    """
    try:
        recorded = config.dataset.recorded_in()
    except InputError as error:
        return str(error)
    return "" if recorded is None else recorded.problem
