"""Runs ``lfm-policy`` commands, several side by side, until somebody wants to stop."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from lfm_policy.errors import Interrupted
from lfm_runtime.interrupt import InterruptFlag

PROGRAM = (sys.executable, "-m", "lfm_policy")
_LOOK_SECONDS = 0.2
"""Between two looks whether to stop."""


class Commands:
    """Commands of a study, each a process of one thread; a context in the main thread.

    Inside of it SIGINT (Ctrl-C), SIGTERM and SIGHUP stop the commands that run, once each, and no
    other begins. They are in process groups of their own: of a terminal all would be told at once,
    and a second time by this, which would break off what they are writing.
    """

    def __init__(self, program: Sequence[str] = PROGRAM) -> None:
        """Run nothing yet.

        Args:
            program: what arguments are for.
        """
        self._program = program
        self._interrupt = InterruptFlag()
        self._killed = False

    def __enter__(self) -> Commands:
        """Watch signals."""
        self._interrupt.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        """Leave signals as they were."""
        self._interrupt.__exit__(*error)

    def kill(self) -> None:
        """End what runs without waiting for what it would save, as a second Ctrl-C asks for."""
        self._killed = True

    def run(self, *arguments: str) -> None:
        """Run a command to its end, from any thread.

        Raises:
            Interrupted: somebody wants to stop; the command has saved what it does.
            subprocess.CalledProcessError: it failed.
        """
        self._check()
        print("lfm-policy " + " ".join(arguments), flush=True)
        process = subprocess.Popen(
            [*self._program, *arguments],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            process_group=0,
        )
        told = False
        while True:
            try:
                code = process.wait(_LOOK_SECONDS)
                break
            except subprocess.TimeoutExpired:
                if self._killed:
                    process.kill()
                elif self._interrupt and not told:
                    process.terminate()
                    told = True
        self._check()
        if code:
            raise subprocess.CalledProcessError(code, process.args)

    def _check(self) -> None:
        if self._interrupt:
            raise Interrupted(
                f"stopped by {self._interrupt.name}; the same command goes on from here"
            )
