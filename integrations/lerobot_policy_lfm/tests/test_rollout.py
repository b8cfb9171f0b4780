"""lerobot-rollout on a robot that LeRobot's registry creates, waiting and in real time."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

pytest.importorskip("lerobot", reason="LeRobot 0.6 is absent")

import numpy as np
from conftest import IMAGE, STATE, shaken, small_config, statistics
from fake_arm import FakeArm
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.policies.factory import make_pre_post_processors
from lerobot.scripts.lerobot_rollout import main
from lerobot_policy_lfm import LFMPolicy


def policy_folder(folder: Path, **values: object) -> Path:
    """Write a policy that sees the arm's joints and camera."""
    config = small_config(STATE, IMAGE, **values)
    config.input_features[STATE] = PolicyFeature(FeatureType.STATE, (2,))
    stats = statistics()
    stats[STATE] = {name: value[:2] for name, value in stats[STATE].items()}
    policy = shaken(LFMPolicy(config, dataset_stats=stats))
    policy.save_pretrained(folder)
    for processor in make_pre_post_processors(config, dataset_stats=stats):
        processor.save_pretrained(folder)
    return folder


def roll_out(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> np.ndarray:
    """Return the actions that were sent."""
    FakeArm.sent.clear()
    arguments = [
        "lerobot-rollout",
        "--robot.type=fake_arm",
        f"--robot.calibration_dir={folder / 'calibration'}",
        f"--policy.path={folder}",
        "--policy.device=cpu",
        "--device=cpu",
        "--fps=20",
        "--duration=3",
        "--play_sounds=false",
        "--return_to_initial_position=false",
        *options,
    ]
    monkeypatch.setattr(sys, "argv", arguments)
    main()
    return np.array(FakeArm.sent)


def test_it_waits_for_its_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = policy_folder(tmp_path / "policy")
    sent = roll_out(folder, monkeypatch)
    assert len(sent) > 5 and np.isfinite(sent).all()
    low, high = (statistics()["action"][end].numpy() for end in ("min", "max"))
    assert (sent >= low - 1e-3).all() and (sent <= high + 1e-3).all()


def test_it_continues_what_it_is_committed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    values = {"n_obs_steps": 1, "horizon": 24, "n_action_steps": 12, "max_prefix": 16}
    folder = policy_folder(tmp_path / "policy", **values)
    asked: list[tuple[int, bool]] = []
    predict = LFMPolicy.predict_action_chunk

    def noted(self, batch, noise=None, inference_delay=None, prev_chunk_left_over=None, **more):
        asked.append((inference_delay, prev_chunk_left_over is not None))
        chunk = predict(self, batch, noise, inference_delay, prev_chunk_left_over, **more)
        assert chunk.shape == (1, 24, 2)
        return chunk

    monkeypatch.setattr(LFMPolicy, "predict_action_chunk", noted)
    with caplog.at_level(logging.ERROR):
        sent = roll_out(folder, monkeypatch, "--inference.type=rtc")
    assert not [r for r in caplog.records if "RTC" in r.message]
    assert len(sent) > 5 and np.isfinite(sent).all()
    assert asked[0] == (0, False) and any(delay > 0 and known for delay, known in asked)


def test_real_time_without_prefixes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = policy_folder(tmp_path / "policy")
    with pytest.raises(ValueError, match="RTC inference is not supported by policy type 'lfm'"):
        roll_out(folder, monkeypatch, "--inference.type=rtc")
