"""How well image encoders tell PushT's state: errors on held-out episodes, in pixels and degrees.

Every variant of encoders.yaml, with a small MLP after it, learns to tell the recorded positions of
the agent and of the block, and the block's angle, from the images alone, for a fixed number of
steps: no policy, but what a policy needs to know, in minutes and not in hours. Pixels are those of
the 96 x 96 frames. Images are cropped at random in training, as a policy's are, and the centre is
seen afterwards. With --history 2 the agent's and the block's motion since the frame before is
asked for, too.

    python scripts/studies/encoder_probe.py --dataset pusht_cchi_v7_replay.zarr
    python scripts/studies/encoder_probe.py --dataset ... --variants compact "two scales" \
        --steps 20000 --batch-size 256 --device cuda --bf16

A variant that is not in the file may be said: --option fine_keypoints=32 --option spread=true.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor, nn
from tqdm.auto import tqdm

from lfm_policy.config import load_config
from lfm_policy.data.dataset import DatasetBundle, WindowDataset
from lfm_policy.device import choose_device
from lfm_policy.encoders.options import CamerasConfig
from lfm_policy.text.tables import TextTable
from lfm_policy.training.rows.data import load_datasets

VARIANTS = Path(__file__).with_name("encoders.yaml")
BOARD, FRAME = 512, 96
HIDDEN = 256
IMAGE = "image"


@dataclass(frozen=True)
class Settings:
    """How a variant learns, and by what it is judged."""

    steps: int
    batch_size: int
    learning_rate: float
    history: int
    crop: list[int]
    seed: int
    device: torch.device
    bf16: bool


class States:
    """Images of windows, and what is to be told of the newest frame of each."""

    def __init__(self, data: WindowDataset, bundle: DatasetBundle) -> None:
        self._data, self._bundle = data, bundle

    def __len__(self) -> int:
        return len(self._data)

    def batch(self, idx: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return images and targets (B, 6 or 10): places and motions in frame pixels, cos, sin."""
        obs = self._data.gather_obs(idx)
        agent, block = (
            self._bundle.normalizer.unnormalize(key, obs[key])
            for key in ("agent_pos", "block_pose")
        )
        places = torch.cat([agent, block[..., :2]], dim=-1) * (FRAME / BOARD)
        told = [places[:, -1], block[:, -1, 2:]]
        if places.shape[1] > 1:
            told.append(places[:, -1] - places[:, -2])
        return {IMAGE: obs[IMAGE]}, torch.cat(told, dim=1)


class Probe(nn.Module):
    """An encoder of images and an MLP that tells a state."""

    def __init__(self, options: Mapping[str, Any], settings: Settings, n_targets: int) -> None:
        super().__init__()
        options = dict(options)
        history = options.pop("history", "frames")
        config = CamerasConfig(
            image={"name": "compact", "crop": settings.crop, **options}, history=history
        )
        self.encoder = config.create({IMAGE: (FRAME, FRAME, 3)}, settings.history)
        self.head = nn.Sequential(
            nn.Linear(self.encoder.cond_dim, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, n_targets)
        )

    def forward(self, obs: Mapping[str, Tensor]) -> Tensor:
        told: Tensor = self.head(self.encoder(obs))
        return told


def scales_of(n_targets: int) -> tuple[Tensor, Tensor]:
    """Return centre and scale of the targets, by which all weigh alike."""
    motions = max(0, n_targets - 6)
    centre = torch.tensor([FRAME / 2] * 4 + [0.0] * 2 + [0.0] * motions)
    scale = torch.tensor([FRAME / 4] * 4 + [0.7] * 2 + [1.0] * motions)
    return centre, scale


