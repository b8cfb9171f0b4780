"""Environments that say little or nonsense: success that is not reported, rewards that are NaN."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from lfm_envs import Reading
from matplotlib.figure import Figure

from lfm_policy.control.episodes import EpisodeOutcome, run_episode
from lfm_policy.control.report import outcomes_table, outcomes_to_dict
from lfm_policy.errors import InputError
from lfm_policy.evaluation import (
    Cell,
    EpisodeResult,
    NoSuccessReportedWarning,
    RolloutConfig,
    evaluate,
    evaluation_to_dict,
    mcnemar_exact,
    rollout,
    settled,
    successes_of,
)
from lfm_policy.evaluation.exported import ExportedPolicy
from lfm_policy.evaluation.recording import record_videos
from lfm_policy.evaluation.report import footnote, results_table
from lfm_policy.evaluation.reporting.figure import plot_evaluation
from lfm_policy.exporting import compare_success
from lfm_policy.policy import Policy

ENV_ID = "lfm-test/Quiet-v0"
NO_SUCCESS = (
    rf"environment '{ENV_ID}' never said whether an episode succeeded: let its step\(\) return "
    r"info\['success'\] or info\['is_success'\], True or False; .* --success terminated"
)


class QuietEnv(gym.Env[Any, Any]):
    """Ends after 12 steps. Step k of seed s says what ``says`` makes of (s, k)."""

    metadata = {"render_modes": ["rgb_array"], "render_fps": 5}  # noqa: RUF012
    says: Callable[[int, int], tuple[Any, Any]]
    at_first: Any = {}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        shapes = {"agent_pos": 2, "block_pose": 4, "keypoints": 16}
        self.observation_space = spaces.Dict(
            {k: spaces.Box(-np.inf, np.inf, (n,), np.float32) for k, n in shapes.items()}
        )
        self.action_space = spaces.Box(0, 512, (2,), np.float32)
        self.render_mode = render_mode
        self.seed, self.count = 0, 0

    def _obs(self) -> dict[str, np.ndarray]:
        seen = {
            key: np.full(space.shape, self.count, np.float32)
            for key, space in self.observation_space.spaces.items()
        }
        return type(self).shows(self.seed, self.count, seen)

    @staticmethod
    def shows(seed: int, count: int, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return seen

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> Any:
        assert seed is not None
        self.seed, self.count = seed, 0
        return self._obs(), dict(self.at_first)

    def step(self, action: Any) -> Any:
        self.count += 1
        reward, info = type(self).says(self.seed, self.count)
        return self._obs(), reward, self.count == 12, False, info

    def render(self) -> Any:
        return np.full((65, 51, 3), 20 * self.count, np.uint8)


CONFIG = RolloutConfig(ENV_ID, seed_start=0, max_episode_steps=30, num_envs=3)


@pytest.fixture
def saying(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that sets what the environment says."""
    if ENV_ID not in gym.registry:
        gym.register(ENV_ID, entry_point=QuietEnv)

    def say(says: Callable[[int, int], tuple[Any, Any]], at_first: Any = None) -> None:
        monkeypatch.setattr(QuietEnv, "says", staticmethod(says), raising=False)
        monkeypatch.setattr(QuietEnv, "at_first", at_first or {})

    return say


def test_success_that_nobody_reports_is_not_zero(
    policy: Policy, saying: Callable[..., None], tmp_path: Path
) -> None:
    saying(lambda seed, step: (0.1 * seed, {"other": step}))
    with pytest.warns(NoSuccessReportedWarning, match=NO_SUCCESS) as caught:
        cells, seconds = evaluate(policy, CONFIG, n_episodes=4, nfes=[2, 4], quiet=True)
    assert len([w for w in caught if w.category is NoSuccessReportedWarning]) == 1
    summary = cells[0].summary()
    assert [result.success for result in cells[0].episodes] == [None] * 4
    assert summary["score"] == pytest.approx(0.15)
    for key in ("successes", "success_rate", "success_interval"):
        assert summary[key] is None
    report = json.loads(json.dumps(evaluation_to_dict(policy, CONFIG, cells, seconds)))
    assert report["cells"][1]["summary"]["success_rate"] is None
    assert report["cells"][0]["episodes"][0]["success"] is None
    rows = results_table("title", cells).text().splitlines()
    assert "euler - - - 0.150 -" in " ".join(rows[-1].split())
    assert "0%" not in footnote(policy, CONFIG, cells)

    frames = record_videos(policy, CONFIG, cells[-1].episodes[:2], tmp_path)
    assert sorted(path.name for path in tmp_path.glob("*.mp4")) == [
        "episode_0000_unknown.mp4",
        "episode_0001_unknown.mp4",
    ]
    assert frames[0].shape == (65, 51, 3)
    drawn = texts_of(tmp_path, cells, frames)
    assert drawn.count("success: not reported") == 2
    assert not [text for text in drawn if text.endswith("%")]


