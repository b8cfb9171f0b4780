"""Films, limits and faults of environments that are a user's own."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import av
import gymnasium as gym
import numpy as np
import pytest

from lfm_policy import InputError, Policy, evaluate
from lfm_policy.cli.main import main
from lfm_policy.errors import EvaluationError
from lfm_policy.evaluation import recording
from lfm_policy.evaluation.episodes import describe_outcome
from lfm_policy.evaluation.evaluation import SelectionRollouts
from lfm_policy.training import train

pytestmark = pytest.mark.slow

MODULE = "own_environments_of_a_test"


class Reach(gym.Env):
    """Go to a goal; a picture is as bright as the episode is old, in one array again and again."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 10}
    observation_space: Any = gym.spaces.Dict(
        {key: gym.spaces.Box(-9, 9, (2,), np.float64) for key in ("goal", "hand")}
    )
    action_space = gym.spaces.Box(-1, 1, (2,), np.float32)

    def __init__(self, render_mode: str | None = None, begins: int = 0) -> None:
        self.render_mode, self.begins = render_mode, begins
        self.picture = np.zeros((64, 64, 3), np.uint8)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.t = self.begins
        self.hand, self.goal = self.np_random.uniform(-1, 1, (2, 2))
        return self.observation(), {}

    def step(self, action: np.ndarray) -> Any:
        self.t += 1
        self.hand = self.hand + np.clip(action, -0.05, 0.05)
        return self.observation(), self.t / 100, False, False, {"success": False}

    def observation(self) -> Any:
        return {"goal": self.goal.copy(), "hand": self.hand.copy()}

    def render(self) -> Any:
        self.picture[:] = 10 * self.t % 256
        return self.picture


class Flat(Reach):
    observation_space = gym.spaces.Box(-9, 9, (4,), np.float64)

    def observation(self) -> Any:
        return np.concatenate([self.goal, self.hand])


class Unseeded(Reach):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        result = super().reset()
        self.t = int(np.random.default_rng().integers(1000))
        return result


class Floats(Reach):
    def render(self) -> Any:
        return np.full((64, 64, 3), 0.5)


class Undrawn(Reach):
    def __init__(self) -> None:
        super().__init__()


class Renamed(Reach):
    observation_space = gym.spaces.Dict(
        {key: gym.spaces.Box(-9, 9, (2,), np.float64) for key in ("target", "hand")}
    )

    def observation(self) -> Any:
        return {"target": self.goal.copy(), "hand": self.hand.copy()}


class Miscast(Reach):
    observation_space = gym.spaces.Dict(
        {
            "goal": gym.spaces.Box(-9, 9, (2,), np.float64),
            "hand": gym.spaces.Box(0, 255, (2,), np.uint8),
        }
    )


class FourValues(Reach):
    def step(self, action: np.ndarray) -> Any:
        obs, reward, terminated, _, info = super().step(action)
        return obs, reward, terminated, info


class OldReset(Reach):
    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return super().reset(seed=seed)[0]


class Unasked(Reach):
    def reset(self, seed: int | None = None) -> Any:
        return super().reset(seed=seed)


class Breaking(Reach):
    def step(self, action: np.ndarray) -> Any:
        if self.t == 2:
            raise ConnectionRefusedError("the arm does not answer")
        return super().step(action)


class Sightless(Reach):
    def render(self) -> Any:
        raise gym.error.DependencyNotInstalled("pygame is not installed")


class Timeless(Reach):
    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": None}


