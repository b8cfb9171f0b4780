"""Files, includes and overrides become options, or a message that says where the mistake is."""

from __future__ import annotations

import dataclasses
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from lfm_policy.config import (
    ExperimentConfig,
    bundled_config_names,
    config_from_dict,
    config_to_dict,
    config_to_yaml,
    load_config,
)
from lfm_policy.config.load import changed_config, stored_config
from lfm_policy.encoders.options import StateEncoderConfig
from lfm_policy.errors import InputError
from lfm_policy.networks.options import MLPConfig, TransformerConfig, UNet1DConfig

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes a YAML file and returns its path."""

    def write_file(text: str, name: str = "experiment.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write_file


def refusal(name: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        load_config(name, overrides)
    text = str(caught.value)
    assert len(text) < 3000
    return text


# -- what is right --------------------------------------------------------------------------------


def test_bundled_names() -> None:
    assert {"pusht/fm", "pusht/lfm4"} <= set(bundled_config_names())
    assert not any(name.startswith("shared") for name in bundled_config_names())


def test_defaults(write: Write) -> None:
    assert load_config(write("")) == ExperimentConfig()
    assert load_config(write("# nothing\n")) == ExperimentConfig()


def test_a_file_and_its_overrides(write: Write) -> None:
    path = write("name: mine\ntraining: {total_steps: 7, learning_rate: 2e-3}\n")
    config = load_config(path, ["training.total_steps=9", "seed=4", "training.total_steps=10"])
    assert (config.name, config.seed) == ("mine", 4)
    assert config.training.total_steps == 10
    assert config.training.learning_rate == 2e-3
    assert config.training.batch_size == ExperimentConfig().training.batch_size


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("training.learning_rate=1e-3", "training.learning_rate", 1e-3),
        ("training.learning_rate=1E-3", "training.learning_rate", 1e-3),
        ("training.learning_rate=.5", "training.learning_rate", 0.5),
        ("training.learning_rate=1", "training.learning_rate", 1.0),
        ("training.total_steps=24_000", "training.total_steps", 24_000),
        ("dataset.obs_keys=[a, b]", "dataset.obs_keys", ["a", "b"]),
        ("dataset.obs_keys=[]", "dataset.obs_keys", []),
        ("dataset.max_episodes=null", "dataset.max_episodes", None),
        ("dataset.max_episodes=5", "dataset.max_episodes", 5),
        ("dataset.path=a=b", "dataset.path", "a=b"),
        ("dataset.path=", "dataset.path", None),
        ("dataset.path='1e3'", "dataset.path", "1e3"),
        ("dataset.path=1e3", "dataset.path", "1e3"),
        ("dataset.path=nan", "dataset.path", "nan"),
        ("dataset.path=/tmp/a b/é.zarr", "dataset.path", "/tmp/a b/é.zarr"),
        ("training.warm_start=false", "training.warm_start", False),
        ("training.warm_start=no", "training.warm_start", False),
        ("training.mixed_precision=no", "training.mixed_precision", "no"),
        (" seed =3", "seed", 3),
        ("flow={n_blocks: 2, c: 1e-2}", "flow.c", 0.01),
    ],
)
def test_values_of_overrides(write: Write, override: str, key: str, value: Any) -> None:
    if value is None and key == "dataset.path":
        assert "dataset.path: found None, expected str" in refusal(write(""), override)
        return
    found: Any = load_config(write(""), [override])
    for part in key.split("."):
        found = getattr(found, part)
    assert found == value and type(found) is type(value)


def test_lists_of_numbers(write: Write) -> None:
    path = write("flow: {n_blocks: 3}\n")
    config = load_config(path, ["flow.step_sizes=[1e-2, 3]"])
    assert config.flow.step_sizes == [0.01, 3.0]
    # A list is replaced, not extended.
    config = load_config(path, ["flow.step_sizes=[1, 2]", "flow.step_sizes=[4, 5]"])
    assert config.flow.step_sizes == [4.0, 5.0]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**62),
    horizon=st.integers(9, 4096),
    n_blocks=st.integers(1, 4),
    rate=st.floats(0, 10),
    name=st.text("abcXYZ 0123456789_-.é:#'\"", max_size=30),
    keys=st.lists(st.sampled_from("abcdef"), unique=True),
    widths=st.lists(st.integers(1, 64), max_size=3),
)
def test_options_to_dict_and_back_is_the_identity(
    seed: int,
    horizon: int,
    n_blocks: int,
    rate: float,
    name: str,
    keys: list[str],
    widths: list[int],
) -> None:
    options = {
        "name": name,
        "seed": seed,
        "dataset": {"name": "zarr", "obs_keys": keys},
        "encoder": {"name": "state", "hidden": widths},
        "policy": {"horizon": horizon},
        "flow": {"n_blocks": n_blocks},
        "block_networks": [{"width": 8 + n} for n in range(n_blocks)],
        "training": {"learning_rate": rate},
    }
    config = config_from_dict(options, "test")
    assert (config.name, config.seed, config.training.learning_rate) == (name, seed, rate)
    assert config_from_dict(config_to_dict(config), "again") == config
    assert config_from_dict(yaml.safe_load(config_to_yaml(config)), "YAML") == config


# -- includes -------------------------------------------------------------------------------------


def test_includes_are_read_first_and_in_order(write: Write) -> None:
    write("name: a\nseed: 1\ntraining: {total_steps: 5, batch_size: 4}\n", "parts/a.yaml")
    write("include: a.yaml\nname: b\nsampler: {nfe: 9}\n", "parts/b.yaml")
    write("seed: 3\ntraining: {batch_size: 6}\n", "c.yaml")
    path = write("include: [parts/b.yaml, c.yaml]\nsampler: {nfe: 10}\n")
    config = load_config(path)
    assert (config.name, config.seed, config.sampler.nfe) == ("b", 3, 10)
    assert (config.training.total_steps, config.training.batch_size) == (5, 6)


@pytest.mark.parametrize("text", ["include: []\nseed: 1", "include:\nseed: 1"])
def test_nothing_included(write: Write, text: str) -> None:
    assert load_config(write(text)).seed == 1


def test_bundled_configurations_can_be_included(write: Write) -> None:
    path = write("include: [pusht/lfm4]\nname: mine\n")
    config, bundled = load_config(path), load_config("pusht/lfm4")
    assert config == dataclasses.replace(bundled, name="mine")
    # What stands beside the file wins.
    write("seed: 5\n", "pusht/lfm4")
    assert load_config(path).seed == 5 and load_config(path).flow.c == ExperimentConfig().flow.c


def test_missing_include(write: Write) -> None:
    path = write("include: [parts/a.yaml]\n")
    assert f"{path}: include: there is no file 'parts/a.yaml' beside it" in refusal(path)
    message = refusal(write("include: [pusht/lmf4]\n"))
    assert "beside it" in message and "did you mean 'pusht/lfm4'" in message


def test_what_stands_in_the_working_folder_is_not_included(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("seed: 1\n", "here/a.yaml")
    monkeypatch.chdir(tmp_path / "here")
    assert "there is no file 'a.yaml' beside it" in refusal(write("include: a.yaml\n"))


def test_files_that_include_one_another(write: Write) -> None:
    write("include: b.yaml\n", "a.yaml")
    path = write("include: a.yaml\n", "b.yaml")
    assert "files include one another more than 16 deep" in refusal(path)


def test_a_mistake_in_an_included_file_names_that_file(write: Write, tmp_path: Path) -> None:
    part = write("sampler: {nfee: 3}\n", "part.yaml")
    path = write("include: part.yaml\nname: x\n")
    assert refusal(path).startswith(f"{part}: unknown key 'sampler.nfee'")


# -- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # Unknown keys.
        ("traning: {}", "unknown key 'traning': did you mean 'training'"),
        (
            "training: {learning_rat: 1}",
            "unknown key 'training.learning_rat' of 'training': did you mean 'learning_rate'",
        ),
        ("network: {widht: 3}", "unknown key 'network.widht' of 'network': did you mean 'width'"),
        ("flow: {time: {nam: x}}", "unknown key 'flow.time.nam' of 'flow.time': did you mean 'na"),
        (
            "sampler: {zzzz: 1}",
            "unknown key 'sampler.zzzz' of 'sampler': known: solver, nfe, block_nfe, rtol",
        ),
        ("1: 2", "unknown key '1'"),
        ("a.b: 2", "unknown key 'a.b'"),
        ("'policy.horizon': 2", "unknown key 'policy.horizon'"),
        ("'[': 2", "unknown key '['"),
        ("'': 2", "unknown key ''"),
        ("policy: {include: x}", "unknown key 'policy.include' of 'policy'"),
        ("network: {name: transformer, channels: [8]}", "unknown key 'network.channels' of 'net"),
        # Wrong types.
        ("seed: abc", "seed: found 'abc', expected int"),
        ("seed: 1.5", "seed: found 1.5, expected int"),
        ("seed: null", "seed: found None, expected int"),
        ("seed: [1]", "seed: found [1], expected int"),
        ("seed: {a: 1}", "seed: found {'a': 1}, expected int"),
        ("training: {learning_rate: fast}", "training.learning_rate: found 'fast', expected float"),
        ("training: {warm_start: maybe}", "training.warm_start: found 'maybe', expected bool"),
        ("flow: {n_blocks: 2, step_sizes: [a]}", "flow.step_sizes[0]: found 'a', expected float"),
        ("flow: {step_sizes: 3}", "flow.step_sizes: found 3, expected list[float]"),
        ("dataset: {obs_keys: x}", "dataset.obs_keys: found 'x', expected list[str]"),
        ("block_networks: [3]", "block_networks[0]: found 3, expected keys and values in braces"),
        ("network: 3", "network: found 3, expected keys and values: name, width"),
        ("training:", "training: found None, expected keys and values: total_steps"),
        ("training: [1]", "training: found [1], expected keys and values"),
        ("flow: {time: 3}", "flow.time: found 3, expected keys and values: name, alpha, beta"),
        ("name: 2024-01-01", "name: found a date, expected text"),
        ("seed: 99999999999999999999", "seed: is a number of more than 63 bits"),
        ("name: ${oc.env:HOME}", "name: '${oc.env:HOME}': '${' is not supported"),
        ("dataset: {obs_keys: ['${a}']}", "dataset.obs_keys: '${a}': '${' is not supported"),
        ("name: ???", "name: '???': '???' is not supported"),
        ("include: 3", "include: expected a list of files, found"),
        ("include: {a: b}", "include: expected a list of files, found"),
        # Unknown choices.
        ("network: {name: unet}", "network.name: unknown network 'unet'"),
        ("network: {name: [mlp]}", "network.name: unknown network"),
        ("network: {name: null}", "network.name: unknown network 'None'"),
        ("encoder: {name: stat}", "encoder.name: unknown encoder 'stat': did you mean 'state'?"),
        ("dataset: {name: hdf5}", "dataset.name: unknown dataset format 'hdf5': known: zarr"),
        # What students change of how their teacher trains, and of its network.
        (
            "distill: {training: {total_stesp: 3}}",
            "unknown key 'distill.training.total_stesp' of 'distill.training': did you mean",
        ),
        (
            "distill: {training: {total_steps: many}}",
            "distill.training.total_steps: found 'many', expected int",
        ),
        (
            "distill: {training: {learning_rate: -1}}",
            "distill.training.learning_rate is -1, expected a number from 0",
        ),
        ("distill: {training: 3}", "distill.training: found 3, expected keys and values in braces"),
        (
            "distill: {network: {widht: 3}}",
            "unknown key 'distill.network.widht' of 'distill.network': did you mean 'width'?",
        ),
        (
            "distill: {network: {width: many}}",
            "distill.network.width: found 'many', expected int",
        ),
        ("distill: {network: {name: unet}}", "distill.network.name: unknown network 'unet'"),
        (
            "distill: {network: {name: unet1d, width: 8}}",
            "unknown key 'distill.network.width' of 'distill.network'",
        ),
        ("distill: {network: 3}", "distill.network: found 3, expected keys and values in braces"),
        # Networks of single blocks.
        (
            "flow: {n_blocks: 2}\nblock_networks: [{widht: 3}, {}]",
            "unknown key 'block_networks[0].widht' of 'block_networks[0]': did",
        ),
        (
            "flow: {n_blocks: 2}\nblock_networks: [{width: x}, {}]",
            "block_networks[0].width: found 'x', expected int",
        ),
        (
            "flow: {n_blocks: 2}\nblock_networks: [{width: 0}, {}]",
            "block_networks[0].width is 0, expected an integer from 1",
        ),
        ("flow: {n_blocks: 2}\nblock_networks: [{width: null}, {}]", "block_networks[0]"),
        (
            "flow: {n_blocks: 2}\nblock_networks: [{name: unet1d}, {}]",
            "block_networks[0].name is 'unet1d', expected 'mlp': blocks differ",
        ),
        (
            "flow: {n_blocks: 2}\nblock_networks: [{'a[': 1}, {}]",
            "unknown key 'block_networks[0].a[' of 'block_networks[0]'",
        ),
    ],
)
def test_a_mistake_is_named_with_its_file(write: Write, text: str, message: str) -> None:
    path = write(text)
    assert refusal(path).startswith(f"{path}: {message}")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=-1", "seed is -1, expected at least 0"),
        ("training.learning_rate=nan", "training.learning_rate is nan, expected a finite number"),
        (
            "training.learning_rate=1e400",
            "training.learning_rate is 1e400, expected a finite number",
        ),
        ("flow.n_blocks=65", "flow.n_blocks is 65, expected an integer from 1 to 64"),
        ("flow.step_sizes=[1]", "flow.step_sizes has 1 elements, expected n_blocks - 1 = 2"),
        ("flow.block_interpolants=[linear,linear]", "flow.block_interpolants has 2 elements"),
        ("sampler.solver=eular", "sampler.solver is 'eular', expected one of euler, midpoint"),
        ("sampler.nfe=0", "sampler.nfe is 0, expected an integer from 1 to 100000"),
        ("policy.horizon=8", "policy.n_action_steps is 8, expected at most horizon - n_obs_steps"),
        ("training.block_shares=[1,1]", "training.block_shares has 2 elements, expected"),
        ("block_networks=[{},{}]", "block_networks has 2 elements, expected flow.n_blocks = 3"),
        ("network.width=0", "network.width is 0, expected an integer from 1 to 16384"),
        ("network.dropout=1", "network.dropout is 1, expected a number from 0"),
        ("encoder.hidden=[0]", "encoder.hidden[0] is 0, expected an integer from 1"),
        ("encoder.activation=sulu", "encoder.activation is 'sulu', expected one of silu, mish"),
        (
            "dataset.validation_ratio=1",
            "dataset.validation_ratio is 1, expected a number from 0 up to",
        ),
        ("dataset.max_episodes=0", "dataset.max_episodes is 0, expected at least 1"),
        ("dataset.obs_keys=[a,a]", "dataset.obs_keys ['a', 'a'] names a key twice"),
        ("flow.time.alpha=0", "flow.time.alpha is 0, expected at least 0.001"),
    ],
)
def test_out_of_bounds_names_the_source(write: Write, override: str, message: str) -> None:
    path = write("name: x\nsampler: {nfe: 8}\n")
    found = refusal(path, "seed=3", override)
    assert message in found
    if "horizon" not in override:
        assert found.startswith(f"override '{override}': ")
    # The same in a file.
    options: Any = yaml.safe_load(override.partition("=")[2])
    for part in reversed(override.partition("=")[0].split(".")):
        options = {part: options}
    own = write(yaml.safe_dump(options), "other.yaml")
    found = refusal(write(f"include: {own}\n"))
    assert message in found and own in found


def test_a_later_source_that_is_right_is_not_blamed(write: Write) -> None:
    path = write("network: {width: 0}\n")
    assert refusal(path, "network.n_layers=3").startswith(f"{path}: network.width is 0")
    assert load_config(path, ["network.width=8"]).network == MLPConfig(width=8)


def test_what_must_hold_between_options(write: Write) -> None:
    path = write("flow: {n_blocks: 4}\nsampler: {nfe: 4}\n")
    load_config(path)
    message = refusal(path, "sampler.solver=heun")
    assert "sampler.nfe is 4, expected a multiple of 2 of at least 8: 4 block(s)" in message
    load_config(path, ["sampler.solver=dopri5"])
    message = refusal(path, "training.total_steps=3")
    assert "training.total_steps is 3, expected at least one step for each of the 4" in message
    parallel = ["training.block_training=parallel", "flow.coupling=shuffled"]
    assert "flow.coupling is 'shuffled' with training.block_training 'parallel'" in refusal(
        path, *parallel
    )


# -- sections chosen by name ----------------------------------------------------------------------


def test_a_name_switches_the_options(write: Write) -> None:
    path = write("network: {name: unet1d, channels: [8, 16]}\n")
    assert load_config(path).network == UNet1DConfig(channels=[8, 16])
    assert load_config(write("network: {width: 8}\n")).network == MLPConfig(width=8)
    assert isinstance(load_config(path).encoder, StateEncoderConfig)


def test_changing_the_name_starts_the_section_afresh(write: Write) -> None:
    path = write("network: {name: unet1d, channels: [8, 16]}\n")
    config = load_config(path, ["network.name=transformer", "network.width=32"])
    assert config.network == TransformerConfig(width=32)
    # The same name keeps what was there.
    config = load_config(path, ["network.name=unet1d", "network.kernel_size=3"])
    assert config.network == UNet1DConfig(channels=[8, 16], kernel_size=3)


def test_block_networks(write: Write) -> None:
    path = write("flow: {n_blocks: 2}\nblock_networks: [{width: 8, dropout: 1e-1}, {}]\n")
    assert load_config(path).block_networks == [{"width": 8, "dropout": "1e-1"}, {}]


# -- mistakes are found at once -------------------------------------------------------------------

MISTAKES = [
    "traning.total_steps=3",
    "training.total_steps=many",
    "training.learning_rat=1",
    "training.learning_rate=-1",
    "flow.n_blocks=0",
    "flow.n_block=3",
    "network.name=mpl",
    "network.widht=3",
    "encoder.name=stat",
    "encoder.hiden=[3]",
    "encoder={name: cameras, image: {widht: 3}}",
    "dataset.pth=x",
    "dataset.obs_key=[state]",
    "distill.training={total_stesp: 3}",
    "distill.network={widht: 3}",
    "flow.method=velosity",
    "sampler.solver=eular",
    "block_networks=[{widht: 3}]",
]
WITHOUT_TORCH = """
import sys
from lfm_policy.config import bundled_config_names, load_config
from lfm_policy.errors import InputError
for name in bundled_config_names():
    for override in sys.argv[1:]:
        try:
            load_config(name, [override])
        except InputError as error:
            assert override in str(error), error
        else:
            raise AssertionError(override)
        assert not {"torch", "transformers", "zarr", "h5py"} & set(sys.modules), (name, override)
