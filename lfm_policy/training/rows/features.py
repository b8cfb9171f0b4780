"""Features of all camera frames by a frozen encoder: computed once, kept, never stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import WindowDataset
from lfm_policy.device import autocast
from lfm_policy.encoders.base import ObsEncoder
from lfm_policy.policy.tensors import fill_tensors, write_tensors

FEATURES = "features"
FRAMES_AT_ONCE = 256


def with_frozen_features(
    dataset: WindowDataset,
    encoder: ObsEncoder,
    config: ExperimentConfig,
    fingerprint: str,
    folder: Path,
    *,
    stop: Callable[[], None] = lambda: None,
    accelerator: Accelerator | None = None,
    quiet: bool = True,
) -> WindowDataset:
    """Return the windows with the features of ``encoder`` in place of images.

    They are computed in the precision that the encoder learnt in, ``training.mixed_precision``.

    Every frame is seen in ``training.encoder_views`` ways: the centre crop first, then crops and
    colours at random but always the same. The features are kept in ``folder`` under a name that
    is a digest of the weights, the options, the demonstrations and the number of views.

    Args:
        dataset: windows with images.
        encoder: frozen from now on; on the dataset's device.
        config: of the run.
        fingerprint: of the demonstrations.
        folder: where features are kept.
        stop: called between batches; raises to stop.
        accelerator: of several processes that each compute a share of them, of which the first
            writes the file; None: this process does it all.
        quiet: no progress bar.
    """
    n_views = config.training.encoder_views
    shapes = {
        key: (n_views, dataset.n_frames, encoder.feature_dim(key)) for key in encoder.image_keys
    }
    path = folder / f"{_key(encoder, config, fingerprint, n_views)}.safetensors"
    features = {key: torch.zeros(shape) for key, shape in shapes.items()}
    shared = accelerator if accelerator is not None and accelerator.num_processes > 1 else None
    if _all_see(path, shared, dataset.device):
        fill_tensors(path, features)
        return dataset.with_features(features)
    encoder.eval()
    world, rank = (1, 0) if shared is None else (shared.num_processes, shared.process_index)
    total = n_views * dataset.n_frames * len(features)
    with tqdm(total=total, desc="features", unit="frame", disable=quiet, mininterval=0.5) as bar:
        for key, rows in features.items():
            for number, begin in enumerate(range(0, dataset.n_frames, FRAMES_AT_ONCE)):
                end = min(begin + FRAMES_AT_ONCE, dataset.n_frames)
                if number % world == rank:
                    frames = dataset.frames(key, begin, end)
                    with autocast(config.training.mixed_precision, dataset.device):
                        _encode_views(encoder, key, frames, rows[:, begin:end])
                bar.update(n_views * (end - begin))
                stop()
    if shared is not None:
        # What others computed is 0 here.
        features = {k: shared.reduce(v.to(dataset.device), "sum") for k, v in features.items()}
    if shared is None or shared.is_main_process:
        write_tensors(path, {key: rows.cpu() for key, rows in features.items()})
    return dataset.with_features(features)


def _all_see(path: Path, shared: Accelerator | None, device: torch.device) -> bool:
    """Whether the file is there for every process; one that has just been written may not be."""
    if shared is None:
        return path.exists()
    seen: Tensor = shared.reduce(torch.tensor(float(path.exists()), device=device), "sum")
    return int(seen) == shared.num_processes


@torch.no_grad()
def _encode_views(encoder: ObsEncoder, key: str, frames: Tensor, rows: Tensor) -> None:
    for view in range(len(rows)):
        rows[view] = encoder.frame_features(key, frames, view)


def _key(encoder: ObsEncoder, config: ExperimentConfig, fingerprint: str, n_views: int) -> str:
    facts = [asdict(config.encoder), fingerprint, n_views, str(torch.__version__)]
    if config.training.mixed_precision != "no":
        facts.append(config.training.mixed_precision)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:24]
