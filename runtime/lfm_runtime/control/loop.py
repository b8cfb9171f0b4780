"""A robot at a fixed rate, a policy in another thread."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from lfm_runtime.control.clock import Clock, RealClock, SimulatedClock
from lfm_runtime.control.guard import Call, Hang, RobotGuard
from lfm_runtime.control.logbook import Logbook
from lfm_runtime.control.options import ControlOptions
from lfm_runtime.control.planning.inference import Inference, Predict, ThreadedInference
from lfm_runtime.control.planning.joining import create_joining
from lfm_runtime.control.planning.planner import ControlPolicy, Planner
from lfm_runtime.control.planning.sight import Sight
from lfm_runtime.control.recording.also import AlsoRecorded
from lfm_runtime.control.recording.recorder import Recorder
from lfm_runtime.control.result import ControlResult
from lfm_runtime.control.robot import Robot
from lfm_runtime.control.run import ControlRun
from lfm_runtime.control.safety import ActionLimits
from lfm_runtime.errors import InputError
from lfm_runtime.interrupt import InterruptFlag

_LOG = logging.getLogger("lfm_runtime.control")
MAXIMUM_HZ = 10_000
_SLICE = 0.1
"""Seconds after which a loop that waits for its next tick looks for signals."""
_GRACE = 3.0
"""Seconds that a call which hangs gets to end, once the robot has been stopped."""


class ControlLoop:
    """Runs a robot with a policy::

        loop = ControlLoop(robot, policy, hz=10)
        result = loop.run()

    Every tick observes, and executes the next action of the newest chunk; chunks are computed in
    another thread meanwhile. See `ControlOptions` for what can be chosen.

    Attributes:
        result: what happened so far in the run under way, or in the last one, even if it raised.
    """

    def __init__(
        self,
        robot: Robot,
        policy: ControlPolicy,
        *,
        hz: float,
        options: ControlOptions | None = None,
        clock: Clock | None = None,
        inference: Callable[[Predict], Inference] | None = None,
        recorder: Recorder | None = None,
        record_obs: Sequence[str] = (),
    ) -> None:
        """Check that robot, policy and options fit one another; nothing moves yet.

        Args:
            robot: what is run.
            policy: `OnnxPolicy`, `Policy`, or a client of a server.
            hz: ticks per second.
            options: see `ControlOptions`.
            clock: the machine's by default.
            inference: makes what computes the chunks; a thread by default.
            recorder: writes down what happens.
            record_obs: observations of the robot that are written down although the policy does
                not see them.

        Raises:
            InputError: an option does not fit the policy or the robot, or the rate is no rate.
        """
        if not 0 < hz <= MAXIMUM_HZ:
            raise InputError(f"hz is {hz}, expected a number above 0, at most {MAXIMUM_HZ}")
        self._robot = robot
        self._policy = policy
        self._period = 1 / hz
        self._options = options = ControlOptions() if options is None else options
        self._clock: Clock = RealClock() if clock is None else clock
        self._make_inference = inference or (
            lambda predict: ThreadedInference(predict, self._clock)
        )
        self._recorder = recorder
        self.result = ControlResult()
        spec = policy.spec
        if recorder is not None:
            recorder.note("hz", hz)
            if spec.tasks:
                recorder.note("tasks", list(spec.tasks))  # which the observation tells apart
            if spec.depth:  # whose images are written as levels
                recorder.note("depth", {key: list(ends) for key, ends in spec.depth.items()})
        also = record_obs if recorder is not None else ()
        self._also = [key for key in also if key not in spec.obs_shapes]
        self._limits = ActionLimits(options, spec.action_dim, spec.dtype("action"))
        self._whole = _actions_per_chunk(policy)
        self._execute = options.execute or policy.n_action_steps
        if self._execute > self._whole:
            raise InputError(
                f"execute is {self._execute}, expected at most {self._whole}: a chunk of the "
                "policy has no more actions from the newest observation on"
            )
        joining = create_joining(options.joining, ensemble_decay=options.ensemble_decay)
        self._lead = joining.default_lead(self._execute) if options.lead is None else options.lead
        if self._lead >= self._execute:
            raise InputError(
                f"lead is {self._lead}, expected less than execute = {self._execute}: a chunk "
                "cannot be asked for before the one that it follows has begun"
            )
        if options.on_miss == "continue" and self._execute == self._whole:
            _LOG.warning(
                "on_miss is 'continue', but all %d actions that a chunk has here are executed, so "
                "that the robot holds when the next one is late: a smaller execute leaves some%s",
                self._whole,
                "" if hasattr(policy, "sample") else "; a server sends no more than it executes",
            )
        self._max_prefix = int(getattr(policy, "max_prefix", 0))
        if joining.uses_prefix and self._max_prefix < max(self._lead, 1):
            raise InputError(
                f"joining is '{options.joining}' with a lead of {self._lead}, but the policy was "
                f"trained with prefixes of at most {self._max_prefix} actions: train it with "
                f"policy.max_prefix={max(self._lead, 1)}, or choose another joining"
            )
        key = options.position_key
        if key is not None and key not in spec.obs_shapes and key in getattr(robot, "obs_keys", ()):
            self._also = [*dict.fromkeys([*self._also, key])]
        elif key is not None and tuple(spec.obs_shapes.get(key, ())) != (spec.action_dim,):
            seen = ", ".join(f"{name} {tuple(shape)}" for name, shape in spec.obs_shapes.items())
            raise InputError(
                f"position_key is '{key}', expected an observation of shape ({spec.action_dim},): "
                f"the policy sees {seen}"
            )
        self._real_time = not isinstance(self._clock, SimulatedClock)
        if (
            options.max_bad_observations is None
            and self._real_time
            and not getattr(robot, "simulated", False)
        ):
            raise InputError(
                "max_bad_observations is not set: say after how many bad observations in a row a "
                f"run of this robot has to end, such as ControlOptions(max_bad_observations="
                f"{max(round(hz), 1)}) for a second of them; or give a robot that is simulated an "
                "attribute simulated = True"
            )

    def run(self, max_ticks: int | None = None) -> ControlResult:
        """Control the robot until its task is done; `stop` is called once on every way out.

        SIGINT, SIGTERM, SIGQUIT and SIGHUP (unless it is ignored) end the run after the present
        tick, however many come: none interrupts ``stop``. (Python tells only the main thread of
        signals; in another one, nothing is watched for.) When a call of the robot takes longer
        than ``hang_timeout``, a watchdog stops the robot from its own thread and interrupts the
        call. A call that cannot be interrupted would never let `run` return: in the main thread
        the process then ends with exit code 1, after the recording has been closed.

        Args:
            max_ticks: ticks after which the run ends; None: no limit.

        Returns:
            What happened; ``reason`` says why the run ended, see `ControlResult`.

        Raises:
            InputError: the policy refused its input, or nobody says which of several tasks it is
                to do.
            FloatingPointError: the policy's actions were not finite; they were not executed.
            Exception: whatever else the robot or the policy raised.
        """
        guard = RobotGuard(
            self._robot, hang_timeout=self._options.hang_timeout, watched=self._real_time
        )
        try:
            # No signal may break off what follows, until the robot has been stopped.
            with InterruptFlag(second_raises=False) as flag:
                guard.on_hang = lambda call: self._leave(call, guard, flag)
                result = self._run(guard, flag, max_ticks)
        finally:
            guard.stop()  # for a signal in between the two lines above
            guard.close()
        _LOG.info("run ended: %s", result.to_dict())
        return result

    def _run(self, guard: RobotGuard, flag: InterruptFlag, max_ticks: int | None) -> ControlResult:
        policy, options = self._policy, self._options
        result = self.result = ControlResult()
        with ExitStack() as ending:  # from the last to the first
            logbook = Logbook(self._recorder, guard)
            ending.callback(logbook.end_episode)
            ending.callback(guard.stop)  # where there will be no inference
            inference = self._make_inference(Planner(policy))
            ending.callback(inference.close)
            # Before anything that could take long: the robot comes first.
            ending.callback(guard.stop)
            try:
                guard.begin()
                run = ControlRun(
                    robot=guard,
                    inference=inference,
                    joining=create_joining(options.joining, ensemble_decay=options.ensemble_decay),
                    limits=self._limits,
                    clock=self._clock,
                    logbook=logbook,
                    options=options,
                    result=result,
                    sight=Sight(
                        policy.spec,
                        policy.n_obs_steps,
                        result,
                        max_bad_observations=options.max_bad_observations,
                        task=getattr(policy, "task", None),
                    ),
                    also=AlsoRecorded(self._also, self._options.position_key),
                    period=self._period,
                    execute=self._execute,
                    lead=self._lead,
                    max_prefix=self._max_prefix,
                    max_staleness=options.max_staleness or 2 * self._whole * self._period,
                )
                self._tick_until_done(run, flag, max_ticks)
            except Hang:
                result.reason = f"{guard.hung or 'interpreter'} hung"
            return result

    def _tick_until_done(self, run: ControlRun, flag: InterruptFlag, max_ticks: int | None) -> None:
        clock, result = self._clock, run.result
        began = anchor = clock.now()
        n = 0
        while not result.reason:
            if flag.name is not None:
                result.reason = flag.name
            elif max_ticks is not None and result.ticks >= max_ticks:
                result.reason = "max_ticks"
            else:
                if (passed := clock.now() - began) > 0:
                    result.rate = result.ticks / passed
                result.reason = run.tick() or ""
                n += 1
                # A product and not a sum: rounding must not add up over hours.
                if clock.now() > anchor + n * self._period:
                    result.late_ticks += 1
                    anchor, n = clock.now(), 0
                self._wait(anchor + n * self._period, flag)

    def _wait(self, moment: float, flag: InterruptFlag) -> None:
        clock = self._clock
        while self._real_time and moment - clock.now() > _SLICE and flag.name is None:
            clock.sleep_until(clock.now() + _SLICE)
        if flag.name is None:
            clock.sleep_until(moment)

    def _leave(self, call: Call, guard: RobotGuard, flag: InterruptFlag) -> None:
        """Get the main thread out of a call that hangs; in the watchdog, the robot stopped."""
        flag.interrupt_main_thread(lambda: Hang() if guard.is_under_way(call) else None)
        if guard.returns(call, _GRACE) or not flag.watches:
            return
        _LOG.critical("%s.%s() cannot be interrupted: the process ends", call.owner, call.name)
        if self._recorder is not None:
            closing = threading.Thread(target=self._recorder.close, daemon=True)
            closing.start()
            closing.join(_GRACE)
        os._exit(1)


def _actions_per_chunk(policy: ControlPolicy) -> int:
    """Return how many actions a chunk has from the newest observation on."""
    horizon = getattr(policy, "horizon", None)
    if horizon is None or not hasattr(policy, "sample"):
        return policy.n_action_steps
    return int(horizon) - policy.n_obs_steps + 1
