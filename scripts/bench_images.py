"""Frames per second of image batches with random crops, and the memory they take.

Batches of windows are gathered from the memory-mapped cache, cropped at random and turned into
floats, as in training but without the network.

    python scripts/bench_images.py --dataset pusht_cchi_v7_replay.zarr
"""

from __future__ import annotations

import argparse
import resource
import time
from pathlib import Path

import torch
from tqdm.auto import tqdm

from lfm_policy.config import load_config
from lfm_policy.encoders.augment import crop_images, random_view
from lfm_policy.encoders.cameras import CamerasConfig
from lfm_policy.training.rows.data import load_datasets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="Diffusion Policy's PushT zarr")
    parser.add_argument("--cache", type=Path, default=Path("runs/image-cache"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64, help="windows per batch")
    parser.add_argument("--batches", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config("pusht/image_lfm", [f"dataset.path={arguments.dataset}"])
    data = load_datasets(config, arguments.cache, quiet=False).train
    assert isinstance(config.encoder, CamerasConfig)
    (key,) = data.image_keys
    options = config.encoder.image_config(key).augmentation()
    frames = 0
    start = time.perf_counter()
    for _ in tqdm(range(arguments.batches), unit="batch"):
        images = data.gather_obs(torch.randint(len(data), (arguments.batch_size,)))[key]
        size = (images.shape[2], images.shape[3])
        view = random_view(options, len(images), size)
        seen = crop_images(images, view, options.crop_of(*size)).to(torch.float32) / 255
        frames += seen.shape[0] * seen.shape[1]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{frames / seconds:,.0f} frames per second with {arguments.threads} thread(s); "
        f"largest resident memory {peak:,.0f} MiB"
    )


if __name__ == "__main__":
    main()
