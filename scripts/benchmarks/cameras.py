"""What cameras cost a CPU: a training step, the features of a frozen encoder, decoding a video.

Frames are made up: a textured scene that moves, so that codecs have as much to do as with a robot's
camera. Times are given as they pass and as the process computes, which other programs on the
machine hardly change; both are medians.

    python scripts/benchmarks/cameras.py                 # everything
    python scripts/benchmarks/cameras.py --parts step    # two cameras of 240 x 320, own/cameras
    python scripts/benchmarks/cameras.py --data docs/results/data    # the file of the results
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from lfm_policy.config import load_config
from lfm_policy.data.images.cache import CachedImages, ImageCache, open_images
from lfm_policy.data.lerobot.video import Clip, read_clips
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.device import autocast
from lfm_policy.encoders.image_options import CompactConfig, ResNet18Config
from lfm_policy.training import BlockPlan, Run
from lfm_policy.training.run import JOINT
from lfm_policy.training.trainer import Trainer
from lfm_runtime.benchmark import computer
from lfm_runtime.disk.files import write_json

FPS = 30
CODECS = {"av1": "libsvtav1", "h264": "libx264"}
VIDEO_OPTIONS = {
    "av1": {"g": "2", "crf": "30", "preset": "12"},  # as LeRobot records
    "h264": {"g": "2", "crf": "23"},
}


def frames_of(n: int, height: int, width: int, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield RGB frames, uint8 (height, width, 3): a smooth scene with grain that slides along."""
    generator = np.random.default_rng(seed)
    coarse = torch.from_numpy(generator.uniform(0, 255, (1, 3, 12, 24)).astype(np.float32))
    size = (height, 2 * width)
    scene = torch.nn.functional.interpolate(coarse, size, mode="bicubic", align_corners=False)
    texture = scene[0].permute(1, 2, 0).numpy() + generator.normal(0, 4, (*size, 3))
    image = texture.clip(0, 255).astype(np.uint8)
    for i in range(n):
        left = round((np.sin(i / 40) + 1) / 2 * width)
        yield np.ascontiguousarray(image[:, left : left + width])


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Give a list that holds, afterwards, seconds that passed and seconds of the process."""
    taken: list[float] = []
    wall, cpu = time.perf_counter(), time.process_time()
    yield taken
    taken += [time.perf_counter() - wall, time.process_time() - cpu]


def medians(once: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the seconds of one call, passed and of the process, after one that is not counted."""
    once()
    rows = []
    for _ in range(repeats):
        with stopwatch() as taken:
            once()
        rows.append(taken)
    wall, cpu = (statistics.median(column) for column in zip(*rows, strict=True))
    return wall, cpu


Rows = Iterator[dict[str, Any]]
"""What was done, and seconds of one step or frames per second: as they passed, of the process."""


def measure_step(folder: Path, arguments: argparse.Namespace) -> Rows:
    """Yield what a step costs while the encoder learns with all blocks, of two large cameras."""
    n, (height, width) = 400, (240, 320)
    generator = np.random.default_rng(0)
    arrays = {
        "action": generator.uniform(-1, 1, (n, 7)).astype(np.float32),
        "joints": generator.uniform(-1, 1, (n, 7)).astype(np.float32),
    }
    for seed, camera in enumerate(("front", "wrist")):
        arrays[camera] = np.stack(list(frames_of(n, height, width, seed)))
    write_zarr(folder / "two.zarr", ReplayBuffer(arrays, np.array([n // 2, n])))
    overrides = [f"dataset.path={folder / 'two.zarr'}", "dataset.obs_keys=[front,wrist,joints]"]
    config = load_config("own/cameras", [*overrides, *arguments.overrides])
    run = Run(config, folder / "run", device="cpu", quiet=True)
    torch.set_num_threads(arguments.threads)
    trainer = Trainer(BlockPlan(run).part(JOINT), run.accelerator, seed=config.seed)
    wall, cpu = medians(lambda: trainer.train_step(), arguments.steps)
    (kept,) = {tuple(run.data.train.frames(key, 0, 1).shape[1:3]) for key in ("front", "wrist")}
    frames = f"{config.training.encoder_batch_size} x {config.policy.n_obs_steps}"
    yield {
        "what": f"a step of own/cameras: two cameras of {height} x {width}, kept at "
        f"{kept[0]} x {kept[1]}, batches of {frames} frames of each",
        "unit": "s",
        "passed": wall,
        "process": cpu,
    }


def measure_features(_: Path, arguments: argparse.Namespace) -> Rows:
    """Yield how many frames of 96 x 128 frozen encoders take per second, in a random view."""
    frames = torch.from_numpy(np.stack(list(frames_of(64, 96, 128))))
    encoders = (CompactConfig(crop=[0.9, 0.9]), ResNet18Config(crop=[0.9, 0.9]))
    for options, precision in itertools.product(encoders, ("no", "bf16")):
        encoder = options.create("camera", (96, 128, 3)).eval()
        seen = encoder.fixed_view(1).repeat(len(frames))
        with torch.no_grad(), autocast(precision, frames.device):
            wall, cpu = medians(partial(encoder, frames[:, None], seen), 5)
        yield {
            "what": f"features of frames of 96 x 128 of the frozen encoder {options.name}"
            + (f", {precision}" if precision != "no" else ""),
            "unit": "frames/s",
            "passed": len(frames) / wall,
            "process": len(frames) / cpu,
        }


def measure_decoding(folder: Path, arguments: argparse.Namespace) -> Rows:
    """Yield how many frames of 640 x 480 per second are decoded, resized and cached."""
    for codec in CODECS:
        path, n = folder / f"{codec}.mp4", arguments.frames
        _write_video(path, codec, n)
        clips = [Clip(path, np.arange(n) / FPS, 0)]
        for label, size_of in (
            ("kept as recorded", lambda key, shape: shape[:2]),
            ("resized to 96 x 128", lambda key, shape: (96, 128)),
        ):
            camera = CachedImages(
                str(path), {"codec": codec}, n, (480, 640, 3), read_clips(clips, (480, 640, 3), FPS)
            )
            with stopwatch() as taken:
                open_images({"front": camera}, ImageCache(folder / "cache", size_of))
            yield {
                "what": f"frames of 480 x 640 decoded from {codec} and cached, {label}",
                "unit": "frames/s",
                "passed": n / taken[0],
                "process": n / taken[1],
            }


def _write_video(path: Path, codec: str, n: int) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(CODECS[codec], rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
        stream.options = VIDEO_OPTIONS[codec]
        for i, image in enumerate(frames_of(n, 480, 640)):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


PARTS = {"step": measure_step, "features": measure_features, "decoding": measure_decoding}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--steps", type=int, default=15)
    parser.add_argument("--frames", type=int, default=600, help="of the videos")
    parser.add_argument("--data", type=Path, help="folder to write camera_costs.json into")
    parser.add_argument("overrides", nargs="*", help="options of the step, key=value")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.data and (arguments.overrides or arguments.parts != list(PARTS)):
        parser.error("--data is for everything as it is configured: no --parts, no options")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for part in arguments.parts:
            for row in PARTS[part](Path(folder), arguments):
                print(
                    f"{row['what']}: {row['passed']:.4g} {row['unit']} passed, "
                    f"{row['process']:.4g} of the process",
                    flush=True,
                )
                rows.append(row)
    if arguments.data:
        facts = {"computer": computer(), "threads": arguments.threads}
        write_json(arguments.data / "camera_costs.json", {**facts, "rows": rows})


if __name__ == "__main__":
    main()
