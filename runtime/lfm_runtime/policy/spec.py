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

        def bad(key: str, expected: str, found: Any) -> InputError:
            return InputError(
                f"{label}: data.{key[:112]}: expected {expected}, found {str(found)[:100]}"
            )

        shapes: Any = value.get("obs_shapes")
        action_dim: Any = value.get("action_dim")
        if not isinstance(shapes, dict) or len(shapes) > MAXIMUM_KEYS:
            raise bad("obs_shapes", f"an object of at most {MAXIMUM_KEYS} observations", shapes)
        for key, shape in shapes.items():
            if not key or key == "action":
                raise InputError(
                    f"{label}: data.obs_shapes: '{key}' cannot be the name of an observation"
                )
            few = isinstance(shape, list) and len(shape) <= MAXIMUM_RANK
            if not few or not all(map(_is_size, shape)):
                raise bad(f"obs_shapes.{key}", "a list of positive sizes", shape)
        if not _is_size(action_dim):
            raise bad("action_dim", "a positive integer", action_dim)
        fingerprint, wide = value.get("fingerprint", ""), value.get("float64_keys", [])
        if not isinstance(fingerprint, str):
            raise bad("fingerprint", "text", fingerprint)
        known = {"action", *(key for key, shape in shapes.items() if not is_image(shape))}
        if not isinstance(wide, list) or not all(isinstance(k, str) and k in known for k in wide):
            raise bad("float64_keys", "names of observations that are no images", wide)
        checked = {key: tuple(shape) for key, shape in shapes.items()}
        return DataSpec(checked, action_dim, fingerprint, tuple(wide))


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value <= MAXIMUM_SIZE
