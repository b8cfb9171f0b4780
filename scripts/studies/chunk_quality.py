"""What a robot feels of the policies of the PushT study: joins of chunks, their range, both ways.

Of every model and sampler of the parts that are named, those whose run folders are there:

- jerk and steps of the executed actions at the joins of chunks and inside these, in episodes of
  selection seeds;
- chunks that leave the range of the demonstrated actions before they are clipped, at instants of
  held-out demonstrations and at those of the policy's own episodes;
- whether samples of one observation keep both ways where a reference goes two: at instants of the
  reference's own episodes, with the ways of its samples from full noise. The reference is asked
  again with other noise, as a model of its own, to say what is attainable.

See lfm_policy/evaluation/chunks for what these are. Cells that are in the file already are not
measured again; `scripts/results/write.py` makes the table of them.

    python scripts/studies/chunk_quality.py --parts methods methods-blocks --seeds 0
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from listed import At, Listed, listed_studies, sampler_of
from pieces import DATA, SELECTION_SEEDS, Sampler
from tqdm.auto import tqdm

from lfm_policy import Policy, load_policy
from lfm_policy.checking.demonstrations import Instants, instants_of, load_demonstrations
from lfm_policy.checking.subject import CheckpointSubject
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.environments import make_env
from lfm_policy.evaluation.chunks import (
    TwoWays,
    kept_ways,
    outside_of,
    relative_spread,
    smoothness_of,
    two_ways,
)
from lfm_runtime.disk.files import write_json

FILE = "pusht_chunks.json"
REFERENCE: At = ("fm", sampler_of("m32@1"))
"""Follows its velocity exactly enough, and starts from all the noise that it learned from."""
HZ = 10.0
OWN, OTHER = 1, 2
"""Streams of noise: of the reference's ways, and of what is sorted by them."""


@dataclass(frozen=True)
class Settings:
    """How much is measured.

    Attributes:
        episodes: rollouts of every policy.
        seed_start: environment seed of the first one.
        instants: at which the samples of one observation are compared.
        samples: of each of them.
        range_instants: of demonstrations, and of rollouts, at which chunks may leave the range.
        range_samples: of each of these.
    """

    episodes: int = 50
    seed_start: int = SELECTION_SEEDS
    instants: int = 200
    samples: int = 64
    range_instants: int = 1000
    range_samples: int = 8


def opened(folder: Path, sampler: Sampler) -> Policy:
    """Return a policy with a sampler of the study."""
    policy = load_policy(folder, device="cpu")
    numbers: Any = sampler.numbers()
    steps: Any = {"solver": sampler.solver, "nfe": sampler.nfe, "times": sampler.times or None}
    policy.set_sampler(**steps, **numbers)
    return policy


def rolled_out(policy: Policy, settings: Settings) -> ReplayBuffer:
    """Return what a policy observed and did in episodes of its own, step by step."""
    config, keys = policy.config.env, tuple(policy.spec.obs_shapes)
    seen: dict[str, list[np.ndarray]] = {key: [] for key in (*keys, "action")}
    ends = []
    options = {**config.options, "max_episode_steps": config.max_episode_steps}
    with make_env(config.id, **options) as env:
        for episode in tqdm(range(settings.episodes), desc="rollouts", leave=False):
            obs, _ = env.reset(seed=settings.seed_start + episode)
            policy.reset()
            policy.sample_seed(0, episode=episode)
            ended = False
            while not ended:
                action = policy.select_action(obs)
                for key in keys:
                    seen[key].append(np.asarray(obs[key]))
                seen["action"].append(np.asarray(action, np.float32))
                obs, _, terminated, truncated, _ = env.step(action)
                ended = terminated or truncated
            ends.append(len(seen["action"]))
    return ReplayBuffer({key: np.stack(rows) for key, rows in seen.items()}, np.array(ends))


def few_of(instants: Instants, most: int) -> Instants:
    """Return at most so many instants, evenly chosen."""
    rows = np.linspace(0, len(instants) - 1, min(most, len(instants))).astype(np.int64)
    arrays = {name: value for name, value in vars(instants).items() if name != "buffer"}
    return replace(instants, **{name: value[rows] for name, value in arrays.items()})


def sampled(policy: Policy, instants: Instants, samples: int, stream: int) -> np.ndarray:
    """Return (samples, M, horizon, action_dim) before clipping, from noise of a stream."""
    subject = CheckpointSubject(policy, instants)
    generator = np.random.default_rng((0, stream))
    shape = (len(instants), *policy.chunk_shape)
    return np.stack(
        [subject.chunks(generator.standard_normal(shape, np.float32)) for _ in range(samples)]
    )


def ahead(policy: Policy, chunks: np.ndarray) -> np.ndarray:
    """Return all actions from the newest observation on, (K, M, F), over their range."""
    low, high = policy.training_range("action")
    scaled = chunks[:, :, policy.n_obs_steps - 1 :] / np.maximum(high - low, 1e-9)
    return scaled.reshape(*chunks.shape[:2], -1)


