"""A camera of depth from the demonstrations to the robot: everybody sees the same levels."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import zarr

from lfm_policy.checking.demonstrations import options_for
from lfm_policy.config import ExperimentConfig
from lfm_policy.data.images.cache import ImageCache
from lfm_policy.data.images.resize import resized_frames
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.distillation.recordings import read_observations
from lfm_policy.exporting.export import export_policy
from lfm_policy.policy import load_policy, read_header
from lfm_policy.serving.observations import ConnectionHistory
from lfm_policy.training import train
from lfm_policy.training.start.source import tuned_config
from lfm_runtime import OnnxPolicy
from lfm_runtime.policy.depth import depth_levels

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]

LENGTHS, SHAPE = (11, 9, 12), (96, 160)
RANGE = (0.2, 1.5)


@pytest.fixture(scope="module")
def run(
    make_config: Callable[..., ExperimentConfig], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder, steps = tmp_path_factory.mktemp("depth"), sum(LENGTHS)
    rng = np.random.default_rng(0)
    root = zarr.create_group(str(folder / "demo.zarr"), zarr_format=2)
    root.create_array("data/action", data=rng.normal(size=(steps, 2)))
    depth = rng.uniform(0, 2, (steps, *SHAPE)).astype(np.float32)
    root.create_array("data/depth", data=depth)
    root.create_array("meta/episode_ends", data=np.cumsum(LENGTHS))
    config = make_config(
        {
            "dataset.path": str(folder / "demo.zarr"),
            "dataset.obs_keys": ["depth"],
            "dataset.depth": {"depth": list(RANGE)},
            "encoder.name": "cameras",
            "encoder.image": {"name": "compact", "width": 4, "keypoints": 3, "crop": [0.9, 0.9]},
            "training.encoder_steps": 2,
            "training.total_steps": 2,
        }
    )
    train(config, folder / "run", device="cpu", quiet=True)
    return folder / "run"


def test_distances_and_their_levels_give_the_same_actions(run: Path, tmp_path: Path) -> None:
    header = read_header(run)
    assert header.spec.depth == {"depth": RANGE}
    assert dict(header.spec.obs_shapes) == {"depth": (*SHAPE, 1)}
    metres = np.random.default_rng(1).uniform(0, 2, SHAPE).astype(np.float32)
    metres[:5] = np.nan
    levels = depth_levels(metres, *RANGE)[..., None]
    policy = load_policy(run)
    exported = OnnxPolicy(export_policy(policy, tmp_path / "exported"), threads=1)
    assert exported.spec == policy.spec
    assert policy.metadata["observations"]["depth"]["depth"] == list(RANGE)
    for robot in (policy, exported):
        actions = []
        for given in (levels, metres, metres[..., None], metres[None]):
            robot.sample_seed(0)
            robot.reset()
            actions.append(robot.select_action({"depth": given}))
        for action in actions:
            np.testing.assert_array_equal(action, actions[0])
        assert (robot.fake_obs()["depth"].shape, levels.dtype) == ((*SHAPE, 1), np.uint8)


def test_a_server_takes_distances_and_levels(run: Path) -> None:
    spec = read_header(run).spec
    metres = np.random.default_rng(1).uniform(0, 2, SHAPE).astype(np.float32)
    levels = depth_levels(metres, *RANGE)[..., None]
    for given in (metres, metres[..., None], metres[None], np.stack([metres, metres]), levels):
        history = ConnectionHistory(spec, 2)
        np.testing.assert_array_equal(history.add({"depth": given})["depth"], [levels, levels])


@pytest.mark.parametrize("as_levels", [False, True])
def test_a_recording_holds_distances_or_levels(run: Path, tmp_path: Path, as_levels: bool) -> None:
    rng, path = np.random.default_rng(2), tmp_path / "recording.zarr"
    depth = rng.uniform(0, 2, (10, *SHAPE)).astype(np.float32)
    levels = depth_levels(depth, *RANGE)[..., None]
    root = zarr.create_group(str(path), zarr_format=2)
    root.create_array("data/action", data=rng.normal(size=(10, 2)))
    root.create_array("data/depth", data=levels if as_levels else depth)
    root.create_array("meta/episode_ends", data=np.array([10]))
    header = read_header(run)
    cache = ImageCache(tmp_path / "cache", header.config.encoder.frame_size)
    read = read_observations(str(path), header.spec, cache, "the teacher", quiet=True)
    seen = [read]
    for config in (header.config, None):
        options = options_for(str(path), load_policy(run), config)
        seen.append(options.load(cache))
    for buffer in seen:
        np.testing.assert_array_equal(buffer.arrays["depth"], resized_frames(levels, (76, 128)))


def test_a_policy_learns_on_from_the_levels_of_a_recording(run: Path, tmp_path: Path) -> None:
    rng, source = np.random.default_rng(2), read_header(run)
    levels = rng.integers(0, 256, (sum(LENGTHS), *SHAPE, 1), dtype=np.uint8)
    arrays = {"action": rng.normal(size=(len(levels), 2)), "depth": levels}
    buffer = ReplayBuffer(arrays, np.cumsum(LENGTHS), depth={"depth": RANGE})
    write_zarr(tmp_path / "noted.zarr", buffer)
    write_zarr(tmp_path / "earlier.zarr", replace(buffer, depth={}))
    told: dict[str, dict[str, tuple[float, float]]] = {}
    for name in ("noted", "earlier"):
        data = [f"dataset.path={tmp_path / name}.zarr", "dataset.depth={}"]
        config = tuned_config(source, [*data, "training.total_steps=2"])
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            train(config, tmp_path / name, init_from=run, device="cpu", quiet=True)
        told[name] = dict(read_header(tmp_path / name).spec.depth)
        said = [str(w.message) for w in caught if "sees depth by camera 'depth'" in str(w.message)]
        assert len(said) == (name == "earlier")
    assert told == {"noted": {"depth": RANGE}, "earlier": {}}
