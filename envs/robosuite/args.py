"""Read descriptions of robosuite environments (``env_args``), those of older versions too.

robosuite 1.5 nests the configuration of the controllers by parts of the body and interprets some
names anew. Taking an older description as it stands would not fail everywhere: some of it would be
ignored and the robot controlled in another way.
"""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from ..checks import checked_size, version_numbers
from ..errors import EnvArgsError
from .absolute_actions import controllers_of
from .tasks import ROBOSUITE_TYPE

OWN_KEY: Final = "lfm_envs"
"""Where a description says what robomimic has no words for; robomimic ignores it."""

RENDERINGS: Final = ("fast", "full")

_RENAMED: Final = {"damping": "damping_ratio", "damping_limits": "damping_ratio_limits"}
_TRANSLATED_CONTROLLERS: Final = ("OSC_POSE", "OSC_POSITION")


class TranslatedEnvArgsWarning(UserWarning):
    """A description of an older robosuite was translated."""


@dataclass(frozen=True)
class Description:
    """A checked description for the installed robosuite.

    Attributes:
        env_name: what robosuite calls the environment.
        kwargs: arguments of the simulator.
        rendering: ``"fast"`` or ``"full"``; see :mod:`lfm_envs.robosuite.cameras`.
        old_object_order: whether ``object`` lists the pose of an object before its pose relative
            to the gripper, as robosuite did before 1.5.
    """

    env_name: str
    kwargs: dict[str, Any]
    rendering: str
    old_object_order: bool

    def to_env_args(self, version: str) -> dict[str, Any]:
        """Return it as robomimic writes it."""
        own: dict[str, Any] = {"rendering": self.rendering}
        if self.old_object_order:
            own["object_order"] = "1.4"
        return {
            "env_name": self.env_name,
            "env_version": version,
            "type": ROBOSUITE_TYPE,
            "env_kwargs": copy.deepcopy(self.kwargs),
            OWN_KEY: own,
        }


def read_description(env_args: Mapping[str, Any] | str, installed: str) -> Description:
    """Check a description and translate it for the installed robosuite.

    Args:
        env_args: as in a robomimic file, parsed or as JSON.
        installed: version of robosuite.

    Raises:
        EnvArgsError: it does not parse, lacks something, is of another simulator, or of a version
            of robosuite that cannot be translated.

    Warns:
        TranslatedEnvArgsWarning: it was written by robosuite before 1.5, or by a later one.
    """
    given = _parsed(env_args)
    name, kwargs = given["env_name"], copy.deepcopy(given["env_kwargs"])
    version = given.get("env_version") or ""
    own = given.get(OWN_KEY, {})
    if not isinstance(own, Mapping):
        raise EnvArgsError(f"env_args: {OWN_KEY} is {own!r:.100}; expected an object")
    rendering = own.get("rendering", "full" if kwargs.get("use_camera_obs") else "fast")
    if rendering not in RENDERINGS:
        raise EnvArgsError(
            f"env_args: rendering is {rendering!r:.100}; expected one of {', '.join(RENDERINGS)}"
        )
    old_order = own.get("object_order") == "1.4"

    found, controllers = version_numbers(version), controllers_of(kwargs)
    nested = all("body_parts" in c for c in controllers if isinstance(c, Mapping))
    if not nested or (found and found < (1, 5)):
        kwargs = _translate(kwargs, version, installed)
        old_order = True
    elif found[:2] > version_numbers(installed)[:2]:
        warnings.warn(
            f"env_args are those of robosuite {version}, but {installed} is installed; what later "
            "versions changed is not translated",
            TranslatedEnvArgsWarning,
            stacklevel=3,
        )
    return Description(name, kwargs, rendering, old_order)


def with_images(
    description: Description, cameras: Sequence[str] | None, image_size: int | None
) -> Description:
    """Return a description that says which images are observed, and nothing of other devices.

    Args:
        description: what counts where an argument is None.
        cameras: names.
        image_size: height and width.

    Returns:
        Its arguments ``camera_heights`` and ``camera_widths`` are set to one number of pixels each,
        and ``camera_names`` where there are cameras.

    Raises:
        EnvArgsError: the description has images of several sizes.
        ValueError: an argument is not what it has to be.
    """
    kwargs = description.kwargs
    if cameras is None:
        named = kwargs.get("camera_names", "agentview") if kwargs.get("use_camera_obs") else ()
        cameras = (named,) if isinstance(named, str) else named
    if isinstance(cameras, str) or not all(isinstance(camera, str) for camera in cameras):
        raise ValueError(f"cameras must be a list of names, but they are {cameras!r}")
    sizes = {}
    for key in ("camera_heights", "camera_widths"):
        given = kwargs.get(key, 84) if image_size is None else image_size
        if isinstance(given, (list, tuple)):
            if len(set(given)) != 1:
                raise EnvArgsError(
                    f"env_args have {key} {given!r:.100}; expected the same for all cameras"
                )
            given = given[0]
        sizes[key] = checked_size(key if image_size is None else "image_size", given)
    dropped = ("render_gpu_device_id", "camera_names", *sizes, "seed")
    kwargs = {key: value for key, value in kwargs.items() if key not in dropped} | {
        "has_renderer": False,
        "has_offscreen_renderer": bool(cameras),
        "use_camera_obs": bool(cameras),
        "ignore_done": True,
        "use_object_obs": True,
        "camera_depths": False,
        **sizes,
        **({"camera_names": list(cameras)} if cameras else {}),
    }
    return replace(description, kwargs=kwargs)


