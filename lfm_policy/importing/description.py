"""What is known of a policy of another framework, in words that do not depend on it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lfm_policy.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

    from lfm_policy.importing.scaling import Scaling


@dataclass(frozen=True)
class Camera:
    """The encoder of one camera's images.

    Attributes:
        options: of the image encoder of ours that has its weights.
        weights: by our names.
        features: numbers that it makes of an image.
    """

    options: dict[str, Any]
    weights: dict[str, Tensor]
    features: int


@dataclass(frozen=True)
class Observed:
    """One observation, where its numbers stand in the condition of the network.

    Attributes:
        key: its name.
        shape: of one frame, as ours: images are (height, width, channels).
        scaling: of its numbers; None for images, whose encoder scales them.
        camera: of an image.
    """

    key: str
    shape: tuple[int, ...]
    scaling: Scaling | None = None
    camera: Camera | None = None

    @property
    def size(self) -> int:
        """Numbers of one frame in the condition."""
        if self.camera is not None:
            return self.camera.features
        size = 1
        for side in self.shape:
            size *= side
        return size


@dataclass(frozen=True)
class Found:
    """What was found, for those who asked for it.

    Attributes:
        kind: of policy, in words.
        framework: which, as people call it.
        facts: what is worth keeping of where it came from; JSON values.
        shapes: of one frame of each observation, as ours.
        action_dim: numbers of one action.
        sampler: ``solver`` and ``nfe``.
        steps: ``n_obs_steps``, ``horizon``, ``n_action_steps``.
    """

    kind: str
    framework: str
    facts: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    action_dim: int
    sampler: dict[str, Any]
    steps: dict[str, int]


@dataclass(frozen=True)
class ForeignPolicy:
    """A diffusion policy of another framework.

    Attributes:
        framework: which, as people call it.
        facts: what is worth keeping of where it came from; JSON values.
        observed: in the order in which the network's condition has them, in every frame.
        action: scaling of actions.
        action_dim: numbers of one action.
        network: options of our network that has its weights.
        weights: of it, by our names; its condition is still in the order of ``observed``.
        method: options of our method ``diffusion``.
        sampler: our ``solver`` and ``nfe``, as the policy is used there.
        steps: our section ``policy``: ``n_obs_steps``, ``horizon``, ``n_action_steps``.
        shared_cameras: whether all cameras have one encoder.
        refused: why nothing here samples as the policy does there; empty: something does.
    """

    framework: str
    facts: dict[str, Any]
    observed: tuple[Observed, ...]
    action: Scaling
    action_dim: int
    network: dict[str, Any]
    weights: dict[str, Tensor]
    method: dict[str, Any]
    sampler: dict[str, Any]
    steps: dict[str, int]
    shared_cameras: bool = False
    refused: str = ""

    @property
    def found(self) -> Found:
        """The same in a few words."""
        return Found(
            kind="diffusion policy",
            framework=self.framework,
            facts=self.facts,
            shapes={o.key: o.shape for o in self.observed},
            action_dim=self.action_dim,
            sampler=self.sampler,
            steps=self.steps,
        )


class Settings:
    """A configuration of another framework, from which nothing is read that is not there."""

    def __init__(self, values: Mapping[str, Any], label: str, framework: str) -> None:
        self.values, self.label, self.framework = values, label, framework

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def get(self, key: str, kind: type | tuple[type, ...], *, ask: str = "") -> Any:
        """Return a value.

        Args:
            key: its name.
            kind: what it has to be.
            ask: what to do where it is missing.

        Raises:
            InputError: it is missing, and no default is put in its place, or is something else.
        """
        if key not in self.values:
            raise InputError(
                f"{self.label}: '{key}' is missing. {self.framework} has changed what it means to "
                f"leave it out, so nothing is assumed: add it{ask}"
            )
        value = self.values[key]
        kinds = kind if isinstance(kind, tuple) else (kind,)
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
            raise InputError(f"{self.label}: {key} is {str(value)[:100]!r}, expected {names}")
        return value

    def count(self, key: str) -> int:
        """Return a whole number of at least 1."""
        value: int = self.get(key, int)
        if value < 1:
            raise InputError(f"{self.label}: {key} is {value}, expected at least 1")
        return value

    def section(self, key: str) -> Settings:
        """Return a part of it."""
        return Settings(self.get(key, dict), f"{self.label}: {key}", self.framework)

    def require(self, key: str, supported: Any, *, absent: Any = None) -> None:
        """Check that an option that only some values of are supported has one of these.

        Args:
            key: its name.
            supported: one value, or a tuple of them.
            absent: what it means where it is missing, in every version of the framework.
        """
        found = self.values.get(key, absent)
        values = supported if isinstance(supported, tuple) else (supported,)
        if not any(found == value and type(found) is type(value) for value in values):
            raise InputError(
                f"{self.label}: {key} is {repr(found)[:100]}; supported: "
                + " or ".join(repr(value) for value in values)
            )


def refuse_ignored(path: Path, ignored: Collection[str]) -> None:
    """Refuse options to ignore where no option is refused for being unknown.

    Raises:
        InputError: there are some.
    """
    if ignored:
        raise InputError(
            f"{path}: no option of it has to be ignored ({', '.join(ignored)}): leave --ignore out"
        )
