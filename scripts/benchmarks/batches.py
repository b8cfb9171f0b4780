"""What data costs a training: loading it, batches of windows, and of images cropped at random.

Batches are gathered as in training but without the network: images from the memory-mapped cache,
cropped at random and turned into floats.

    python scripts/benchmarks/batches.py --dataset pusht_cchi_v7_replay.zarr
    python scripts/benchmarks/batches.py --config pusht/fm --batch-size 256 --dataset ...
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
from lfm_policy.encoders.options import CamerasConfig
from lfm_policy.training.rows.data import load_datasets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--dataset", required=True, help="of the configuration's format")
    parser.add_argument("--config", default="pusht/image_lfm")
    parser.add_argument("--cache", type=Path, default=Path("runs/image-cache"))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64, help="windows per batch")
    parser.add_argument("--batches", type=int, default=300)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    config = load_config(arguments.config, [f"dataset.path={arguments.dataset}"])
    start = time.perf_counter()
    data = load_datasets(config, arguments.cache, quiet=False).train
    loading = time.perf_counter() - start
    frames = 0
    start = time.perf_counter()
    for _ in tqdm(range(arguments.batches), unit="batch"):
        idx = torch.randint(len(data), (arguments.batch_size,))
        data.gather_action(idx)
        obs = data.gather_obs(idx)
        for key in data.image_keys:
            assert isinstance(config.encoder, CamerasConfig)
            options = config.encoder.image_config(key)
            size = (obs[key].shape[2], obs[key].shape[3])
            view = random_view(options, len(idx), size)
            seen = crop_images(obs[key], view, options.crop_of(size)).to(torch.float32) / 255
            frames += seen.shape[0] * seen.shape[1]
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"loading {loading:.2f} s; {1e3 * seconds / arguments.batches:.3f} ms per batch of "
        f"{arguments.batch_size} windows with {arguments.threads} thread(s)"
        + (f", {frames / seconds:,.0f} frames per second" if frames else "")
        + f"; largest resident memory {peak:,.0f} MiB"
    )


if __name__ == "__main__":
    main()
