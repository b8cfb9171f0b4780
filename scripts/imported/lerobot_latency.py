"""Milliseconds per chunk, of LeRobot's own policy and of exports, in one process and one thread.

Runs in an environment with LeRobot and lfm-policy-runtime; `students.py` beside it starts it. Each
time is that of `select_action` right after a reset, from an observation in the robot's units to an
action in them: what LeRobot does in its pre- and postprocessor, our graphs do inside. In every
round each policy is asked once, so that whatever else the computer does hits all of them. From the
same noise, LeRobot's actions and those of an export with the same sampler are compared, too.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lerobot
import numpy as np
import onnxruntime
import torch
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.diffusion.modeling_diffusion import DiffusionPolicy
from lerobot.policies.factory import make_pre_post_processors

from lfm_runtime import OnnxPolicy

WARM_UP = 3


def lerobot_policy(folder: Path, scheduler: str, steps: int) -> tuple[Any, Any, Any]:
    """Return a policy of LeRobot with another sampler, and its pre- and postprocessor."""
    config = PreTrainedConfig.from_pretrained(folder)
    config.device, config.noise_scheduler_type, config.num_inference_steps = "cpu", scheduler, steps
    policy = DiffusionPolicy.from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, pretrained_path=str(folder))
    return policy.eval(), before, after


def observation(shapes: dict[str, int]) -> dict[str, np.ndarray]:
    """Return numbers in the range of PushT's, by LeRobot's names."""
    draw = np.random.default_rng(0)
    return {key: draw.uniform(100, 400, size).astype(np.float32) for key, size in shapes.items()}


def agreement(theirs: tuple[Any, Any, Any], ours: OnnxPolicy, names: dict[str, str]) -> float:
    """Return the largest difference of actions from the same noise, in the robot's unit."""
    policy, before, after = theirs
    shapes = {key: int(np.prod(ours.spec.obs_shapes[names[key]])) for key in names}
    obs = observation(shapes)
    noise = np.random.default_rng(1).standard_normal((1, *ours.chunk_shape)).astype(np.float32)
    policy.reset()
    with torch.inference_mode():
        batch = before({key: torch.from_numpy(value) for key, value in obs.items()})
        policy.select_action(dict(batch))  # fills the history
        chunk = policy.predict_action_chunk(dict(batch), noise=torch.from_numpy(noise))
        expected = after(chunk).numpy()
    history = {names[key]: np.stack([value] * ours.n_obs_steps)[None] for key, value in obs.items()}
    found = ours.predict_action_chunk(history, noise=noise)
    return float(np.abs(found - expected).max())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("request", type=Path, help="JSON file of what is to be timed")
    parser.add_argument("output", type=Path)
    request = json.loads(parser.parse_args().request.read_text())
    torch.set_num_threads(1)
    folder, names = Path(request["lerobot"]), request["names"]
    theirs = {
        (scheduler, steps): lerobot_policy(folder, scheduler, steps)
        for scheduler, steps in request["samplers"]
    }
    exports = {name: OnnxPolicy(path, threads=1) for name, path in request["exports"].items()}
    any_export = next(iter(exports.values()))
    shapes = {key: int(np.prod(any_export.spec.obs_shapes[name])) for key, name in names.items()}
    obs = observation(shapes)
    renamed = {names[key]: value for key, value in obs.items()}

    def ask_lerobot(key: tuple[str, int]) -> None:
        policy, before, after = theirs[key]
        policy.reset()
        with torch.inference_mode():
            tensors = {name: torch.from_numpy(value) for name, value in obs.items()}
            after(policy.select_action(before(tensors)))

    def ask_export(name: str) -> None:
        exports[name].reset()
        exports[name].select_action(renamed)

    rows: list[tuple[dict[str, Any], Callable[[], None]]] = []
    for key in theirs:
        told = {"runtime": "lerobot", "solver": key[0].lower(), "nfe": key[1], "policy": "teacher"}
        rows.append((told, lambda key=key: ask_lerobot(key)))  # type: ignore[misc]
    for name, policy in exports.items():
        told = {"runtime": "lfm-policy-runtime", "nfe": policy.nfe, "policy": name}
        rows.append((told, lambda name=name: ask_export(name)))  # type: ignore[misc]
    seconds: list[list[float]] = [[] for _ in rows]
    for turn in range(WARM_UP + request["rounds"]):
        for (_, ask), taken in zip(rows, seconds, strict=True):
            begin = time.perf_counter()
            ask()
            if turn >= WARM_UP:
                taken.append(time.perf_counter() - begin)
    result = {
        "rows": [
            told | {"median_ms": 1e3 * statistics.median(s), "p95_ms": 1e3 * np.quantile(s, 0.95)}
            for (told, _), s in zip(rows, seconds, strict=True)
        ],
        "largest_difference": {
            name: agreement(theirs["DDIM", exports[name].nfe], exports[name], names)
            for name in request["compared"]
        },
        "rounds": request["rounds"],
        "threads": 1,
        "versions": {
            "lerobot": lerobot.__version__,
            "torch": torch.__version__,
            "onnxruntime": onnxruntime.__version__,
        },
    }
    parser.parse_args().output.write_text(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
