"""What the policy does: chunks, one action after another, and continued actions."""

from __future__ import annotations

import pytest

pytest.importorskip("lerobot", reason="LeRobot 0.6 is absent")

import torch
from conftest import IMAGE, STATE, batch, small_config, small_policy
from lerobot.rollout.inference.rtc import supports_rtc_inference
from lerobot_policy_lfm import LFMPolicy

from lfm_policy.errors import InputError


def noise(policy: LFMPolicy, rows: int) -> torch.Tensor:
    shape = (rows, policy.config.horizon, 2)
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("keys", [(), (STATE,), (STATE, IMAGE)])
def test_actions_are_those_of_the_chunk(keys: tuple[str, ...]) -> None:
    """One after another, and a new chunk with the history of the frames since."""
    policy = small_policy(*keys)
    config = policy.config
    frames = [batch(config, 2, history=False, seed=n) for n in range(5)]
    z = noise(policy, 2)
    acted = [policy.select_action(dict(frame), noise=z) for frame in frames]

    def chunk(old: int, new: int) -> torch.Tensor:
        both = {key: torch.stack([frames[old][key], frames[new][key]], 1) for key in frames[0]}
        return policy.predict_action_chunk(both, noise=z)

    first, second = chunk(0, 0), chunk(2, 3)
    assert first.shape == (2, 3, 2)
    assert torch.equal(torch.stack(acted[:3], 1), first)
    assert torch.equal(torch.stack(acted[3:], 1), second[:, :2])
    policy.reset()
    assert torch.equal(policy.select_action(dict(frames[4]), noise=z), chunk(4, 4)[:, 0])


def test_a_frame_alone_stands_for_the_history() -> None:
    policy = small_policy(STATE, IMAGE)
    single = batch(policy.config, 2, history=False)
    twice = {key: torch.stack([value, value], 1) for key, value in single.items()}
    z = noise(policy, 2)
    a, b = (policy.predict_action_chunk(given, noise=z) for given in (single, twice))
    assert torch.equal(a, b)


def test_images_of_bytes_and_of_fractions_are_the_same() -> None:
    policy = small_policy(STATE, IMAGE)
    given = batch(policy.config, 2)
    whole = (given[IMAGE] * 255).to(torch.uint8)
    z = noise(policy, 2)
    a = policy.predict_action_chunk({**given, IMAGE: whole}, noise=z)
    b = policy.predict_action_chunk({**given, IMAGE: whole.float() / 255}, noise=z)
    assert torch.equal(a, b)
    assert not torch.equal(a, policy.predict_action_chunk({**given, IMAGE: 255 - whole}, noise=z))


def test_actions_are_clipped_to_the_range_of_the_demonstrations() -> None:
    policy = small_policy(noise_scale=5.0)
    chunk = policy.predict_action_chunk(batch(policy.config, 20))
    assert chunk.abs().max() == 1
    free = small_policy(noise_scale=5.0, clip_actions=False)
    assert free.predict_action_chunk(batch(free.config, 20)).abs().max() > 1


@pytest.mark.parametrize("delay", [0, 1, 3])
def test_committed_actions_are_continued(delay: int) -> None:
    policy = small_policy(n_obs_steps=1, max_prefix=4)
    given = batch(policy.config, 1, history=False)
    left_over = torch.linspace(-0.9, 0.9, 10).reshape(5, 2)
    z = noise(policy, 1)
    chunk = policy.predict_action_chunk(
        given, noise=z, inference_delay=delay, prev_chunk_left_over=left_over
    )
    assert chunk.shape == (1, 6, 2)
    assert torch.equal(chunk[0, :delay], left_over[:delay])
    alone = policy.predict_action_chunk(
        given, noise=z, inference_delay=delay, prev_chunk_left_over=None
    )
    assert torch.equal(chunk, alone) == (delay == 0)


def test_padding_of_lerobot_is_no_action() -> None:
    """It fills what is left over up with zeros, however much is asked to be continued."""
    policy = small_policy(n_obs_steps=1, max_prefix=4)
    given, z = batch(policy.config, 1, history=False), noise(policy, 1)
    left_over = torch.zeros(10, 2)
    left_over[:2] = 0.5
    padded, short = (
        policy.predict_action_chunk(given, noise=z, inference_delay=3, prev_chunk_left_over=actions)
        for actions in (left_over, left_over[:2])
    )
    assert torch.equal(padded, short) and not bool((padded[0, 2] == 0).all())


def test_who_can_be_asked_in_real_time(caplog: pytest.LogCaptureFixture) -> None:
    assert supports_rtc_inference(small_policy(n_obs_steps=1, max_prefix=2))
    assert not supports_rtc_inference(small_policy(n_obs_steps=1))
    assert not supports_rtc_inference(small_policy(n_obs_steps=2, max_prefix=2))
    assert "n_obs_steps=1" in caplog.text
    policy = small_policy(n_obs_steps=1)
    with pytest.raises(InputError, match=r"max_prefix is 0.*--policy.max_prefix"):
        policy.predict_action_chunk(
            batch(policy.config, history=False),
            inference_delay=2,
            prev_chunk_left_over=torch.ones(3, 2),
        )


def test_what_is_missing_is_named() -> None:
    policy = small_policy()
    given = batch(policy.config, history=False)
    del given[STATE]
    with pytest.raises(InputError, match=r"'observation.state' is missing.*--rename_map"):
        policy.select_action(given)
    with pytest.raises(InputError, match="expected one frame"):
        policy.select_action(batch(policy.config))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"options": {"flow": {"n_block": 3}}}, "unknown key 'flow.n_block'.*'n_blocks'"),
        ({"options": {"sampler": {"nfe": 3}}}, "sampler.nfe, which is a field of its own: nfe"),
        ({"n_action_steps": 6}, "n_action_steps is 6, expected at most"),
        ({"joint_share": 1.5}, "joint_share is 1.5, expected 0 to 1"),
        ({"network": "unet"}, "network.name.*'unet'"),
        ({"nfe": 1}, "nfe is 1"),
    ],
)
def test_options_that_are_wrong(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        small_config(**values)
