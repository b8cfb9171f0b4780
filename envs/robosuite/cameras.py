"""Images of a MuJoCo simulation, as robosuite draws them and cheaper.

A context of the graphics library is made when the first image is asked for, and kept; robosuite's
own would be made several times an episode, and for environments that never draw as well.
"""

from __future__ import annotations

import importlib
import os
import platform
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingSimulatorError

_MAX_GEOMS: Final = 10_000
_COLLISION_GEOMS, _VISUAL_GEOMS = 0, 1


class CameraRenderer:
    """Draws what a camera sees.

    ``"full"`` rendering gives the images of robosuite; ``"fast"`` rendering leaves out
    multisampling and reflections, which in software take three quarters of the time. Policies are
    to be trained and evaluated with the same.
    """

    def __init__(self, rendering: str, width: int, height: int) -> None:
        """Prepare to draw ``"fast"`` or ``"full"`` images of at most this width and height."""
        self._fast = rendering == "fast"
        self._width, self._height = width, height
        self._window: Any = None
        self._model: Any = None
        self._scene: Any = None
        self._context: Any = None

    def draw(self, sim: Any, camera: str, height: int, width: int) -> NDArray[np.uint8]:
        """Return an image, uint8 (height, width, 3), RGB, the first row at the top.

        Args:
            sim: robosuite's ``MjSim``, its derived quantities up to date.
            camera: name.
            height: in pixels, at most that of the largest image.
            width: in pixels, at most that of the largest image.

        Raises:
            ValueError: there is no such camera.
            MissingSimulatorError: there is no graphics library.
        """
        model, data = sim.model._model, sim.data._data
        number = camera_number(sim, camera)
        options = _mujoco().MjvOption()
        options.geomgroup[_COLLISION_GEOMS], options.geomgroup[_VISUAL_GEOMS] = 0, 1
        return self.draw_model(model, data, number, height, width, options)

    def draw_model(
        self, model: Any, data: Any, number: int, height: int, width: int, options: Any = None
    ) -> NDArray[np.uint8]:
        """Return an image of any simulation; see `draw`.

        Args:
            model: MuJoCo's ``MjModel``.
            data: its ``MjData``, the derived quantities up to date.
            number: of the camera.
            height: see `draw`.
            width: see `draw`.
            options: MuJoCo's ``MjvOption``: what is drawn; its defaults by default.
        """
        mujoco = _mujoco()
        if self._window is None:
            self._window = _open_window(self._width, self._height)
        # Another environment of this process may have drawn in between.
        self._window.make_current()
        if model is not self._model:
            self._load(model)
        view = mujoco.MjvCamera()
        view.type, view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, number
        options = mujoco.MjvOption() if options is None else options
        mujoco.mjv_updateScene(
            model, data, options, None, view, mujoco.mjtCatBit.mjCAT_ALL, self._scene
        )
        viewport = mujoco.MjrRect(0, 0, width, height)
        mujoco.mjr_render(viewport, self._scene, self._context)
        image = np.empty((height, width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(image, None, viewport, self._context)
        return image[::-1].copy()

    def close(self) -> None:
        """Release the graphics library."""
        if self._window is not None:
            self._window.make_current()
            if self._context is not None:
                self._context.free()
            self._window.free()
        self._window = self._model = self._scene = self._context = None

    def _load(self, model: Any) -> None:
        """Send textures and meshes of a model to the graphics library."""
        mujoco = _mujoco()
        if self._context is not None:
            self._context.free()
        visual = model.vis
        before = (visual.global_.offwidth, visual.global_.offheight, visual.quality.offsamples)
        visual.global_.offwidth, visual.global_.offheight = self._width, self._height
        if self._fast:
            visual.quality.offsamples = 0
        try:
            self._scene = mujoco.MjvScene(model, maxgeom=_MAX_GEOMS)
            self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_150)
        finally:
            # The model belongs to the simulation, which writes it down.
            visual.global_.offwidth, visual.global_.offheight = before[:2]
            visual.quality.offsamples = before[2]
        if self._fast:
            self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._model = model


def camera_number(sim: Any, camera: str) -> int:
    """Return MuJoCo's number of a camera.

    Raises:
        ValueError: there is none of this name.
    """
    names = [name for name in sim.model.camera_names if name]
    if camera not in names:
        raise ValueError(f"there is no camera '{camera}'; this scene has: {', '.join(names)}")
    return int(sim.model.camera_name2id(camera))


def _mujoco() -> Any:
    return importlib.import_module("mujoco")


def _open_window(width: int, height: int) -> Any:
    """Make an invisible context of the graphics library that ``MUJOCO_GL`` names, or EGL."""
    system = platform.system()
    chosen = os.environ.get("MUJOCO_GL", "").lower().strip()
    if system == "Linux":
        name = chosen if chosen in ("osmesa", "egl") else "egl"
        name = "glfw" if chosen in ("glfw", "glx") else name
    else:
        name = "cgl" if system == "Darwin" else "glfw"
    try:
        return importlib.import_module(f"mujoco.{name}").GLContext(width, height)
    except Exception as error:  # each of the libraries has exceptions of its own
        raise MissingSimulatorError(
            f"images need a graphics library, and {name} cannot be used ({error!s:.300}); on "
            "Debian: apt install libegl1 libgl1 libosmesa6; MUJOCO_GL=egl or MUJOCO_GL=osmesa "
            "chooses"
        ) from error
