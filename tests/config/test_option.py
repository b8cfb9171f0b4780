"""Options declared once: defaults, bounds and choices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from lfm_policy.config.option import option, validate_options
from lfm_policy.errors import InputError


@dataclass
class Inner:
    share: float = option(0.5, "a share", minimum=0, maximum=1)


@dataclass
class Outer:
    count: int = option(1, "a count", minimum=1, maximum=10)
    kind: str = option("red", "a kind", choices=["red", "green"])
    kinds: list[str] = option([], "kinds", choices=["red", "green"])  # noqa: RUF009
    sizes: list[float] = option([1.0], "sizes", minimum=0.5)  # noqa: RUF009
    flag: bool = option(True, "a flag", minimum=5)
    note: str | None = option(None, "a note", choices=["x"])
    inner: Inner = option(Inner, "inner")  # noqa: RUF009
    foreign: int = field(default=-5)


def test_defaults_are_valid_and_not_shared() -> None:
    validate_options(Outer())
    first, second = Outer(), Outer()
    first.sizes.append(2.0)
    first.inner.share = 0.1
    assert second.sizes == [1.0] and second.inner.share == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"count": 0}, "count is 0, expected at least 1"),
        ({"count": 11}, "count is 11, expected at most 10"),
        ({"kind": "gren"}, r"kind is 'gren', expected one of red, green \(did you mean 'green'"),
        ({"kinds": ["red", "blue"]}, r"kinds\[1\] is 'blue', expected one of"),
        ({"sizes": [1.0, 0.25]}, r"sizes\[1\] is 0.25, expected at least 0.5"),
        ({"sizes": [float("nan")]}, r"sizes\[0\] is nan, expected a finite number"),
        ({"sizes": [1.0] * 65}, "sizes has 65 elements, at most 64 are allowed"),
        ({"inner": Inner(share=1.5)}, "inner.share is 1.5, expected at most 1"),
        ({"inner": Inner(share=float("inf"))}, "inner.share is inf, expected a finite number"),
        ({"note": "y"}, "note is 'y', expected one of x"),
    ],
)
def test_out_of_bounds(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        validate_options(Outer(**changes))


def test_the_prefix_is_part_of_the_key() -> None:
    with pytest.raises(InputError, match="section.inner.share is 2"):
        validate_options(Outer(inner=Inner(share=2)), prefix="section.")
