"""Options of robosuite environments and of their ``reset``, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..checks import checked_size, reset_option
from ..errors import EnvArgsError
from .args import Description


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


def parse_reset_options(options: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the recorded state named in the options of ``reset``, or None.

    Returns:
        ``states`` (n,) float64, ``model`` and ``ep_meta``, text or None.

    Raises:
        ValueError: an option that does not exist, or no state.
    """
    recorded = reset_option(options, "reset_to")
    if recorded is None:
        return None
    found = set(recorded) if isinstance(recorded, Mapping) else set()
    if not {"states"} <= found <= {"model", "states", "ep_meta"}:
        raise ValueError(
            "the reset option 'reset_to' must be a dictionary of states, model and ep_meta, but "
            f"it is {recorded!r:.200}"
        )
    states = np.asarray(recorded["states"], dtype=np.float64)
    if not np.isfinite(states).all():
        raise ValueError("the reset option 'reset_to' has states that are not finite")
    return {"model": None, "ep_meta": None, **recorded, "states": states}
