"""Where the bases of robosuite's arms stand, read from the XML of a recorded scene."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
from scipy.spatial.transform import Rotation

from lfm_policy.errors import InputError


def base_pose(model: str, arm: int, source: str) -> tuple[np.ndarray, Rotation]:
    """Return where the base of an arm stands.

    Args:
        model: the ``model_file`` of a demo, empty where it has none.
        arm: number of the robot.
        source: for messages.

    Returns:
        Position (3,) in metres and rotation, in the world.

    Raises:
        InputError: there is no XML, it does not parse, or the base is not in it.
    """
    site = f"robot{arm}_right_center"
    if not model:
        raise InputError(
            f"{source}: the actions are in the frame of the arm's base (input_ref_frame in "
            "env_args), but a demo has no model_file that says where it stands"
        )
    try:
        root = ElementTree.fromstring(model)
        chain = _path_to(root, site)
        position, rotation = np.zeros(3), Rotation.identity()
        for element in chain:
            position = position + rotation.apply(_numbers(element, "pos", (0.0, 0.0, 0.0)))
            w, x, y, z = _numbers(element, "quat", (1.0, 0.0, 0.0, 0.0))
            rotation = rotation * Rotation.from_quat([x, y, z, w])
    except (ElementTree.ParseError, ValueError) as error:
        raise InputError(
            f"{source}: where the base of robot{arm} stands cannot be read from model_file: {error}"
        ) from None
    return position, rotation


def _path_to(root: ElementTree.Element, site: str) -> list[ElementTree.Element]:
    """Return the bodies from the world to a site, and the site."""
    # A list and no recursion: files from elsewhere may be nested without end.
    waiting = [(body, [body]) for body in root.findall("worldbody/*")]
    while waiting:
        element, path = waiting.pop()
        if element.tag == "site" and element.get("name") == site:
            return path
        if element.tag == "body":
            waiting += [(child, [*path, child]) for child in element]
    raise ValueError(f"there is no site '{site}'")


def _numbers(
    element: ElementTree.Element, key: str, default: tuple[float, ...]
) -> tuple[float, ...]:
    other = {"axisangle", "xyaxes", "zaxis", "euler"} & set(element.keys())
    if other:
        raise ValueError(f"{element.tag} has {', '.join(sorted(other))}; expected quat")
    values = tuple(float(text) for text in element.get(key, "").split()) or default
    if len(values) != len(default) or not np.isfinite(values).all():
        raise ValueError(f"{element.tag} has {key} '{element.get(key):.60}'")
    return values
