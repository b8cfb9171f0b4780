"""What a user sees of warnings."""

from __future__ import annotations

import warnings

import pytest
from tqdm.auto import tqdm

from lfm_policy.text.warned import one_line_warnings, warnings_said


def test_each_is_one_line_and_the_same_one_comes_once(capsys: pytest.CaptureFixture[str]) -> None:
    with one_line_warnings():
        warnings.warn("too short", UserWarning, stacklevel=1)
        assert capsys.readouterr().err == "warning: too short\n"
        warnings.warn("too short", RuntimeWarning, stacklevel=1)
        warnings.warn("of two\n  lines", UserWarning, stacklevel=1)
        warnings.warn("nobody can change it", DeprecationWarning, stacklevel=1)
        said = warnings_said()
    printed = capsys.readouterr()
    assert printed.err == "warning: of two lines\n" and not printed.out
    assert set(said) == {"too short", "of two lines"}


def test_what_another_process_has_said_is_not_said_again(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with one_line_warnings(["known"]):
        warnings.warn("known", UserWarning, stacklevel=1)
        warnings.warn("new", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "warning: new\n"


def test_afterwards_warnings_are_what_they_were() -> None:
    with one_line_warnings():
        pass
    assert not warnings_said()
    with pytest.warns(UserWarning, match="for Python"):
        warnings.warn("for Python", UserWarning, stacklevel=1)


def test_a_progress_bar_goes_on_below(capsys: pytest.CaptureFixture[str]) -> None:
    with one_line_warnings(), tqdm(total=2, desc="frames", mininterval=0) as bar:
        bar.update()
        warnings.warn("too dark", UserWarning, stacklevel=1)
        bar.update()
    printed = capsys.readouterr().err
    before, _, after = printed.partition("warning: too dark\n")
    assert before.endswith("\r") and "frames" in before  # the bar's line was cleared
    assert after.lstrip("\r").startswith("frames")