class Reference:
    """What other policies of a training seed are compared with."""

    def __init__(self, policy: Policy, settings: Settings) -> None:
        self._settings = settings
        buffer = rolled_out(policy, settings)
        every = instants_of(buffer, np.arange(buffer.n_episodes), policy)
        self.instants = few_of(every, settings.instants)
        self.samples = ahead(policy, sampled(policy, self.instants, settings.samples, OWN))
        each = range(len(self.instants))
        self.ways: list[TwoWays | None] = [two_ways(self.samples[:, at]) for at in each]

    def compared(self, policy: Policy) -> dict[str, Any]:
        """Return what becomes of the ways and of the spread with another policy."""
        chunks = sampled(policy, self.instants, self._settings.samples, OTHER)
        samples = ahead(policy, chunks)
        kept = kept_ways(samples, self.ways)
        return {"ways": kept.to_dict(), "spread": relative_spread(samples, self.samples)}


def measured(
    policy: Policy, reference: Reference, settings: Settings, dataset: str | None
) -> dict[str, Any]:
    """Return all that is measured of a policy with its present sampler.

    Args:
        policy: as it is.
        reference: of its training seed.
        settings: how much is measured.
        dataset: demonstrations; None: those of its training, the held-out ones.
    """
    own = rolled_out(policy, settings)
    starts, ends = own.episode_starts, own.episode_ends
    actions = own.arrays["action"]
    smooth = smoothness_of(
        [actions[begin:end] for begin, end in zip(starts, ends, strict=True)],
        n_action_steps=policy.n_action_steps,
        hz=HZ,
    )
    demonstrations = load_demonstrations("the policy", policy, policy.config, data=dataset)
    held_out = instants_of(demonstrations.buffer, demonstrations.checked, policy)
    visited = instants_of(own, np.arange(own.n_episodes), policy)
    low, high = policy.training_range("action")

    def outside(instants: Instants) -> dict[str, Any]:
        few = few_of(instants, settings.range_instants)
        chunks = sampled(policy, few, settings.range_samples, OTHER)
        return outside_of(chunks, low, high, executed=few.executed).to_dict()

    return {
        "solver": policy.solver,
        "nfe": policy.nfe,
        "noise_scale": policy.noise_scale,
        "smoothness": smooth.to_dict(),
        "outside_demonstrations": outside(held_out),
        "outside_rollouts": outside(visited),
        **reference.compared(policy),
    }


def described(key: str, cell: dict[str, Any]) -> str:
    """Return a cell in words."""
    smooth, ways = cell["smoothness"], cell["ways"]
    found = (cell[f"outside_{where}"] for where in ("demonstrations", "rollouts"))
    left = " and ".join(f"{outside['share_of_chunks']:.1%}" for outside in found)
    times = "no" if smooth["jerk_ratio"] is None else f"{smooth['jerk_ratio']:.2f}"
    return (
        f"{key}: jerk at joins {smooth['jerk_at_joins'] or 0:.3g}, {times} times "
        f"that inside chunks; outside {left}; "
        f"{ways['n_two_ways']} instants of two ways, both kept at {ways['kept']:.0%}, "
        f"{ways['between']:.1%} between them; spread {cell['spread']:.2f}"
    )


def cells_of(study: Listed, arguments: argparse.Namespace) -> Iterator[tuple[str, int, Sampler]]:
    """Yield the cells of the parts, each once, whatever its number of episodes."""
    for model, seed, samplers in study.wanted(arguments.parts):
        if arguments.models is not None and model not in arguments.models:
            continue
        if arguments.seeds is None or seed in arguments.seeds:
            for sampler in dict.fromkeys(replace(one, episodes=0) for one in samplers):
                yield model, seed, sampler


def main() -> None:
    study = listed_studies()["state"]
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=list(study.parts), default=["methods"])
    parser.add_argument("--models", nargs="+", help="only these; default all")
    parser.add_argument("--seeds", nargs="+", type=int, help="training seeds; default all")
    parser.add_argument("--dataset", help="demonstrations; default where those of training are")
    parser.add_argument("--output", type=Path, default=study.output, help="run folders")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the file")
    for name, default in vars(Settings()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=default)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    settings = Settings(**{name: getattr(arguments, name) for name in vars(Settings())})
    path = arguments.data / FILE
    reference_model, reference_sampler = REFERENCE
    facts = {**vars(settings), "reference": f"{reference_model} {reference_sampler}"}
    found: dict[str, Any] = {"settings": facts, "cells": {}}
    if path.exists():
        found = json.loads(path.read_text())
        if found["settings"] != facts:
            parser.error(f"{path} was measured with other settings: {found['settings']}")
    references: dict[int, Reference] = {}
    cells = [*cells_of(study, arguments)]
    named = {seed: (reference_model, seed, reference_sampler) for _, seed, _ in cells}
    for model, seed, sampler in [*named.values(), *cells]:
        key = f"{model} seed{seed} {sampler}"
        folder = arguments.output / f"seed{seed}" / model
        if key in found["cells"]:
            continue
        if not (folder / "latest").exists():
            print(f"{key}: not trained, {folder} is not there")
            continue
        if seed not in references:
            whole = arguments.output / f"seed{seed}" / reference_model
            references[seed] = Reference(opened(whole, reference_sampler), settings)
        found["cells"][key] = measured(
            opened(folder, sampler), references[seed], settings, arguments.dataset
        )
        print(described(key, found["cells"][key]), flush=True)
        write_json(path, {**found, "cells": dict(sorted(found["cells"].items()))})


if __name__ == "__main__":
    main()