def texts_of(folder: Path, cells: list[Cell], frames: dict[int, np.ndarray]) -> list[str]:
    """Return every text of the picture of an evaluation."""
    found: list[str] = []
    save = Figure.savefig

    def look(figure: Figure, *arguments: Any, **options: Any) -> None:
        for axes in figure.get_axes():
            legend = axes.get_legend()
            texts = [*axes.texts, axes.title, *(legend.get_texts() if legend else [])]
            found.extend(text.get_text() for text in texts)
        save(figure, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", look)
        plot_evaluation(folder / "eval.png", "title", cells, frames)
    return found


@pytest.mark.parametrize("key", ["success", "is_success"])
def test_success_of_either_name(policy: Policy, saying: Callable[..., None], key: str) -> None:
    saying(lambda seed, step: (0.0, {key: np.array([seed % 2 == 1 and step == 5])}))
    with warnings.catch_warnings():
        warnings.simplefilter("error", NoSuccessReportedWarning)
        (cell,), _ = evaluate(policy, CONFIG, n_episodes=5, quiet=True)
    assert [result.success for result in cell.episodes] == [False, True, False, True, False]
    assert cell.summary()["successes"] == 2


def test_success_that_is_spoken_of_only_where_there_is_one(
    policy: Policy, saying: Callable[..., None], tmp_path: Path
) -> None:
    saying(lambda seed, step: (0.0, {"success": True} if seed == 2 and step > 3 else {}))
    assert [r.success for r in rollout(policy, CONFIG, range(4))] == [None, None, True, None]
    (cell,), _ = evaluate(policy, CONFIG, n_episodes=4, quiet=True)
    assert [result.success for result in cell.episodes] == [False, False, True, False]
    record_videos(policy, CONFIG, cell.episodes, tmp_path)
    assert len(list(tmp_path.glob("*_failure.mp4"))) == 3
    assert len(list(tmp_path.glob("episode_0002_success.mp4"))) == 1


def test_what_is_said_at_the_start_counts_as_speaking_of_it(
    policy: Policy, saying: Callable[..., None]
) -> None:
    saying(lambda seed, step: (0.0, {}), at_first={"is_success": False})
    assert [r.success for r in rollout(policy, CONFIG, range(5))] == [False] * 5


@pytest.mark.parametrize(
    ("says", "message"),
    [
        (
            lambda s, k: (np.nan if (s, k) == (4, 7) else 0.0, {}),
            "the reward is nan, exp",
        ),
        (lambda s, k: (0.0, {"success": "y"} if (s, k) == (4, 7) else {}), "is 'y', expected true"),
        (
            lambda s, k: (0.0, {"coverage": np.nan if (s, k) == (4, 7) else 0.5}),
            "'] is nan",
        ),
    ],
)
@pytest.mark.parametrize("processes", [False, True])
def test_what_cannot_be_counted_names_episode_and_step(
    policy: Policy,
    saying: Callable[..., None],
    says: Callable[[int, int], tuple[Any, Any]],
    message: str,
    processes: bool,
) -> None:
    saying(says)
    config = replace(CONFIG, processes=processes, seed_start=2, num_envs=2)
    where = rf"environment '{ENV_ID}', episode 2 \(seed 4\), step 6: .*"
    with pytest.raises(InputError, match=where) as caught:
        rollout(policy, config, range(4))
    assert message in str(caught.value)


def test_the_end_of_an_episode_is_success_when_asked(
    policy: Policy, saying: Callable[..., None]
) -> None:
    saying(lambda seed, step: (0.0, {"is_success": False}))
    ended = replace(CONFIG, reading=Reading(success="terminated"))
    assert [r.success for r in rollout(policy, ended, range(2))] == [True, True]  # in step 12
    cut = replace(ended, max_episode_steps=11)
    assert [r.success for r in rollout(policy, cut, range(2))] == [False, False]
    assert [r.success for r in rollout(policy, CONFIG, range(2))] == [False, False]


def showing(
    monkeypatch: pytest.MonkeyPatch, at: tuple[int, int], change: Callable[[np.ndarray], Any]
) -> None:
    """Let keypoints be something else in one step of one seed; None: they are not there."""

    def shows(seed: int, count: int, seen: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if (seed, count) != at:
            return seen
        changed = change(seen["keypoints"])
        rest = {key: value for key, value in seen.items() if key != "keypoints"}
        return rest if changed is None else {**rest, "keypoints": changed}

    monkeypatch.setattr(QuietEnv, "shows", staticmethod(shows))


def nan_in_element_3(value: np.ndarray) -> np.ndarray:
    value[3] = np.nan
    return value


@pytest.mark.parametrize(("at", "step"), [((4, 0), 0), ((4, 7), 7)])
def test_an_observation_that_is_no_number_names_episode_and_step(
    policy: Policy,
    saying: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    at: tuple[int, int],
    step: int,
) -> None:
    saying(lambda seed, step: (0.0, {}))
    showing(monkeypatch, at, nan_in_element_3)
    config = replace(CONFIG, seed_start=2, num_envs=2)
    where = (
        rf"environment '{ENV_ID}', episode 2 \(seed 4\), step {step}: observation 'keypoints' is "
        r"nan \(element 3\), expected finite numbers"
    )
    with pytest.raises(InputError, match=where):
        rollout(policy, config, range(4))
    rollout(policy, config, [0, 1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda value: value[:5], r"'keypoints' has shape \(5,\), its observation_space \(16,\)"),
        (lambda value: None, "no observation 'keypoints', which is in its observation_space"),
    ],
)
@pytest.mark.parametrize("step", [0, 4])
def test_observations_that_are_not_what_their_space_says(
    policy: Policy,
    saying: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[np.ndarray], Any],
    message: str,
    step: int,
) -> None:
    saying(lambda seed, step: (0.0, {}))
    showing(monkeypatch, (1, step), change)
    where = rf"environment '{ENV_ID}', episode 1 \(seed 1\), step "
    with pytest.raises(InputError, match=rf"{where}\d: .*{message}"):
        rollout(policy, replace(CONFIG, processes=step == 0, num_envs=2), range(2))


