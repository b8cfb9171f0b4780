"""Milliseconds per chunk on a CPU, of ours and of others."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lfm_policy.errors import InputError
from resultpages.pictures import Panel, Picture, Series
from resultpages.tables import table

OURS = {
    "PushT state, student": "state, student, 2 evaluations",
    "PushT state, one block": "state, one block, 1 evaluation",
    "PushT state": "state, two blocks, 4 evaluations",
    "PushT state, teacher": "state, U-Net teacher, 6 evaluations",
    "PushT image, student": "images, student, 2 evaluations",
    "PushT image, one block": "images, one block, 1 evaluation",
    "PushT image": "images, two blocks, 4 evaluations",
    "PushT image, as many steps": "images, two blocks, 64 evaluations",
}
"""Our policies of latency.json, and what they are to readers."""
OTHERS = {
    "PushT state, DDIM": "state, our network, DDIM, 10 evaluations",
    "PushT state, DDPM": "state, our network, DDPM, 100 evaluations",
    "PushT image, DDIM": "images, our network, DDIM, 10 evaluations",
    "PushT image, DDPM": "images, our network, DDPM, 100 evaluations",
    "LeRobot DiffusionPolicy, PushT image, DDIM": "images, LeRobot, DDIM, 10 evaluations",
    "LeRobot DiffusionPolicy, PushT image, DDPM": "images, LeRobot, DDPM, 100 evaluations",
}
ENGINES = {
    "eager": "PyTorch",
    "compile": "compiled",
    "onnx-fp32": "ONNX Runtime",
    "onnx-int8": "ONNX, 8 bits",
}


@dataclass(frozen=True)
class Time:
    """A row of latency.json; what is read is text, what is computed with a number."""

    row: dict[str, Any]

    @property
    def median_ms(self) -> float:
        return float(self.row["median_ms"])

    @property
    def ms(self) -> str:
        """The median."""
        return milliseconds(self.median_ms)

    @property
    def p95(self) -> str:
        return milliseconds(self.row["p95_ms"])

    @property
    def memory(self) -> str:
        """The largest, in MiB."""
        return f"{self.row['peak_mib']:,.0f}"

    @property
    def evaluations(self) -> str:
        return str(self.row["nfe"])

    @property
    def parameters(self) -> str:
        return f"{self.row['parameters']:,}"

    def times(self, other: Time) -> str:
        """Return how many times as long as another it takes."""
        return f"{self.median_ms / other.median_ms:,.0f}"


def milliseconds(value: float) -> str:
    """Return milliseconds in two or three digits, such as ``0.22``, ``9.0`` or ``3,535``."""
    digits = 2 if value < 1 else 1 if value < 100 else 0
    return f"{value:,.{digits}f}"


class Latencies:
    """The rows of latency.json, called with a label, an engine and a number of threads."""

    def __init__(self, data: Path) -> None:
        self._rows = json.loads((data / "latency.json").read_text())["rows"]

    def __call__(self, label: str, engine: str = "eager", threads: int = 1) -> Time:
        """Return a row.

        Raises:
            InputError: it was not measured.
        """
        wanted = (label, engine, threads)
        for row in self._rows:
            if (row["label"], row["engine"], row["threads"]) == wanted:
                return Time(row)
        raise InputError(f"latency.json has no row {wanted}")

    def ours(self, labels: Sequence[str] = tuple(OURS), threads: int = 1) -> str:
        """Return the table of our policies, a column of medians per engine."""
        rows = []
        for label in labels:
            rows.append((OURS[label], *(self(label, engine, threads).ms for engine in ENGINES)))
        return table(" | ".join(["milliseconds", *ENGINES.values()]), rows)

    def others(self, threads: int = 1) -> str:
        """Return the table of others, and how many times as long as our student each takes."""
        rows = []
        for label, said in OTHERS.items():
            time = self(label, threads=threads)
            student = f"PushT {'image' if 'image' in label else 'state'}, student"
            ratios = (
                time.times(self(student, engine, threads)) for engine in ("eager", "onnx-fp32")
            )
            rows.append((said, time.ms, time.p95, *ratios))
        heads = "in PyTorch | ms | p95 | times our student's in PyTorch | in ONNX Runtime"
        return table(heads, rows)

    def ratios(self, threads: int = 1) -> str:
        """Return the table of how many times as long as our student others take, by its engine."""
        rows = []
        for label, said in OTHERS.items():
            time = self(label, threads=threads)
            student = f"PushT {'image' if 'image' in label else 'state'}, student"
            rows.append((said, *(time.times(self(student, e, threads)) for e in ENGINES)))
        return table(" | ".join(["times as long as our student in", *ENGINES.values()]), rows)

    def whole(self, engine: str, threads: int) -> str:
        """Return all that is measured of an engine, with p95 and memory."""
        labels = [*OURS, *(OTHERS if engine == "eager" else ())]
        names = {**OURS, **OTHERS}
        rows = []
        for label in labels:
            time = self(label, engine, threads)
            rows.append((names[label], time.ms, time.p95, time.memory, time.parameters))
        return table("policy | ms | p95 | peak memory (MiB) | parameters", rows)

    def runs(self) -> str:
        """Return when rows were measured."""
        found: dict[str, list[str]] = {}
        names = {**OURS, **OTHERS}
        for row in self._rows:
            engine = ENGINES[row["engine"]] if row["kind"] == "ours" else "PyTorch"
            said = f"{names[row['label']]} ({engine})"
            lines = found.setdefault(row.get("run", "unknown"), [])
            if said not in lines:
                lines.append(said)
        most = max(found, key=lambda run: len(found[run]))
        texts = {
            run: "all others" if run == most else "; ".join(said) for run, said in found.items()
        }
        return "\n".join(f"- {run}: {text}" for run, text in sorted(texts.items()))


def names(data: Path) -> dict[str, Any]:
    """Return ``latency`` and the names of engines."""
    return {"latency": Latencies(data), "engines": ENGINES, "milliseconds": milliseconds}


def pictures(data: Path) -> list[Picture]:
    """Return the figure of milliseconds, ours and others'."""
    latency = Latencies(data)
    rows: dict[str, dict[str, Time]] = {
        "LeRobot's DiffusionPolicy, DDPM, 100 evaluations": {
            "images": latency("LeRobot DiffusionPolicy, PushT image, DDPM")
        },
        "LeRobot's DiffusionPolicy, DDIM, 10 evaluations": {
            "images": latency("LeRobot DiffusionPolicy, PushT image, DDIM")
        },
    }
    for scheduler, count in (("DDPM", 100), ("DDIM", 10)):
        rows[f"our network, {scheduler}, {count} evaluations"] = {
            "images": latency(f"PushT image, {scheduler}"),
            "state": latency(f"PushT state, {scheduler}"),
        }
    for engine in ("eager", "onnx-fp32"):
        rows[f"our student of 2 evaluations, {ENGINES[engine]}"] = {
            "images": latency("PushT image, student", engine),
            "state": latency("PushT state, student", engine),
        }
    series = []
    for label in ("images", "state"):
        found = [(float(at), row[label]) for at, row in enumerate(rows.values()) if label in row]
        series.append(
            Series(label, tuple(at for at, _ in found), tuple(time.median_ms for _, time in found))
        )
    ticks = (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0)
    panel = Panel(
        tuple(series), "milliseconds per chunk, one thread", rows=tuple(rows), ticks=ticks
    )
    return [
        Picture(
            "latency",
            "Milliseconds per chunk on a logarithmic scale: our students take least, our network "
            "in the loops of Diffusion Policy more, LeRobot's DiffusionPolicy by far the most",
            (panel,),
            title="Milliseconds per chunk on one thread of a CPU",
            subtitle="PushT, batch 1, from observations to actions; medians",
        )
    ]
