"""The training loop: part after part of a plan, and the steps of each.

From a row of the demonstrations to a gradient step::

    train_parts         (here)              parts in their order, EMA, push-forward
    BlockPlan.part      blocks.py           what a block learns, from which rows
    ChunkRows.batch     rows/chunks.py      chunk, observations and prefix of a row
    Trainer.train_step  trainer.py          loss, gradient, optimiser, EMA
    FlowBlock.loss      flow/block.py       noise, time, and the point on the path between
    VelocityMethod.loss flow/methods/       what the network is asked there, and the error
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from lfm_policy.errors import InputError
from lfm_policy.training.accelerator import mean_of_processes
from lfm_policy.training.estimate.estimate import Estimate
from lfm_policy.training.run import SYNC_EVERY, Run
from lfm_policy.training.run_folder.meters import Clock, RunningMean
from lfm_policy.training.run_folder.state import TRAIN
from lfm_policy.training.selection import Rollouts, Selection
from lfm_policy.training.start.words import describe_run
from lfm_policy.training.trainer import Part, Trainer


class Plan(Protocol):
    """What a run trains, part after part.

    Training (`lfm_policy.training.blocks.BlockPlan`) and distillation
    (`lfm_policy.distillation.plan.DistillPlan`) are plans.
    """

    def numbers(self) -> Sequence[int]:
        """Return the numbers of the parts of the pass that is in work, in order."""

    def part(self, n: int) -> Part:
        """Return part n; the networks of all parts before it hold their EMA weights."""

    def finish(self, n: int, trainer: Trainer) -> None:
        """Do what follows from part n, whose networks hold its EMA weights by now."""


def train_parts(
    run: Run,
    plan: Plan,
    estimate: Callable[[], Estimate] | None = None,
    rollouts: Rollouts | None = None,
) -> Path:
    """Train until done; returns the final checkpoint folder.

    A run goes through the parts of its plan once, and once more whenever it was continued with
    more steps (``training.extended_from``).

    Args:
        run: what is trained, and where it is kept.
        plan: its parts.
        estimate: says beforehand how long it will take.
        rollouts: rolls the policy out now and then, as ``config.eval`` says.

    Raises:
        InputError: another process trains in the folder, or the disk is full; the last good
            checkpoint was kept.
        Interrupted: SIGINT, SIGTERM or SIGHUP came; a checkpoint was written.
        TrainingError: the loss became NaN; the last good checkpoint was kept.
    """
    if run.header is not None and run.already_complete:
        return run.header.folder
    if not run.quiet and run.bar_position == 0:  # of several runs on a terminal, the first
        print(describe_run(run), flush=True)
    selection = Selection(run, rollouts)
    expected = None if estimate is None else estimate()
    if expected is not None and not run.quiet and run.bar_position == 0:
        print(expected.text(), flush=True)
    with run.opened():
        if expected is not None:
            run.write("estimate", **expected.to_dict())
        trainer: Trainer | None = None
        for number in range(run.progress.passed, len(run.passes)):
            if number > run.progress.passed:
                run.start_pass(number)
            for n in run.progress.left(plan.numbers()):
                part = plan.part(n)
                before, trainer = trainer, Trainer(part, run.accelerator, seed=run.pass_seed)
                if run.restored:
                    label = str(run.header.folder if run.header else run.folder)
                    trainer.load(run.restored, run.progress.trainer, label)
                    run.restored = {}
                elif part.warm_start and before is not None:
                    trainer.warm_start(before)
                run.progress.block = n
                if run.progress.phase == TRAIN:
                    last = number == len(run.passes) - 1 and n == plan.numbers()[-1]
                    take_steps(run, trainer, part, selection, last=last)
                trainer.apply_ema()
                plan.finish(n, trainer)
                run.accelerator.free_memory()
        assert trainer is not None
        return run.checkpoint(trainer, complete=True)


def take_steps(run: Run, trainer: Trainer, part: Part, selection: Selection, *, last: bool) -> None:
    """Do the gradient steps of a part that are left, with metrics, rollouts and checkpoints.

    ``last`` says that the run ends with them.
    """
    options, record, total = run.options, run.progress.record(part.n), part.n_steps
    if trainer.step > total:
        raise InputError(f"block {part.n} has {trainer.step} steps already, not {total}")
    on_cpu = run.device.type == "cpu"
    clock = Clock(record.train_seconds)
    losses = RunningMean(run.device)
    label = f"block {part.n}/{run.model.n_blocks}" if part.n else "encoder"
    if run.progress.passed:
        label += f", pass {run.progress.passed + 1}"
    done_before = sum(earlier.steps(part.n) for earlier in run.passes[: run.progress.passed])
    with run.bar(label, total, trainer.step) as bar:
        if trainer.step:  # it was interrupted, perhaps among the rollouts that were due
            clock.leave_out(selection.look(trainer, last=last and trainer.step == total))
        while trainer.step < total:
            loss, norm = trainer.train_step()
            losses.add(loss)
            step = trainer.step
            record.steps = done_before + step
            if (on_cpu or step % SYNC_EVERY == 0 or step == total) and not losses.finite():
                run.stop_on_nan(trainer)
            bar.update()
            record.train_seconds = clock.seconds()
            if step % options.log_every == 0 or step == total:
                own = {"loss": losses.take(), **part.loss.report(training=True)}
                told = mean_of_processes(run.accelerator, own)
                record.loss = told["loss"]
                bar.set_postfix(loss=f"{record.loss:.4f}", refresh=False)
                run.write(
                    TRAIN,
                    **told,
                    gradient_norm=float(norm),
                    learning_rate=trainer.learning_rate,
                    steps_per_second=record.steps / max(clock.seconds(), 1e-9),
                )
            last_or_due = step % options.validation_every == 0 or step == total
            if part.validation is not None and last_or_due:
                loss_there = trainer.validation_loss(part.validation, options.batch_size)
                record.validation_loss = loss_there
                run.write("validation", **{"loss": loss_there, **part.loss.report(training=False)})
            clock.leave_out(selection.look(trainer, last=last and step == total))
            if run.should_stop(step):
                run.save_and_stop(trainer)
            if step % options.checkpoint_every == 0 and step < total:
                run.checkpoint(trainer)
