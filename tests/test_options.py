"""Options declared once: defaults, bounds, choices, and mistakes that know their key."""

from __future__ import annotations

import dataclasses
import pickle
from dataclasses import field
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from lfm_policy.errors import InputError, OptionError, UnknownOptionError
from lfm_policy.options import Chosen, checked, option, options, with_changes


@options
class Inner:
    share: float = option(0.5, "a share", ge=0, le=1)

    def __post_init__(self) -> None:
        if self.share == 0.25:
            raise OptionError("share", "is a quarter")
        if self.share == 0.75:
            raise InputError("three quarters")
        if self.share == 0.125:
            raise ValueError("a mistake of the program")


MLP = Chosen("network", "mlp").defaults


@options
class Outer:
    count: int = option(1, "a count", ge=1, le=10)
    kind: str = option("red", "a kind", choices=["red", "green"])
    kinds: list[str] = option([], "kinds", choices=["red", "green"])
    sizes: list[Annotated[float, Field(ge=0.5)]] = option([1.0], "sizes")
    pair: list[int] = option([1, 2], "two", min_length=2, max_length=2)
    flag: bool = option(True, "a flag")
    sides: list[Annotated[int, Field(ge=1)]] | Literal["auto"] = option("auto", "or a word")
    note: str | None = option(None, "a note", choices=["x"])
    even: int = option(2, "even", ge=0, multiple_of=2)
    rate: float = option(0.0, "a rate", ge=0, lt=1)
    free: dict[str, Any] = option({}, "anything")
    inner: Inner = option(Inner, "inner")
    foreign: int = field(default=-5)
    network: Annotated[Any, Chosen("network", "mlp")] = option(MLP, "a network")


def test_defaults_are_valid_and_not_shared() -> None:
    first, second = Outer(), Outer()
    first.sizes.append(2.0)
    first.inner.share = 0.1
    first.free["a"] = 1
    assert second.sizes == [1.0] and second.inner.share == 0.5 and second.free == {}


def test_they_are_dataclasses() -> None:
    outer = Outer(count=3)
    assert dataclasses.asdict(outer)["inner"] == {"share": 0.5}
    assert dataclasses.replace(outer, count=4) == Outer(count=4)
    assert [f.name for f in dataclasses.fields(outer)][:2] == ["count", "kind"]
    assert Outer.count == 1


MISTAKES = [
    ({"count": 0}, "count is 0, expected an integer from 1 to 10"),
    ({"count": 11}, "count is 11, expected an integer from 1 to 10"),
    ({"count": 1.5}, "count: found 1.5, expected int"),
    ({"count": True}, "count: found True, expected int"),
    ({"count": None}, "count: found None, expected int"),
    ({"kind": "gren"}, "kind is 'gren', expected one of red, green (did you mean 'green'"),
    ({"kinds": ["red", "blue"]}, "kinds[1] is 'blue', expected one of"),
    ({"sizes": [1.0, 0.25]}, "sizes[1] is 0.25, expected at least 0.5"),
    ({"sizes": [float("nan")]}, "sizes[0] is nan, expected a finite number"),
    ({"sizes": [True]}, "sizes[0]: found True, expected list[float]"),
    ({"sizes": [1.0] * 65}, "sizes has 65 elements, expected 0 to 64"),
    ({"pair": [1]}, "pair has 1 elements, expected 2"),
    ({"sides": "off"}, "sides: found 'off', expected list[int] | auto"),
    ({"sides": False}, "sides: found False, expected list[int] | auto"),
    ({"sides": [1, 0]}, "sides[1] is 0, expected at least 1"),
    ({"sides": ["a"]}, "sides[0]: found 'a', expected int"),
    ({"flag": "maybe"}, "flag: found 'maybe', expected bool"),
    ({"note": "y"}, "note is 'y', expected one of x"),
    ({"note": ["x"]}, "note: found ['x'], expected str | None"),
    ({"even": 3}, "even is 3, expected at least 0 that is a multiple of 2"),
    ({"rate": 1}, "rate is 1, expected a number from 0 up to but not including 1"),
    ({"free": 3}, "free: found 3, expected keys and values in braces"),
    ({"inner": 3}, "inner: found 3, expected keys and values: share"),
    ({"inner": {"share": 1.5}}, "inner.share is 1.5, expected a number from 0 to 1"),
    ({"inner": {"share": float("inf")}}, "inner.share is inf, expected a finite number"),
    ({"inner": {"share": 0.25}}, "inner.share is a quarter"),
    ({"inner": {"share": 0.75}}, "inner: three quarters"),
    ({"network": 3}, "network: found 3, expected keys and values: name, width"),
    ({"network": {"name": "mpl"}}, "network.name: unknown network 'mpl': did you mean 'mlp'?"),
    ({"network": {"width": 0}}, "network.width is 0, expected an integer from 1 to 16384"),
    ({"network": {"name": "unet1d", "channels": [0]}}, "network.channels[0] is 0, expected an"),
]


@pytest.mark.parametrize(("given", "message"), MISTAKES)
def test_mistakes(given: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        checked(Outer, given)
    assert str(caught.value).startswith(message)
    with pytest.raises(OptionError) as caught:
        Outer(**given)
    assert str(caught.value).startswith(f"Outer.{message}")


def test_unknown_keys_come_first() -> None:
    with pytest.raises(UnknownOptionError) as caught:
        checked(Outer, {"count": 0, "inner": {"shar": 1}})
    assert str(caught.value) == "unknown key 'inner.shar' of 'inner': did you mean 'share'?"
    assert caught.value.key == ("inner", "shar")
    with pytest.raises(UnknownOptionError, match="unknown key 'network.widht' of 'network': did"):
        checked(Outer, {"network": {"widht": 1}})
    with pytest.raises(UnknownOptionError, match="unknown key 'cuont': did you mean 'count'"):
        checked(Outer, {"cuont": 1})


def test_a_mistake_of_the_program_is_none_of_the_user() -> None:
    with pytest.raises(ValueError, match="a mistake of the program") as caught:
        checked(Outer, {"inner": {"share": 0.125}})
    assert not isinstance(caught.value, InputError)


def test_changes_are_checked_like_all_options() -> None:
    assert with_changes(Outer(count=3), {"kind": "green"}) == Outer(count=3, kind="green")
    with pytest.raises(OptionError, match="count is 0"):
        with_changes(Outer(), {"count": 0})


@pytest.mark.parametrize("given", [{"inner": {"share": 2}}, {"innr": 1}])
def test_an_error_survives_a_process_boundary(given: dict[str, Any]) -> None:
    with pytest.raises(OptionError) as caught:
        checked(Outer, given)
    again = pickle.loads(pickle.dumps(caught.value.under("section")))
    assert type(again) is type(caught.value)
    assert again.key == ("section", *caught.value.key) and "section." in str(again)
