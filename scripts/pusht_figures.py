"""FM against LFM (N = 4) on the human PushT demonstrations: the table of docs/results.md.

Trains flow matching, LFM with as many gradient steps, and LFM for as long (push-forward included),
evaluates all of them on the same 200 test seeds, and prints one table with paired tests. Every
part that is finished is kept, so the script can be stopped and started again.

    python scripts/pusht_figures.py --dataset pusht_cchi_v7_replay.zarr
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from lfm_policy.evaluation import mcnemar_exact, paired_bootstrap
from lfm_policy.policy import read_header

NFES = (1, 2, 4, 8, 16)


def run(*arguments: str) -> None:
    print("lfm-policy " + " ".join(arguments), flush=True)
    subprocess.run([sys.executable, "-m", "lfm_policy", *arguments], check=True)


def train(config: str, folder: Path, dataset: str, *overrides: str) -> dict[str, Any]:
    """Train unless it is done; returns the training summary."""
    options = [
        config,
        f"dataset.path={dataset}",
        "training.num_threads=1",
        *overrides,
        "--output",
        str(folder),
        "--resume",
        "--device",
        "cpu",
    ]
    run("train", *options)
    return read_header(folder).training


def evaluate(folder: Path, nfes: list[int], episodes: int, seed_start: int) -> dict[str, Any]:
    """Evaluate unless it is done; returns what eval.json holds."""
    output = folder / f"eval-{seed_start}-{episodes}"
    if not (output / "eval.json").exists():
        numbers = [str(nfe) for nfe in nfes]
        options = ["--episodes", str(episodes), "--seed-start", str(seed_start), "--nfe", *numbers]
        run("eval", str(folder), *options, "--output", str(output), "--video", "4")
    return json.loads((output / "eval.json").read_text())


def row(label: str, cell: dict[str, Any]) -> str:
    s = cell["summary"]
    low, high = s["success_interval"]
    return (
        f"| {label} | {cell['nfe']:g} | {s['score']:.3f} | {s['successes']}/{s['n']} = "
        f"{s['success_rate']:.3f} | {low:.3f} to {high:.3f} | {s['final_coverage']:.3f} | "
        f"{cell['latency']['median_ms']:.2f} ({cell['latency']['p95_ms']:.2f}) |"
    )


def compare(first: dict[str, Any], second: dict[str, Any], nfe: int) -> str:
    a, b = (next(c for c in r["cells"] if c["nfe"] == nfe)["episodes"] for r in (first, second))
    low, high = paired_bootstrap([e["max_reward"] for e in a], [e["max_reward"] for e in b])
    p = mcnemar_exact([e["success"] for e in a], [e["success"] for e in b])
    return f"score difference 95% interval {low:+.3f} to {high:+.3f}, McNemar p = {p:.3g}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--output", type=Path, default=Path("runs/figures"))
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--seed-start", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0, help="training seed")
    arguments = parser.parse_args()
    folder, seed = arguments.output, f"seed={arguments.seed}"

    fm = train("pusht/fm", folder / "fm", arguments.dataset, seed)
    steps = train("pusht/lfm4", folder / "lfm4-equal-steps", arguments.dataset, seed)
    # As long as FM took: what the push-forward costs is taken from the gradient steps.
    seconds_per_step = steps["train_seconds"] / steps["steps"]
    total = int((fm["train_seconds"] - steps["push_seconds"]) / seconds_per_step)
    wall_folder = folder / "lfm4-equal-time"
    if (wall_folder / "config.yaml").exists():
        total = read_header(wall_folder).config.training.total_steps
    wall = train(
        "pusht/lfm4", wall_folder, arguments.dataset, seed, f"training.total_steps={total}"
    )
    rows = {
        "FM": (fm, folder / "fm", list(NFES)),
        "LFM N=4, equal steps": (steps, folder / "lfm4-equal-steps", [n for n in NFES if n >= 4]),
        "LFM N=4, equal time": (wall, wall_folder, [n for n in NFES if n >= 4]),
    }
    results = {
        label: evaluate(path, nfes, arguments.episodes, arguments.seed_start)
        for label, (_, path, nfes) in rows.items()
    }
    lines = [
        "| method | NFE | score | success | 95% interval | final coverage | ms per chunk (p95) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for label, result in results.items():
        lines += [row(label, cell) for cell in result["cells"]]
    lines.append("")
    for label, (training, _, _) in rows.items():
        counts = results[label]["parameters"]
        lines.append(
            f"- {label}: {counts['total']:,} parameters in all, {counts['block 1']:,} per block; "
            f"{training['steps']:,} gradient steps, {training['train_seconds']:.0f} s training + "
            f"{training['push_seconds']:.0f} s push-forward on 1 thread"
        )
    for label in list(rows)[1:]:
        for nfe in (n for n in NFES if n >= 4):
            text = compare(results[label], results["FM"], nfe)
            lines.append(f"- {label} against FM, NFE {nfe}: {text}")
    text = "\n".join(lines) + "\n"
    (folder / "table.md").write_text(text)
    print(text)


if __name__ == "__main__":
    main()
