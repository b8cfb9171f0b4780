"""Features of all camera frames by a frozen encoder: computed once, kept, never stale."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lfm_policy.config import ExperimentConfig
from lfm_policy.data.dataset import WindowDataset
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
    write: bool = True,
    quiet: bool = True,
) -> WindowDataset:
    """Return the windows with the features of ``encoder`` in place of images.

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
        write: whether this process writes the file.
        quiet: no progress bar.
    """
    n_views = config.training.encoder_views
    shapes = {
        key: (n_views, dataset.n_frames, encoder.feature_dim(key)) for key in encoder.image_keys
    }
    path = folder / f"{_key(encoder, config, fingerprint, n_views)}.safetensors"
    features = {key: torch.empty(shape) for key, shape in shapes.items()}
    if path.exists():
        fill_tensors(path, features)
        return dataset.with_features(features)
    encoder.eval()
    total = n_views * dataset.n_frames * len(features)
    with tqdm(total=total, desc="features", unit="frame", disable=quiet, mininterval=0.5) as bar:
        for key, rows in features.items():
            for begin in range(0, dataset.n_frames, FRAMES_AT_ONCE):
                end = min(begin + FRAMES_AT_ONCE, dataset.n_frames)
                _encode_views(encoder, key, dataset.frames(key, begin, end), rows[:, begin:end])
                bar.update(n_views * (end - begin))
                stop()
    if write:
        write_tensors(path, features)
    return dataset.with_features(features)


@torch.no_grad()
def _encode_views(encoder: ObsEncoder, key: str, frames: Tensor, rows: Tensor) -> None:
    for view in range(len(rows)):
        rows[view] = encoder.frame_features(key, frames, view)


def _key(encoder: ObsEncoder, config: ExperimentConfig, fingerprint: str, n_views: int) -> str:
    facts = [asdict(config.encoder), fingerprint, n_views, str(torch.__version__)]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name, tensor in encoder.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()[:24]
