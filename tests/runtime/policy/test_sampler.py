"""One value says how a policy samples: to files and back, to the command line, in words."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import pytest

from lfm_policy.cli.common import add_sampler_options, sampler_of
from lfm_policy.config.sampler import SamplerChanges, SamplerConfig
from lfm_policy.options import declared
from lfm_policy.text.samplers import evaluations_of, numbers
from lfm_runtime.errors import InputError
from lfm_runtime.policy.sampler import NUMBERS, Sampler

WHOLE = Sampler("heun", 8, (2, 6), ((), (0.6, 0.2)), noise_scale=0.6, renoise=0.5, guidance=2.0)
ADAPTIVE = Sampler("dopri5", None, None, ((), ()), noise_scale=0.0)


@pytest.mark.parametrize("sampler", [WHOLE, ADAPTIVE, replace(ADAPTIVE, nfe=21.5)])
def test_files_hold_all_of_it(sampler: Sampler) -> None:
    values = json.loads(json.dumps(sampler.to_dict()))
    assert Sampler.from_dict({"latency": {}, **values}, "file: ") == sampler


def test_files_of_before_say_less() -> None:
    before = {"nfe": 2, "solver": "euler", "noise_scale": 0.6, "nfe_per_block": [1, 1]}
    expected = Sampler("euler", 2, (1, 1), ((), ()), noise_scale=0.6)
    assert Sampler.from_dict(before, "") == expected
    assert (expected.renoise, expected.guidance) == (0.0, 1.0)
    # Archives of studies say nothing of blocks.
    archived = {"nfe": 16.0, "solver": "euler", "noise_scale": 1.0}
    assert Sampler.from_dict(archived, "") == Sampler("euler", 16.0, None)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("solver", 3, "text"),
        ("nfe", 0, "a positive number"),
        ("nfe", True, "a positive number"),
        ("nfe_per_block", [1, "x"], "numbers of evaluations"),
        ("nfe_per_block", [1, 0.5], "numbers of evaluations"),
        ("block_times", [0.3], "times of each block"),
        ("block_times", [[float("nan")]], "times of each block"),
        *((name, "much", "a number") for name in NUMBERS),
        *((name, float("inf"), "a number") for name in NUMBERS),
    ],
)
def test_values_that_cannot_be(name: str, value: Any, expected: str) -> None:
    message = rf"^policy.json: sampler.{name}: found .*, expected {expected}$"
    with pytest.raises(InputError, match=message):
        Sampler.from_dict({**WHOLE.to_dict(), name: value}, "policy.json: sampler.")


def test_what_is_asked_for_gives_it_again() -> None:
    assert WHOLE.asked().keys() == SamplerChanges.__annotations__.keys()
    options = SamplerConfig().changed(**WHOLE.asked())
    assert (options.block_nfe, options.block_times) == ([2, 6], [[], [0.6, 0.2]])
    assert {name: getattr(options, name) for name in NUMBERS} == {
        "noise_scale": 0.6,
        "renoise": 0.5,
        "guidance": 2.0,
    }
    # An adaptive solver takes neither evaluations nor times.
    assert ADAPTIVE.asked().keys() == {"solver", *NUMBERS}


def test_every_number_is_an_option_an_argument_and_a_flag() -> None:
    assert NUMBERS.keys() <= declared(SamplerConfig).keys()
    parser = argparse.ArgumentParser()
    add_sampler_options(parser, solvers="euler")
    for name in NUMBERS:
        asked = sampler_of(parser.parse_args([f"--{name.replace('_', '-')}", "1.5"]))
        assert {key: value for key, value in asked.items() if value is not None} == {name: 1.5}
        assert getattr(SamplerConfig().changed(**asked), name) == 1.5
        changed = replace(Sampler("euler", 1, (1,)), **{name: 1.5})
        assert any("1.5" in said for said in numbers(changed))


def test_arguments_that_a_sampler_has_not() -> None:
    with pytest.raises(TypeError, match=r"a sampler has no nef; it has solver, nfe, times"):
        SamplerConfig().changed(nef=3)  # type: ignore[call-arg]


def test_words() -> None:
    assert evaluations_of(WHOLE) == "8 (2, 6 at 0.6/0.2)"
    assert evaluations_of(ADAPTIVE) == "adaptive"
    assert evaluations_of(Sampler("euler", 16.0, None)) == "16"
    assert numbers(WHOLE) == ["noise scale 0.6", "renoise 0.5", "guidance 2"]
    assert numbers(WHOLE, noise="") == ["renoise 0.5", "guidance 2"]
    assert numbers(ADAPTIVE, noise="noise") == ["noise 0"]
    assert numbers(SamplerConfig()) == ["noise scale 0.6"]
