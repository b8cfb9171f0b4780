"""A look at a checkpoint or a run: options, shapes, normaliser, parameters, history."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from lfm_policy.config import config_to_dict, config_to_yaml
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.errors import InputError
from lfm_policy.plugins import needed_plugins
from lfm_policy.policy.checkpoint import CheckpointHeader, read_header, read_normalizer
from lfm_policy.text.numbers import counted
from lfm_policy.text.students import DISTANCE, TEACHER_IMPORTED, distance_in_words
from lfm_policy.text.tables import TextTable
from lfm_policy.training.run_folder.best import BEST, best_in_words, read_best
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics


def _teacher_in_words(header: CheckpointHeader) -> str:
    """Return from whom a student learned, and what only its teacher saw."""
    distill = header.config.distill
    text = (
        f"student of a teacher of {counted(distill.teacher_blocks, 'block')} (checkpoint "
        f"{distill.teacher[:12]}), by {distill.method}"
    )
    if by := header.training.get(TEACHER_IMPORTED):
        text += f"; that was trained with {by}"
    if header.only_teacher_saw:
        text += f"; only the teacher saw {', '.join(header.only_teacher_saw)}"
    return text


@dataclass(frozen=True)
class CheckpointInspection:
    """Findings about one checkpoint; ``metrics`` are those of its run, empty without one."""

    header: CheckpointHeader
    normalizer: Normalizer
    metrics: list[dict[str, Any]]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        header = self.header
        return {
            "kind": "checkpoint",
            "path": str(header.folder),
            "sha256": header.sha256,
            "package_version": header.package_version,
            "config": config_to_dict(header.config),
            "data": header.spec.to_dict(),
            "training": header.training,
            "only_teacher_saw": list(header.only_teacher_saw),
            "plugins": needed_plugins(config_to_dict(header.config)),
            "normalizer": {
                key: {part: x.tolist() for part, x in self.normalizer[key].tensors().items()}
                for key in tuple(self.normalizer.keys())
            },
            "metrics": self.metrics,
        }

    def print(self) -> None:
        """Print tables to standard output."""
        header, console = self.header, Console(highlight=False)
        state = "complete" if header.complete else "not complete"
        said = f"trained by {header.imported}" if header.imported else f"training {state}"
        console.print(f"{header.folder}: {said}", markup=False, soft_wrap=True)
        console.print(f"written by lfm-policy {header.package_version}", soft_wrap=True)
        shapes = ", ".join(f"{k} {tuple(s)}" for k, s in header.spec.obs_shapes.items())
        action = f"action: ({header.spec.action_dim},)"
        console.print(f"observations: {shapes}; {action}", markup=False, soft_wrap=True)
        for plugin, kinds in needed_plugins(config_to_dict(header.config)).items():
            parts = "; ".join(f"{kind} {', '.join(names)}" for kind, names in kinds.items())
            console.print(f"needs plugin {plugin}: {parts}", markup=False, soft_wrap=True)
        if tasks := header.spec.tasks:
            text = f"tasks: {', '.join(tasks)}"
            console.print(text, markup=False, soft_wrap=True)
        if header.config.distill.method:
            console.print(_teacher_in_words(header), markup=False, soft_wrap=True)
            if DISTANCE in header.training:
                console.print(distance_in_words(header.training), markup=False, soft_wrap=True)
        if header.also_trained_on:
            whose = (
                "its encoder or its teacher's" if header.config.distill.method else "its encoder"
            )
            names = ", ".join(header.also_trained_on)
            text = f"{whose} was also trained on: {names}{self._told_in_words()}"
            console.print(text, markup=False, soft_wrap=True)
        if header.folder.name == BEST:
            console.print(best_in_words(header), markup=False, soft_wrap=True)
        elif (best := read_best(header.folder.parent.parent)) is not None:
            console.print(best_in_words(best), markup=False, soft_wrap=True)
        for table in (self._blocks_table(), self._normalizer_table()):
            console.print()
            table.print()
        console.print("\nconfiguration:")
        console.print(config_to_yaml(header.config), markup=False, soft_wrap=True)

    def _told_in_words(self) -> str:
        """Return how far off the encoder was at last, in brackets; empty where nobody looked."""
        records = [record for record in self.metrics if "auxiliary_loss" in record]
        held_out = [record for record in records if record["kind"] == "validation"]
        if not records:
            return ""
        of, last = "held-out", (held_out or records)[-1]
        if not held_out:
            of = "training"
        found = []
        for key, value in last.items():
            if key.startswith("auxiliary_rmse_"):
                name = key.removeprefix("auxiliary_rmse_")
                share = last.get(f"auxiliary_unexplained_{name}")
                untold = "" if share is None else f", {share:.0%} of its variance untold"
                found.append(f"{name} off by {value:.3g}{untold}")
        return f" ({of} episodes: {'; '.join(found)})"

    def _blocks_table(self) -> TextTable:
        columns = ("part", "parameters", "steps", "loss", "validation loss", "training", "push")
        table = TextTable(*columns, title="blocks")
        records = self.header.training.get("blocks", [])
        for part, count in self.header.training.get("parameters", {}).items():
            cells = []
            if part.startswith("block "):
                record = records[int(part.removeprefix("block ")) - 1]
                losses = record["loss"], record["validation_loss"]
                cells = [
                    f"{record['steps']:,}",
                    *("" if x is None else f"{x:.4f}" for x in losses),
                    f"{record['train_seconds']:.0f} s",
                    f"{record['push_seconds']:.0f} s",
                ]
            table.add_row(part, f"{count:,}", *cells)
        return table

    def _normalizer_table(self) -> TextTable:
        columns = ("dimension", "min", "max", "mean", "std", "scale", "offset")
        table = TextTable(*columns, title="normaliser")
        for key in tuple(self.normalizer.keys()):
            stats = self.normalizer[key]
            parts = [stats.raw(part).flatten().tolist() for part in ("min", "max", "mean")] + [
                getattr(stats, part).flatten().tolist() for part in ("std", "scale", "offset")
            ]
            # What has an origin differs in its last digits only.
            digits = 4 if stats.origin is None else 10
            for d, numbers in enumerate(zip(*parts, strict=True)):
                texts = [f"{number:.{digits if n < 3 else 4}g}" for n, number in enumerate(numbers)]
                table.add_row(f"{key}[{d}]", *texts)
        return table

    def plot(self, path: Path) -> None:
        """Write a PNG; see `lfm_policy.inspection.training_figure`.

        Raises:
            InputError: the run's metrics are not there.
        """
        from lfm_policy.inspection.training_figure import training_figure
        from lfm_policy.pictures import drawing, save

        if not self.metrics:
            raise InputError(
                f"{self.header.folder}: there is no {METRICS_FILE} beside it to draw; give the run "
                "folder"
            )
        with drawing() as theme:
            title = f"{self.header.config.name}: training"
            save(training_figure(title, self._in_short(), self.metrics, theme), path)

    def _in_short(self) -> str:
        """Say in a line how long the training was, of what, and where."""
        made, blocks = self.header.training, self.header.config.flow.n_blocks
        kind = "student, " if self.header.config.student_blocks else ""
        words = (
            f"{kind}{blocks} block{'s' * (blocks != 1)}, {made.get('steps', 0):,} gradient steps"
        )
        if "train_seconds" in made:
            words += (
                f" in {made['train_seconds']:.0f} s + {made['push_seconds']:.0f} s push-forward"
            )
        if "device" in made:
            words += f" on {made['device']}"
        return words if self.header.complete else f"{words}; NOT COMPLETE"


def inspect_checkpoint(path: Path) -> CheckpointInspection:
    """Read a checkpoint's header and normaliser, and its run's metrics if they are there.

    Raises:
        InputError: damaged, or written by a newer version.
    """
    header = read_header(path)
    # <run>/checkpoints/<name>
    metrics = header.folder.parent.parent / METRICS_FILE
    records = read_metrics(metrics) if metrics.is_file() else []
    records = [r for r in records if {"kind", "block", "step"} <= r.keys()]
    return CheckpointInspection(header, read_normalizer(header), records)
