"""The whole of a policy as one torch module, from raw observations and noise to actions."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from lfm_policy.errors import InputError
from lfm_policy.networks.conditioning import ConditionEmbedding
from lfm_policy.policy import Policy
from lfm_policy.policy.prefix import with_prefix
from lfm_runtime.policy.observations import is_image

EXAMPLE_ROWS = 3
"""Rows of example inputs; not 1, which a tracer takes for a size that broadcasts."""


class SamplerModule(nn.Module):
    """Maps observations with history and noise to a chunk in the robot's units.

    Called with one tensor per observation in the order of ``obs_keys``, each (B, n_obs_steps,
    *shape), in raw units and of the dtype that its `DataSpec` says, and then standard normal noise
    (B, horizon, action_dim); for a policy that takes prefixes also with one, (B, max_prefix,
    action_dim) in raw units, and its mask (B, max_prefix). Returns (B, horizon, action_dim). All
    steps of the policy's
    sampler as it is set now are part of it, and their times are constants.

    Attributes:
        obs_keys: names of the observations.
    """

    def __init__(self, policy: Policy) -> None:
        """Build the module from copies of the policy's networks, on the CPU.

        Raises:
            InputError: the sampler is adaptive, and so has no fixed number of steps.
        """
        super().__init__()
        if policy.nfe is None:
            raise InputError(
                f"the solver '{policy.solvers[0].name}' chooses its steps itself and cannot be "
                "exported: choose a fixed number with --solver euler, midpoint or heun and --nfe"
            )
        self.obs_keys = tuple(policy.spec.obs_shapes)
        self._images = {key for key in self.obs_keys if is_image(policy.spec.obs_shapes[key])}
        self._normalizer = policy.normalizer.to("cpu")
        self._solvers = policy.solvers
        self._noise_scale = policy.noise_scale
        self._clip = policy.config.policy.clip_actions
        self._action_dtype = getattr(torch, policy.spec.dtype("action"))
        self._model = copy.deepcopy(policy.model).to("cpu").eval()
        self._chain = self._model.chain()
        self._make_times_constant(example_inputs(policy))

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return the chunk; see the class for the inputs."""
        n_obs = len(self.obs_keys)
        observations, noise, prefix = inputs[:n_obs], inputs[n_obs], inputs[n_obs + 1 :]
        obs = {
            key: value if key in self._images else self._normalizer.normalize(key, value)
            for key, value in zip(self.obs_keys, observations, strict=True)
        }
        cond = self._model.encoder(obs)
        if self._model.prefix is not None:
            actions, mask = prefix
            normalized = self._normalizer.normalize("action", actions)
            cond = with_prefix(cond, self._model.prefix.features(normalized, mask))
        if self._noise_scale != 1:
            noise = noise * self._noise_scale
        x = self._chain.sample(noise, cond, solver=self._solvers).x
        chunk = self._normalizer.unnormalize("action", x)
        if self._clip:
            limits = self._normalizer["action"]
            chunk = torch.clamp(chunk, limits.raw("min"), limits.raw("max"))
        chunk = chunk.to(self._action_dtype)
        if self._model.prefix is not None:
            chunk = self._model.prefix.put(chunk, *prefix)
        return chunk

    def _make_times_constant(self, inputs: tuple[Tensor, ...]) -> None:
        """Replace every embedding of time and condition by one that knows its times."""
        times: dict[ConditionEmbedding, list[float]] = {}
        hooks = [
            module.register_forward_pre_hook(
                lambda module, args: times.setdefault(module, []).append(float(args[0][0]))
            )
            for module in self._model.modules()
            if isinstance(module, ConditionEmbedding)
        ]
        with torch.no_grad():
            self(*inputs)
        for hook in hooks:
            hook.remove()
        for parent in list(self._model.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, ConditionEmbedding) and child in times:
                    setattr(parent, name, _KnownTimes(child, times[child]))


class _KnownTimes(nn.Module):
    """A `ConditionEmbedding` at a sequence of times known in advance.

    The part of the first layer that sees the time is a constant then, one bias per step, and need
    not be computed when the policy runs. The weights are shared by all steps.
    """

    def __init__(self, embedding: ConditionEmbedding, times: list[float]) -> None:
        super().__init__()
        hidden = embedding.hidden
        n_time = embedding.time.frequencies.numel()
        with torch.no_grad():
            features = embedding.time(torch.tensor(times)).double()
            weight = hidden.weight[:, :n_time].double()
            biases = (features @ weight.T + hidden.bias.double()).float()
        # Tensors of their own and not rows of one: a row would be looked up in every step.
        self._biases = [bias.clone() for bias in biases]
        self.weight = nn.Parameter(hidden.weight[:, n_time:].clone(), requires_grad=False)
        self.out = embedding.out
        self._next = 0

    def forward(self, t: Tensor, cond: Tensor | None) -> Tensor:
        bias = self._biases[self._next]
        self._next = (self._next + 1) % len(self._biases)
        hidden = bias[None] if cond is None else nn.functional.linear(cond, self.weight, bias)
        embedding: Tensor = nn.functional.silu(self.out(nn.functional.silu(hidden)))
        return embedding


def example_inputs(policy: Policy, n_rows: int = EXAMPLE_ROWS) -> tuple[Tensor, ...]:
    """Return valid inputs of a `SamplerModule`: random observations and noise, on the CPU."""
    inputs = []
    for key in policy.spec.obs_shapes:
        frames = [policy.fake_obs(seed)[key] for seed in range(n_rows * policy.n_obs_steps)]
        stacked = torch.stack([torch.from_numpy(frame) for frame in frames])
        inputs.append(stacked.unflatten(0, (n_rows, policy.n_obs_steps)))
    generator = torch.Generator().manual_seed(0)
    inputs.append(torch.randn(n_rows, *policy.chunk_shape, generator=generator))
    if policy.max_prefix:
        # The first row has no prefix, the second one of one action, and so on.
        places = torch.arange(policy.max_prefix)
        action = policy.normalizer["action"]
        near = inputs[-1][:, : policy.max_prefix] * action.std.cpu()
        if action.origin is not None:
            near = near + action.origin.cpu()
        inputs.append(near.to(getattr(torch, policy.spec.dtype("action"))))
        inputs.append((places < torch.arange(n_rows)[:, None]).to(torch.float32))
    return tuple(inputs)
