"""What a policy knows of its data: names and shapes of observations, size of an action."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lfm_runtime.errors import InputError

MAXIMUM_KEYS = 64
MAXIMUM_RANK = 4
MAXIMUM_SIZE = 10_000_000


def is_image(shape: Sequence[int]) -> bool:
    """Whether one step of this shape is a camera image: height, width and 1, 3 or 4 channels.

    Camera images are uint8 wherever they are; everything else is floating point.
    """
    return len(shape) == 3 and shape[2] in (1, 3, 4)


@dataclass(frozen=True)
class DataSpec:
    """Shapes that the networks were built for.

    Attributes:
        obs_shapes: shape of one frame of each observation, without batch and history.
        action_dim: numbers in one action.
        fingerprint: SHA-256 of the training demonstrations, empty when unknown.
        float64_keys: observations, or ``"action"``, so far from zero that float32 could not tell
            their values apart; everywhere outside the networks they are float64.
    """

    obs_shapes: Mapping[str, tuple[int, ...]]
    action_dim: int
    fingerprint: str = ""
    float64_keys: tuple[str, ...] = ()

    def dtype(self, key: str) -> str:
        """Return in which numbers an observation, or ``"action"``, is exchanged.

        ``"uint8"`` for camera images, else ``"float32"``, or ``"float64"`` for `float64_keys`.
        """
        if key in self.float64_keys:
            return "float64"
        return "uint8" if is_image(self.obs_shapes.get(key, ())) else "float32"

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        values = {
            "obs_shapes": {key: list(shape) for key, shape in self.obs_shapes.items()},
            "action_dim": self.action_dim,
            "fingerprint": self.fingerprint,
        }
        return values | ({"float64_keys": list(self.float64_keys)} if self.float64_keys else {})

    @staticmethod
    def from_dict(value: Any, label: str) -> DataSpec:
        """Read what `to_dict` wrote.

        Raises:
            InputError: a key is missing or is not what it has to be; ``label`` names the file.
        """
        if not isinstance(value, dict):
            raise InputError(f"{label}: data: expected an object, found {type(value).__name__}")
        shapes = value.get("obs_shapes")
        if not isinstance(shapes, dict) or len(shapes) > MAXIMUM_KEYS:
            raise InputError(
                f"{label}: data.obs_shapes: expected an object of at most {MAXIMUM_KEYS} "
                f"observations, found {str(shapes)[:100]}"
            )
        checked = {}
        for key, shape in shapes.items():
            if not key or key == "action":
                raise InputError(
                    f"{label}: data.obs_shapes: '{key}' cannot be the name of an observation"
                )
            if (
                not isinstance(shape, list)
                or len(shape) > MAXIMUM_RANK
                or not all(_is_size(size) for size in shape)
            ):
                raise InputError(
                    f"{label}: data.obs_shapes.{key[:100]}: expected a list of positive sizes, "
                    f"found {str(shape)[:100]}"
                )
            checked[key] = tuple(shape)
        if not _is_size(value.get("action_dim")):
            raise InputError(
                f"{label}: data.action_dim: expected a positive integer, "
                f"found {str(value.get('action_dim'))[:100]}"
            )
        fingerprint = value.get("fingerprint", "")
        if not isinstance(fingerprint, str):
            raise InputError(f"{label}: data.fingerprint: expected text, found {fingerprint!r}")
        wide = value.get("float64_keys", [])
        known = {key for key, shape in checked.items() if not is_image(shape)} | {"action"}
        if not isinstance(wide, list) or not all(isinstance(k, str) and k in known for k in wide):
            raise InputError(
                f"{label}: data.float64_keys: expected names of observations that are no images, "
                f"found {str(wide)[:100]}"
            )
        return DataSpec(checked, value["action_dim"], fingerprint, tuple(wide))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAXIMUM_SIZE
