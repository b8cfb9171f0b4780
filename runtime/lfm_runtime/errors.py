"""What can go wrong: mistakes in what the user gave us, and what a server answers."""

from __future__ import annotations


class InputError(ValueError):
    """A file, key, option or value from outside is not what it has to be.

    The message names the file, the key, what was found and what was expected, and says what to
    do next. The command line prints it without a traceback and exits with code 2.
    """


class PolicyServerError(RuntimeError):
    """A policy server answered with an error; the message is its text."""
