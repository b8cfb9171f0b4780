"""Import robosuite quietly, and keep what is random in it to itself."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.metadata
import logging
import os
import random
import warnings
from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from ..checks import version_numbers
from ..errors import MissingSimulatorError

_INSTALL: Final = 'install it, in the folder of the package, with: pip install ".[robosuite]"'
_LOGGER: Final = "robosuite_logs"


@functools.cache
def import_robosuite() -> Any:
    """Import robosuite and return its module.

    ``MUJOCO_GL`` is left as the user set it: robosuite would set it for this process and all those
    it starts, and where there is no EGL, MuJoCo then could not even be imported.

    Raises:
        MissingSimulatorError: it or MuJoCo is missing, or its version cannot work.
    """
    chosen = os.environ.get("MUJOCO_GL")
    logging.getLogger(_LOGGER).addFilter(lambda record: record.levelno >= logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module: Any = importlib.import_module("robosuite")
        versions = {name: importlib.metadata.version(name) for name in ("robosuite", "mujoco")}
    except (ImportError, RuntimeError, AttributeError, OSError) as error:
        # MuJoCo looks for the chosen rendering library at once and fails in many ways.
        raise MissingSimulatorError(
            f"the task needs the simulator robosuite, which cannot be imported ({error}); "
            + _INSTALL
        ) from error
    finally:
        if chosen is None:
            os.environ.pop("MUJOCO_GL", None)
        else:
            os.environ["MUJOCO_GL"] = chosen
    if version_numbers(versions["robosuite"])[:2] != (1, 5):
        raise MissingSimulatorError(
            "the task needs robosuite 1.5 (other versions have other controllers), but "
            f"{versions['robosuite']} is installed; repair it with: pip install robosuite==1.5.1"
        )
    if version_numbers(versions["mujoco"]) >= (3, 4):
        raise MissingSimulatorError(
            "robosuite 1.5 needs MuJoCo older than 3.4 (later ones break it at run time), but "
            f'{versions["mujoco"]} is installed; repair it with: pip install "mujoco<3.4"'
        )
    return module


@contextlib.contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators, which robosuite draws from, and put them back afterwards.

    Args:
        seed: 0 to 2**32 - 1.
    """
    numpy_state, python_state = np.random.get_state(), random.getstate()
    np.random.seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
