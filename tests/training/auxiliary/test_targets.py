"""Which numbers of a dataset become targets, in every format, and what is refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.config import ExperimentConfig, config_from_dict
from lfm_policy.data.dataset_config import DatasetConfig, WriteOptions
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.images.cache import CachedImages
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.store import write_zarr
from lfm_policy.errors import InputError
from lfm_policy.options import option, options
from lfm_policy.training.auxiliary.targets import Targets, read_targets
from lfm_policy.training.rows.data import load_datasets

LENGTHS = (9, 12, 7, 11)


def arrays_of(lengths: tuple[int, ...] = LENGTHS, *, camera: bool = True) -> dict[str, np.ndarray]:
    rng, steps = np.random.default_rng(0), sum(lengths)
    arrays = {
        "action": rng.uniform(-1, 1, (steps, 2)),
        "joints": rng.normal(size=(steps, 3)),
        "pose": rng.normal(size=(steps, 4)) * [1, 10, 100, 0] + [0, 1, 2, 3],
        "corners": rng.normal(size=(steps, 2, 2)),
    }
    arrays = {key: array.astype(np.float32) for key, array in arrays.items()}
    if camera:
        arrays["front"] = rng.integers(0, 256, (steps, 16, 16, 3), np.uint8)
    return arrays


@pytest.fixture(scope="module", params=["zarr", "robomimic", "lerobot"])
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return format and path of the same demonstrations."""
    name = request.param
    path = tmp_path_factory.mktemp("stored") / {"robomimic": "demos.hdf5"}.get(name, "demos.zarr")
    buffer = ReplayBuffer(arrays_of(), np.cumsum(LENGTHS))
    DATASET_FORMATS.get(name).write(path, buffer, WriteOptions(fps=10))
    return name, path


def key_of(name: str, key: str) -> str:
    """Return what a format calls an array."""
    if name != "lerobot":
        return key
    return f"observation.images.{key}" if key == "front" else f"observation.{key}"


def make_config(name: str, path: Path, keys: list[str], **changes: Any) -> ExperimentConfig:
    dataset = {"name": name, "path": str(path), "validation_ratio": 0.3}
    dataset |= changes.pop("dataset", {"obs_keys": [key_of(name, "joints")]})
    return config_from_dict(
        {
            "dataset": dataset,
            "policy": {"n_obs_steps": 2, "horizon": 4, "n_action_steps": 2},
            "encoder": {"name": "state", "hidden": [4]},
            "auxiliary": {"keys": keys},
            **changes,
        },
        "test",
    )


def targets_of(config: ExperimentConfig, cache: Path) -> Targets:
    found = read_targets(config, load_datasets(config, cache))
    assert found is not None
    return found


# -- what they are -------------------------------------------------------------------------------


def test_every_format_has_them(stored: tuple[str, Path], tmp_path: Path) -> None:
    name, path = stored
    keys = [key_of(name, "corners"), key_of(name, "pose")]
    config = make_config(name, path, keys)
    data = load_datasets(config, tmp_path)
    targets = read_targets(config, data)
    assert targets is not None
    assert targets.sizes == {"corners": 4, "pose": 4}
    raw = arrays_of(camera=False)
    values = np.concatenate([raw["corners"].reshape(-1, 4), raw["pose"]], axis=1)
    buffer = ReplayBuffer(raw, np.cumsum(LENGTHS))
    trained = values[buffer.steps_of(data.train_episodes)]
    assert 0 < len(trained) < len(values)
    low, high = trained.min(0), trained.max(0)
    still = high == low
    assert still.sum() == 1
    # As observations are by default: the range of the training split becomes -1 to 1.
    spread = np.where(still, 1, (high - low) / 2)
    expected = (values - (high + low) / 2) / spread
    np.testing.assert_allclose(targets.values.numpy(), expected, atol=1e-5)
    assert "front" not in data.obs_shapes and not any(tmp_path.iterdir())  # no image was opened
    assert "corners (2, 2), spread 1" in targets.in_words()


