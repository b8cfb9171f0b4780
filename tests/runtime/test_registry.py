"""Things chosen by name, and what is said about a wrong name."""

from __future__ import annotations

import pytest

from lfm_policy.errors import InputError
from lfm_runtime.plugins import loading
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


def test_what_is_added_is_found_by_name() -> None:
    registry = Registry("shape", {"square": "square of the package"})

    @registry.add("circle")
    class Circle:
        pass

    assert registry.add("disc", Circle) is Circle
    assert registry.get("circle") is registry.get("disc") is Circle
    assert registry.names() == ("square", "circle", "disc")


def test_a_name_that_is_taken_is_refused_with_both() -> None:
    registry: Registry[type] = Registry("number", {"whole": int})
    with pytest.raises(
        InputError,
        match="the number 'whole' is there already: builtins:int, which comes with lfm-policy; "
        "builtins:float needs another name",
    ):
        registry.add("whole", float)
    assert registry.get("whole") is int
    with loading("my_numbers"):
        registry.add("real", float)
    with pytest.raises(InputError, match="builtins:float, of the plugin 'my_numbers'; fractions:"):
        registry.add("real", "fractions:Fraction")


def test_text_is_imported_when_it_is_asked_for() -> None:
    from fractions import Fraction

    registry: Registry[type] = Registry("number", {"ratio": "fractions:Fraction"})
    registry.add("missing", "no_such_module:Number")
    registry.add("nothing", "fractions:NoSuchNumber")
    assert registry.names() == ("ratio", "missing", "nothing")
    assert registry.get("ratio") is registry.get("ratio") is Fraction
    with pytest.raises(
        InputError, match="'missing' cannot be imported from no_such_module:Number: No module"
    ):
        registry.get("missing")
    with pytest.raises(InputError, match="'nothing' cannot be imported .* 'NoSuchNumber'"):
        registry.get("nothing")


def test_the_plugin_of_an_entry() -> None:
    registry: Registry[type] = Registry("number", {"whole": int})
    with loading("my_numbers"):
        registry.add("real", float)
    registry.add("ratio", "fractions:Fraction")
    registry.add("text", str)
    plugins = [registry.plugin_of(name) for name in registry.names()]
    assert plugins == ["", "my_numbers", "fractions", "builtins"]


def test_what_is_defined_anew_takes_its_own_place() -> None:
    registry: Registry[type] = Registry("shape", {})
    for _ in range(2):  # as a cell of a notebook that is run again

        @registry.add("circle")
        class Circle:
            pass

    assert registry.get("circle") is Circle
