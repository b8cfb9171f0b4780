"""Give recordings of simulator states their observations, by setting the states again.

For robosuite's raw recordings, which have none, and for files that are to have camera images.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm.auto import tqdm

from lfm_policy.data.robomimic.demos import Demo, DemoRecording, train_valid_masks
from lfm_policy.data.robomimic.file import RobomimicFile
from lfm_policy.errors import InputError

_RECORDED = ("actions_abs",)
"""Arrays of a demo that are carried over besides actions and states."""


@dataclass(frozen=True)
class ExtractOptions:
    """What is extracted.

    Attributes:
        images: whether the cameras' images are drawn.
        cameras: their names; by default those that robomimic's policies of the task see.
        image_size: width and height in pixels.
        rendering: ``"fast"`` or ``"full"``, see `lfm_envs.robosuite.cameras`.
        max_demos: only the first so many.
    """

    images: bool = False
    cameras: Sequence[str] = ()
    image_size: int = 84
    rendering: str = "fast"
    max_demos: int | None = None


@dataclass(frozen=True)
class Extraction:
    """What was written.

    Attributes:
        target: the file.
        env_args: description of the environment.
        demos: number of steps of each.
        solved: names of those that end solved.
        shapes: of one step, by observation.
    """

    target: Path
    env_args: dict[str, Any]
    demos: dict[str, int]
    solved: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]


def extract(
    source: str | Path,
    target: str | Path,
    options: ExtractOptions | None = None,
    *,
    quiet: bool = True,
) -> Extraction:
    """Set every recorded state again and write what is observed in it, as robomimic does.

    Actions, states, models, names and filter keys stay as they are; where the source has no filter
    keys, ``train`` and ``valid`` (a tenth) are added. The reward of a step is that of the state
    after it; for the last one, its action is played. Dones are 1 where the task is solved and in
    the last step. What is done survives an interruption; the file appears when it is complete.

    Args:
        source: robosuite's raw recording or a robomimic file, with states and models.
        target: of the file to write; must not exist.
        options: see :class:`ExtractOptions`.
        quiet: no progress bar.

    Raises:
        InputError: the source is not what it has to be, the target exists, robosuite is missing,
            or cannot make the environment or set a state.
    """
    options = options or ExtractOptions()
    target = Path(target).expanduser()
    with RobomimicFile(source) as file:
        demos = file.demos[: options.max_demos]
        lengths = file.lengths(demos, "actions")
        masks = _masks(file, demos)
        recording = DemoRecording(target, _facts(file.path, options))
        with recording.only_recorder():
            with contextlib.closing(_environment(file, options)) as env:
                done = set(recording.demos())
                with tqdm(total=len(demos), desc=str(target), unit="demo", disable=quiet) as bar:
                    bar.update(len(done))
                    for number, (demo, length) in enumerate(zip(demos, lengths, strict=True)):
                        if number not in done:
                            recording.add(number, _replay(env, file, demo, length))
                            bar.update()
                env_args, observed = env.env_args, env.observation_space
            names = dict(enumerate(demos))
            solved = tuple(
                name for number, name in names.items() if recording.attributes(number)["solved"]
            )
            recording.finish(env_args, names=names, masks=masks, quiet=quiet)
    return Extraction(
        target=target,
        env_args=env_args,
        demos=dict(zip(demos, lengths, strict=True)),
        solved=solved,
        shapes={key: observed[key].shape for key in sorted(observed)},
    )


def _facts(source: Path, options: ExtractOptions) -> dict[str, Any]:
    """Return on what the demos depend, so that nobody goes on with something else."""
    status = source.stat()
    return {
        "source": str(source.resolve()),
        "size": status.st_size,
        "mtime": status.st_mtime_ns,
        **asdict(options),
        "images": options.images or bool(options.cameras),
        "cameras": list(options.cameras),
    }


def _environment(file: RobomimicFile, options: ExtractOptions) -> Any:
    import lfm_envs
    from lfm_envs.robosuite.env import RobosuiteEnv
    from lfm_envs.robosuite.tasks import TASKS, task_of

    env_args = file.env_args(raw=True)
    cameras = tuple(options.cameras)
    if options.images and not cameras:
        task = task_of(env_args["env_name"])
        if task is None:
            raise InputError(
                f"{file.path}: '{env_args['env_name']}' has no cameras of its own here: name them "
                "with --cameras"
            )
        cameras = TASKS[task].cameras
    try:
        return RobosuiteEnv(
            env_args=env_args,
            cameras=cameras,
            image_size=options.image_size,
            rendering=options.rendering,
        )
    except lfm_envs.MissingSimulatorError as error:
        raise InputError(str(error)) from None
    except ValueError as error:  # EnvArgsError among them
        raise InputError(f"{file.path}: {error}") from None


def _replay(env: Any, file: RobomimicFile, demo: str, length: int) -> Demo:
    source = f"{file.path}: {demo}"
    actions = _read(file, demo, "actions", length)
    states = _read(file, demo, "states", length)
    model, meta = file.text(demo, "model_file"), file.text(demo, "ep_meta")
    if not model:
        raise InputError(f"{source} has no attribute model_file; expected the XML of its scene")
    if actions.shape[1:] != env.action_space.shape:
        raise InputError(
            f"{source}: actions have shape {actions.shape[1:]} per step; expected "
            f"{env.action_space.shape}, as the environment takes"
        )
    first: dict[str, Any] = {"states": states[0], "model": model}
    if meta:
        first["ep_meta"] = meta
    import lfm_envs

    observed, rewards, solved = [], [], []
    try:
        observed.append(env.reset(options={"reset_to": first})[0])
        for state in states[1:]:
            obs, info = env.reset(options={"reset_to": {"states": state}})
            observed.append(obs)
            rewards.append(env.reward())
            solved.append(info["success"])
        _, reward, last, _, _ = env.step(actions[-1].copy())
    except lfm_envs.MissingSimulatorError as error:
        raise InputError(str(error)) from None
    except ValueError as error:
        raise InputError(f"{source}: {error}") from None
    dones = np.array([*solved, True], dtype=np.int64)
    stored = file.stored(demo)
    return Demo(
        actions=actions,
        obs={key: np.stack([obs[key] for obs in observed]) for key in observed[0]},
        rewards=np.array([*rewards, reward]),
        dones=dones,
        states=states,
        model_file=model,
        ep_meta=meta or None,
        attributes={"solved": int(last)},
        arrays={key: _read(file, demo, key, length) for key in _RECORDED if key in stored},
    )


def _read(file: RobomimicFile, demo: str, name: str, length: int) -> np.ndarray:
    info = file.info([demo], name, [length], ranks=(2,))
    return file.read([demo], name, [length], info)


def _masks(file: RobomimicFile, demos: Sequence[str]) -> dict[str, list[int]]:
    masks = {}
    for key, found in file.filters.all().items():
        if isinstance(found, InputError):
            raise found
        masks[key] = found
    if not masks:
        return train_valid_masks(range(len(demos)))
    listed = {key: [n for n, d in enumerate(demos) if d in mask] for key, mask in masks.items()}
    return {key: numbers for key, numbers in listed.items() if numbers}
