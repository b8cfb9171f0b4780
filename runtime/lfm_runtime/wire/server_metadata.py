"""What a server says of its policy, and whether it is the policy that was there before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any

from lfm_runtime.errors import InputError
from lfm_runtime.policy.sampler import NUMBERS, Sampler
from lfm_runtime.policy.spec import DataSpec
from lfm_runtime.wire.packing import packb
from lfm_runtime.wire.protocol import POLICY_DIGEST

_HORIZONS = ("n_obs_steps", "horizon", "n_action_steps")
_LONGEST = 4096

_NOT_COMPARED = frozenset(
    {"observations", "server", "server_version", "instructions", "max_message_bytes", "task"}
)
"""What the metadata say of the server and not of its policy, and what is compared one by one."""

_OF_THE_POLICY = frozenset(
    {
        POLICY_DIGEST,
        *("action_dim", "action_horizon", "horizon", "max_prefix", "n_action_steps", "n_obs_steps"),
        *(one.name for one in fields(Sampler)),
        "precision",
    }
)
"""What the actions depend on; beside the observations."""
_WHERE_BOTH_SAY = ("nfe_per_block", "block_times")
"""What older servers do not say, and what depends on their policy's blocks for them."""
_OF_OBSERVATIONS = frozenset({"shape", "dtype", "depth"})

_MAXIMUM_TEXT = 60


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
            "tasks": metadata.get("tasks", []),
            "depth": {key: e["depth"] for key, e in observations.items() if "depth" in e},
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


class PolicyChangedError(InputError):
    """A server serves another policy, or another sampler, than the one that was asked before.

    Attributes:
        changes: what differs, such as ``nfe: 4, before 2``.
    """

    def __init__(self, where: str, changes: Sequence[str]) -> None:
        self.changes = tuple(changes)
        super().__init__(
            f"{where}: serves another policy now: {'; '.join(self.changes)}; call accept_policy() "
            "or make a new client to use it"
        )


def policy_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return in what the policies differ that two metadata describe.

    Where both have a digest, the digest, the sampler, shapes and horizons are compared. The
    metadata of other projects' servers are compared in everything that they say.

    Args:
        before: what a server said of its policy.
        now: what it, or another server at its address, says later.
    """
    digests = bool(before.get(POLICY_DIGEST) and now.get(POLICY_DIGEST))
    names = set(_OF_THE_POLICY if digests else (before.keys() | now.keys()) - _NOT_COMPARED)
    if digests:
        names -= {name for name in _WHERE_BOTH_SAY if name not in before or name not in now}
    # Shapes and types before digests: they say more.
    said = [{n: metadata.get(n, NUMBERS.get(n)) for n in names} for metadata in (before, now)]
    return [
        *_differences(_observations(before, digests), _observations(now, digests)),
        *_differences(*said),
    ]


def _observations(metadata: Mapping[str, Any], digests: bool) -> dict[str, Any]:
    """Return what is said of the observations, one entry each."""
    observations = metadata.get("observations")
    if not isinstance(observations, Mapping):
        return {"observations": observations}
    return {
        f"observations.{name}.{key}": value
        for name, described in observations.items()
        for key, value in (described if isinstance(described, Mapping) else {"": described}).items()
        if not digests or key in _OF_OBSERVATIONS
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for name in sorted(before.keys() | now.keys()):
        old, new = before.get(name), now.get(name)
        # Metadata may hold arrays, and NaN: packed they can be compared.
        if packb(old) != packb(new):
            yield (
                f"{name[:_MAXIMUM_TEXT]}: {str(new)[:_MAXIMUM_TEXT]}, before "
                f"{str(old)[:_MAXIMUM_TEXT]}"
            )
