"""LeRobot's normalisation: processors with files of their own, or buffers beside the weights."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lfm_policy.errors import InputError
from lfm_policy.importing.description import Settings
from lfm_policy.importing.scaling import Array, Scaling, between, identity, standard
from lfm_runtime.disk.files import exists
from lfm_runtime.disk.input_files import read_json_object

if TYPE_CHECKING:
    from torch import Tensor

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
PASSED_ON = {
    "policy_preprocessor.json": ("rename_observations_processor", "to_batch_processor"),
    "policy_postprocessor.json": (),
}
"""Steps besides the normaliser's and ``device_processor``."""

MODES = {
    "MIN_MAX": ("min", "max"),
    "MEAN_STD": ("mean", "std"),
    "QUANTILES": ("q01", "q99"),
    "QUANTILE10": ("q10", "q90"),
    "IDENTITY": (),
}
OLD_EPSILON = 1e-8
"""Of LeRobot before 0.4, which it adds to every range and standard deviation."""

Statistics = dict[str, dict[str, Array]]


@dataclass(frozen=True)
class LeRobotScaling:
    """How a policy scales what it sees and does.

    Attributes:
        source: the file that says so, for messages.
        kept_in: where statistics are kept, and since which version, in words.
        modes: by type of feature; a type that is not there is not scaled.
        statistics: of observations, by key and part.
        back: of actions.
        epsilon: against ranges of nothing.
        always: whether it is always added to ranges, as before 0.4.
        recorded_names: what the observations are called before they are renamed, by key.
    """

    source: str
    kept_in: str
    modes: dict[str, str]
    statistics: Statistics
    back: Statistics
    epsilon: float
    always: bool
    recorded_names: dict[str, str]

    def of(self, key: str, kind: str, shape: tuple[int, ...], *, back: bool = False) -> Scaling:
        """Return the scaling of a key.

        Args:
            key: its name.
            kind: type of the feature.
            shape: of one step.
            back: whether it is the way back that has to be exact, as of actions.

        Raises:
            InputError: statistics are missing or of another shape, or the mode is unknown.
        """
        mode = self.modes.get(kind, "IDENTITY")
        if mode not in MODES:
            raise InputError(
                f"{self.source}: {kind} is normalised by '{mode}'; supported: {', '.join(MODES)}"
            )
        found = (self.back if back else self.statistics).get(key, {})
        needed = MODES[mode]
        if missing := [part for part in needed if part not in found]:
            raise InputError(
                f"{self.source}: has no {' and '.join(missing)} of '{key}', which {mode} needs: "
                "statistics are missing (LeRobot would leave it as it is; IDENTITY says so)"
            )
        parts = ("min", "max", "mean", "std", *needed)
        data = {
            part: self._shaped(key, part, found[part], shape) for part in parts if part in found
        }
        try:
            if not needed:
                return identity(shape, data=data)
            first, second = (data[part] for part in needed)
            if mode == "MEAN_STD":
                return standard(first, second, data=data, epsilon=self.epsilon, back=back)
            # On the way back the old one adds nothing.
            always = self.always and not back
            name = "limits" if mode == "MIN_MAX" else "quantiles"
            return between(name, first, second, data=data, epsilon=self.epsilon, always=always)
        except InputError as error:
            raise InputError(f"{self.source}: '{key}': {error}") from None

    def of_image(self, key: str, shape: tuple[int, ...]) -> tuple[Array, Array]:
        """Return factors and summands by channel, of images from 0 to 1.

        Raises:
            InputError: as `of`, or the statistics differ within an image.
        """
        channels = (shape[0], 1, 1)
        found = self.of(key, "VISUAL", channels).statistics
        scale, offset = (part.double().numpy().ravel() for part in (found.scale, found.offset))
        if found.origin is not None:
            offset = offset - found.origin.numpy().ravel() * scale
        return scale, offset

    def _shaped(self, key: str, part: str, value: Array, shape: tuple[int, ...]) -> Array:
        if value.shape != shape:
            raise InputError(
                f"{self.source}: the {part} of '{key}' has shape {value.shape}, expected {shape}"
            )
        if not np.isfinite(value).all():
            raise InputError(
                f"{self.source}: the {part} of '{key}' is not finite: the statistics were never set"
            )
        return value


def read_scaling(path: Path, settings: Settings, weights: dict[str, Tensor]) -> LeRobotScaling:
    """Return how a policy scales numbers, whichever version wrote it.

    Raises:
        InputError: there are no statistics, or processors do more than they may.
    """
    if exists(path / PREPROCESSOR) or exists(path / POSTPROCESSOR):
        return _of_processors(path)
    buffers = {n: w for n, w in weights.items() if ".buffer_" in n}
    if not buffers:
        raise InputError(
            f"{path}: there are no statistics: neither {PREPROCESSOR} and {POSTPROCESSOR}, which "
            "LeRobot has written since 0.4, nor normalize_inputs.buffer_... in model.safetensors, "
            "as before; copy the whole folder pretrained_model"
        )
    return _of_buffers(path, settings, buffers)


