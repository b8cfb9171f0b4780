"""Algorithm 1: the blocks of a policy, each on what the blocks before it push forward."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from lfm_policy.config import ExperimentConfig
from lfm_policy.config.block_networks import network_configs
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.errors import InputError, Interrupted
from lfm_policy.flow import FlowBlock, Network
from lfm_policy.flow.ema import averaged
from lfm_policy.policy.model import PolicyModel
from lfm_policy.policy.prefix import with_prefix
from lfm_policy.training.auxiliary.loss import AuxiliaryLoss, EncodingLoss
from lfm_policy.training.auxiliary.targets import refuse_targets
from lfm_policy.training.push import push_through
from lfm_policy.training.recorded import side_by_side
from lfm_policy.training.rows.chunks import ChunkRows, Condition, encode_all
from lfm_policy.training.rows.features import FEATURES, with_frozen_features
from lfm_policy.training.rows.obs_noise import ObsNoise
from lfm_policy.training.rows.prefixes import TrainingPrefixes
from lfm_policy.training.run import JOINT, Run
from lfm_policy.training.start.source import start_from
from lfm_policy.training.start.weights import draw_initial_weights, new_cameras
from lfm_policy.training.trainer import Loss, Part, Trainer


class BlockLoss(EncodingLoss):
    """The loss of block n; an encoder that still learns is part of it."""

    def __init__(
        self,
        model: PolicyModel,
        n: int,
        *,
        trains_encoder: bool,
        compile: bool = False,
        draws: int = 1,
    ) -> None:
        super().__init__()
        self._draws = draws if trains_encoder else 1
        self.network = model.blocks[n - 1]
        self.encoder = model.encoder
        self.trains_encoder = trains_encoder
        self._block = model.flow_block(n, torch.compile(self.network) if compile else self.network)
        learns = compile and trains_encoder
        self._encode = torch.compile(model.encoder) if learns else model.encoder
        self._average: Network | None = None
        self.same_work = self._block.same_work and model.encoder.same_work

    @property
    def needs_other(self) -> bool:
        """Whether a batch must have second chunks."""
        return self._block.needs_other

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights of the network, and of the encoder where it learns too."""
        named = {f"network.{name}": p for name, p in self.network.named_parameters()}
        if self.trains_encoder:
            named |= {f"encoder.{k}": p for k, p in self.encoder.trained_parameters().items()}
        return named

    def use_average(self, weights: Mapping[str, Tensor]) -> None:
        """Take the EMA of the network's weights, where the method asks it."""
        self._average = _average_of(self._block, self.network, weights, "network.")

    def forward(
        self, x_l: Tensor, condition: Condition, x_other: Tensor | None, prefix: Tensor | None
    ) -> Tensor:
        """Return the loss of a batch, a scalar."""
        cond = with_prefix(self.encode(condition), prefix)
        if self.training and self._draws > 1:
            x_l, cond, x_other = _repeated(self._draws, x_l, cond, x_other)
        return self._block.loss(x_l, cond, x_other=x_other, average=self._average)


class JointLoss(EncodingLoss):
    """Mean of the losses of all blocks, which share one encoding of each batch.

    Block n trains on the exact OU marginal of the demonstrations at its data side, so that all can
    learn at once.
    """

    def __init__(self, model: PolicyModel, *, compile: bool = False, draws: int = 1) -> None:
        super().__init__()
        self._draws = draws
        self.encoder = model.encoder
        self.blocks = model.blocks
        numbers = range(1, model.n_blocks + 1)
        networks = [torch.compile(network) if compile else network for network in model.blocks]
        self._flow_blocks = [model.flow_block(n, networks[n - 1]) for n in numbers]
        self._encode = torch.compile(model.encoder) if compile else model.encoder
        self._marginals = [model.schedule.marginal(n - 1) for n in numbers]
        self._averages: list[Network | None] = [None] * model.n_blocks
        same = [part.same_work for part in (model.encoder, *self._flow_blocks)]
        self.same_work = all(same)

    def trained_parameters(self) -> dict[str, nn.Parameter]:
        """Return the weights of the encoder and of the blocks."""
        named = {f"encoder.{k}": p for k, p in self.encoder.trained_parameters().items()}
        return named | {f"blocks.{name}": p for name, p in self.blocks.named_parameters()}

    def use_average(self, weights: Mapping[str, Tensor]) -> None:
        """Take the EMA of the networks' weights, where the method asks them."""
        self._averages = [
            _average_of(block, network, weights, f"blocks.{position}.")
            for position, (block, network) in enumerate(
                zip(self._flow_blocks, self.blocks, strict=True)
            )
        ]

    def forward(
        self, x_0: Tensor, condition: Condition, x_other: None, prefix: Tensor | None
    ) -> Tensor:
        """Return the loss of a batch of demonstrated chunks, a scalar."""
        cond = with_prefix(self.encode(condition), prefix)
        if self.training and self._draws > 1:
            x_0, cond, _ = _repeated(self._draws, x_0, cond, None)

        def loss_of(position: int) -> Tensor:
            x_l = self._marginals[position].diffuse(x_0)
            average = self._averages[position]
            return self._flow_blocks[position].loss(x_l, cond, average=average)

        works = [partial(loss_of, position) for position in range(len(self._flow_blocks))]
        return torch.stack(side_by_side(works, x_0.device)).mean()