def test_the_mode_of_observations_scales_them(tmp_path: Path) -> None:
    write_zarr(tmp_path / "demos.zarr", ReplayBuffer(arrays_of(), np.cumsum(LENGTHS)))
    changes = {"normalization": {"obs": "identity"}}
    config = make_config("zarr", tmp_path / "demos.zarr", ["pose"], **changes)
    values = targets_of(config, tmp_path).values.numpy()
    np.testing.assert_array_equal(values, arrays_of()["pose"])


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    n_obs_steps=st.integers(1, 3),
    draw=st.randoms(use_true_random=False),
)
def test_a_window_has_those_of_its_own_frames(
    lengths: list[int], n_obs_steps: int, draw: Any
) -> None:
    # The observation of a step is its number, and so is the target.
    steps = sum(lengths)
    number = np.arange(steps, dtype=np.float32)[:, None]
    arrays = {"action": number, "seen": number, "told": np.concatenate([number, -number], 1)}

    @options
    class Numbered(DatasetConfig):
        obs_keys: list[str] = option([], "observed")
        rename: dict[str, str] = option({}, "names")

        def load(self, image_cache: Any = None, *, quiet: bool = True) -> ReplayBuffer:
            kept = {key: arrays[key] for key in ("action", *self.obs_keys)}
            return ReplayBuffer(kept, np.cumsum(lengths))

    horizon = n_obs_steps + 1
    base = make_config("zarr", Path(), ["told"], dataset={"obs_keys": ["seen"]})
    config = ExperimentConfig(
        dataset=Numbered(obs_keys=["seen"], validation_ratio=0.0),
        policy=type(base.policy)(n_obs_steps=n_obs_steps, horizon=horizon, n_action_steps=2),
        normalization=type(base.normalization)(obs="identity"),
        auxiliary=base.auxiliary,
    )
    data = load_datasets(config)
    targets = read_targets(config, data)
    assert targets is not None
    idx = torch.tensor([draw.randrange(len(data.train)) for _ in range(5)])
    seen = data.train.gather_obs(idx)["seen"]
    assert torch.equal(targets.of(data.train, idx), torch.cat([seen, -seen], 2))


def test_they_may_be_derived(pusht_zarr: Path, tmp_path: Path) -> None:
    dataset = {"obs_keys": ["agent_pos"], "derive": "pusht", "max_episodes": 3}
    keys = ["block_pose", "keypoints"]
    targets = targets_of(make_config("zarr", pusht_zarr, keys, dataset=dataset), tmp_path)
    assert targets.sizes == {"block_pose": 4, "keypoints": 16}


def test_values_that_float32_cannot_tell_apart(tmp_path: Path) -> None:
    arrays = arrays_of()
    near = np.linspace(0, 1, len(arrays["action"]))[:, None]
    arrays["far"] = near + 1e9
    write_zarr(tmp_path / "demos.zarr", ReplayBuffer(arrays, np.cumsum(LENGTHS)))
    config = make_config(
        "zarr",
        tmp_path / "demos.zarr",
        ["far"],
        dataset={"obs_keys": ["joints"], "validation_ratio": 0.0},
    )
    values = targets_of(config, tmp_path).values.numpy()
    np.testing.assert_allclose(values, 2 * near - 1, atol=1e-6)


def test_what_is_said_of_observations_is_not_said_of_targets(
    stored: tuple[str, Path], tmp_path: Path
) -> None:
    name, path = stored
    camera, joints = key_of(name, "front"), key_of(name, "joints")
    dataset: dict[str, Any] = {"obs_keys": [camera, joints], "rename": {joints: "arm"}}
    auxiliary = {"keys": [key_of(name, "pose")]}
    encoder = {"name": "cameras", "image": {"name": "compact", "crop": [12, 12]}}
    config = make_config(name, path, [], dataset=dataset, auxiliary=auxiliary, encoder=encoder)
    data = load_datasets(config, tmp_path)
    assert set(data.obs_shapes) == {"front", "arm"}
    targets = read_targets(config, data)
    assert targets is not None and targets.sizes == {"pose": 4}


def test_a_camera_of_depth_beside_them(tmp_path: Path) -> None:
    arrays = arrays_of(camera=False)
    arrays["depth"] = np.full((len(arrays["action"]), 16, 16, 1), 500, np.uint16)
    arrays["depth"][:, :8] = 900
    write = {key: array for key, array in arrays.items() if key != "depth"}
    write_zarr(tmp_path / "demos.zarr", ReplayBuffer(write, np.cumsum(LENGTHS)))
    zarr.open_group(str(tmp_path / "demos.zarr"))["data"].create_array(
        "depth", data=arrays["depth"]
    )
    dataset = {"obs_keys": ["depth", "joints"], "depth": {"depth": [400, 1000]}}
    encoder = {"name": "cameras", "image": {"name": "compact", "crop": [12, 12]}}
    config = make_config(
        "zarr", tmp_path / "demos.zarr", ["pose"], dataset=dataset, encoder=encoder
    )
    data = load_datasets(config, tmp_path / "cache")
    targets = read_targets(config, data)
    assert targets is not None and targets.sizes == {"pose": 4}


