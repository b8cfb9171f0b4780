"""Imported policies are rolled out, inspected, described, served and run on robots."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from lfm_policy.cli.main import main
from lfm_policy.data.zarr.store import load_zarr
from lfm_policy.policy import load_policy, read_header
from lfm_policy.serving import load_served_policy
from lfm_policy.sharing.card import model_card
from lfm_policy.sharing.front_matter import CardOptions
from lfm_policy.sharing.reports import Measured

from .conftest import Reference

Get = Callable[[str], Reference]
NAMES = {"observation.state": "agent_pos", "observation.environment_state": "keypoints"}

OWN = """
import gymnasium as gym, numpy as np

class Own(gym.Env):
    metadata = {"render_modes": []}
    observation_space = gym.spaces.Dict(
        joints=gym.spaces.Box(-1e3, 1e3, (2,), np.float32),
        corners=gym.spaces.Box(-1e3, 1e3, (16,), np.float32),
    )
    action_space = gym.spaces.Box(-1e3, 1e3, (2,), np.float32)

    def _obs(self):
        return {key: np.full(n, 200, np.float32) for key, n in dict(joints=2, corners=16).items()}

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return self._obs(), {}

    def step(self, action):
        self.steps += 1
        success = bool(np.isfinite(action).all())
        return self._obs(), 0.5, self.steps == 9, False, {"success": success}

gym.register("NAME-v0", entry_point=Own)
"""


@pytest.fixture(scope="module")
def pusht(foreign: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LeRobot policy whose observations are called as PushT calls them."""
    folder = tmp_path_factory.mktemp("pusht") / "policy"
    names = [f"--rename={old}={new}" for old, new in NAMES.items()]
    source = foreign / "lerobot_061_keypoints_ddim_sample"
    assert main(["import", str(source), str(folder), *names, "--env", "lfm/PushT-v0"]) == 0
    return folder


@pytest.mark.slow
def test_pusht_by_its_own_sampler(pusht: Path, tmp_path: Path) -> None:
    pytest.importorskip("gym_pusht")
    arguments = ["eval", str(pusht), "--episodes=1", "--n-action-steps=15", "--quiet"]
    assert main([*arguments, f"--output={tmp_path}"]) == 0
    (cell,) = json.loads((tmp_path / "eval.json").read_text())["cells"]
    assert (cell["solver"], cell["nfe"]) == ("ddim", 10)


@pytest.mark.slow
def test_ones_own_environment_by_every_sampler(
    foreign: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Own sampler, fewer steps of DDIM and DPM-Solver++, and the flow of Diff2Flow."""
    monkeypatch.chdir(tmp_path)
    module = f"own_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{module}.py").write_text(OWN.replace("NAME", module))
    names = dict(zip(NAMES, ("joints", "corners"), strict=True))
    renamed = [f"--rename={old}={new}" for old, new in names.items()]
    source = foreign / "lerobot_061_keypoints_ddpm"
    assert main(["import", str(source), "policy", *renamed]) == 0
    for sampler in (
        ["--nfe=2"],
        ["--solver=ddim", "--nfe", "1", "4"],
        ["--solver=dpmsolver++", "--nfe=2"],
        ["--solver=euler", "--nfe=3"],
        ["--solver=heun", "--nfe=4"],
    ):
        arguments = ["eval", "policy", f"--env={module}:{module}-v0", "--episodes=1", "--quiet"]
        assert main([*arguments, *sampler]) == 0
        for cell in json.loads(Path("policy/eval/eval.json").read_text())["cells"]:
            assert cell["summary"]["success_rate"] == 1


def test_what_inspect_and_the_card_say(pusht: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(pusht)]) == 0
    told = capsys.readouterr().out
    assert "trained by LeRobot" in told and "agent_pos (2,), keypoints (16,)" in told
    card = model_card(read_header(pusht), Measured(), CardOptions("me/policy"))
    assert "trained with LeRobot" in card and "keypoints" in card


@pytest.mark.parametrize(
    "path",
    [
        "lerobot_061_keypoints_ddim_sample",
        "lerobot_061_image_gn_narrow",
        "diffusion_policy_lowdim/latest.ckpt",
        "robomimic_diffusion_policy/model.pth",
    ],
)
def test_a_server_makes_the_same_chunks(path: str, reference: Get) -> None:
    folder = reference(path).policy.info["checkpoint"]
    served = load_served_policy(str(folder), device="cpu", solver="ddim", nfe=2)
    served.warm_up(max_batch=3)
    assert served.batches and served.metadata()["nfe"] == 2
    policy = load_policy(folder)
    policy.set_sampler(solver="ddim", nfe=2)
    batch = policy.fake_batch(3)
    noise = np.random.default_rng(0).standard_normal((3, *policy.chunk_shape)).astype(np.float32)
    actions = served.predict(batch, noise, None)
    assert actions.shape == (3, policy.n_action_steps, policy.spec.action_dim)
    again = served.predict(batch, noise, None)
    np.testing.assert_array_equal(actions, again)


@pytest.mark.slow
def test_control_records_what_the_robot_sees(pusht: Path, tmp_path: Path) -> None:
    pytest.importorskip("gym_pusht")
    seen = tmp_path / "seen.zarr"
    arguments = ["control", str(pusht), "--simulated", "--solver=euler", "--nfe=1", "--quiet"]
    assert main([*arguments, "--max-ticks=20", f"--record={seen}"]) == 0
    recorded = load_zarr(seen, ["action", "agent_pos", "keypoints"])
    assert recorded.n_steps == 20 and recorded.n_episodes == 1
