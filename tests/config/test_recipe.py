"""The defaults are the recipe that won on PushT state; what was measured keeps its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lfm_policy.config import ExperimentConfig, TrainingConfig, config_from_dict, load_config
from lfm_policy.config.load import stored_config
from lfm_policy.policy.model import ou_schedule

Write = Callable[[str], str]
CAMERAS = {"encoder": {"name": "cameras"}}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_file(text: str) -> str:
        path = tmp_path / "experiment.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


def test_the_best_recipe_is_the_defaults() -> None:
    best, defaults = load_config("pusht/lfm3"), ExperimentConfig()
    own = {"name", "dataset", "env"}
    assert dataclasses.replace(best, **{name: getattr(defaults, name) for name in own}) == defaults


@pytest.mark.parametrize(
    ("n_blocks", "sizes"),
    [(1, ()), (2, (0.01,)), (3, (0.01, 0.1)), (4, (0.01, 0.1, 1.0))],
)
def test_any_number_of_blocks_has_the_steps_of_the_recipe(
    n_blocks: int, sizes: tuple[float, ...]
) -> None:
    config = config_from_dict({"flow": {"n_blocks": n_blocks}}, "test")
    assert ou_schedule(config.flow).step_sizes == sizes  # to the bit


MEASURED: dict[str, tuple[Any, ...]] = {
    # step sizes, solver, evaluations, noise scale, dropout, weight decay, noise on observations,
    # steps of encoder and blocks, samples and inputs of students and their steps
    "pusht/fm": ((), "", 8, 1.0, 0.1, 0.01, 0.02, 0, 24_000, 4, "teacher", None),
    "pusht/lfm": ((0.01,), "midpoint", 64, 0.6, 0.1, 0.01, 0.02, 0, 24_000, 4, "teacher", None),
    "pusht/lfm3": ((0.01, 0.1), "", 16, 0.6, 0.0, 0.01, 0.02, 0, 24_000, 8, "corrected", 72_000),
    "pusht/lfm3_unet": (
        *((0.01, 0.1), "", 6, 0.6, None, 0.01, 0.02),
        *(0, 7_500, 4, "corrected", 72_000),
    ),
    "pusht/lfm3_direct": (
        *((0.01, 0.1), "", 3, 0.6, None, 0.01, 0.02),
        *(0, 7_500, 8, "corrected", 72_000),
    ),
    "pusht/lfm4": (
        *((0.03, 0.03 * 1.5, 0.03 * 1.5**2), "", 16, 1.0, 0.1, 0.01, 0.02),
        *(0, 24_000, 4, "teacher", None),
    ),
    "pusht/mip": ((), "", 2, 0.0, 0.1, 0.01, 0.02, 0, 24_000, 4, "teacher", None),
    "pusht/image_lfm": (
        *((0.01,), "midpoint", 64, 0.6, 0.1, 0.01, 0.02),
        *(30_000, 24_000, 4, "teacher", None),
    ),
    "robomimic/can": (
        *((0.01, 0.1), "", 16, 0.6, 0.0, 1e-6, 0.0),
        *(0, 24_000, 8, "corrected", 72_000),
    ),
    "robomimic/lift_image_gpu": (
        *((0.01, 0.1), "", 16, 0.6, None, 1e-6, 0.0),
        *(50_000, 100_000, 8, "corrected", 72_000),
    ),
}
"""What docs/results/ measured, or was written like it."""


@pytest.mark.parametrize("name", MEASURED)
def test_defaults_do_not_reach_what_was_measured_without_them(name: str) -> None:
    config = load_config(name)
    sampler, training, distill = config.sampler, config.training, config.distill
    found = (
        *(ou_schedule(config.flow).step_sizes, sampler.solver, sampler.nfe, sampler.noise_scale),
        *(getattr(config.network, "dropout", None), training.weight_decay, training.obs_noise),
        *(training.encoder_steps, training.total_steps, distill.samples, distill.inputs),
        distill.training.get("total_steps"),
    )
    assert found == MEASURED[name]


# -- when an encoder learns -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (CAMERAS, ("joint", 30_000)),
        ({"encoder": {"hidden": [8]}}, ("joint", 30_000)),
        ({}, ("block1", 0)),
        ({**CAMERAS, "flow": {"n_blocks": 1}}, ("block1", 0)),
        ({**CAMERAS, "flow": {"coupling": "shuffled"}}, ("block1", 0)),
        ({**CAMERAS, "training": {"parallel_processes": 2}}, ("block1", 0)),
        ({**CAMERAS, "training": {"encoder_steps": 0}}, ("block1", 0)),
        ({**CAMERAS, "training": {"encoder": "block1"}}, ("block1", 0)),
        ({**CAMERAS, "training": {"encoder_steps": 5, "total_steps": 0}}, ("joint", 5)),
    ],
)
def test_an_encoder_learns_jointly_wherever_it_can(
    changes: dict[str, Any], expected: tuple[str, int]
) -> None:
    training = config_from_dict(changes, "test").training
    assert (training.encoder, training.encoder_steps) == expected


def test_it_is_found_out_after_all_changes() -> None:
    options = {"dataset": {"path": "absent.zarr"}}
    assert load_config(options).training.encoder == "block1"
    assert load_config(options, ["encoder.name=cameras"]).training.encoder == "joint"


# -- warm-up --------------------------------------------------------------------------------------


def test_warm_up_is_a_share_of_the_steps_unless_it_is_given() -> None:
    options = TrainingConfig()
    assert [options.warmup(n) for n in (8_000, 400, 10, 1)] == [200, 10, 0, 0]
    assert TrainingConfig(warmup_share=0.5).warmup(10) == 5
    fixed = TrainingConfig(warmup_steps=200)
    assert [fixed.warmup(n) for n in (8_000, 10)] == [200, 10]
    assert TrainingConfig(warmup_steps=0).warmup(8_000) == 0


# -- options that are keys and values -------------------------------------------------------------


def test_what_students_are_trained_by_is_changed_key_by_key(write: Write) -> None:
    recipe = ExperimentConfig().distill.training
    path = write("distill: {training: {total_steps: 100}}\n")
    assert load_config(path).distill.training == recipe | {"total_steps": 100}
    changed = load_config(path, ["distill.training.batch_size=8"]).distill.training
    assert changed == recipe | {"total_steps": 100, "batch_size": 8}
    assert load_config(path, ["distill.training={}"]).distill.training == {}
    assert load_config(write("distill: {training: {}}\n")).distill.training == {}
    assert load_config(write("distill: {}\n")).distill.training == recipe
    assert ExperimentConfig().distill.training == recipe  # the default itself stays as it is


def test_options_that_a_checkpoint_does_not_have_mean_what_they_did() -> None:
    config = stored_config({"encoder": {"name": "cameras"}, "flow": {"n_blocks": 2}}, "old")
    assert config.sampler.noise_scale == 1.0
    assert (config.training.encoder, config.training.obs_noise) == ("block1", 0.0)
    assert (config.distill.samples, config.distill.training) == (4, {})
    given = stored_config({"sampler": {"noise_scale": 0.3}}, "old")
    assert given.sampler.noise_scale == 0.3


# -- the format of the dataset --------------------------------------------------------------------


def test_a_format_that_nobody_named_is_recognised(write: Write, tmp_path: Path) -> None:
    (tmp_path / "demos.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n")
    (tmp_path / "demos.zarr").mkdir()
    path = write("name: x\n")
    for file, name in (("demos.hdf5", "robomimic"), ("demos.zarr", "zarr")):
        assert load_config(path, [f"dataset.path={tmp_path / file}"]).dataset.name == name
    named = ["dataset.path=elsewhere", "dataset.name=robomimic"]  # in any order
    for overrides in (named, named[::-1]):
        dataset = load_config(path, overrides).dataset
        assert (dataset.name, dataset.path) == ("robomimic", "elsewhere")
    zarr = write(f"dataset: {{name: zarr, path: {tmp_path / 'demos.hdf5'}}}\n")
    assert load_config(zarr).dataset.name == "zarr"
    assert load_config(path, ["dataset.path=absent.hdf5"]).dataset.name == "zarr"
