"""Episodes in memory: checked with the episode and the key named, written, read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from lfm_policy import Dataset, InputError, write_zarr
from lfm_policy.data.images.layout import image_layout
from lfm_policy.data.lerobot.format import LeRobotConfig
from lfm_policy.data.robomimic.demos import write_robomimic
from lfm_policy.data.robomimic.format import RobomimicConfig
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import write_zarr as store_zarr

NUMBERS = [np.float32, np.float64, np.int64, np.uint8, np.bool_]


def episode(steps: int = 5, **changes: Any) -> dict[str, Any]:
    obs = {
        "joints": np.linspace(0, 1, steps * 7).reshape(steps, 7),
        "front": np.full((steps, 6, 8, 3), 40, np.uint8),
    }
    return {"obs": obs | changes.pop("obs", {}), "action": np.ones((steps, 7)), **changes}


@st.composite
def episode_lists(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Draw episodes of any numbers of steps whose observations are no images."""
    names = draw(
        st.sets(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_ .]{0,8}", fullmatch=True), min_size=1)
    )
    names -= {"action"}
    kinds = {
        name: (draw(st.sampled_from(NUMBERS)), draw(st.sampled_from([(1,), (3,), (2, 3)])))
        for name in sorted(names) or ["x"]
    }
    kinds["action"] = (draw(st.sampled_from(NUMBERS)), (draw(st.integers(1, 4)),))
    episodes, floats = [], st.floats(-1e6, 1e6, width=32)
    for steps in draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)):
        arrays = {
            name: draw(
                hnp.arrays(
                    dtype,
                    (steps, *shape),
                    elements=floats if np.dtype(dtype).kind == "f" else None,
                )
            )
            for name, (dtype, shape) in kinds.items()
        }
        action = arrays.pop("action")
        episodes.append({"obs": arrays, "action": action})
    return episodes


def same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["obs"].keys() == expected["obs"].keys()
    pairs = [(found["action"], expected["action"])]
    pairs += [(found["obs"][key], expected["obs"][key]) for key in expected["obs"]]
    for left, right in pairs:
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right)


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("places")
    return iter(folder / f"{i}.zarr" for i in range(100_000))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(episodes=episode_lists())
def test_what_is_written_is_read(places: Iterator[Path], episodes: list[dict[str, Any]]) -> None:
    path = write_zarr(episodes, next(places), fps=20)
    dataset = Dataset.open(path)
    assert dataset.fps == 20 and len(dataset) == len(episodes)
    for found, expected in zip(dataset.episodes, episodes, strict=True):
        same(found, expected)


@settings(max_examples=25, deadline=None)
@given(episodes=episode_lists())
def test_steps_give_what_whole_episodes_give(episodes: list[dict[str, Any]]) -> None:
    whole = Dataset.from_episodes(episodes)
    by_step = [
        [
            {"obs": {key: a[t] for key, a in e["obs"].items()}, "action": e["action"][t]}
            for t in range(len(e["action"]))
        ]
        for e in episodes
    ]
    for left, right in zip(Dataset.from_episodes(by_step).episodes, whole.episodes, strict=True):
        same(left, right)
    tensors = [
        {"obs": {k: torch.from_numpy(a) for k, a in e["obs"].items()}, "action": e["action"]}
        for e in episodes
    ]
    assert Dataset.from_episodes(tensors).buffer.fingerprint() == whole.buffer.fingerprint()


@pytest.mark.parametrize("shape", [(6, 8, 3), (3, 20, 24), (20, 24), (6, 8, 1)])
def test_images_are_read_as_from_a_file(tmp_path: Path, shape: tuple[int, ...]) -> None:
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 256, (4, *shape), np.uint8) for _ in range(2)]
    episodes = [{"obs": {"front": f}, "action": np.ones((4, 2))} for f in frames]
    dataset = Dataset.from_episodes(episodes)
    layout = image_layout(shape, np.dtype(np.uint8))
    assert layout is not None and dataset.cameras == ("front",)
    for found, expected in zip(dataset.episodes, frames, strict=True):
        np.testing.assert_array_equal(found["obs"]["front"], layout.to_frames(expected))
    write_zarr(episodes, tmp_path / "front.zarr")
    opened = Dataset.open(tmp_path / "front.zarr", image_cache=tmp_path / "cache")
    assert opened.buffer.fingerprint() == dataset.buffer.fingerprint()


def test_other_formats(tmp_path: Path) -> None:
    dataset = Dataset.from_episodes([episode(), episode(7)], fps=10)
    saved = dataset.save(tmp_path / "arm.hdf5")
    assert saved.format == "robomimic" and saved.path == tmp_path / "arm.hdf5"
    for left, right in zip(saved.episodes, dataset.episodes, strict=True):
        np.testing.assert_array_equal(left["obs"]["joints"], right["obs"]["joints"])
    with pytest.raises(InputError, match="steps per second"):
        Dataset.from_episodes([episode()]).save(tmp_path / "lerobot")
    assert Dataset.open(tmp_path / "arm.hdf5", obs_keys=["joints"]).cameras == ()


