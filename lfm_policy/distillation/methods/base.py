"""What every distillation method is: a loss on teacher trajectories."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lfm_policy.config import ExperimentConfig
from lfm_policy.config.distillation import DistillConfig
from lfm_policy.distillation.group import TeacherGroup
from lfm_policy.errors import InputError
from lfm_policy.flow.methods.error import robust
from lfm_policy.training.trainer import Loss


class DistillLoss(Loss):
    """The loss of one student block.

    The student's one step maps a state y at the noise side of its group to
    x = y - u(y, t = 1, O), which is one Euler step from t = 1 to 0: u is the mean velocity of the
    group. Methods that train the network at other times too count them from 0 at the data side of
    the group to 1 at its noise side.

    A new method is a subclass in a file of this folder and its name in the list beside it. All
    parameters of the module are trained, its network first; what is neither trained nor the
    teacher's is in `kept_tensors`. Rounds of training are those of every `Loss`.
    """

    own_options: ClassVar[tuple[str, ...]] = ()
    """Options of ``distill`` that mean something to this method and not to all."""

    student_method: ClassVar[str] = "velocity"
    """Name of the ``flow.method`` by which students of it move a chunk."""

    one_evaluation: ClassVar[bool] = True
    """Whether students are right in one evaluation of each block alone, and not in several."""

    asks_teacher: ClassVar[bool] = False
    """Whether the teacher is asked in every step, by the student's encoding of what is observed."""

    def __init__(
        self,
        network: nn.Module,
        group: TeacherGroup,
        options: DistillConfig,
        weights: Tensor | None = None,
    ) -> None:
        """Build the loss.

        Args:
            network: of the student block.
            group: what it replaces.
            options: of the distillation.
            weights: (horizon,), how much each action of a chunk counts, 1 on average; None: the
                same for all.

        Raises:
            InputError: the method cannot distil this group.
        """
        super().__init__()
        self._weights = None if weights is None else weights[:, None]
        self.network = network
        self.options = options
        # Not a submodule: the teacher is neither trained nor saved with the student.
        self._group = (group,)
        self._prepare()

    def _prepare(self) -> None:
        """Make what a method needs besides the network; refuse a group with an InputError."""

    @classmethod
    def adapt(cls, options: dict[str, Any]) -> None:
        """Change options that a student has of its teacher and this method cannot work with.

        Args:
            options: all of the student, by section; what the user sets comes after that.
        """

    @classmethod
    def check(cls, config: ExperimentConfig) -> None:
        """Check options of a student that the method may be unable to work with.

        Raises:
            InputError: it is.
        """
        found = config.flow.method.name
        if found != cls.student_method:
            raise InputError(
                f"flow.method is '{found}', expected '{cls.student_method}': that is what students "
                f"of the distillation method '{config.distill.method}' are"
            )
        if cls.asks_teacher and config.distill.student_config:
            raise InputError(
                f"the distillation method '{config.distill.method}' asks the teacher in every step "
                "about what the student sees, and this student sees something else (it has a "
                "configuration of its own); use --method regression, progressive, consistency or "
                "rectified"
            )

    @classmethod
    def points(cls, options: DistillConfig) -> int:
        """Return how many states of the teacher's trajectories the method needs."""
        return 1

    @property
    def group(self) -> TeacherGroup:
        """The part of the teacher that the student replaces."""
        return self._group[0]

    def flow_map(self, x: Tensor, t: Tensor, cond: Tensor | None) -> Tensor:
        """Return x - t u(x, t, O), where one step leads from times ``t`` (B,) to the data side."""
        velocity: Tensor = self.network(x, t, cond)
        return x - t[:, None, None] * velocity

    def one_step(self, y: Tensor, cond: Tensor | None) -> Tensor:
        """Return y - u(y, 1, O), the student's sample for noise-side states ``y``."""
        return self.flow_map(y, y.new_ones(y.shape[0]), cond)

    def mean_square(self, difference: Tensor) -> Tensor:
        """Return the weighted mean square of (B, horizon, action_dim), a scalar."""
        return self._squares(difference).mean()

    def distance(self, difference: Tensor) -> Tensor:
        """Return how far (B, horizon, action_dim) is from 0: the mean over chunks, a scalar.

        A chunk of weighted mean square s counts as s, or, with ``error_scale`` c, as `robust` has
        it with ``error_power``: for 1/2 the pseudo-Huber 2 c (sqrt(s + c^2) - c), s where it is
        small, 2 c sqrt(s) where it is large.
        """
        squares, options = self._squares(difference).flatten(1).mean(1), self.options
        return robust(squares, scale=options.error_scale, power=options.error_power).mean()

    def _squares(self, difference: Tensor) -> Tensor:
        square = difference.square()
        return square if self._weights is None else square * self._weights

    @abstractmethod
    def forward(self, y: Tensor, path: Tensor, cond: Tensor | None) -> Tensor:
        """Return the loss, a scalar.

        Args:
            y: (B, horizon, action_dim), states at the noise side of the group.
            path: (B, points, horizon, action_dim), where the teacher takes them; see
                `TeacherGroup.trajectory`. Entry 0 is at the data side.
            cond: (B, cond_dim) encoded observations, or None.
        """


class TrajectoryLoss(DistillLoss):
    """A method that learns from states on the way between y and where the teacher takes it."""

    own_options = ("trajectory_points",)

    @classmethod
    def adapt(cls, options: dict[str, Any]) -> None:
        """Learn from the teacher's states alone, where inputs would be corrected."""
        if options["distill"]["inputs"] == "corrected":
            options["distill"]["inputs"] = "teacher"

    @classmethod
    def check(cls, config: ExperimentConfig) -> None:
        """Check that inputs and targets are on one trajectory."""
        super().check(config)
        if config.distill.inputs == "corrected":
            raise InputError(
                f"distill.inputs is 'corrected' with the method '{config.distill.method}', which "
                "trains on the way between input and target: these lie on different ways; use "
                "inputs 'student', or the method 'regression'"
            )

    @classmethod
    def points(cls, options: DistillConfig) -> int:
        """Return the configured number of points."""
        return options.trajectory_points


def state_at(y: Tensor, path: Tensor, index: Tensor) -> Tensor:
    """Return row b's state at the time ``index[b]`` / points; y where the index is ``points``."""
    points = path.shape[1]
    rows = torch.arange(len(y), device=y.device)
    inner = path[rows, index.clamp(max=points - 1)]
    return torch.where((index == points)[:, None, None], y, inner)


def action_weights(config: ExperimentConfig) -> Tensor:
    """Return how much each action of a chunk counts in the loss, (horizon,), 1 on average."""
    policy = config.policy
    weights = torch.full((policy.horizon,), config.distill.tail_weight)
    first = policy.n_obs_steps - 1
    weights[first : first + policy.n_action_steps] = 1.0
    return weights / weights.mean()
