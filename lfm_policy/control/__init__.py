"""Robots, recordings and whole episodes of the control loop, which itself is in `lfm_runtime`."""

from __future__ import annotations

from lfm_policy.control.episodes import EpisodeOutcome, rms_jerk, run_episode, run_robot
from lfm_policy.control.gym_robot import GymRobot
from lfm_policy.control.lerobot_robot import LeRobotRobot
from lfm_policy.control.recording import RecordedEpisode, Recording, load_recording
from lfm_policy.control.robots import ROBOTS

__all__ = [
    "ROBOTS",
    "EpisodeOutcome",
    "GymRobot",
    "LeRobotRobot",
    "RecordedEpisode",
    "Recording",
    "load_recording",
    "rms_jerk",
    "run_episode",
    "run_robot",
]
