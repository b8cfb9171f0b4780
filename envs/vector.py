"""Many environments at once: in this process, or in one process each."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.vector.async_vector_env import AsyncState

from lfm_runtime.child_processes import deaf_to_ctrl_c
from lfm_runtime.user_modules import working_folder

from .freeze import FreezeAfterEnd
from .lookup import make_named_env
from .outcome import PlainOutcome
from .reading import AS_GIVEN, CheckedObservations, Reading
from .robosuite.args import TranslatedEnvArgsWarning

_Result = TypeVar("_Result")

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "LP_NUM_THREADS")
"""Numbers of threads of linear algebra and of drawing in software (``LP``)."""

_SECONDS_TO_DIE = 5.0


class WorkerDiedError(RuntimeError):
    """Processes of environments are gone: killed, out of memory, or crashed in the simulator.

    Attributes:
        workers: numbers of their environments; empty where it is not known which.
        how: their exit codes.
    """

    def __init__(self, workers: tuple[int, ...], how: str) -> None:
        super().__init__(f"the process of environment {', '.join(map(str, workers))} died ({how})")
        self.workers, self.how = workers, how


@dataclass(frozen=True)
class EnvFactory:
    """Callable that creates one environment, frozen after the end of its episode.

    It can be sent to another process, where unpickling it imports this package and so registers
    its environments. Rewards and information are as `PlainOutcome` makes them.

    Attributes:
        env_id: gymnasium id, such as ``lfm/PushT-v0`` or ``module:Name-v0``.
        options: keyword arguments of the environment.
        folder: where its module is looked for, too; the working folder of who made the factory.
        reading: names for its observations, and what says success.
        registered: how who made the factory has registered it; a new process may not have.
    """

    env_id: str
    options: dict[str, Any] = field(default_factory=dict)
    folder: str = field(default_factory=working_folder)
    reading: Reading = AS_GIVEN
    registered: EnvSpec | None = None

    def __call__(self) -> gym.Env[Any, Any]:
        """Create the environment.

        Raises:
            MissingSimulatorError: its simulator is not installed.
            EnvArgsError: its description does not fit its simulator.
            EnvLookupError: there is no such environment, or it cannot be created.
        """
        if multiprocessing.parent_process() is not None:
            # One thread for each process: more would only wait for one another.
            for name in _THREADS:
                os.environ.setdefault(name, "1")
            # The process that started this one has made the same environment and warned.
            warnings.simplefilter("ignore", TranslatedEnvArgsWarning)
        if self.registered is not None:
            gym.registry.setdefault(self.env_id, self.registered)
        env = make_named_env(self.env_id, self.folder, dict(self.options), self.reading)
        return FreezeAfterEnd(CheckedObservations(PlainOutcome(env)))


@dataclass(frozen=True)
class FrozenFactory:
    """Callable that wraps what a user's own factory creates as `EnvFactory` does.

    Attributes:
        factory: creates one environment.
        max_episode_steps: steps after which an episode is truncated; None: the environment says.
        reading: names for its observations, and what says success.
    """

    factory: Callable[[], gym.Env[Any, Any]]
    max_episode_steps: int | None = None
    reading: Reading = AS_GIVEN

    def __call__(self) -> gym.Env[Any, Any]:
        """Create the environment."""
        env: gym.Env[Any, Any] = PlainOutcome(self.reading.of(self.factory()))
        env = CheckedObservations(env)
        if self.max_episode_steps is not None:
            env = gym.wrappers.TimeLimit(env, self.max_episode_steps)
        return FreezeAfterEnd(env)


class FreezingSyncVectorEnv(SyncVectorEnv):
    """A ``SyncVectorEnv`` without autoreset that may be stepped while some episodes are over.

    Gymnasium refuses that in this class, and not in ``AsyncVectorEnv``, because it does not know
    what a step after the end means. Here it is well defined: the environments are frozen.
    """

    _started = False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start episodes in all environments, or in those of ``options["reset_mask"]``.

        Raises:
            ValueError: the first reset leaves some environments out; these have no observation.
        """
        mask = (options or {}).get("reset_mask")
        if not self._started and mask is not None and not np.all(mask):
            raise ValueError("the first reset must be one of all environments, without a mask")
        result = super().reset(seed=seed, options=options)
        self._started = True
        return result

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments; those whose episode is over stay as they are."""
        self._autoreset_envs[:] = False
        return super().step(actions)


class WatchedAsyncVectorEnv(AsyncVectorEnv):
    """An ``AsyncVectorEnv`` that says which processes died, and can be closed after that.

    Every call may raise `WorkerDiedError`; nothing but ``close`` can be done any more then. Ctrl-C
    reaches this process alone, which closes the others.
    """

    def __init__(self, factories: Sequence[Callable[[], Any]], **options: Any) -> None:
        """Start a process for each factory; see the base class."""
        with ExitStack() as self._starting:
            self._starting.enter_context(deaf_to_ctrl_c())
            super().__init__(factories, **options)

    def _check_spaces(self) -> None:
        try:
            # All processes have been started; what takes long is that each makes its environment.
            self._starting.close()
            self._watch(super()._check_spaces)
        except BaseException:
            if not self.closed:
                self._close_hard(())
            raise

    def reset(self, **arguments: Any) -> Any:
        """Start episodes; see the base class."""
        return self._watch(super().reset, **arguments)

    def step(self, actions: Any) -> Any:
        """Step all environments; see the base class."""
        return self._watch(super().step, actions)

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of all environments; see the base class."""
        return self._watch(super().call, name, *arguments, **options)

    def _watch(self, call: Callable[..., _Result], *arguments: Any, **options: Any) -> _Result:
        try:
            return call(*arguments, **options)
        except (EOFError, ConnectionError) as error:
            # The pipe is closed before the process can be seen to be dead.
            sentinels = {process.sentinel: i for i, process in enumerate(self.processes)}
            ended = multiprocessing.connection.wait(list(sentinels), _SECONDS_TO_DIE)
            dead = tuple(sorted(sentinels[end] for end in ended if isinstance(end, int)))
            self._close_hard(dead)
            codes = ", ".join(f"exit code {self.processes[i].exitcode}" for i in dead)
            raise WorkerDiedError(dead, codes or type(error).__name__) from error

    def close_extras(self, timeout: float | None = None, terminate: bool = False) -> None:
        """End the processes, and at once where nobody waits for an answer any more."""
        if self._state is not AsyncState.DEFAULT:
            self._close_hard(())
        else:
            super().close_extras(timeout, terminate)

    def _close_hard(self, dead: tuple[int, ...]) -> None:
        """Kill what is left: who waits for an answer of one that is dead waits forever."""
        for i, process in enumerate(self.processes):
            if i not in dead:
                process.kill()
        for process, pipe in zip(self.processes, self.parent_pipes, strict=True):
            process.join()
            if pipe is not None:  # of a process that raised an error
                pipe.close()
        self.closed = True


