"""The losses of a training, part by part, and the EMA of the weights that is kept of it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lerobot_policy_lfm.schedule_lfm import Part, part_at, training_parts
from lfm_policy.config import ExperimentConfig
from lfm_policy.config.block_networks import network_configs
from lfm_policy.errors import InputError
from lfm_policy.flow import FlowChain, SolverSpec
from lfm_policy.flow.ema import EMA
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_policy.training.blocks import BlockLoss, JointLoss
from lfm_policy.training.rows.prefixes import draw_lengths


class Learning:
    """What the weights of a policy learn in which step.

    First encoder and blocks together, block n from the exact marginal of the diffusion at its data
    side, x_{n-1} = a x_0 + b z: a closed form, so none has to wait for another. Then block after
    block, with the encoder as it is by then: block n from the demonstrations that the blocks before
    it take from t = 0 to t = 1, which is where a chunk comes to that is sampled back (with
    ``training.block_training: parallel`` from the exact marginal, still).

    It holds no numbers of its own: what it does in a step depends on the step and the weights.
    """

    def __init__(
        self,
        model: PolicyModel,
        average: PolicyModel,
        config: ExperimentConfig,
        *,
        joint_share: float,
        train_steps: int,
    ) -> None:
        """Prepare the parts.

        Args:
            model: whose weights are trained.
            average: with the EMA of these weights.
            config: of both.
            joint_share: share of the steps that trains all blocks together.
            train_steps: of the whole training.

        Raises:
            InputError: blocks cannot learn together.
            ValueError: there are too few steps.
        """
        self._model, self._average, self._config = model, average, config
        self.parts = training_parts(train_steps, joint_share, config.flow.n_blocks)
        n_blocks = config.flow.n_blocks
        if self.parts[0].n == 0 and n_blocks > 1 and config.flow.coupling != "dependent":
            raise InputError(
                f"flow.coupling is '{config.flow.coupling}', but blocks learn together with the "
                "dependent coupling only: set --policy.joint_share=0, or leave the coupling as it "
                "is"
            )
        push = config.push_forward
        self._solver = SolverSpec(push.solver, push.n_steps, push.rtol, push.atol)
        self._joint = self.parts[0].n == 0
        # Losses are modules that hold those of the policy; a tuple is none of its own modules.
        self._losses = {part.n: self._loss_of(part, model) for part in self.parts}
        self._emas: dict[int, EMA] = {}

    def part(self, step: int) -> Part:
        """Return the part that a step belongs to."""
        return part_at(self.parts, step)

    def loss(self, step: int, x_0: Tensor, obs: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of a batch, a scalar.

        Args:
            step: of the training.
            x_0: demonstrated chunks (B, horizon, action_dim), normalised.
            obs: (B, n_obs_steps, *shape) by name; numbers normalised, images uint8.
        """
        part, model = self.part(step), self._model
        loss, obs = self._losses[part.n], self._displaced(obs)
        prefix = None
        if model.prefix is not None:
            lengths = draw_lengths(model.prefix.max_prefix, (len(x_0),), device=x_0.device)
            prefix = model.prefix.of_chunks(x_0, lengths)
        if isinstance(loss, JointLoss):
            return loss(x_0, obs, None, prefix)
        condition: dict[str, Tensor] | Tensor | None = obs
        x_l = x_0
        if not loss.trains_encoder:
            with torch.no_grad():
                condition = model.encoder(obs)
        if part.n > 1:
            assert not isinstance(condition, dict)
            if self._config.training.block_training == "parallel":
                x_l = model.schedule.marginal(part.n - 1).diffuse(x_0)
            else:
                x_l = self._pushed(x_0, with_prefix(condition, prefix), part.n)
        other = x_l[torch.randperm(len(x_l), device=x_l.device)] if loss.needs_other else None
        return loss(x_l, condition, other, prefix)

    def updated(self, step: int) -> None:
        """Take the weights after a step into the EMA; at the end of a part they become it."""
        part = self.part(step)
        ema = self._ema(part)
        ema.steps = step - part.start
        ema.update()
        if step + 1 == part.start + part.length:
            ema.copy_to_parameters()
            self._start_next(part)

    @torch.no_grad()
    def _pushed(self, x_0: Tensor, cond: Tensor | None, n: int) -> Tensor:
        """Return what the blocks before block n make of demonstrated chunks."""
        before = FlowChain([self._average.flow_block(k) for k in range(1, n)])
        return before.push_forward(x_0, cond, solver=self._solver).x

    def _displaced(self, obs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return observations with noise on their numbers."""
        scale = self._config.training.obs_noise
        return {
            key: value + scale * torch.randn_like(value) if value.is_floating_point() else value
            for key, value in obs.items()
        }

    def _loss_of(self, part: Part, model: PolicyModel) -> JointLoss | BlockLoss:
        draws = self._config.training.encoder_draws
        if part.n == 0:
            return JointLoss(model, draws=draws)
        # Without a joint part the encoder learns with the first block.
        learns = part.n == 1 and not self._joint
        return BlockLoss(model, part.n, trains_encoder=learns, draws=draws)

    def _ema(self, part: Part) -> EMA:
        if part.n not in self._emas:
            trained = self._losses[part.n].trained_parameters()
            kept = self._loss_of(part, self._average).trained_parameters()
            options = self._config.training
            ema = EMA(list(trained.values()), decay=options.ema_decay, power=options.ema_power)
            ema.weights = [kept[name] for name in trained]  # which are saved with the policy
            self._losses[part.n].use_average(dict(zip(trained, ema.weights, strict=True)))
            self._emas[part.n] = ema
        return self._emas[part.n]

    def _start_next(self, part: Part) -> None:
        """Let the next block start from the one before, where none has learnt anything yet."""
        networks = network_configs(self._config)
        follows = 0 < part.n < len(networks) and not self._joint
        if follows and networks[part.n] == networks[part.n - 1]:
            for model in (self._model, self._average):
                model.blocks[part.n].load_state_dict(model.blocks[part.n - 1].state_dict())


def validation_loss(average: PolicyModel, x_0: Tensor, obs: dict[str, Tensor]) -> Tensor:
    """Return the mean loss of all blocks on the exact marginals, of the weights that are kept."""
    prefix = None
    if average.prefix is not None:
        none = torch.zeros(len(x_0), dtype=torch.long)
        prefix = average.prefix.of_chunks(x_0, none)
    loss: nn.Module = JointLoss(average)
    loss.eval()
    return loss(x_0, obs, None, prefix)
