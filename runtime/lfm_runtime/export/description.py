"""What an exported folder says of its graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lfm_runtime.policy.sampler import Sampler
from lfm_runtime.policy.spec import DataSpec
from lfm_runtime.version import __version__

FORMAT = "lfm-policy-export"
FORMAT_VERSION = 1

ALSO_TRAINED_ON = "also_trained_on"
"""Key of ``policy.json`` that only some exports have."""

PRECISIONS = ("fp32", "fp16", "int8")
OUTPUT = "action"

AS_THEY_ARE = (
    *("n_obs_steps", "horizon", "n_action_steps", "max_prefix", "checkpoint_sha256", "name"),
    *("precision", "clips_actions", "env", "parameters", "training"),
)
"""Keys of ``policy.json`` whose values are those of the attributes of the same name."""


@dataclass(frozen=True)
class ExportDescription:
    """What ``policy.json`` says.

    Attributes:
        spec: names and shapes of the observations, size of an action.
        n_obs_steps: frames of observation history.
        horizon: actions of a chunk.
        n_action_steps: actions executed of each chunk.
        max_prefix: most committed actions that a chunk can be made to continue.
        ranges: smallest and largest value in training of every low-dimensional observation and
            of ``action``, each of its `DataSpec.dtype`.
        graph_sha256: SHA-256 of ``policy.onnx``.
        checkpoint_sha256: identity of the checkpoint it was made of.
        name: of the experiment.
        sampler: part of the graph.
        precision: ``fp32``, ``fp16`` or ``int8``.
        clips_actions: whether actions are limited to their range.
        env: the environment it was trained for: ``id``, which may be empty, ``max_episode_steps``
            and its options.
        parameters: numbers of parameters by part.
        training: numbers that the checkpoint gives of its training, such as ``steps``.
        also_trained_on: what the policy does not see, and its encoder or its teacher's learned to
            tell in training.
    """

    spec: DataSpec
    n_obs_steps: int
    horizon: int
    n_action_steps: int
    max_prefix: int
    ranges: Mapping[str, tuple[np.ndarray, np.ndarray]]
    graph_sha256: str
    checkpoint_sha256: str
    name: str
    sampler: Sampler
    precision: str
    clips_actions: bool
    env: Mapping[str, Any]
    parameters: Mapping[str, int]
    training: Mapping[str, Any]
    also_trained_on: Sequence[str] = ()

    @property
    def inputs(self) -> dict[str, tuple[str, tuple[int, ...]]]:
        """Type and shape of one row of every input of the graph, in its order.

        The observations come under their own names, then ``noise``, and for a policy that takes
        prefixes ``prefix`` (actions in the robot's units) and ``prefix_mask``; an underscore is
        put before the latter where an observation has that name.
        """
        inputs = {
            key: (self.spec.dtype(key), (self.n_obs_steps, *shape))
            for key, shape in self.spec.obs_shapes.items()
        }
        names = extra_inputs(self.spec, self.max_prefix)
        inputs[names[0]] = ("float32", (self.horizon, self.spec.action_dim))
        if self.max_prefix:
            inputs[names[1]] = (self.spec.dtype("action"), (self.max_prefix, self.spec.action_dim))
            inputs[names[2]] = ("float32", (self.max_prefix,))
        return inputs

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values, without the digest of the file itself."""
        return {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "package_version": __version__,
            "graph": {
                "sha256": self.graph_sha256,
                "inputs": {
                    name: {"dtype": dtype, "shape": ["batch", *shape]}
                    for name, (dtype, shape) in self.inputs.items()
                },
                "outputs": {
                    OUTPUT: {
                        "dtype": self.spec.dtype("action"),
                        "shape": ["batch", self.horizon, self.spec.action_dim],
                    }
                },
            },
            "data": self.spec.to_dict(),
            "ranges": {
                key: {"low": low.ravel().tolist(), "high": high.ravel().tolist()}
                for key, (low, high) in self.ranges.items()
            },
            "sampler": self.sampler.to_dict(),
            **{key: getattr(self, key) for key in AS_THEY_ARE},
            # As in a checkpoint: nothing where there is nothing to say.
            **({ALSO_TRAINED_ON: list(self.also_trained_on)} if self.also_trained_on else {}),
        }


def extra_inputs(spec: DataSpec, max_prefix: int) -> tuple[str, ...]:
    """Return the names of the graph's inputs that are no observations."""
    names = ("noise", "prefix", "prefix_mask") if max_prefix else ("noise",)
    unused = []
    for name in names:
        while name in spec.obs_shapes:
            name = f"_{name}"
        unused.append(name)
    return tuple(unused)