def test_what_a_dataset_tells_besides_is_saved_with_it(tmp_path: Path) -> None:
    buffer = Dataset.from_episodes([episode(), episode(7)]).buffer
    store_zarr(tmp_path / "a.zarr", buffer, tasks=["pick", "place"], fps=10)
    opened = Dataset.open(tmp_path / "a.zarr", image_cache=tmp_path / "cache")
    for name, config in (("b.hdf5", RobomimicConfig), ("b", LeRobotConfig), ("b.zarr", ZarrConfig)):
        assert opened.save(tmp_path / name).fps == 10
        assert config(path=str(tmp_path / name)).episode_tasks() == ["pick", "place"]
    described = {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}}
    write_robomimic(tmp_path / "c.hdf5", buffer, env_args=described)
    Dataset.open(tmp_path / "c.hdf5").save(tmp_path / "d.hdf5")
    assert RobomimicConfig.facts(tmp_path / "d.hdf5").env_args == described


def test_a_rate_that_was_said_afterwards_is_written(tmp_path: Path) -> None:
    path = write_zarr([episode()], tmp_path / "a.zarr")
    dataset = Dataset.open(path, image_cache=tmp_path / "cache")
    assert dataset.fps is None
    dataset.fps = 12.5
    assert dataset.save(tmp_path / "b").fps == 12.5


def test_the_rate_is_kept_and_nonsense_is_none(tmp_path: Path) -> None:
    path = write_zarr([episode()], tmp_path / "a.zarr", fps=12.5)
    assert ZarrConfig.facts(path).fps == 12.5
    for text in ('{"fps": "fast"}', "{", '{"fps": true}', '{"fps": -1}', "[]"):
        (path / ".zattrs").write_text(text)
        assert ZarrConfig.facts(path).fps is None


BAD: list[tuple[Any, str]] = [
    ([], "there is no episode"),
    (episode(), "found one dict, expected a list"),
    ([episode(), 3], "episode 1: is of type int"),
    ([{"joints": [1], "action": [1]}], "episode 0: has the keys 'joints', 'action'; expected"),
    ([episode(obs={"action": np.ones((5, 1))})], "'action' cannot be the name"),
    ([episode(obs={"a/b": np.ones((5, 1))})], "'a/b' cannot be the name"),
    ([{"obs": np.ones((5, 7)), "action": np.ones((5, 7))}], '"obs" holds a ndarray'),
    ([{"obs": {}, "action": np.ones((5, 7))}], '"obs" holds no observation'),
    ([episode(), episode(action=np.ones((4, 7)))], "episode 1: observation 'joints' has 5 steps"),
    ([episode(), episode(action=np.ones(5))], r"episode 1: the action has shape \(5,\)"),
    ([episode(obs={"gripper": np.ones(5)})], r"'gripper' has shape \(5,\).*array\[:, None\]"),
    ([episode(), episode(0)], "episode 1: the action has shape .* leave the episode out"),
    ([episode(), episode(obs={"extra": np.ones((5, 1))})], "episode 1: holds action, extra, front"),
    ([episode(), episode(action=np.ones((5, 6)))], r"episode 1: the action has shape \(6,\) per"),
    ([episode(), episode(obs={"joints": np.full((5, 7), np.nan)})], "episode 1: .*nan in step 0"),
    ([episode(action=np.full((5, 7), 1e60))], "episode 0: the action holds 1e.60 in step 0"),
    ([episode(obs={"joints": [["a"] * 7] * 5})], "episode 0: observation 'joints' has dtype <U1"),
    ([episode(obs={"joints": [[1, 2], [3]]})], "episode 0: observation 'joints' is no array"),
    ([episode(obs={"front": np.full((5, 6, 8, 3), 0.5)})], "'front': no value exceeds 0.5"),
    ([[]], "episode 0: is empty"),
    ([[{"obs": {"x": [1.0]}, "action": [1.0]}, 4]], "episode 0, step 1: is of type int"),
    (
        [[{"obs": {"x": [1.0]}, "action": [1.0]}, {"obs": {"x": [1.0, 2.0]}, "action": [1.0]}]],
        r"episode 0, step 1: observation 'x' has shape \(2,\), in step 0 \(1,\)",
    ),
    ([[{"obs": {"x": [1.0]}}]], "episode 0, step 0: has the keys 'obs'"),
]


@pytest.mark.parametrize(("episodes", "message"), BAD)
def test_bad_episodes(tmp_path: Path, episodes: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Dataset.from_episodes(episodes)
    with pytest.raises(InputError, match=message):
        write_zarr(episodes, tmp_path / "bad.zarr")
    assert not list(tmp_path.iterdir())


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    write_zarr([episode()], tmp_path / "a.zarr")
    for write in (write_zarr, lambda e, path: Dataset.from_episodes(e).save(path)):
        with pytest.raises(InputError, match="exists already"):
            write([episode()], tmp_path / "a.zarr")
    with pytest.raises(InputError, match="fps is -1"):
        Dataset.from_episodes([episode()], fps=-1)
