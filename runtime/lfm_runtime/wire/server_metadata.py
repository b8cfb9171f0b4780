"""What a policy server says of its policy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lfm_runtime.errors import InputError
from lfm_runtime.policy.spec import DataSpec

_HORIZONS = ("n_obs_steps", "horizon", "n_action_steps")
_LONGEST = 4096


def read_metadata(metadata: Mapping[str, Any], uri: str) -> tuple[DataSpec, dict[str, int]]:
    """Return the shapes that a policy wants, and ``n_obs_steps``, ``horizon``, ``n_action_steps``.

    Args:
        metadata: first message of a connection, from ``lfm-policy serve``.
        uri: what to call the server in errors.

    Raises:
        InputError: something is missing, or is not what it has to be.
    """
    label = f"{uri}: metadata"
    observations = metadata.get("observations")
    if not isinstance(observations, dict) or not all(
        isinstance(entry, dict) for entry in observations.values()
    ):
        raise InputError(
            f"{label}: no 'observations': expected a server started with 'lfm-policy serve'"
        )
    dtypes = {key: entry.get("dtype") for key, entry in observations.items()}
    dtypes["action"] = metadata.get("action_dtype")
    spec = DataSpec.from_dict(
        {
            "obs_shapes": {key: entry.get("shape") for key, entry in observations.items()},
            "action_dim": metadata.get("action_dim"),
            "float64_keys": [key for key, dtype in dtypes.items() if dtype == "float64"],
        },
        label,
    )
    horizons = {}
    for name in _HORIZONS:
        value = metadata.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _LONGEST:
            raise InputError(f"{label}: {name}: found {str(value)[:60]}, expected a size")
        horizons[name] = value
    return spec, horizons
