"""Parts of the demo that can be checked by hand."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
import torch

from lfm_policy import InputError, load_policy
from lfm_policy.demo.flow_states import FlowState, flow_states, states_to_show
from lfm_policy.demo.page import comparison
from lfm_policy.demo.pictures.films import choose_episodes
from lfm_policy.demo.pictures.flow_film import flow_at
from lfm_policy.demo.pictures.scene import GOAL_POSE, block_outline
from lfm_policy.demo.results import PolicyResult
from lfm_policy.demo.stages import Stages
from lfm_policy.evaluation import Cell, EpisodeResult
from lfm_policy.pictures import DARK, LIGHT
from lfm_runtime.policy.sampler import Sampler

pytestmark = pytest.mark.simulator


@pytest.mark.parametrize(("solver", "nfe"), [("euler", 6), ("midpoint", 8), ("dopri5", None)])
def test_the_flow_is_what_the_policy_samples(small_run: Path, solver: str, nfe: int | None) -> None:
    policy = load_policy(small_run)
    policy.set_sampler(solver=solver, nfe=nfe, noise_scale=0.5, renoise=0.5)
    obs = {key: np.stack([policy.fake_obs(1)[key]] * 2) for key in policy.spec.obs_shapes}
    noise = torch.randn(5, *policy.model.chunk_shape)
    states = flow_states(policy, obs, noise)
    sampled = policy.sample({k: np.stack([v] * 5) for k, v in obs.items()}, noise=noise)
    action = policy.normalizer["action"]
    clipped = np.clip(states[-1].chunks, action.min.numpy(), action.max.numpy())
    np.testing.assert_array_equal(clipped, sampled.chunk.numpy())
    start = policy.normalizer.unnormalize("action", 0.5 * noise).numpy()
    np.testing.assert_array_equal(states[0].chunks, start)
    assert states[0].left == 1 and states[-1].left == 0
    assert states[-1].evaluations == sampled.nfe and states[-1].time == 0
    lefts = [state.left for state in states]
    assert lefts == sorted(lefts, reverse=True) and Fraction(1, 2) in lefts
    boundary = states[lefts.index(Fraction(1, 2))]
    assert (boundary.block, boundary.time) == (2, 0)


@pytest.mark.parametrize(
    ("n_blocks", "steps", "shown"),
    [
        (3, 5, ["0", "1/3", "2/3", "1"]),
        (1, 16, ["0", "1/4", "1/2", "3/4", "1"]),
        (1, 1, ["0", "1"]),
        (2, 8, ["0", "1/4", "1/2", "3/4", "1"]),
        (2, 1, ["0", "1/2", "1"]),
        (4, 4, ["0", "1/4", "1/2", "3/4", "1"]),
        (6, 2, ["0", "1/3", "1/2", "2/3", "1"]),
        (8, 1, ["0", "1/4", "1/2", "3/4", "1"]),
    ],
)
def test_which_states_are_shown(n_blocks: int, steps: int, shown: list[str]) -> None:
    total = n_blocks * steps
    states = [FlowState(Fraction(k, total), 1, 0.0, 0, np.zeros(0)) for k in range(total + 1)]
    kept = states_to_show(states, n_blocks, stops=[Fraction(1, 2)])
    assert [str(state.left) for state in kept] == shown


@pytest.mark.parametrize(
    ("student", "lefts"),
    [("student-nfe2", [1, Fraction(2, 3), 0]), ("student-nfe1", [1, 0])],
)
def test_a_student_stops_where_the_blocks_that_it_replaces_end(
    demo_folder: Path, student: str, lefts: list[Fraction]
) -> None:
    policy = load_policy(demo_folder / student)
    obs = {key: np.stack([policy.fake_obs(1)[key]] * 2) for key in policy.spec.obs_shapes}
    states = flow_states(policy, obs, torch.randn(2, *policy.model.chunk_shape))
    assert [state.left for state in states] == lefts
    assert [state.block for state in states[1:]] == list(range(len(lefts) - 1, 0, -1))


def test_a_film_moves_along_straight_lines_between_steps() -> None:
    def state(left: Fraction, evaluations: int, value: float) -> FlowState:
        return FlowState(left, 1, 0.0, evaluations, np.full((1, 2, 2), value))

    flow = [state(Fraction(1), 0, 0), state(Fraction(1, 2), 1, 10), state(Fraction(0), 2, 30)]
    for left, value, begun in ((1, 0, 0), (0.75, 5, 1), (0.5, 10, 1), (0.25, 20, 2), (0, 30, 2)):
        chunks, evaluations = flow_at(flow, left)
        assert (chunks == value).all() and evaluations == begun


def results(outcomes: str, rewards: list[float]) -> list[EpisodeResult]:
    return [
        EpisodeResult(k, k, outcome == "+", reward, None, 1, 1, 1)
        for k, (outcome, reward) in enumerate(zip(outcomes, rewards, strict=True))
    ]


def test_easy_disputed_and_hardest_episodes_are_chosen() -> None:
    first = results("--+-+", [0.5, 0.9, 1, 0.9, 1])
    second = results("-++--", [0.1, 1, 1, 0.2, 0.7])
    assert [chosen.episode for chosen in choose_episodes([first, second])] == [2, 1, 0]
    assert [chosen.episode for chosen in choose_episodes([results("--", [0.5, 0.2])])] == [1]
    assert [chosen.episode for chosen in choose_episodes([results("++", [1, 1])])] == [0]


def test_the_t_is_where_its_pose_says() -> None:
    outline = block_outline(np.array([100.0, 200.0, 0.0]))
    np.testing.assert_allclose(outline[0], [40, 200])
    x, y = (np.append(outline[:, k], outline[0, k]) for k in (0, 1))
    area = 0.5 * abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))
    assert area == 120 * 30 + 30 * 90, "the corners are not in the order of the outline"


def test_the_goal_is_that_of_the_simulator() -> None:
    pytest.importorskip("gym_pusht")
    import gymnasium as gym
    import lfm_envs

    assert lfm_envs
    env = gym.make("lfm/PushT-v0")
    env.reset(seed=0, options={"state": np.array([20.0, 20.0, *GOAL_POSE])})
    *_, info = env.step(np.array([20.0, 20.0]))
    env.close()
    assert info["coverage"] > 0.999


def test_stages_are_timed_over_all_attempts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "seconds.json"
    stages = Stages(path, total=2, quiet=False)
    with pytest.raises(InputError), stages.stage("first"):
        raise InputError("nothing was done")
    assert not path.exists()
    with pytest.raises(KeyboardInterrupt), stages.stage("second"):
        raise KeyboardInterrupt
    assert capsys.readouterr().out == "[1/2] first\n[2/2] second\n"
    path.write_text(json.dumps({"second": 5.0}))
    again = Stages(path, total=2, quiet=True)
    with again.stage("second"):
        pass
    assert 5 <= json.loads(path.read_text())["second"] < 6
    assert not capsys.readouterr().out
    path.write_text("[1]")
    assert Stages(path, total=2, quiet=True).seconds == {}


def policy_solving(solved: str, nfe: int) -> PolicyResult:
    """A policy whose episodes are solved (x) or not (-); only what comparisons look at."""
    episodes = [
        EpisodeResult(k, k, mark == "x", 1.0, None, 30, 4, nfe) for k, mark in enumerate(solved)
    ]
    cell = Cell(Sampler("euler", nfe, (nfe,)), {}, episodes)
    return cast(PolicyResult, SimpleNamespace(evaluation=SimpleNamespace(cell=cell)))


@pytest.mark.parametrize(
    ("student", "teacher", "said", "not_said"),
    [
        (
            "x" * 40 + "-" * 10,
            "-" * 5 + "x" * 33 + "-" * 12,
            [
                "with 1 network evaluation solves 40 of the 50 starts, 7 more than its teacher",
                "7 were solved by the student alone and 0 by the teacher alone",
                "p\u00a0=\u00a00.02",
                "Chance alone seldom",
            ],
            ["overlap", "imitates"],
        ),
        (
            "x" * 6 + "-" * 3 + "x" * 30 + "-" * 11,
            "-" * 4 + "x" * 33 + "-" * 13,
            [
                "solves 36 of the 50 starts, 3 more than its teacher",
                "6 were solved by the student alone and 3 by the teacher alone",
                "within chance",
                "overlap (58% to 83% and 52% to",
                "imitates",
            ],
            ["seldom"],
        ),
        (
            "x--",
            "-xx",
            ["1 of the 3 starts, 1 fewer than", "within chance", "p\u00a0=\u00a01.00"],
            ["imitates", "seldom"],
        ),
        ("x-", "-x", ["1 of the 2 starts, as many as", "That is within chance"], ["imitates"]),
        ("x-", "x-", ["as many as its teacher, and the very same ones"], ["chance"]),
    ],
)
def test_what_a_student_and_its_teacher_solve_is_explained(
    student: str, teacher: str, said: list[str], not_said: list[str]
) -> None:
    text = comparison(policy_solving(student, 1), policy_solving(teacher, 16))
    assert all(words in text for words in said), text
    assert not any(words in text for words in not_said), text


def test_the_colours_of_the_page_are_those_of_its_pictures() -> None:
    style = (Path(__file__).parents[2] / "lfm_policy/demo/page.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark", 1)
    for part, theme in ((light, LIGHT), (dark, DARK)):
        for colour in (theme.surface, theme.ink, theme.muted, *theme.policies[:3]):
            assert colour in part
