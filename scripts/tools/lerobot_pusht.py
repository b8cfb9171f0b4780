"""Write demonstrations of PushT that come with the package as a LeRobot dataset.

  python scripts/tools/lerobot_pusht.py pusht-lerobot --episodes 100

Features are what LeRobot's own PushT shows with --env.obs_type=environment_state_agent_pos: where
the hand is (observation.state), and the corners of the block (observation.environment_state).
"""

from __future__ import annotations

import argparse

from lfm_policy.assets import bundled_demonstrations
from lfm_policy.config import load_config
from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ReplayBuffer

NAMES = {"agent_pos": "state", "keypoints": "environment_state"}
FPS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output")
    parser.add_argument("--episodes", type=int, default=100)
    arguments = parser.parse_args()
    path, count = bundled_demonstrations(), arguments.episodes
    config = load_config("pusht/fm", [f"dataset.path={path}", f"dataset.max_episodes={count}"])
    found = config.dataset.load()
    steps = len(found.arrays["action"])
    observed = {new: found.arrays[old].reshape(steps, -1) for old, new in NAMES.items()}
    arrays = {"action": found.arrays["action"], **observed}
    buffer = ReplayBuffer(arrays, found.episode_ends, source=str(path))
    write_lerobot(arguments.output, buffer, fps=FPS, task="push the T into its goal")
    print(f"written: {arguments.output} ({len(buffer.episode_ends)} episodes, {steps:,} steps)")


if __name__ == "__main__":
    main()
