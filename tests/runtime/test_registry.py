"""Things chosen by name, and what is said about a wrong name."""

from __future__ import annotations

import pytest

from lfm_policy.errors import InputError
from lfm_runtime.registry import Registry, nearest_names

COLOURS = Registry("colour", {"red": 1, "green": 2, "grey": 3, "black": 4})


def test_get_names_and_items() -> None:
    assert COLOURS.get("green") == 2
    assert COLOURS.names() == ("red", "green", "grey", "black")
    assert COLOURS.items() == (("red", 1), ("green", 2), ("grey", 3), ("black", 4))


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("gren", r"did you mean 'green' or 'grey' or 'red'\?"),
        ("blck", r"did you mean 'black'\?"),
        ("zzz", "known: red, green, grey, black"),
        ("", "known: red, green, grey, black"),
    ],
)
def test_unknown_name(name: str, hint: str) -> None:
    with pytest.raises(InputError, match=f"unknown colour '{name}': .*{hint}"):
        COLOURS.get(name)


def test_the_table_is_a_copy() -> None:
    entries = {"a": 1}
    registry = Registry("thing", entries)
    entries["b"] = 2
    assert registry.names() == ("a",)


def test_nearest_names_of_an_empty_table() -> None:
    assert nearest_names("x", []) == "known: none"
