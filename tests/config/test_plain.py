"""Bounds on options from anywhere."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from lfm_policy.errors import InputError
from lfm_runtime.disk.plain import plain_options


def test_plain_values_are_copied() -> None:
    options = {"a": {"b": [1, 2.5, None, True, "text é"]}, 3: (4,)}
    copied = plain_options(options, "file")
    assert copied == {"a": {"b": [1, 2.5, None, True, "text é"]}, "3": [4]}
    copied["a"]["b"].append(1)
    assert len(options["a"]["b"]) == 5


def _nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


def _endless() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = value
    return value


def _laughs() -> dict[str, Any]:
    value: Any = ["ha"] * 9
    for _ in range(9):
        value = [value] * 9
    return {"a": value}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (_nested(50), "nested more than 20 deep"),
        (_endless(), "nested more than 20 deep"),
        (_laughs(), "more than 10,000 values"),
        ({str(n): n for n in range(20_000)}, "more than 10,000 values"),
        ({"a": {"b": "x" * 5000}}, "a.b: is or holds text of 5,000 characters"),
        ({"x" * 5000: 1}, "text of 5,000 characters"),
        ({"a": "b\0c"}, "a: is or holds text with control characters: 'b\\x00c'"),
        ({"a": "\x1b[31m"}, "control characters"),
        ({"a": "\ud800"}, "control characters"),
        ({"a\n": 1}, "control characters"),
        ({"a": [1, 10**20]}, "a[1]: is a number of more than 63 bits"),
        ({"a": 16**6000}, "a: is a number of more than 63 bits"),
        ({"a": datetime.date(2024, 1, 2)}, "a: found a date, expected text, a number"),
        ({"a": b"x"}, "a: found a bytes"),
        ({"a": {1, 2}}, "a: found a set"),
    ],
)
def test_what_is_out_of_bounds(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        plain_options(options, "file.yaml")
    text = str(caught.value)
    assert text.startswith("file.yaml: ") and message in text
    assert len(text) < 500