def learned(options: Mapping[str, Any], states: States, settings: Settings) -> Probe:
    """Return a probe after its training."""
    torch.manual_seed(settings.seed)
    centre, scale = (tensor.to(settings.device) for tensor in scales_of(10))
    n_targets = 6 if settings.history == 1 else 10
    probe = Probe(options, settings, n_targets).to(settings.device).train()
    optimizer = torch.optim.AdamW(probe.parameters(), lr=settings.learning_rate, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=settings.steps, pct_start=0.1
    )
    generator = torch.Generator().manual_seed(settings.seed)
    for _ in tqdm(range(settings.steps), leave=False, mininterval=5):
        idx = torch.randint(len(states), (settings.batch_size,), generator=generator)
        obs, target = states.batch(idx)
        with torch.autocast(settings.device.type, torch.bfloat16, enabled=settings.bf16):
            told = probe(obs)
        wanted = (target - centre[:n_targets]) / scale[:n_targets]
        loss = nn.functional.smooth_l1_loss(told.float(), wanted, beta=0.2)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(probe.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    return probe


@torch.inference_mode()
def errors_of(probe: Probe, states: States, settings: Settings) -> dict[str, float]:
    """Return medians and 90th percentiles of the errors on held-out windows."""
    probe.eval()
    centre, scale = (tensor.to(settings.device) for tensor in scales_of(10))
    found = []
    for idx in torch.arange(len(states)).split(256):
        obs, target = states.batch(idx)
        told = probe(obs)
        n = target.shape[1]
        found.append(torch.stack([told.float() * scale[:n] + centre[:n], target]).cpu())
    told, target = torch.cat(found, dim=1).double().unbind(0)
    turn = torch.atan2(told[:, 5], told[:, 4]) - torch.atan2(target[:, 5], target[:, 4])
    turn = (turn + math.pi) % (2 * math.pi) - math.pi
    distances = {
        "agent": (told - target)[:, :2].norm(dim=1),
        "block": (told - target)[:, 2:4].norm(dim=1),
        "angle": turn.abs().rad2deg(),
    }
    if target.shape[1] > 6:
        distances["agent motion"] = (told - target)[:, 6:8].norm(dim=1)
        distances["block motion"] = (told - target)[:, 8:].norm(dim=1)
    return {
        f"{name}{mark}": float(np.percentile(values, share))
        for name, values in distances.items()
        for mark, share in (("", 50), (" p90", 90))
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    known: dict[str, dict[str, Any]] = yaml.safe_load(VARIANTS.read_text())
    parser.add_argument("--dataset", required=True, help="PushT zarr replay buffer with images")
    parser.add_argument("--variants", nargs="*", default=list(known), choices=list(known))
    parser.add_argument(
        "--option", action="append", default=[], help="of one more variant, as key=value"
    )
    parser.add_argument("--cache", type=Path, default=Path("runs/image-cache"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--history", type=int, default=1, help="frames that are seen")
    parser.add_argument("--crop", type=int, nargs="*", default=[84, 84])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--bf16", action="store_true", help="learn under autocast")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    variants = {name: known[name] for name in arguments.variants}
    if arguments.option:
        named = " ".join(arguments.option)
        variants[named] = {
            key: yaml.safe_load(value)
            for key, _, value in (one.partition("=") for one in arguments.option)
        }
    device = choose_device(arguments.device)
    settings = Settings(
        **{name: getattr(arguments, name) for name in Settings.__annotations__ if name != "device"},
        device=device,
    )
    bundle = load_datasets(
        load_config(
            "pusht/image_lfm",
            [
                f"dataset.path={arguments.dataset}",
                "dataset.obs_keys=[img,agent_pos,block_pose]",
                "dataset.validation_ratio=0.1",
                f"policy.n_obs_steps={arguments.history}",
            ],
        ),
        arguments.cache,
    )
    assert bundle.validation is not None
    train, held_out = (
        States(data.to(device), bundle) for data in (bundle.train, bundle.validation)
    )
    table: TextTable | None = None
    for name, options in variants.items():
        start = time.perf_counter()
        probe = learned(options, train, settings)
        seconds = time.perf_counter() - start
        found = errors_of(probe, held_out, settings)
        table = table or TextTable("variant", *found, "seconds")
        table.add_row(name, *(f"{value:.2f}" for value in found.values()), f"{seconds:,.0f}")
        print(
            f"{name}: "
            + ", ".join(f"{key} {value:.2f}" for key, value in found.items())
            + f"; {seconds:.0f} s",
            flush=True,
        )
    if table is not None:
        table.print()


if __name__ == "__main__":
    main()
