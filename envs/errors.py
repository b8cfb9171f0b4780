"""What can go wrong before an environment exists."""

from __future__ import annotations


class MissingSimulatorError(ImportError):
    """A simulator is not installed, or is installed in a version that cannot work.

    The message says what was looked for, what was found and the command that repairs it.
    """