def _parsed(env_args: Mapping[str, Any] | str) -> Mapping[str, Any]:
    given: Any = env_args
    if isinstance(env_args, str):
        try:
            given = json.loads(env_args)
        except (ValueError, RecursionError) as error:
            raise EnvArgsError(
                f"env_args do not parse as JSON ({error!s:.200}); expected an object with "
                "env_name, type and env_kwargs"
            ) from None
    if not isinstance(given, Mapping):
        raise EnvArgsError(f"env_args are {type(given).__name__}; expected an object")
    for key, kind, meaning in (
        ("env_name", str, "the name of a robosuite environment, such as Lift"),
        ("env_kwargs", Mapping, "an object: arguments of the environment"),
    ):
        if not isinstance(given.get(key), kind):
            found = f"{key} {given[key]!r:.100}" if key in given else f"no {key}"
            raise EnvArgsError(f"env_args have {found}; expected {meaning}")
    if given.get("type", ROBOSUITE_TYPE) != ROBOSUITE_TYPE:
        raise EnvArgsError(
            f"env_args have type {given['type']!r:.100}: '{given['env_name']}' is no environment "
            f"of robosuite (type {ROBOSUITE_TYPE})"
        )
    if not isinstance(given.get("env_version") or "", str):
        raise EnvArgsError(
            f"env_args have env_version {given['env_version']!r:.100}; expected text"
        )
    return given


def _translate(kwargs: dict[str, Any], version: str, installed: str) -> dict[str, Any]:
    """Return arguments of robosuite 1.2 to 1.4 as those of 1.5."""
    written = f"robosuite {version}" if version else "a robosuite before 1.5 (no env_version)"

    def refuse(what: str) -> EnvArgsError:
        return EnvArgsError(
            f"env_args were written by {written} and cannot be translated for robosuite "
            f"{installed}: {what}"
        )

    if version and version_numbers(version) < (1, 2):
        raise refuse("the environments of that time were others; convert the file with robomimic")
    configs = controllers_of(kwargs)
    for config in configs:
        if config is not None and not isinstance(config, Mapping):
            raise refuse(f"controller_configs hold {config!r:.100}")
        kind = config.get("type") if config is not None else None
        if kind not in _TRANSLATED_CONTROLLERS and not (config and "body_parts" in config):
            raise refuse(
                f"the controller {kind!r:.100} means something else or is gone; only "
                f"{' and '.join(_TRANSLATED_CONTROLLERS)} can be translated"
            )
        for key in ("position_limits", "orientation_limits", "interpolation"):
            if config is not None and config.get(key) is not None:
                raise refuse(f"the controller has {key} {config[key]!r:.100}")
    translated = [_composite(config) for config in configs]
    is_list = isinstance(kwargs.get("controller_configs"), (list, tuple))
    kwargs["controller_configs"] = translated if is_list else translated[0]
    if "mount_types" in kwargs:
        raise refuse(f"mount_types {kwargs['mount_types']!r:.100} are called otherwise now")
    # robosuite's own advice for what was recorded before 1.5.
    kwargs.setdefault("lite_physics", False)
    warnings.warn(
        f"env_args were written by {written} and translated for robosuite {installed}: controllers "
        "nested by parts of the body (deltas in the world's axes), lite_physics off, 'object' in "
        "its old order",
        TranslatedEnvArgsWarning,
        stacklevel=4,
    )
    return kwargs


def _composite(config: Mapping[str, Any]) -> dict[str, Any]:
    if "body_parts" in config:
        return dict(config)
    arm = {_RENAMED.get(key, key): value for key, value in config.items()}
    # Before 1.5, deltas were always in the world's axes.
    arm["input_type"] = "delta" if arm.pop("control_delta", True) else "absolute"
    arm["input_ref_frame"] = "world"
    arm["gripper"] = {"type": "GRIP"}
    return {"type": "BASIC", "body_parts": {"right": arm}}