def make_vector_env(
    env_id: str,
    num_envs: int,
    *,
    processes: bool = False,
    context: str | None = None,
    module_folder: str | None = None,
    reading: Reading = AS_GIVEN,
    **options: Any,
) -> VectorEnv[Any, Any, Any]:
    """Create ``num_envs`` environments of an `EnvFactory` that are stepped together.

    Nothing restarts by itself. Start episodes, in all or in some of them, with::

        obs, infos = envs.reset(seed=[...], options={"reset_mask": mask})

    where ``mask`` is a boolean array of shape (num_envs,) with at least one True and ``seed`` a
    list of num_envs ints (None where the mask is False). The dictionary is emptied by gymnasium:
    build a new one for each call. The observations of the others are returned unchanged. The
    first reset must be one of all environments (no mask).

    Args:
        env_id: gymnasium id, such as ``lfm/PushT-v0``; ``module:Name-v0`` imports the module first,
            which may lie in the working folder.
        num_envs: number of environments.
        processes: one process for each environment instead of all of them in this one. It pays
            only for simulators that are slow beside the exchange between processes.
        context: start method of the processes (``fork``, ``spawn`` or ``forkserver``); None is
            the platform's default, and ``spawn`` where this process may have drawn by EGL.
        module_folder: where the module of ``module:Name-v0`` is looked for; None is the working
            folder.
        reading: names for observations, and what says success.
        **options: keyword arguments of the environment.

    Raises:
        ValueError: ``num_envs`` is below 1.
        Exception: as `EnvFactory`.
    """
    if num_envs < 1:
        raise ValueError(f"num_envs must be at least 1, but it is {num_envs}")
    folder = working_folder() if module_folder is None else module_folder
    known = gym.registry.get(env_id)
    factories = [EnvFactory(env_id, dict(options), folder, reading, known) for _ in range(num_envs)]
    return vector_env_of(factories, processes=processes, context=context)


def vector_env_of(
    factories: Sequence[Callable[[], gym.Env[Any, Any]]],
    *,
    processes: bool = False,
    context: str | None = None,
) -> VectorEnv[Any, Any, Any]:
    """Create environments that are stepped together; see `make_vector_env`.

    Args:
        factories: of one frozen environment each, see `EnvFactory` and `FrozenFactory`.
        processes: see there.
        context: see there.
    """
    if processes:
        if context is None and "OpenGL.EGL" in sys.modules:
            # The graphics driver's threads are not there in a fork of a process that has drawn,
            # which waits for them forever.
            context = "spawn"
        return WatchedAsyncVectorEnv(
            factories, context=context, autoreset_mode=AutoresetMode.DISABLED
        )
    return FreezingSyncVectorEnv(factories, autoreset_mode=AutoresetMode.DISABLED)
