"""``--nfe`` and ``--times``, as every command has them that samples."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from lfm_policy.cli.common import add_sampler_options, sampler_of


def parsed(*arguments: str, several: bool = False) -> dict[str, Any]:
    parser = argparse.ArgumentParser(exit_on_error=False)
    add_sampler_options(parser, solvers="euler", several_nfe=several)
    return sampler_of(parser.parse_args(arguments))


def test_nothing_is_asked_for_unless_it_is_given() -> None:
    assert set(parsed().values()) == {None}


@pytest.mark.parametrize(("text", "nfe"), [("4", 4), ("1,1,2", [1, 1, 2]), ("3,", None)])
def test_evaluations(text: str, nfe: object) -> None:
    if nfe is None:
        with pytest.raises(argparse.ArgumentError, match="--nfe: invalid"):
            parsed("--nfe", text)
    else:
        assert parsed("--nfe", text)["nfe"] == nfe


def test_several_evaluations() -> None:
    assert parsed("--nfe", "4", "1,1,2", several=True)["nfe"] == [4, [1, 1, 2]]
    with pytest.raises(argparse.ArgumentError, match="0 is not positive"):
        parsed("--nfe", "1,0")


@pytest.mark.parametrize(
    ("text", "times"),
    [("0.3", [0.3]), ("0.6,0.3", [0.6, 0.3]), ("[[],[0.3]]", [[], [0.3]]), ("[]", [])],
)
def test_times(text: str, times: object) -> None:
    assert parsed("--times", text)["times"] == times


def test_what_are_no_times() -> None:
    with pytest.raises(argparse.ArgumentError, match="--times: .*not valid YAML"):
        parsed("--times", "[0.3")