def test_tasks_that_the_policy_is_told_are_no_targets(tmp_path: Path) -> None:
    path = tmp_path / "tasks.zarr"
    write_zarr(path, ReplayBuffer(arrays_of(), np.cumsum(LENGTHS)))
    root = zarr.open_group(str(path), mode="a")
    root.create_array("data/task_index", data=np.repeat([1, 0, 1, 0], LENGTHS))
    root.attrs["tasks"] = ["reach", "push"]
    dataset = {"obs_keys": ["joints"], "tasks": ["push", "reach"]}
    targets = targets_of(make_config("zarr", path, ["pose"], dataset=dataset), tmp_path / "cache")
    assert targets.sizes == {"pose": 4}


def test_there_are_none_by_default_or_without_weight(stored: Any, tmp_path: Path) -> None:
    name, path = stored
    for auxiliary in ({"keys": []}, {"keys": ["nowhere"], "weight": 0}):
        config = make_config(name, path, [], auxiliary=auxiliary)
        assert read_targets(config, load_datasets(config, tmp_path)) is None


def test_what_was_said_of_the_action_is_not_said_again(tmp_path: Path) -> None:
    raw = arrays_of(camera=False)
    raw["action"] = raw["action"] * 3  # outside what robomimic's controllers take
    path = tmp_path / "demos.hdf5"
    described = {"env_name": "Lift", "type": 1, "env_kwargs": {}}
    how = WriteOptions(fps=10, env_args=described)
    DATASET_FORMATS.get("robomimic").write(path, ReplayBuffer(raw, np.cumsum(LENGTHS)), how)
    config = make_config("robomimic", path, ["pose"])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        targets_of(config, tmp_path)
    assert len([w for w in told if "actions range from" in str(w.message)]) == 1


# -- what is refused -----------------------------------------------------------------------------


def test_what_the_dataset_lacks(stored: tuple[str, Path], tmp_path: Path) -> None:
    name, path = stored
    with pytest.raises(InputError, match=r"auxiliary\.keys is \['observation\.pos'\]: .*pos") as e:
        targets_of(make_config(name, path, ["observation.pos"]), tmp_path)
    assert "pose" in str(e.value)


def test_images(stored: tuple[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, path = stored

    def opened(images: CachedImages, *_: Any, **__: Any) -> None:
        raise AssertionError("frames were decoded")

    monkeypatch.setattr(CachedImages, "open", opened)
    config = make_config(name, path, [key_of(name, "front")])
    with pytest.raises(InputError, match="'front' are images .*targets are numbers"):
        targets_of(config, tmp_path)


@pytest.mark.parametrize("name", ["robomimic", "lerobot"])
def test_what_is_observed_because_all_is(name: str, tmp_path: Path) -> None:
    path = tmp_path / {"robomimic": "demos.hdf5"}.get(name, "demos")
    buffer = ReplayBuffer(arrays_of(camera=False), np.cumsum(LENGTHS))
    DATASET_FORMATS.get(name).write(path, buffer, WriteOptions(fps=10))
    config = make_config(name, path, [key_of(name, "pose")], dataset={})
    with pytest.raises(InputError, match=r"observes 'pose': .*dataset\.obs_keys"):
        targets_of(config, tmp_path)


def test_options_that_contradict(stored: tuple[str, Path]) -> None:
    name, path = stored
    with pytest.raises(InputError, match=r"auxiliary\.keys names '.*joints', which the policy obs"):
        make_config(name, path, [key_of(name, "joints")])
    action = "actions" if name == "robomimic" else "action"
    with pytest.raises(InputError, match="names '.*', the action, which is predicted anyway"):
        make_config(name, path, [action])
    with pytest.raises(InputError, match=r"auxiliary\.keys .* names 'pose' twice"):
        make_config(name, path, ["pose", "pose"])


def test_a_format_that_cannot_choose(tmp_path: Path) -> None:
    @options
    class All(DatasetConfig):
        name: str = option("all", "format")

        def load(self, image_cache: Any = None, *, quiet: bool = True) -> ReplayBuffer:
            return ReplayBuffer(arrays_of(camera=False), np.cumsum(LENGTHS))

    base = make_config("zarr", Path(), ["pose"], dataset={"obs_keys": ["joints"]})
    config = ExperimentConfig(dataset=All(), policy=base.policy, auxiliary=base.auxiliary)
    with pytest.raises(InputError, match="format 'all' has no options obs_keys and rename"):
        targets_of(config, tmp_path)
