"""Where the metrics of a run can be watched: TensorBoard, Weights & Biases or trackio.

``metrics.jsonl`` has them whatever is chosen. Weights & Biases and trackio are spoken to by
accelerate's trackers. Nothing leaves this machine unless somebody says so: runs of wandb are
offline unless ``WANDB_MODE`` says otherwise (``wandb sync RUN/wandb/offline-*`` sends them later),
trackio keeps its own files unless ``TRACKIO_SPACE_ID`` names a place on the hub.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import uuid
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from lfm_policy.errors import InputError, brief
from lfm_runtime.disk.files import exists, write_json
from lfm_runtime.disk.input_files import read_json_object

PROJECT = "lfm-policy"
RUN_FILE = "tracker.json"
"""In the run folder: which run of the tracker it is, so that a resumed one continues it."""
BOARD_FOLDER = "tensorboard"
SERVICES = ("wandb", "trackio")


class Tracker(Protocol):
    """What takes numbers; accelerate's trackers do, too."""

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        """Take numbers by name, of one step."""

    def finish(self) -> None:
        """Write what has not been written yet."""


def require_tracker(name: str) -> None:
    """Check that a tracker can be used, before anything else takes time.

    Raises:
        InputError: its package is not installed, or accelerate does not know it yet.
    """
    if name not in SERVICES:
        return
    other = "choose training.tracker=tensorboard or none (metrics.jsonl is written always)"
    try:
        module = importlib.import_module(name)
    except ImportError:
        module = None
    # A folder `wandb` of earlier runs, where Python was started, is a module without anything.
    if not hasattr(module, "init"):
        raise InputError(
            f"training.tracker is '{name}', whose package is not installed: pip install {name}, or "
            f"{other}"
        )
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    if name not in LOGGER_TYPE_TO_CLASS:
        raise InputError(
            f"training.tracker is '{name}', which this version of accelerate does not know: pip "
            f"install --upgrade accelerate, or {other}"
        )


def open_tracker(
    name: str,
    folder: Path,
    *,
    run_name: str = "",
    options: Mapping[str, Any] | None = None,
    resume_step: int | None = None,
) -> Tracker | None:
    """Return the tracker of a run; None for ``none``.

    Args:
        name: ``tensorboard``, ``wandb``, ``trackio`` or ``none``.
        folder: the run folder, where TensorBoard's and wandb's files go.
        run_name: what a service shows the run as.
        options: the configuration, shown with it.
        resume_step: TensorBoard drops what it has after this step; a service continues its run.

    Raises:
        InputError: a service cannot be started.
    """
    if name == "none":
        return None
    if name in SERVICES:
        return _Service(name, folder, run_name, options or {}, new=resume_step is None)
    return _TensorBoard(folder / BOARD_FOLDER, resume_step)


class _TensorBoard:
    """Event files, whose errors (a full disk) are those of the training."""

    def __init__(self, folder: Path, resume_step: int | None) -> None:
        from torch.utils.tensorboard import SummaryWriter

        purge = None if resume_step is None else resume_step + 1
        self._writer = SummaryWriter(str(folder), purge_step=purge)

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def finish(self) -> None:
        self._writer.close()


class _Service:
    """A tracker of accelerate's; what goes wrong with it does not end a training."""

    def __init__(
        self, name: str, folder: Path, run_name: str, options: Mapping[str, Any], *, new: bool
    ) -> None:
        from accelerate.tracking import LOGGER_TYPE_TO_CLASS

        self._name = name
        run_id = _run_id(folder / RUN_FILE, new=new)
        settings: dict[str, Any] = {"name": run_name, "resume": "allow"}
        if name == "wandb":
            settings |= {"id": run_id, "dir": str(folder)}
            settings["mode"] = os.environ.get("WANDB_MODE") or "offline"
        else:  # which has no identities besides names
            settings["name"] = f"{run_name}-{run_id}"
        try:
            # What they say of themselves is not what a command prints.
            with contextlib.redirect_stdout(sys.stderr):
                self._tracker = LOGGER_TYPE_TO_CLASS[name](PROJECT, **settings)
                if hasattr(self._tracker, "start"):  # older ones start when they are made
                    self._tracker.start()
                self._tracker.store_init_configuration(dict(options))
        except Exception as error:  # whatever a service raises
            raise InputError(
                f"training.tracker: '{name}' cannot be started ({brief(error)}): mend that, or "
                "choose training.tracker=tensorboard or none"
            ) from error
        self._failed = False

    def log(self, values: dict[str, float], step: int | None = None) -> None:
        if values and not self._failed:
            self._try(lambda: self._tracker.log(values, step=step))

    def finish(self) -> None:
        # Not the tracker's own `finish`: trackio's run would be finished, and say so, once more
        # when Python exits.
        self._try(importlib.import_module(self._name).finish)

    def _try(self, call: Any) -> None:
        try:
            with contextlib.redirect_stdout(sys.stderr):
                call()
        except Exception as error:  # whatever a service raises
            self._failed = True
            warnings.warn(
                f"the tracker '{self._name}' failed ({brief(error)}); the training goes on, and "
                "metrics.jsonl has everything",
                stacklevel=3,
            )


def _run_id(file: Path, *, new: bool) -> str:
    """Return the identity of the run for its tracker, which stays when it is resumed."""
    if not new and exists(file):
        return str(read_json_object(file).get("id"))
    run_id = uuid.uuid4().hex[:12]
    write_json(file, {"id": run_id})
    return run_id
