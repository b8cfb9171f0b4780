"""What is learnt in which step, and what is kept of it."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("lerobot", reason="LeRobot 0.6 is absent")

import torch
from conftest import IMAGE, STATE, batch, small_config, statistics
from lerobot.configs import PreTrainedConfig
from lerobot_policy_lfm import LFMConfig, LFMPolicy, LFMSchedulerConfig
from lerobot_policy_lfm.schedule_lfm import Part, part_at, training_parts

from lfm_policy.errors import InputError


def trained(
    config: LFMConfig, steps: int, total: int, policy: LFMPolicy | None = None
) -> tuple[LFMPolicy, list[int], list[float]]:
    """Train as LeRobot does; return also the block that each step trained, and learning rates."""
    torch.manual_seed(0)
    scheduler = config.get_scheduler_preset()
    policy = policy or LFMPolicy(config, dataset_stats=statistics())
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    rates = scheduler.build(optimizer, total)
    blocks, seen = [], []
    for step in range(steps):
        policy.train()
        loss, told = policy.forward(batch(config, 8, seed=step))
        loss.backward()
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        optimizer.zero_grad()
        rates.step()
        policy.update()
        blocks.append(int(told["block"]))
    return policy, blocks, seen


def weights(policy: LFMPolicy, part: str) -> torch.Tensor:
    found = [w.flatten() for n, w in policy.model.state_dict().items() if n.startswith(part)]
    return torch.cat(found).clone()


def test_parts_follow_one_another() -> None:
    assert training_parts(100, 0.5, 3) == [
        Part(0, 0, 50),
        Part(1, 50, 17),
        Part(2, 67, 16),
        Part(3, 83, 17),
    ]
    assert training_parts(10, 1.0, 3) == [Part(0, 0, 10)]
    assert training_parts(10, 0.0, 2) == [Part(1, 0, 5), Part(2, 5, 5)]
    for total, share, n_blocks in ((7, 0.3, 2), (1000, 0.77, 5), (31, 0.5, 3)):
        parts = training_parts(total, share, n_blocks)
        assert [p.start for p in parts[1:]] == [p.start + p.length for p in parts[:-1]]
        assert parts[-1].start + parts[-1].length == total
        assert [part_at(parts, s) for s in range(total)] == [
            p for p in parts for _ in range(p.length)
        ]
    with pytest.raises(ValueError, match="leaves 2 for 3 blocks"):
        training_parts(4, 0.5, 3)


@pytest.mark.parametrize("keys", [(), (STATE, IMAGE)])
def test_all_together_then_one_after_another(keys: tuple[str, ...]) -> None:
    config = small_config(*keys)
    policy, blocks, rates = trained(config, 0, 12)
    before = {part: weights(policy, part) for part in ("blocks.0", "blocks.1")}
    assert not blocks
    policy, blocks, rates = trained(config, 12, 12, policy)
    assert blocks == [0] * 6 + [1] * 3 + [2] * 3
    assert config.train_steps == 12
    assert all(not torch.equal(weights(policy, part), old) for part, old in before.items())
    # A warm-up of no step: every part starts at the largest learning rate.
    assert rates[0] == rates[6] == rates[9] == config.optimizer_lr > rates[5]


def test_only_the_block_of_a_part_changes() -> None:
    policy, *_ = trained(small_config(STATE, IMAGE), 6, 12)
    begun = {part: weights(policy, part) for part in ("encoder", "blocks.0", "blocks.1")}
    ema = {n: w.clone() for n, w in policy.ema.state_dict().items()}
    # At the end of a part the weights are their EMA.
    assert all(torch.equal(w, ema[n]) for n, w in policy.model.state_dict().items())
    optimizer = torch.optim.SGD(policy.get_optim_params(), lr=0.1)
    for step in range(3):
        policy.forward(batch(policy.config, 8, seed=step))[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
    for part, old in begun.items():
        assert torch.equal(weights(policy, part), old) == (part != "blocks.0")


def test_a_later_block_learns_from_pushed_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """x_l of block 2 is where block 1 takes the demonstrations, as the chain says."""
    config = small_config(obs_noise=0.0)
    policy, *_ = trained(config, 9, 12)
    given = batch(config, 8)
    learning = policy._learnt()
    seen = []
    loss = learning._losses[2]
    monkeypatch.setattr(
        type(loss), "forward", lambda self, *args: seen.append(args) or args[0].sum()
    )
    policy.train()
    policy.forward(given)
    (x_l, cond, *_), obs = seen[0], policy._observed(given)
    assert torch.equal(cond, policy.model.encoder(obs))
    pushed = policy.ema.chain().push_forward(
        given["action"], cond, solver=learning._solver, first=1, last=1
    )
    torch.testing.assert_close(x_l, pushed.x)
    assert not torch.allclose(x_l, given["action"])


def test_without_a_joint_part_blocks_start_from_the_one_before() -> None:
    config = small_config(STATE, IMAGE, joint_share=0.0)
    policy, blocks, _ = trained(config, 5, 10)
    assert blocks == [1] * 5
    assert torch.equal(weights(policy, "blocks.1"), weights(policy, "blocks.0"))


def test_the_loss_falls() -> None:
    config = small_config(optimizer_lr=5e-3, obs_noise=0.0, joint_share=1.0)
    config.get_scheduler_preset()
    torch.manual_seed(0)
    policy = LFMPolicy(config, dataset_stats=statistics())
    optimizer = config.get_optimizer_preset().build(policy.get_optim_params())
    one = batch(config, 32)
    one["action"] = one[STATE][:, 1:, :2].expand(-1, 6, -1).contiguous()
    policy.eval()
    torch.manual_seed(1)
    first = float(policy.forward(one)[0])
    for _ in range(300):
        policy.train()
        policy.forward(one)[0].backward()
        optimizer.step()
        optimizer.zero_grad()
        policy.update()
    policy.eval()
    torch.manual_seed(1)
    assert float(policy.forward(one)[0]) < 0.7 * first
    off = (policy.predict_action_chunk(one) - one["action"][:, 1:4]).abs().mean()
    assert off < 0.25


def test_a_training_is_resumed_where_it_stopped(tmp_path: Path) -> None:
    config = small_config(STATE, IMAGE)
    whole, *_ = trained(config, 0, 12)
    whole.save_pretrained(tmp_path / "0")
    policy, *_ = trained(config, 8, 12, whole)
    policy.save_pretrained(tmp_path / "8")
    found = PreTrainedConfig.from_pretrained(tmp_path / "8")
    assert found.train_steps == 12 and not found.begins_anew
    resumed = LFMPolicy.from_pretrained(tmp_path / "8", config=found)
    assert int(resumed.steps_done) == 8
    state, expected = resumed.state_dict(), policy.state_dict()
    assert state.keys() == expected.keys()
    assert all(torch.equal(state[name], expected[name]) for name in state)
    resumed.train()
    assert resumed.forward(batch(found, 8))[1] == {"block": 1.0}
    scheduler = LFMSchedulerConfig(train_steps=12)
    optimizer = torch.optim.SGD(resumed.get_optim_params(), lr=1)
    with pytest.raises(ValueError, match="--steps is 20, but this training was begun with 12"):
        scheduler.build(optimizer, 20)


def test_another_training_begins_from_the_weights_that_act(tmp_path: Path) -> None:
    config = small_config()
    policy, *_ = trained(config, 8, 12)
    policy.save_pretrained(tmp_path / "policy")
    found = PreTrainedConfig.from_pretrained(tmp_path / "policy")
    found.get_scheduler_preset()
    stats = statistics(seed=5)
    other = LFMPolicy.from_pretrained(tmp_path / "policy", config=found, dataset_stats=stats)
    assert int(other.steps_done) == 0 and found.train_steps == 0
    ema = policy.ema.state_dict()
    assert all(torch.equal(w, ema[n]) for n, w in other.model.state_dict().items())


def test_steps_must_be_known(tmp_path: Path) -> None:
    policy = LFMPolicy(small_config(), dataset_stats=statistics())
    with pytest.raises(InputError, match=r"nothing says how many steps.*--policy.train_steps"):
        policy.forward(batch(policy.config))


def test_couplings_and_methods_that_cannot_learn_so() -> None:
    config = small_config(options={"flow": {"coupling": "optimal"}}, train_steps=10)
    policy = LFMPolicy(config, dataset_stats=statistics())
    with pytest.raises(InputError, match=r"dependent coupling only: set --policy.joint_share=0"):
        policy.forward(batch(config))
    method = {"flow": {"method": {"name": "consistency_fm"}}}
    with pytest.raises(InputError, match=r"stand for no velocity.*block_training=parallel"):
        small_config(options=method)
    options = method | {"training": {"block_training": "parallel"}}
    policy, blocks, _ = trained(small_config(options=options), 12, 12)
    assert blocks[-1] == 2 and torch.isfinite(weights(policy, "blocks.1")).all()