"""


def test_mistakes_are_found_without_torch() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, *MISTAKES]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# -- files that are no configuration --------------------------------------------------------------


@pytest.mark.parametrize("name", ["pusht/fmm", "nothing", "", "x" * 5000, "a\0b", "/"])
def test_no_such_configuration(name: str) -> None:
    assert "neither a file nor one of the bundled ones" in refusal(name)


def test_a_dataset_is_no_configuration(tmp_path: Path) -> None:
    (tmp_path / "my demos.hdf5").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(2_000_000))
    (tmp_path / "demos.zarr").mkdir()
    for name in ("my demos.hdf5", "demos.zarr"):
        path = tmp_path / name
        assert refusal(str(path)) == (
            f"{path} is a dataset, and no configuration: `lfm-policy init {shlex.quote(str(path))}`"
            " writes a configuration for it"
        )


def test_a_file_without_its_suffix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "state.yaml").write_text("{}")
    assert refusal("state").endswith("(did you mean 'state.yaml'?)")
    assert "state.yaml" not in refusal("stat")


def test_nearest_bundled_name() -> None:
    assert "did you mean 'pusht/fm'" in refusal("pusht/fmm")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- 1\n- 2\n", "expected keys and values, found a list"),
        (b"text", "expected keys and values, found a str"),
        (b"a: [", "not valid YAML"),
        (b"a: b: c", "not valid YAML"),
        (b"\xff\xfe\x00", "cannot be read as text"),
        (b"a: 2024-13-45", "not valid YAML: month must be in 1..12"),
        (b"a: !!python/object/apply:os.system [echo]", "not valid YAML: could not determine"),
        (b"seed: " + b"9" * 5000, "not valid YAML"),
        (b"[" * 5000, "not valid YAML"),
        (b"a: &a [*a]", "nested more than 20 deep"),
        (b"a: &a [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
            b"%c: &%c [*%c,*%c,*%c,*%c,*%c,*%c,*%c,*%c]\n" % (n + 1, n + 1, *[n] * 8)
            for n in range(ord("a"), ord("l"))), "more than 10,000 values"),
        (b"#" * 2_000_000, "larger than 1,000,000 bytes"),
    ],
)  # fmt: skip
def test_files_that_are_no_configuration(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_bytes(content)
    found = refusal(str(path))
    assert found.startswith(f"{path}: ") and message in found


@pytest.mark.timeout(20)
def test_a_pipe_is_no_configuration(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "neither a file" in refusal(str(tmp_path / "pipe"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "override 'seed': expected key=value, such as training.total_steps=100"),
        ("=3", "override '=3': expected key=value"),
        (" =3", "override ' =3': expected key=value"),
        ("seed=[1", "override 'seed=[1': not valid YAML"),
        ("seed=2024-13-45", "override 'seed=2024-13-45': not valid YAML: month"),
        ("seeed=1", "override 'seeed=1': unknown key 'seeed': did you mean 'seed'?"),
        ("training..x=1", "override 'training..x=1': unknown key 'training.'"),
        (".=1", "override '.=1': unknown key ''"),
        ("training=5", "override 'training=5': training: found 5, expected keys and values"),
        ("include=a.yaml", "override 'include=a.yaml': unknown key 'include'"),
        ("seed=${oc.env:HOME}", "'${' is not supported"),
        ("network.name=mpl", "override 'network.name=mpl': network.name: unknown network 'mpl'"),
        ("x" * 5000 + "=1", "text of 5,000 characters"),
        ("a." * 5000 + "b=1", "nested more than 20 deep"),
    ],
)
def test_bad_overrides(write: Write, override: str, message: str) -> None:
    assert message in refusal(write("name: x\n"), override)


def test_a_name_alone_stands_for_a_section_that_has_options() -> None:
    assert load_config("pusht/fm", ["flow.method=data"]).flow.method.name == "data"
    assert load_config("pusht/fm", ["network=unet1d"]).network.name == "unet1d"
    options = ["flow.method.error_scale=0.2", "flow.method=regression"]
    method = load_config("pusht/fm", options).flow.method
    assert (method.name, method.error_scale) == ("regression", 0.2)  # choices come first


def test_another_method_starts_its_options_afresh() -> None:
    before = load_config("pusht/fm", ["flow.method={name: velocity, error_scale: 0.2}"])
    after = changed_config(before, ["flow.method.name=data"])
    assert after.flow.method.error_scale == type(after.flow.method)().error_scale
    same = changed_config(before, ["flow.method.error_power=0.5"])
    assert (same.flow.method.error_scale, same.flow.method.error_power) == (0.2, 0.5)


def test_checkpoints_that_name_a_method_alone_are_read() -> None:
    assert stored_config({"flow": {"method": "data"}}, "old").flow.method.name == "data"


def test_a_part_of_the_bundled_ones_may_be_included(write: Write) -> None:
    config = load_config(write("include: [own/state, shared/direct]\nname: mine\n"))
    assert config.network == load_config("own/direct").network
    assert config.sampler == load_config("own/direct").sampler and config.name == "mine"
    with pytest.raises(InputError, match=r"no configuration 'shared/direct'"):
        load_config("shared/direct")
    with pytest.raises(InputError, match=r"no bundled configuration of this name .*shared/direct"):
        load_config(write("include: [shared/directed]\n"))
