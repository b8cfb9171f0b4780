"""Windows of robomimic's own dataset and observation utilities against ours, number by number.

`pip install --no-deps "robomimic>=0.3,<0.4"` beside the package is enough for them.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from lfm_policy.data.dataset import WindowDataset
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.windows import WindowIndex

pytest.importorskip("robomimic", reason="compares with the package robomimic")

LENGTHS = {"demo_0": 9, "demo_2": 4, "demo_10": 12, "demo_1": 7}
LOW_DIM = ["object", "robot0_eef_pos"]
IMAGE = "agentview_image"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("robomimic") / "demo.hdf5"
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = sum(LENGTHS.values())
        data.attrs["env_args"] = json.dumps({"env_name": "Lift", "type": 1, "env_kwargs": {}})
        for name, length in LENGTHS.items():
            demo = data.create_group(name)
            demo.attrs["num_samples"] = length
            demo["actions"] = rng.uniform(-1, 1, (length, 7))
            demo["obs/object"] = rng.normal(size=(length, 10))
            demo["obs/robot0_eef_pos"] = rng.normal(size=(length, 3)).astype(np.float32)
            demo[f"obs/{IMAGE}"] = rng.integers(0, 256, (length, 6, 8, 3), dtype=np.uint8)
        file["mask/train"] = np.array(["demo_10", "demo_0", "demo_1"], dtype="S")
    return path


def theirs(path: Path, **options: Any) -> Any:
    import robomimic.utils.obs_utils as obs_utils
    from robomimic.utils.dataset import SequenceDataset

    obs_utils.initialize_obs_utils_with_obs_specs({"obs": {"low_dim": LOW_DIM, "rgb": [IMAGE]}})
    return SequenceDataset(
        hdf5_path=str(path),
        obs_keys=(*LOW_DIM, IMAGE),
        dataset_keys=("actions",),
        hdf5_use_swmr=False,
        load_next_obs=False,
        **options,
    )


def ours(
    path: Path, n_obs_steps: int, horizon: int, n_action_steps: int, filter_key: str | None = None
) -> WindowDataset:
    config = RobomimicConfig(
        path=str(path), obs_keys=[*LOW_DIM, IMAGE], filter_key=filter_key, validation_ratio=0.0
    )
    buffer = config.load(path.parent / "cache")
    low_dim = {key: value for key, value in buffer.arrays.items() if key != IMAGE}
    return WindowDataset(
        buffer,
        Normalizer.fit(low_dim, "identity"),
        WindowIndex(buffer.episode_ends, n_obs_steps, horizon, n_action_steps),
        [*LOW_DIM, IMAGE],
    )


def compare(windows: WindowDataset, numbers: list[int], reference: Any) -> None:
    """Compare windows ``numbers`` of ours with all of theirs, in order."""
    import robomimic.utils.obs_utils as obs_utils

    assert len(numbers) == len(reference)
    n_obs_steps = windows.index.n_obs_steps
    idx = torch.tensor(numbers)
    actions, obs = windows.gather_action(idx), windows.gather_obs(idx)
    for number in range(len(reference)):
        window = reference[number]
        np.testing.assert_array_equal(actions[number].numpy(), np.float32(window["actions"]))
        for key in LOW_DIM:
            expected = np.float32(window["obs"][key][:n_obs_steps])
            np.testing.assert_array_equal(obs[key][number].numpy(), expected)
        images = obs[IMAGE][number].numpy()
        expected = window["obs"][IMAGE][:n_obs_steps]
        np.testing.assert_array_equal(images, expected)
        # What robomimic's networks see, and ours make of the same bytes: shares, channels first.
        processed = np.asarray(obs_utils.process_obs(expected, obs_key=IMAGE))
        np.testing.assert_allclose(images.transpose(0, 3, 1, 2) / 255, processed, atol=1e-7)


@pytest.mark.parametrize(("frame_stack", "seq_length"), [(1, 1), (1, 4), (2, 3), (3, 2), (2, 1)])
@pytest.mark.parametrize("filter_key", [None, "train"])
def test_every_window_with_all_padding(
    path: Path, frame_stack: int, seq_length: int, filter_key: str | None
) -> None:
    horizon = frame_stack - 1 + seq_length
    # With as many executed actions as fit, the last window starts at the last step of a demo.
    windows = ours(path, frame_stack, horizon, seq_length, filter_key)
    reference = theirs(
        path, frame_stack=frame_stack, seq_length=seq_length, filter_by_attribute=filter_key
    )
    lengths = LENGTHS if filter_key is None else {k: v for k, v in LENGTHS.items() if k != "demo_2"}
    assert len(windows) == sum(lengths.values())
    compare(windows, list(range(len(windows))), reference)


@pytest.mark.parametrize(("frame_stack", "seq_length"), [(1, 3), (2, 3), (2, 1)])
def test_without_padding_at_the_end(path: Path, frame_stack: int, seq_length: int) -> None:
    windows = ours(path, frame_stack, frame_stack - 1 + seq_length, 1)
    reference = theirs(path, frame_stack=frame_stack, seq_length=seq_length, pad_seq_length=False)
    compare(windows, list(range(len(windows))), reference)


@pytest.mark.parametrize("pad_seq_length", [True, False])
def test_without_padding_at_the_start(path: Path, pad_seq_length: bool) -> None:
    windows = ours(path, 3, 4, 2 if pad_seq_length else 1)
    reference = theirs(
        path, frame_stack=3, seq_length=2, pad_frame_stack=False, pad_seq_length=pad_seq_length
    )
    # A history that was filled up repeats its first frame; it is the only one that does.
    steps = windows.index.obs_indices
    whole = [number for number in range(len(windows)) if steps[number, 0] != steps[number, 1]]
    compare(windows, whole, reference)


def test_their_cached_dataset_is_the_same(path: Path) -> None:
    windows = ours(path, 2, 4, 3)
    for mode in ("low_dim", "all"):
        reference = theirs(path, frame_stack=2, seq_length=3, hdf5_cache_mode=mode)
        compare(windows, list(range(len(windows))), reference)
