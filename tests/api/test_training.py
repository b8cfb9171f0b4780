"""Training and distillation from objects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml

from lfm_policy import Dataset, InputError, Policy, check, distill, load_config, load_policy, train
from lfm_policy.api.training import DATASETS, run_of
from lfm_policy.config import config_from_dict
from lfm_policy.config.load import changed_config, override_texts
from lfm_policy.data.tools.convert import convert

pytestmark = pytest.mark.slow
Reaching = Callable[..., list[dict[str, Any]]]

QUIET: dict[str, Any] = {"device": "cpu", "quiet": True}


def chunk(policy: Policy) -> np.ndarray:
    policy.sample_seed(0, episode=0)
    return policy.predict_action_chunk(policy.fake_batch(4)).numpy()


def test_a_run_of_episodes_in_memory_can_be_repeated(
    policy: Policy, tiny: dict[str, Any], reaching: Reaching
) -> None:
    run = Path(str(run_of(policy)))
    assert run.name == "tiny" and policy.info["complete"]
    (store,) = (run.parent / DATASETS).iterdir()
    assert policy.config.dataset.path == str(store) and store.suffix == ".zarr"
    assert len(Dataset.open(store)) == 6
    # Again, from what lies there and from what is in memory: nothing new is written.
    for dataset in (store, reaching(), Dataset.open(store), None):
        again = train(policy.config, dataset, output=run.parent / "again", resume=True, **QUIET)
        assert np.array_equal(chunk(again), chunk(policy))
    with pytest.raises(InputError, match="there is a run already"):
        train(policy.config, output=run, **QUIET)
    with pytest.raises(InputError, match="was trained on other demonstrations"):
        train(tiny, reaching(5), output=run, resume=True, **QUIET)
    assert len(list((run.parent / DATASETS).iterdir())) == 2


def test_the_checkpoint_is_where_the_policy_says(policy: Policy) -> None:
    loaded = load_policy(policy.info["checkpoint"])
    assert np.array_equal(chunk(loaded), chunk(policy))
    assert run_of(loaded) == run_of(policy)
    assert run_of(load_policy("pusht-state")) == "pusht-state"


def test_a_policy_is_checked_on_a_dataset(policy: Policy, reaching: Reaching) -> None:
    store = Path(policy.config.dataset.path)
    options: dict[str, Any] = {"samples": 2}
    found = check(policy, data=store, **options).to_dict()
    for dataset in (Dataset.open(store), Dataset.from_episodes(reaching())):
        again = check(policy, data=dataset, **options).to_dict()
        assert again["open_loop"] == found["open_loop"]


def test_students(policy: Policy, tmp_path: Path) -> None:
    run = Path(str(run_of(policy)))
    options: dict[str, Any] = {"training": {"total_steps": 6}, "distill": {"samples": 1}}
    student = distill(policy, nfe=1, **options, **QUIET)
    assert student.nfe == 1 and run_of(student) == run / "student-nfe1-regression"
    grouped = distill(run, groups=(1, 1), output=tmp_path / "grouped", **options, **QUIET)
    assert grouped.nfe == 2 and run_of(grouped) == tmp_path / "grouped"
    with pytest.raises(InputError, match="is a student itself"):
        distill(student, **QUIET)
    by_hand = Policy(policy.config, policy.spec, policy.model, policy.normalizer)
    with pytest.raises(InputError, match="on no disk"):
        distill(by_hand, **QUIET)


def test_what_a_demo_lacks_is_an_error_and_not_left_out(
    tmp_path: Path, tiny: dict[str, Any], reaching: Reaching
) -> None:
    path = tmp_path / "demos.hdf5"
    convert(Dataset.from_episodes(reaching()).save(tmp_path / "demos.zarr").path, path)
    with h5py.File(path, "r+") as file:
        (key, *_) = file["data/demo_2/obs"]
        del file[f"data/demo_2/obs/{key}"]
    with pytest.raises(InputError, match=f"demo_2 has no obs/{key}"):
        train(tiny, path, output=tmp_path / "run", **QUIET)


def test_what_is_observed(tmp_path: Path, tiny: dict[str, Any], reaching: Reaching) -> None:
    dataset = Dataset.from_episodes(reaching(camera=True), fps=10)
    with pytest.warns(UserWarning, match="cameras front are left out"):
        policy = train(tiny, dataset, output=tmp_path / "a" / "run", **QUIET)
    assert set(policy.spec.obs_shapes) == {"goal", "hand"}
    store = next((tmp_path / "a" / DATASETS).iterdir())
    opened = Dataset.open(store, obs_keys=["hand"])
    policy = train(tiny, opened, output=tmp_path / "b", **QUIET)
    assert set(policy.spec.obs_shapes) == {"hand"}
    options = {"dataset.obs_keys": ["goal"], "seed": 3}
    policy = train(tiny, store, output=tmp_path / "c", **options, **QUIET)
    assert set(policy.spec.obs_shapes) == {"goal"} and policy.config.seed == 3


def test_derived_observations_stay(tmp_path: Path, tiny: dict[str, Any]) -> None:
    from lfm_policy.assets import bundled_demonstrations

    small = {key: tiny[key] for key in ("training", "network")}
    config = changed_config(load_config("pusht/demo"), override_texts(small))
    policy = train(config, bundled_demonstrations(), output=tmp_path / "run", **QUIET)
    assert policy.config.dataset.derive == "pusht"


def test_bad_options(tmp_path: Path, tiny: dict[str, Any], reaching: Reaching) -> None:
    for options, message in (
        ({"trainin": {"total_steps": 3}}, "unknown key 'trainin'"),
        ({"training.total_step": 3}, "unknown key 'training.total_step'"),
        ({"training": {"total_steps": "many"}}, "training.total_steps"),
        ({"seed": object()}, "option seed: found <object"),
    ):
        with pytest.raises(InputError, match=message):
            train(tiny, reaching(), output=tmp_path / "run", **options)
    with pytest.raises(InputError, match="no such file or folder"):
        train(tiny, "nowhere.zarr", output=tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"training.learning_rate": 1e-5}, "training: {learning_rate: 1.0e-5}"),
        ({"name": "yes", "flow.n_blocks": np.int64(3)}, "{name: 'yes', flow: {n_blocks: 3}}"),
        (
            {"flow": {"step_sizes": (0.25, np.float32(0.5)), "n_blocks": 3}},
            "flow: {step_sizes: [0.25, 0.5], n_blocks: 3}",
        ),
        ({"dataset": {"path": Path("a b/c.zarr"), "rename": {}}}, "dataset: {path: a b/c.zarr}"),
        ({"name": 'two "words": {x}'}, "name: 'two \"words\": {x}'"),
    ],
)
def test_options_are_overrides(options: dict[str, Any], text: str) -> None:
    config = changed_config(config_from_dict({}, "test"), override_texts(options))
    assert config == config_from_dict(yaml.safe_load(text), "test")


def test_a_training_starts_from_a_policy(
    policy: Policy, tmp_path: Path, tiny: dict[str, Any], reaching: Reaching
) -> None:
    runs = [
        train(tiny, reaching(4), output=tmp_path / name, init_from=source, **QUIET)
        for name, source in (("policy", policy), ("run", run_of(policy)))
    ]
    fresh = train(tiny, reaching(4), output=tmp_path / "fresh", **QUIET)
    assert np.array_equal(chunk(runs[0]), chunk(runs[1]))
    assert not np.array_equal(chunk(runs[0]), chunk(fresh))


@pytest.mark.parametrize("format_name", ["zarr", "robomimic", "lerobot", "memory"])
@pytest.mark.parametrize("named", ["hand", "observation.hand"])
def test_observations_of_the_configuration_in_whatever_format(
    format_name: str, named: str, reaching: Any, tiny: dict[str, Any], tmp_path: Path
) -> None:
    data: Any = Dataset.from_episodes(reaching(), fps=10)
    if format_name != "memory":
        end = {"zarr": ".zarr", "robomimic": ".hdf5"}.get(format_name, "")
        data = data.save(tmp_path / f"reach{end}").path
    name = "lerobot" if named.startswith("observation.") else "zarr"
    config = {**tiny, "dataset": {**tiny["dataset"], "name": name, "obs_keys": [named]}}
    policy = train(config, data, output=tmp_path / "runs" / "run", quiet=True, device="cpu")
    assert policy.spec.obs_shapes == {"hand": (2,)}


def test_what_the_data_lack_is_said_and_all_is_observed(
    reaching: Any, tiny: dict[str, Any], tmp_path: Path
) -> None:
    config = {**tiny, "dataset": {"name": "lerobot", "obs_keys": ["observation.pose"]}}
    with pytest.warns(UserWarning, match="has no pose, which the configuration observes"):
        policy = train(config, reaching(), output=tmp_path / "runs" / "run", quiet=True)
    assert set(policy.spec.obs_shapes) == {"goal", "hand"}


def test_one_dataset_and_several_in_a_folder(
    reaching: Any, tiny: dict[str, Any], tmp_path: Path
) -> None:
    folder = tmp_path / "several"
    folder.mkdir()
    for name in ("a.hdf5", "b.hdf5"):
        Dataset.from_episodes(reaching(), fps=10).save(folder / name)
    config = {**tiny, "dataset": {"name": "several", "each": {"obs_keys": ["hand"]}}}
    both = train(config, folder, output=tmp_path / "runs" / "both", quiet=True, device="cpu")
    one = train(config, folder / "a.hdf5", output=tmp_path / "runs" / "one", quiet=True)
    assert both.config.dataset.name == "several" and one.config.dataset.name == "robomimic"
