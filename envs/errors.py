"""What can go wrong before an environment exists."""

from __future__ import annotations


class MissingSimulatorError(ImportError):
    """A simulator is not installed, or is installed in a version that cannot work.

    The message says what was looked for, what was found and the command that repairs it.
    """


class EnvArgsError(ValueError):
    """The description of an environment (``env_args``) is not what it has to be.

    The message says what was found and what was expected, with both versions where the
    description belongs to another version of the simulator.
    """


class EnvLookupError(ValueError):
    """An environment that somebody named cannot be found or created.

    The message says what was looked for, where, and what went wrong.
    """


class ObservationError(ValueError):
    """Observations are not what an environment says that they are, or have no such part.

    The message says which, what was found and what was expected.
    """