def test_an_export_cannot_be_compared_without_success(
    policy: Policy, saying: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    saying(lambda seed, step: (0.0, {}))
    env = replace(policy.config.env, id=ENV_ID)
    monkeypatch.setattr(policy, "config", replace(policy.config, env=env))
    as_if_exported: ExportedPolicy = policy  # type: ignore[assignment]
    with pytest.raises(InputError, match=NO_SUCCESS):
        compare_success(policy, as_if_exported, n_episodes=2)
    saying(lambda seed, step: (0.0, {"success": True} if seed % 2 else {}))
    change = compare_success(policy, as_if_exported, n_episodes=4)
    assert (change.policy, change.export, change.p_value) == (2, 2, 1.0)


def test_outcomes_that_are_not_known_are_not_compared() -> None:
    unknown: Any = [True, None]
    with pytest.raises(ValueError, match="an outcome is None"):
        mcnemar_exact([True, False], unknown)


def result(success: bool | None) -> EpisodeResult:
    return EpisodeResult(0, 0, success, 0.0, None, 1, 1, 1)


def test_settling() -> None:
    assert successes_of([result(None)] * 2) is None
    assert successes_of([result(None), result(False)]) == [False, False]
    assert [r.success for r in settled([result(None)], reported=True)] == [False]
    assert [r.success for r in settled([result(None), result(True)])] == [False, True]


class Chunks:
    """A policy that goes to the middle."""

    def __init__(self, policy: Policy) -> None:
        self.spec, self.n_obs_steps, self.n_action_steps = policy.spec, 1, 4

    def infer(self, obs: Any) -> Any:
        return {"actions": np.full((4, 2), 256.0, np.float32)}


def control(policy: Policy) -> EpisodeOutcome:
    env = gym.make(ENV_ID, disable_env_checker=True)
    return run_episode(policy, env, hz=10, seed=3, simulated=True)


def test_control_without_success(
    policy: Policy, saying: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    saying(lambda seed, step: (0.25, {}))
    outcome = control(policy)
    assert outcome.success is None and outcome.max_reward == 0.25
    (plain,) = outcomes_to_dict([outcome])
    assert plain["success"] is None
    outcomes_table("title", [outcome], hz=10)
    out = capsys.readouterr().out
    assert "success: - (info['success'] and info['is_success'] of the environment" in out
    saying(lambda seed, step: (0.25, {"is_success": step == 3}))
    outcome = control(policy)
    assert outcome.success is True
    outcomes_table("title", [outcome], hz=10)
    assert "success: 1 of 1" in capsys.readouterr().out


def test_control_with_a_reward_that_is_no_number(
    policy: Policy, saying: Callable[..., None]
) -> None:
    saying(lambda seed, step: (np.nan if step == 3 else 0.0, {}))
    message = rf"environment '{ENV_ID}', seed 3, step 2: the reward is nan, expected a finite"
    with pytest.raises(InputError, match=message):
        control(policy)


class NoPicture(QuietEnv):
    def render(self) -> Any:
        return None


def test_an_environment_that_draws_nothing(
    policy: Policy, saying: Callable[..., None], tmp_path: Path
) -> None:
    saying(lambda seed, step: (0.0, {}))
    if "lfm-test/NoPicture-v0" not in gym.registry:
        gym.register("lfm-test/NoPicture-v0", entry_point=NoPicture)
    config = replace(CONFIG, env_id="lfm-test/NoPicture-v0")
    results = rollout(policy, config, [0])
    with pytest.raises(InputError, match="draws no images, so its episodes cannot be filmed"):
        record_videos(policy, config, results, tmp_path)