def _repeated(
    n: int, x: Tensor, cond: Tensor | None, x_other: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return every row of a batch n times; each will have a noise and a time of its own."""
    x = x.repeat_interleave(n, dim=0)
    cond = None if cond is None else cond.repeat_interleave(n, dim=0)
    x_other = None if x_other is None else x_other.repeat_interleave(n, dim=0)
    return x, cond, x_other


def _average_of(
    block: FlowBlock, network: nn.Module, weights: Mapping[str, Tensor], prefix: str
) -> Network | None:
    """Return the network of a block with the EMA of its weights, if the method asks it."""
    if not block.method.asks_average:
        return None
    own = {k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)}
    return averaged(network, own)


class BlockPlan:
    """Blocks 1 (data side) to N (noise side), before them the joint training if there is one.

    An encoder with weights learns in the first part and is frozen from then on.
    """

    def __init__(
        self,
        run: Run,
        *,
        only_block: int | None = None,
        initial_encoder: dict[str, Tensor] | None = None,
    ) -> None:
        """Draw the initial weights, or take up what is continued; nothing is written yet.

        Args:
            run: what is trained, and where it is kept.
            only_block: train just this block (parallel block training).
            initial_encoder: weights of a frozen encoder (with ``only_block``).

        Raises:
            InputError: a joint training of an encoder without weights, targets for one that does
                not learn, or a checkpoint that cannot be continued here.
        """
        config, model = run.config, run.model
        self._run = run
        self._parallel = config.training.block_training == "parallel"
        joint = config.training.encoder == "joint"
        self._learns_in = JOINT if joint else 1  # the part in which an encoder with weights learns
        self._only_block = only_block
        has_weights = bool(model.encoder.trained_parameters())
        self._learns = has_weights and config.init.encoder == "train"
        if not self._learns:
            refuse_targets(config, has_weights=has_weights)
        if joint and not has_weights:
            raise InputError(
                f"training.encoder is 'joint', but the encoder '{config.encoder.name}' has nothing "
                "to train; use training.encoder=block1"
            )
        if only_block is None and run.header is None and self._learns:
            _warn_first_block_teaches_little(config, model)
        new = new_cameras(model, run.header, run.source)
        draw_initial_weights(model, config, run.spec, pretrained=new)
        if run.header is None and run.source is not None:
            start_from(run.source, model, config, run.spec)
        run.restore()
        if initial_encoder is not None:
            model.encoder.load_state_dict(initial_encoder)
        if not self.numbers():
            raise InputError(
                f"nothing is to be trained: training.total_steps is {config.training.total_steps}, "
                f"and the encoder is frozen (init.encoder is '{config.init.encoder}')"
            )

    def on(self, run: Run) -> BlockPlan:
        """Return the same plan for a copy of its run."""
        other = copy.copy(self)
        other._run = run
        return other

    def numbers(self) -> Sequence[int]:
        """Return the numbers of the parts of the pass in work: those that get steps in it."""
        parts = range(JOINT, self._run.model.n_blocks + 1)
        if self._only_block is not None:
            parts = range(self._only_block, self._only_block + 1)
        return [n for n in parts if self._run.steps(n) and (n != JOINT or self.trains_encoder(n))]

    def part(self, n: int) -> Part:
        """Return what block n learns, or encoder and blocks together for 0."""
        run, options = self._run, self._run.options
        self._use_features(n)
        if self.trains_encoder(n):
            options = options.of_encoder()
        trains_encoder = self.trains_encoder(n)
        draws = options.encoder_draws
        actions: EncodingLoss
        if n == JOINT:
            actions = JointLoss(run.model, compile=options.compile, draws=draws)
        else:
            actions = BlockLoss(
                run.model,
                n,
                trains_encoder=trains_encoder,
                compile=options.compile,
                draws=draws,
            )
        loss: Loss = actions
        if trains_encoder and run.targets is not None:
            auxiliary = run.config.auxiliary
            loss = AuxiliaryLoss(actions, run.targets, auxiliary, seed=run.pass_seed)
        return Part(
            n=n,
            loss=loss,
            rows=self._rows(n, run.train_set, "train"),
            validation=self._validation_rows(n),
            n_steps=run.steps(n),
            options=options,
            warm_start=self._warm_start(n),
        )

    def pushes(self, n: int) -> bool:
        """Whether the training set is pushed through block n: a block learns from that."""
        return n not in (JOINT, self.numbers()[-1]) and not self._parallel

    def finish(self, n: int, trainer: Trainer) -> None:
        """Push the training set through block n, if there is a block that learns from that."""
        if not self.pushes(n):
            return
        self._use_features(n + 1)
        rows = self._rows(n, self._run.train_set, "train")
        push_through(self._run, trainer, rows, self._validation_rows(n))

    def trains_encoder(self, n: int) -> bool:
        """Whether the encoder learns in part n; otherwise it is frozen."""
        return self._learns and n == self._learns_in

    def _warm_start(self, n: int) -> bool:
        run = self._run
        started = run.config.init.gives_blocks or run.progress.passed > 0
        learnt_already = started or (self._learns and self._learns_in == JOINT)
        if n <= 1 or self._parallel or learnt_already:
            return False
        networks = network_configs(self._run.config)
        return self._run.options.warm_start and networks[n - 1] == networks[n - 2]

    def _rows(self, n: int, dataset: WindowDataset, kept: str) -> ChunkRows:
        """Return rows of part n; ``kept`` names the split, whose pushed chunks the run keeps."""
        run, model = self._run, self._run.model
        frozen = not self.trains_encoder(n)
        prefixes = None
        if model.prefix is not None:
            prefixes = TrainingPrefixes(model.prefix, len(dataset), run.config.seed, dataset.device)
        marginal = model.schedule.marginal(n - 1) if n > 1 and self._parallel else None
        return ChunkRows(
            dataset,
            pushed=run.kept.get(kept) if n > 1 else None,
            marginal=marginal,
            cond=encode_all(model, dataset, run.options.batch_size) if frozen else None,
            prefixes=prefixes,
            obs_noise=ObsNoise(run.options, dataset),
            draws_other=n != JOINT and model.flow_block(n).needs_other,
            targets=None if frozen else run.targets,
        )

    def _validation_rows(self, n: int) -> ChunkRows | None:
        windows = self._run.validation_set
        return None if windows is None else self._rows(n, windows, "validation")

    def _use_features(self, n: int) -> None:
        """Let features stand in for images from part n on, if the encoder is frozen by then."""
        run = self._run
        if self.trains_encoder(n) or not run.train_set.image_keys or run.train_set.n_views:
            return

        def stop() -> None:
            if run.interrupt and run.accelerator.num_processes == 1:
                raise Interrupted(
                    f"stopped by {run.interrupt.name} while features were computed; what was "
                    f"trained is saved in {run.folder}; continue with --resume"
                )

        run.train_set = with_frozen_features(
            run.train_set,
            run.model.encoder,
            run.config,
            run.spec.fingerprint,
            run.folder / FEATURES,
            stop=stop,
            accelerator=run.accelerator,
            quiet=run.quiet,
        )
        run.validation_set = run.train_set.with_index_of(run.validation_set)


def _warn_first_block_teaches_little(config: ExperimentConfig, model: PolicyModel) -> None:
    """Say that an encoder learns little with the first of several blocks.

    That block takes the last noise off a chunk, for which it hardly needs to see;
    docs/results/cameras.md has the comparison.
    """
    several = config.flow.n_blocks > 1 and config.training.encoder == "block1"
    if several and model.encoder.trained_parameters():
        warnings.warn(
            f"training.encoder is 'block1' with {config.flow.n_blocks} blocks: the first one only "
            "takes the last noise off a chunk, and teaches the encoder little. Use "
            "training.encoder=joint",
            stacklevel=2,
        )
