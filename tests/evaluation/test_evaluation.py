"""Cells, reports, pictures and videos of an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from lfm_policy.errors import InputError
from lfm_policy.evaluation import Cell, EpisodeResult, RolloutConfig, evaluate, evaluation_to_dict
from lfm_policy.evaluation.evaluation import measure_latency
from lfm_policy.evaluation.recording import VIDEO_SIZE, record_videos, write_video
from lfm_policy.evaluation.report import results_table
from lfm_policy.evaluation.reporting.figure import plot_evaluation
from lfm_policy.policy import Policy
from lfm_runtime.policy.sampler import Sampler

pytestmark = pytest.mark.simulator

CONFIG = RolloutConfig("lfm/PushT-v0", seed_start=200_000, max_episode_steps=20)


def result(episode: int, success: bool, reward: float, coverage: float | None) -> EpisodeResult:
    return EpisodeResult(episode, 100 + episode, success, reward, coverage, 30, 4, 2)


def decoded(video: Path) -> np.ndarray:
    with av.open(str(video)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_summary_counts_successes_and_averages_rewards() -> None:
    episodes = [
        result(0, True, 1.0, 0.96),
        result(1, False, 0.5, 0.4),
        result(2, False, 0.0, 0.0),
        result(3, True, 1.0, 0.98),
    ]
    summary = Cell(Sampler("euler", 2, (1, 1)), {}, episodes).summary()
    assert (summary["n"], summary["successes"], summary["success_rate"]) == (4, 2, 0.5)
    assert summary["score"] == pytest.approx(0.625)
    assert summary["final_coverage"] == pytest.approx(0.585)
    low, high = summary["success_interval"]
    assert (low, high) == pytest.approx((0.15004, 0.84996), abs=1e-5)


def test_summary_without_coverage() -> None:
    summary = Cell(Sampler("euler", 2, (1, 1)), {}, [result(0, True, 1.0, None)]).summary()
    assert summary["final_coverage"] is None


def test_a_cell_for_each_number_of_evaluations(policy: Policy, tmp_path: Path) -> None:
    pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")
    cells, seconds = evaluate(policy, CONFIG, n_episodes=3, nfes=[2, 5], quiet=True)
    assert [cell.nfe for cell in cells] == [2, 5]
    assert [cell.sampler.nfe_per_block for cell in cells] == [(1, 1), (2, 3)]
    assert seconds > 0
    report = evaluation_to_dict(policy, CONFIG, cells, seconds)
    again = json.loads(json.dumps(report, allow_nan=False))
    assert [e["seed"] for e in again["cells"][0]["episodes"]] == [200_000, 200_001, 200_002]
    assert again["config"]["noise_seed"] == 0
    assert again["parameters"]["total"] == sum(p.numel() for p in policy.model.parameters())
    rows = results_table("title", cells).text().splitlines()
    assert [row.split()[0] for row in rows[-2:]] == ["2", "5"]

    frames = record_videos(policy, CONFIG, cells[-1].episodes[:2], tmp_path / "videos")
    videos = sorted((tmp_path / "videos").glob("*.mp4"))
    assert [video.name[:12] for video in videos] == ["episode_0000", "episode_0001"]
    film = decoded(videos[0])
    assert film.shape[:3:2] == (21, VIDEO_SIZE) and VIDEO_SIZE < film.shape[1] < 1.2 * VIDEO_SIZE
    # The film ends with the frame that was returned, up to what H.264 loses, above its strip.
    assert np.abs(film[-1, :VIDEO_SIZE].astype(float) - frames[0]).mean() < 3

    plot_evaluation(tmp_path / "eval.png", "title", cells, frames)
    picture = np.asarray(Image.open(tmp_path / "eval.png"))
    assert picture.shape[0] > 300 and picture.std() > 10
    assert not list(tmp_path.glob(".tmp*"))


def test_a_number_that_does_not_fit_costs_no_rollouts(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        raise AssertionError("rolled out although nfe 1 cannot be sampled by two blocks")

    monkeypatch.setattr("lfm_policy.evaluation.evaluation.rollout", fail)
    with pytest.raises(InputError, match="nfe is 1, expected .* at least 2"):
        evaluate(policy, CONFIG, n_episodes=3, nfes=[2, 1], quiet=True)


def test_adaptive_solver_reports_mean_evaluations(policy: Policy) -> None:
    pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")
    cells, _ = evaluate(policy, CONFIG, n_episodes=1, solver="dopri5", quiet=True)
    assert cells[0].sampler.nfe_per_block is None
    assert cells[0].nfe >= 12


def test_latency_reports_what_was_measured(policy: Policy) -> None:
    timing = measure_latency(policy, repeats=10)
    assert 0 < timing["median_ms"] <= timing["p95_ms"]
    assert timing["ms_per_evaluation"] == pytest.approx(timing["median_ms"] / 4)
    assert timing["device"] == "cpu"
    assert timing["repeats"] == 10


def test_a_film_that_does_not_repeat_the_episode_is_an_error(
    policy: Policy, tmp_path: Path
) -> None:
    pytest.importorskip("gym_pusht", reason="PushT needs the extra 'sim'")
    wrong = EpisodeResult(0, 200_000, False, 0.123, 0.0, 20, 3, 4)
    with pytest.raises(RuntimeError, match="did not repeat"):
        record_videos(policy, CONFIG, [wrong], tmp_path)
    assert not list(tmp_path.glob("*.mp4"))


def test_video_is_readable_and_written_whole(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    frames = [np.broadcast_to(ramp[None, :, None], (64, 64, 3)).copy() for _ in range(5)]
    write_video(tmp_path / "film.mp4", frames)
    film = decoded(tmp_path / "film.mp4")
    assert film.shape == (5, 64, 64, 3)
    assert np.abs(film.astype(float) - np.stack(frames)).mean() < 4
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_the_table_fits_80_columns_uncut() -> None:
    episodes = [result(i, i % 2 == 0, 0.5, 0.25) for i in range(200)]
    latency = {"median_ms": 123.456, "p95_ms": 234.567}
    cell = Cell(Sampler("midpoint", 128, (64, 64)), latency, episodes)
    text = results_table("title", [cell]).text(80)
    assert len(text.splitlines()) == 4
    for part in ("128", "midpoint", "100/200", "0.431..0.569", "0.500", "0.250", "123.46 (234.57)"):
        assert part in text