def _of_buffers(path: Path, settings: Settings, buffers: dict[str, Tensor]) -> LeRobotScaling:
    keys = {
        key.replace(".", "_"): key
        for section in ("input_features", "output_features")
        for key in settings.section(section).values
    }
    found: dict[str, Statistics] = {"normalize_inputs": {}, "unnormalize_outputs": {}}
    # Where two of the three share memory, only one is written.
    found["normalize_targets"] = found["unnormalize_outputs"]
    for name, tensor in buffers.items():
        module, _, rest = name.partition(".buffer_")
        flat, _, part = rest.rpartition(".")
        if module not in found or flat not in keys:
            raise InputError(f"{path}: model.safetensors has statistics '{name}' of nothing known")
        found[module].setdefault(keys[flat], {})[part] = tensor.double().numpy()
    return LeRobotScaling(
        source=str(path / "model.safetensors"),
        kept_in="model.safetensors (before 0.4)",
        modes=_modes(settings.section("normalization_mapping")),
        statistics=found["normalize_inputs"],
        back=found["unnormalize_outputs"],
        epsilon=OLD_EPSILON,
        always=True,
        recorded_names={},
    )


def _of_processors(path: Path) -> LeRobotScaling:
    before, names = _normalizer(path, PREPROCESSOR, "normalizer_processor")
    after, _ = _normalizer(path, POSTPROCESSOR, "unnormalizer_processor")
    modes = _modes(before.section("norm_map"))
    modes_after = _modes(after.section("norm_map"))
    epsilon = before.get("eps", float)
    if modes_after.get("ACTION") != modes.get("ACTION") or after.get("eps", float) != epsilon:
        raise InputError(
            f"{path}: {PREPROCESSOR} and {POSTPROCESSOR} normalise actions differently: "
            f"{modes.get('ACTION')} and {modes_after.get('ACTION')}; supported: one way"
        )
    return LeRobotScaling(
        source=str(path / PREPROCESSOR),
        kept_in="processors (0.4 and later)",
        modes=modes,
        statistics=_state(path, before),
        back=_state(path, after),
        epsilon=epsilon,
        always=False,
        recorded_names=names,
    )


def _normalizer(path: Path, file: str, kind: str) -> tuple[Settings, dict[str, str]]:
    """Return the normaliser of a processor, and how observations are called before it."""
    label = str(path / file)
    steps = Settings(read_json_object(path / file), label, "LeRobot").get("steps", list)
    found: Settings | None = None
    names: dict[str, str] = {}
    for n, step in enumerate(steps):
        if not isinstance(step, dict):
            raise InputError(f"{label}: steps[{n}] is no object")
        name, where = step.get("registry_name"), f"{label}: steps[{n}]"
        config = Settings(step, where, "LeRobot").section("config")
        if name == kind:
            if found is not None:
                raise InputError(f"{label}: has two steps '{kind}'; supported: one")
            found = Settings(
                {**config.values, "state_file": step.get("state_file")}, where, "LeRobot"
            )
            config.require("normalize_observation_keys", None)
        elif name == "device_processor":
            config.require("float_dtype", (None, "float32"))
        elif name == "rename_observations_processor":
            names = {ours: theirs for theirs, ours in config.get("rename_map", dict).items()}
        elif name not in PASSED_ON[file]:
            raise InputError(
                f"{where}: is a '{str(name)[:100]}', which is not supported; supported: "
                + ", ".join((*PASSED_ON[file], "device_processor", kind))
            )
    if found is None:
        raise InputError(f"{label}: has no step '{kind}'")
    return found, names


def _modes(section: Settings) -> dict[str, str]:
    return {kind: section.get(kind, str) for kind in section.values}


def _state(path: Path, settings: Settings) -> Statistics:
    from lfm_policy.policy.tensors import read_tensors  # torch

    file = settings.get("state_file", (str, type(None)))
    if file is None:
        if not any(MODES.get(mode, ()) for mode in _modes(settings.section("norm_map")).values()):
            return {}
        raise InputError(f"{settings.label}: names no state_file: the statistics are missing")
    if Path(file).name != file:
        raise InputError(f"{settings.label}: state_file is '{file[:100]}', expected a name alone")
    statistics: dict[str, dict[str, Any]] = {}
    for name, tensor in read_tensors(path / file).items():
        key, _, part = name.rpartition(".")
        statistics.setdefault(key, {})[part] = tensor.double().numpy()
    return statistics
