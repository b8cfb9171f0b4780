"""Small data under the names that pages use: made when a page first names them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np

from lfm_policy.assets import bundled_demonstrations
from lfm_policy.data.lerobot.writer import write_lerobot
from lfm_policy.data.replay_buffer import ReplayBuffer
from lfm_policy.data.zarr.format import ZarrConfig
from lfm_policy.data.zarr.store import write_zarr

EPISODES, STEPS = 5, 48


def pusht(path: Path) -> None:
    """Write PushT demonstrations with the keys of Diffusion Policy's, those of the package's own.

    Images are not rendered: a square where the agent is, one where the T is.
    """
    source = ZarrConfig(
        path=str(bundled_demonstrations()), obs_keys=["state"], max_episodes=EPISODES
    )
    buffer = source.load()
    ends = [0, *buffer.episode_ends]
    rows = np.concatenate([np.arange(start, start + STEPS) for start in ends[:EPISODES]])
    state, action = (np.asarray(buffer.arrays[key])[rows] for key in ("state", "action"))
    images = np.full((len(rows), 96, 96, 3), 255, np.uint8)
    for image, values in zip(images, state, strict=True):
        for x, y, colour in ((*values[2:4], (119, 136, 153)), (*values[:2], (65, 105, 225))):
            row, column = (int(value / 512 * 96) for value in (y, x))
            image[max(row - 5, 0) : row + 5, max(column - 5, 0) : column + 5] = colour
    corners = np.stack([state[:, 2:4] + [dx, dy] for dx in (-30, 0, 30) for dy in (-30, 0, 30)], 1)
    arrays = {
        "img": images,
        "state": state,
        "action": action,
        "keypoint": corners.astype(np.float32),
        "n_contacts": np.ones((len(rows), 1), np.float32),
    }
    write_zarr(path, ReplayBuffer(arrays, np.arange(1, EPISODES + 1) * STEPS))


def robot(path: Path, cameras: tuple[str, ...] = ()) -> None:
    """Write demonstrations of an arm with seven joints and a gripper, in robomimic's layout."""
    generator = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["total"] = EPISODES * STEPS
        for episode in range(EPISODES):
            start, goal = generator.uniform(-1, 1, (2, 7))
            share = (1 - np.cos(np.linspace(0, np.pi, STEPS + 1)))[:, None] / 2
            joints = start + share * (goal - start) + generator.normal(0, 0.002, (STEPS + 1, 7))
            gripper = (share > 0.7).astype(np.float64)
            demo = data.create_group(f"demo_{episode}")
            demo.attrs["num_samples"] = STEPS
            demo["actions"] = np.concatenate([joints[1:], gripper[1:]], axis=1)
            demo["obs/joint_positions"], demo["obs/gripper"] = joints[:-1], gripper[:-1]
            for number, camera in enumerate(cameras):
                frames = np.full((STEPS, 120, 160, 3), 40 + 80 * number, np.uint8)
                for frame, at in zip(frames, joints, strict=False):
                    row, column = (int(40 + 30 * value) for value in at[number : number + 2])
                    frame[max(row, 0) : row + 20, max(column, 0) : column + 20] = (230, 120, 40)
                demo.create_dataset(f"obs/{camera}", data=frames, compression="gzip")


def cameras(path: Path) -> None:
    """Write the same with two cameras."""
    robot(path, ("front", "wrist"))


def so101(path: Path) -> None:
    """Write a LeRobot dataset of an SO-101 with two cameras, in degrees and percent."""
    generator, episodes, steps = np.random.default_rng(0), 3, 24
    way = (1 - np.cos(np.linspace(0, np.pi, steps + 1)))[:, None] / 2
    joints = np.stack([way * generator.uniform(-40, 40, 6) for _ in range(episodes)])
    joints[..., 5] = 100 * way[:, 0]
    frames = np.full((episodes * steps, 240, 320, 3), 90, np.uint8)
    for frame, at in zip(frames, joints[:, :-1].reshape(-1, 6), strict=True):
        row, column = (int(120 + 2 * value) for value in at[:2])
        frame[row - 20 : row + 20, column : column + 40] = (230, 120, 40)
    arrays = {
        "state": joints[:, :-1].reshape(-1, 6).astype(np.float32),
        "front": frames,
        "wrist": frames[..., ::-1],
        "action": joints[:, 1:].reshape(-1, 6).astype(np.float32),
    }
    write_lerobot(path, ReplayBuffer(arrays, np.arange(1, episodes + 1) * steps), fps=30)


STAND_INS = {
    "pusht_cchi_v7_replay.zarr": pusht,
    "my_robot.hdf5": robot,
    "later.hdf5": robot,
    "my_cameras.hdf5": cameras,
    "so101_pick": so101,
}
LEROBOT = Path(__file__).resolve().parents[2] / "control" / "lerobot_stand_in"
"""Stands for LeRobot, whose SO-101 moves only in memory there."""


def stand_ins(text: str, folder: Path) -> list[Path]:
    """Return the data that a page names, in a folder where it is made once.

    What is downloaded there is PushT's demonstrations. A page with a robot of LeRobot has what
    stands for LeRobot in its folder.
    """
    names = [name for name in STAND_INS if name in text]
    if "download pusht" in text and "pusht_cchi_v7_replay.zarr" not in names:
        names.append("pusht_cchi_v7_replay.zarr")
    for name in names:
        if not (folder / name).exists():
            STAND_INS[name](folder / name)
    lerobot = [LEROBOT / "lerobot", LEROBOT / "draccus"] if "--robot-config" in text else []
    return [*(folder / name for name in names), *lerobot]