class GoesOn(Reach):
    """Each episode has a length of its own, and goes on for two steps after it is solved."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        self.length = 4 + (seed or 0) % 7
        return super().reset(seed=seed)

    def step(self, action: np.ndarray) -> Any:
        obs, reward, *_ = super().step(action)
        return obs, reward, self.t == self.length, False, {"success": self.t == self.length - 2}


CLASSES = (
    *(Reach, Flat, Unseeded, Floats, Undrawn, Renamed, Miscast, FourValues, OldReset, Unasked),
    *(Breaking, Sightless, Timeless, GoesOn),
)


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, MODULE, sys.modules[__name__])
    for each in CLASSES:
        gym.register(f"Own{each.__name__}-v0", each, max_episode_steps=12)
    yield
    for each in CLASSES:
        del gym.registry[f"Own{each.__name__}-v0"]


def named(each: type[Reach]) -> str:
    return f"{MODULE}:Own{each.__name__}-v0"


def brightness(path: Path) -> list[int]:
    with av.open(str(path)) as film:
        return [int(f.to_ndarray(format="rgb24")[20, 20, 0]) for f in film.decode(video=0)]


def test_an_object_is_filmed_as_it_was_evaluated(policy: Policy, tmp_path: Path) -> None:
    env = gym.make("OwnReach-v0", render_mode="rgb_array", begins=3)
    film = evaluate(policy, env, episodes=2, quiet=True).film(0, tmp_path)
    # A step of 10 each, though it draws into the same array.
    np.testing.assert_allclose(brightness(film.path)[:10], 30 + 10 * np.arange(10), atol=6)


def test_an_object_that_is_read_otherwise_is_filmed_so(policy: Policy, tmp_path: Path) -> None:
    reads: dict[str, Any] = {"observations": {"goal": [0, 2], "hand": [2, 4]}}
    env = gym.make("OwnFlat-v0", render_mode="rgb_array")
    assert evaluate(policy, env, episodes=1, quiet=True, **reads).film(0, tmp_path).path.exists()


@pytest.mark.parametrize(
    ("each", "message"),
    [
        (Unseeded, "the episodes did not repeat themselves"),
        (Floats, "draws no images, so its episodes cannot be filmed"),
        (Sightless, r"draws no images \(render\(\) raised DependencyNotInstalled: pygame is not"),
        (Undrawn, "is made with render_mode='rgb_array', which it has to take"),
    ],
)
def test_what_cannot_be_filmed_is_measured_all_the_same(
    policy: Policy,
    each: type[Reach],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    line = ["eval", str(policy.info["checkpoint"]), "--env", named(each), "--episodes", "2"]
    assert main([*line, "--video", "1", "--output", str(tmp_path), "--quiet"]) == 1
    captured = capsys.readouterr()
    assert re.search(message, captured.err) and "0/2" in captured.out
    assert (tmp_path / "eval.png").exists()
    assert json.loads((tmp_path / "eval.json").read_text())["cells"][0]["summary"]["n"] == 2
    with pytest.raises((InputError, EvaluationError), match=message.partition("=")[0]):
        evaluate(policy, named(each), episodes=1, quiet=True).film(0, tmp_path)


def test_the_advice_names_all_that_the_policy_sees(policy: Policy) -> None:
    with pytest.raises(InputError, match=r"env.observations=\{goal: NAME, hand: hand\}"):
        evaluate(policy, Renamed, episodes=2, quiet=True)
    named = {"goal": "target", "hand": "hand"}
    assert evaluate(policy, Renamed, observations=named, episodes=2, quiet=True).n == 2


def test_wrappers_are_not_made_anew(policy: Policy, tmp_path: Path) -> None:
    env = gym.wrappers.RescaleAction(gym.make("OwnReach-v0"), -1.0, 1.0)
    found = evaluate(policy, env, episodes=1, quiet=True)
    with pytest.raises(InputError, match=r"has wrappers \(RescaleAction\), with which it cannot"):
        found.film(0, tmp_path)


def test_limits(policy: Policy) -> None:
    steps = [e.steps for e in evaluate(policy, named(Reach), episodes=1, quiet=True).episodes]
    assert steps == [12]
    asked: dict[str, Any] = {"episodes": 1, "quiet": True, "max_episode_steps": 15}
    assert evaluate(policy, named(Reach), **asked).episodes[0].steps == 15
    with pytest.raises(InputError, match="ends every episode after 12 by a TimeLimit of its own"):
        evaluate(policy, gym.make("OwnReach-v0"), **asked)


@pytest.mark.parametrize("processes", [False, True])
@pytest.mark.parametrize(
    ("each", "message"),
    [
        (Miscast, r"observation 'hand' is float64, its observation_space uint8"),
        (FourValues, r"step\(\) .* expected 5: observation, reward, terminated, truncated, info"),
        (OldReset, r"reset\(\) .* expected 2: observation, info"),
        (Unasked, r"reset\(\) raised TypeError: .* unexpected keyword argument 'options'"),
        (
            Breaking,
            r"step 2: step\(\) raised ConnectionRefusedError: the arm does not answer "
            r"\(test_own_environments.py, line \d+\)",
        ),
    ],
)
@pytest.mark.parametrize("by_name", [False, True])
def test_faults_are_named(
    policy: Policy, each: type[Reach], message: str, processes: bool, by_name: bool
) -> None:
    env = named(each) if by_name else each
    if by_name and each is Miscast:
        pytest.skip("gymnasium's own check comes first")
    with pytest.raises(InputError, match=rf"seed 100000.*{message}"):
        evaluate(policy, env, episodes=1, num_envs=1, processes=processes, quiet=True)


def test_a_training_goes_on_without_an_environment_that_breaks(
    policy: Policy, tmp_path: Path
) -> None:
    config = policy.config
    config = replace(config, env=replace(config.env, id=named(Breaking)))
    config = replace(config, eval=replace(config.eval, every=config.training.total_steps))
    with pytest.warns(UserWarning, match=r"no more rollouts in this training: .* does not answer"):
        assert train(config, tmp_path / "run", rollouts=SelectionRollouts(), quiet=True).is_dir()


def test_one_environment_cannot_be_in_several_episodes(policy: Policy) -> None:
    env = Reach()
    with pytest.raises(InputError, match="returned the same environment twice"):
        evaluate(policy, lambda: env, episodes=4, quiet=True)
    alone = evaluate(policy, lambda: env, episodes=2, num_envs=1, max_episode_steps=5, quiet=True)
    assert [episode.steps for episode in alone.episodes] == [5, 5]


def test_when_an_episode_was_solved_that_goes_on(policy: Policy) -> None:
    episodes = evaluate(policy, GoesOn, episodes=4, quiet=True).episodes
    lengths = [4 + (100_000 + k) % 7 for k in range(4)]
    assert [episode.steps for episode in episodes] == lengths
    assert [episode.solved_at for episode in episodes] == [length - 2 for length in lengths]
    assert describe_outcome(episodes[0]) == f"solved in {lengths[0] - 2} steps"
    (failed,) = evaluate(policy, Reach, episodes=1, max_episode_steps=3, quiet=True).episodes
    assert failed.solved_at is None


@pytest.mark.parametrize("processes", [False, True])
def test_films_have_every_step_once(
    policy: Policy, tmp_path: Path, processes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "MEMORY", 2 * 64 * 64 * 3 * 11)  # of two episodes at a time
    line = ["eval", str(policy.info["checkpoint"]), "--env", named(GoesOn), "--episodes", "5"]
    line += ["--processes", "--num-envs", "2"] if processes else []
    stale = tmp_path / "videos" / "episode_0000_failure.mp4"
    stale.parent.mkdir()
    stale.write_bytes(b"of another evaluation")
    assert main([*line, "--video", "5", "--output", str(tmp_path), "--quiet"]) == 0
    films = sorted(stale.parent.iterdir())
    assert [film.name for film in films] == [f"episode_{k:04d}_success.mp4" for k in range(5)]
    for k, film in enumerate(films):
        shown = 10 * np.arange(5 + (100_000 + k) % 7)
        np.testing.assert_allclose(brightness(film), shown, atol=6)


def test_control_ends_where_eval_does(
    policy: Policy, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gym.register("OwnEndless-v0", Reach)  # without a limit of its own
    try:
        line = ["control", str(policy.info["checkpoint"]), "--env", f"{MODULE}:OwnEndless-v0"]
        limit = policy.config.env.max_episode_steps
        for more, steps in (
            ([], limit),
            (["--max-ticks", str(limit + 9)], limit + 8),  # the first tick waits for a chunk
            (["--env-option", "max_episode_steps=7"], 7),
        ):
            assert main([*line, "--simulated", "--json", "--hold-action", "0", "0", *more]) == 0
            (outcome,) = json.loads(capsys.readouterr().out)
            assert outcome["steps"] == steps
    finally:
        del gym.registry["OwnEndless-v0"]
    line = ["control", str(policy.info["checkpoint"]), "--env", named(Reach), "--simulated"]
    assert main([*line, "--hold-action", "0"]) == 2
    assert "hold_action has 1 numbers, expected 2" in capsys.readouterr().err


def test_frames_per_second_that_are_none(policy: Policy, tmp_path: Path) -> None:
    assert evaluate(policy, named(Timeless), episodes=1, quiet=True).film(0, tmp_path).path.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_envs": 0}, "num_envs is 0, expected at least 1"),
        ({"max_episode_steps": 0}, "max_episode_steps is 0, expected at least 1"),
        ({"tasks": "fold"}, "tasks is 'fold', expected a list"),
        ({"observations": {"goal": "nope"}, "processes": True}, "is to be 'nope'"),
    ],
)
def test_arguments_that_make_no_sense(
    policy: Policy, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(policy, Reach, quiet=True, **options)
