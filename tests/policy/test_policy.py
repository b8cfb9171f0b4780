"""Observations in, actions out: history, queue, noise and bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lfm_policy.errors import InputError
from lfm_policy.flow import SolverSpec
from lfm_policy.policy import Policy, chunk_noise, load_policy

MakePolicy = Callable[..., Policy]


def batch_of(policy: Policy, n_rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {
        key: generator.uniform(100, 400, (n_rows, policy.n_obs_steps, *shape)).astype(np.float32)
        for key, shape in policy.spec.obs_shapes.items()
    }


def record_batches(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return a list that fills with the history of each chunk that `select_action` samples."""
    given: list[dict[str, Any]] = []
    original = policy._sampled

    def sample(*arguments: Any) -> Any:
        history = [frame.obs for frame in policy._history]
        given.append({key: np.stack([obs[key] for obs in history])[None] for key in history[0]})
        return original(*arguments)

    monkeypatch.setattr(policy, "_sampled", sample)
    return given


# -- chunks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rows", [0, 1, 5])
def test_shape_and_dtype_of_chunks(policy: Policy, n_rows: int) -> None:
    policy.sample_seed(0)
    actions = policy.predict_action_chunk(batch_of(policy, n_rows))
    assert actions.shape == (n_rows, policy.n_action_steps, 3)
    assert actions.dtype == torch.float32
    assert not actions.requires_grad
    result = policy.sample(batch_of(policy, n_rows))
    assert result.chunk.shape == (n_rows, 6, 3)
    assert result.nfe == policy.nfe == 4


@pytest.mark.parametrize("n_obs_steps", [1, 2, 3])
def test_execution_starts_at_the_last_observation(
    make_policy: MakePolicy, n_obs_steps: int
) -> None:
    options = {"n_obs_steps": n_obs_steps, "horizon": 6, "n_action_steps": 3}
    policy = make_policy(policy=options)
    noise = torch.randn(2, 6, 3)
    batch = batch_of(policy, 2)
    chunk = policy.sample(batch, noise=noise).chunk
    actions = policy.predict_action_chunk(batch, noise=noise)
    assert torch.equal(actions, chunk[:, n_obs_steps - 1 : n_obs_steps + 2])


def test_actions_are_in_the_units_of_the_demonstrations(policy: Policy) -> None:
    batch, noise = batch_of(policy, 3), torch.randn(3, 6, 3)
    obs = {k: policy.normalizer.normalize(k, torch.tensor(v)) for k, v in batch.items()}
    with torch.no_grad():
        expected = policy.model.chain().sample(
            noise, policy.model.encoder(obs), solver=SolverSpec("euler", 2)
        )
    expected_chunk = policy.normalizer.unnormalize("action", expected.x)
    assert torch.equal(policy.sample(batch, noise=noise).chunk, expected_chunk)


@pytest.mark.parametrize("clip", [True, False])
def test_clip_to_the_range_of_the_demonstrations(make_policy: MakePolicy, clip: bool) -> None:
    options = {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3}
    policy = make_policy(policy={**options, "clip_actions": clip})
    limits = policy.normalizer["action"]
    # Noise far out of the ordinary gives actions far outside.
    actions = policy.predict_action_chunk(batch_of(policy, 8), noise=50 * torch.randn(8, 6, 3))
    inside = (actions >= limits.min) & (actions <= limits.max)
    assert bool(inside.all()) == clip
    if clip:
        at_limit = (actions == limits.min) | (actions == limits.max)
        assert at_limit.any()


def test_a_row_does_not_depend_on_its_batch(policy: Policy) -> None:
    batch, noise = batch_of(policy, 4), torch.randn(4, 6, 3)
    together = policy.predict_action_chunk(batch, noise=noise)
    for row in range(4):
        own = {key: value[row : row + 1] for key, value in batch.items()}
        alone = policy.predict_action_chunk(own, noise=noise[row : row + 1])
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize(
    "convert",
    [
        lambda array: array.tolist(),
        lambda array: torch.tensor(array, requires_grad=True),
        lambda array: torch.tensor(array, dtype=torch.float64),
        lambda array: array.astype(">f8"),
        lambda array: np.flip(np.flip(array, 1).copy(), 1),
        lambda array: np.broadcast_to(array, array.shape),
    ],
    ids=["list", "gradient", "float64 tensor", "big endian", "negative strides", "read only"],
)
@pytest.mark.filterwarnings("error")
def test_every_kind_of_array(policy: Policy, convert: Callable[[np.ndarray], Any]) -> None:
    batch, noise = batch_of(policy, 2), torch.randn(2, 6, 3)
    expected = policy.predict_action_chunk(batch, noise=noise)
    converted = {key: convert(value) for key, value in batch.items()}
    assert torch.equal(policy.predict_action_chunk(converted, noise=noise), expected)
    policy.sample_seed(1)
    frame = policy.select_action({key: value[0, 0] for key, value in batch.items()})
    policy.reset()
    converted_frame = {key: convert(value[0, 0][None])[0] for key, value in batch.items()}
    assert np.array_equal(policy.select_action(converted_frame), frame)


@pytest.mark.parametrize(
    ("n_blocks", "sampler"),
    [
        (1, {"solver": "euler", "nfe": 1}),
        (1, {"solver": "euler", "nfe": 16}),
        (4, {"solver": "heun", "nfe": 16}),
        (4, {"solver": "dopri5"}),
    ],
)
def test_the_encoder_runs_once_per_chunk(
    make_policy: MakePolicy, n_blocks: int, sampler: dict[str, Any]
) -> None:
    encoder = {"name": "state", "hidden": [8]}
    policy = make_policy(n_blocks, sampler=sampler, encoder=encoder)
    encoded, evaluated = [], []
    policy.model.encoder.register_forward_hook(lambda *_: encoded.append(1))
    for block in policy.model.blocks:
        block.register_forward_hook(lambda *_: evaluated.append(1))
    result = policy.sample(batch_of(policy, 3))
    assert len(encoded) == 1
    assert len(evaluated) == result.nfe
    if "nfe" in sampler:
        assert result.nfe == policy.nfe == sampler["nfe"]


def test_without_observations(make_policy: MakePolicy) -> None:
    policy = make_policy(obs_shapes={})
    assert policy.predict_action_chunk({}).shape == (1, 3, 3)
    assert policy.select_action({}).shape == (3,)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_observations_of_other_ranks(make_policy: MakePolicy, shape: tuple[int, ...]) -> None:
    policy = make_policy(obs_shapes={"value": shape})
    obs = policy.fake_obs()
    assert obs["value"].shape == shape
    assert policy.select_action(obs).shape == (3,)


# -- step by step ---------------------------------------------------------------------------------


def test_first_observation_fills_the_history_oldest_first(
    make_policy: MakePolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"n_obs_steps": 3, "horizon": 6, "n_action_steps": 2}
    policy = make_policy(obs_shapes={"value": (1,)}, policy=options)
    given = record_batches(policy, monkeypatch)
    for value in (10.0, 11.0, 12.0, 13.0, 14.0):
        policy.select_action({"value": np.array([value])})
    histories = [batch["value"].reshape(-1).tolist() for batch in given]
    assert histories == [[10, 10, 10], [10, 11, 12], [12, 13, 14]]
    assert [batch["value"].shape for batch in given] == [(1, 3, 1)] * 3


def test_actions_of_a_chunk_are_queued_in_order(
    policy: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy.sample_seed(3)
    given = record_batches(policy, monkeypatch)
    obs = policy.fake_obs()
    actions = [policy.select_action(obs) for _ in range(7)]
    assert len(given) == 3  # 3 + 3 + 1
    history = {key: np.stack([value, value])[None] for key, value in obs.items()}
    policy.sample_seed(3)
    chunks = [policy.predict_action_chunk(history)[0].numpy() for _ in range(3)]
    assert np.array_equal(actions, np.concatenate(chunks)[:7])
    assert all(a.shape == (3,) and a.dtype == np.float32 for a in actions)


def test_reset_forgets_history_and_queue(policy: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    policy.sample_seed(0)
    first, second = policy.fake_obs(1), policy.fake_obs(2)
    fresh = [policy.select_action(second) for _ in range(2)]
    policy.reset()
    policy.select_action(first)
    policy.reset()
    given = record_batches(policy, monkeypatch)
    again = [policy.select_action(second) for _ in range(2)]
    assert len(given) == 1
    for key, value in second.items():
        assert np.array_equal(given[0][key][0], np.stack([value, value]))
    assert np.array_equal(fresh, again)


def test_other_observations_are_ignored(policy: Policy) -> None:
    obs = policy.fake_obs()
    policy.sample_seed(0)
    expected = policy.select_action(obs)
    policy.reset()
    action = policy.select_action({**obs, "camera": "not even an array"})
    assert np.array_equal(action, expected)


def test_the_caller_may_reuse_his_array(make_policy: MakePolicy) -> None:
    options = {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 1}
    policy = make_policy(obs_shapes={"value": (1,)}, policy=options)
    values = np.zeros(1, np.float32)
    actions = []
    for copied in (False, True):
        policy.sample_seed(0)
        policy.reset()
        for value in (100.0, 300.0):
            values[:] = value
            action = policy.select_action({"value": values.copy() if copied else values})
        actions.append(action)
    assert np.array_equal(*actions)


# -- noise ----------------------------------------------------------------------------------------


def test_noise_depends_on_seed_episode_and_chunk_only(policy: Policy) -> None:
    batch = batch_of(policy, 2)
    policy.sample_seed(5, episode=10)
    policy.predict_action_chunk(batch)
    second = policy.predict_action_chunk(batch)  # chunk 1
    noise = torch.stack([chunk_noise(5, 10 + row, 1, (6, 3)) for row in range(2)])
    assert torch.equal(second, policy.predict_action_chunk(batch, noise=noise))


def test_given_noise_does_not_count_as_a_chunk(policy: Policy) -> None:
    batch = batch_of(policy, 1)
    policy.sample_seed(5)
    first = policy.predict_action_chunk(batch)
    policy.sample_seed(5)
    policy.predict_action_chunk(batch, noise=torch.randn(1, 6, 3))
    assert torch.equal(policy.predict_action_chunk(batch), first)


def test_row_r_of_a_batch_is_episode_plus_r(policy: Policy) -> None:
    batch = batch_of(policy, 4)
    policy.sample_seed(1, episode=7)
    together = policy.predict_action_chunk(batch)
    for row in range(4):
        policy.sample_seed(1, episode=7 + row)
        alone = policy.predict_action_chunk({k: v[row : row + 1] for k, v in batch.items()})
        torch.testing.assert_close(alone[0], together[row], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("other", [{"seed": 2}, {"episode": 1}])
def test_other_seeds_give_other_actions(policy: Policy, other: dict[str, int]) -> None:
    batch = batch_of(policy, 1)
    policy.sample_seed(**{"seed": 1, "episode": 0})
    first = policy.predict_action_chunk(batch)
    policy.sample_seed(**{"seed": 1, "episode": 0, **other})
    assert not torch.equal(policy.predict_action_chunk(batch), first)


def test_episodes_repeat_after_reset(policy: Policy) -> None:
    obs = policy.fake_obs()
    policy.sample_seed(9, episode=4)
    episodes = []
    for _ in range(2):
        policy.reset()
        episodes.append([policy.select_action(obs) for _ in range(5)])
    assert np.array_equal(*episodes)


def test_without_a_seed_torch_decides(policy: Policy) -> None:
    batch = batch_of(policy, 1)
    policy.sample_seed(1)
    policy.sample_seed(None)
    torch.manual_seed(0)
    first, second = policy.predict_action_chunk(batch), policy.predict_action_chunk(batch)
    assert not torch.equal(first, second)
    torch.manual_seed(0)
    assert torch.equal(policy.predict_action_chunk(batch), first)


@pytest.mark.parametrize(("seed", "episode"), [(-1, 0), (0, -1)])
def test_negative_seeds(policy: Policy, seed: int, episode: int) -> None:
    with pytest.raises(InputError, match=f"seed is {seed} and episode {episode}"):
        policy.sample_seed(seed, episode=episode)


# -- bad input ------------------------------------------------------------------------------------

Change = Callable[[dict[str, Any]], None]


def _bad(name: str, message: str, change: Change) -> Any:
    return pytest.param(change, message, id=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        _bad(
            "missing",
            r"observation 'pose' is missing: found \['agent_pos'\], expected .*'pose'",
            lambda batch: batch.pop("pose"),
        ),
        _bad("empty", "'agent_pos' is missing: found nothing", lambda batch: batch.clear()),
        _bad(
            "one frame",
            r"observation 'pose' has shape \(2, 4\), expected \(B, 2, 4\): batch, n_obs_steps",
            lambda batch: batch.update(pose=batch["pose"][:, 0]),
        ),
        _bad(
            "history too long",
            r"observation 'pose' has shape \(2, 3, 4\), expected \(B, 2, 4\)",
            lambda batch: batch.update(pose=np.zeros((2, 3, 4))),
        ),
        _bad(
            "wrong size",
            r"observation 'agent_pos' has shape \(2, 2, 5\), expected \(B, 2, 2\)",
            lambda batch: batch.update(agent_pos=np.zeros((2, 2, 5))),
        ),
        _bad(
            "other number of rows",
            "observation 'pose' has 3 rows, the others have 2",
            lambda batch: batch.update(pose=np.zeros((3, 2, 4))),
        ),
        _bad(
            "NaN",
            "observation 'pose' contains NaN or infinity",
            lambda batch: batch["pose"].__setitem__((1, 0, 2), np.nan),
        ),
        _bad(
            "infinity",
            "observation 'agent_pos' contains NaN or infinity",
            lambda batch: batch.update(agent_pos=np.full((2, 2, 2), 1e300)),
        ),
        _bad(
            "text",
            "observation 'pose' has dtype <U1, expected numbers",
            lambda batch: batch.update(pose=np.full((2, 2, 4), "a")),
        ),
        _bad(
            "ragged",
            "observation 'pose' is not an array",
            lambda batch: batch.update(pose=[[1, 2], [3]]),
        ),
        _bad(
            "None",
            r"observation 'pose' is None, expected numbers: did its sensor give nothing\?",
            lambda batch: batch.update(pose=None),
        ),
        _bad(
            "complex",
            "observation 'pose' has dtype complex128",
            lambda batch: batch.update(pose=np.zeros((2, 2, 4), complex)),
        ),
    ],
)
@pytest.mark.filterwarnings("error")
def test_bad_batches(policy: Policy, change: Change, message: str) -> None:
    batch: dict[str, Any] = dict(batch_of(policy, 2))
    change(batch)
    with pytest.raises(InputError, match=message):
        policy.predict_action_chunk(batch)


def test_bad_noise(policy: Policy) -> None:
    with pytest.raises(InputError, match=r"noise has shape \(1, 6, 3\), expected \(2, 6, 3\)"):
        policy.predict_action_chunk(batch_of(policy, 2), noise=torch.zeros(1, 6, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        _bad("missing", "observation 'pose' is missing", lambda obs: obs.pop("pose")),
        _bad(
            "wrong shape",
            r"observation 'pose' has shape \(1, 4\), expected \(4,\)",
            lambda obs: obs.update(pose=obs["pose"][None]),
        ),
        _bad(
            "NaN",
            "observation 'pose' contains NaN or infinity",
            lambda obs: obs.update(pose=np.full(4, np.nan)),
        ),
        _bad("text", "observation 'pose' has dtype", lambda obs: obs.update(pose="x")),
    ],
)
def test_a_bad_frame_is_refused_at_once_and_forgotten(
    policy: Policy, change: Change, message: str
) -> None:
    obs = policy.fake_obs()
    policy.sample_seed(0)
    expected = [policy.select_action(obs) for _ in range(4)]
    policy.reset()
    actions = [policy.select_action(obs)]
    bad: dict[str, Any] = dict(obs)
    change(bad)
    # In the middle of a chunk, when nothing would be sampled.
    with pytest.raises(InputError, match=message):
        policy.select_action(bad)
    actions += [policy.select_action(obs) for _ in range(3)]
    assert np.array_equal(actions, expected)


# -- other ----------------------------------------------------------------------------------------


def test_fake_obs_is_valid_and_in_the_training_range(policy: Policy) -> None:
    obs = policy.fake_obs(seed=4)
    assert obs.keys() == policy.spec.obs_shapes.keys()
    for key, shape in policy.spec.obs_shapes.items():
        assert obs[key].shape == shape and obs[key].dtype == np.float32
        stats = policy.normalizer[key]
        assert (obs[key] >= stats.min.numpy()).all() and (obs[key] <= stats.max.numpy()).all()
    policy.select_action(obs)
    for key, value in policy.fake_obs(seed=4).items():
        assert np.array_equal(value, obs[key])
    assert not np.array_equal(policy.fake_obs(seed=5)["pose"], obs["pose"])


def test_set_sampler(policy: Policy) -> None:
    assert policy.nfe == 4
    assert policy.pipeline.solvers == [SolverSpec("euler", 2)] * 2
    policy.set_sampler(nfe=5)
    assert policy.nfe == 5 and policy.sample(batch_of(policy, 1)).nfe == 5
    policy.set_sampler(solver="heun", nfe=8)
    assert policy.nfe == 8 and policy.sample(batch_of(policy, 1)).nfe == 8
    policy.set_sampler(solver="dopri5")
    assert policy.nfe is None and policy.sample(batch_of(policy, 1)).nfe > 2
    policy.set_sampler()
    assert policy.nfe == 4
    with pytest.raises(InputError, match="nfe is 1, expected a multiple of 1 of at least 2"):
        policy.set_sampler(nfe=1)
    assert policy.nfe == 4


def test_noise_scale_multiplies_the_noise(policy: Policy) -> None:
    batch, noise = batch_of(policy, 2), torch.randn(2, 6, 3)
    half = policy.sample(batch, noise=0.5 * noise).chunk
    policy.set_sampler(noise_scale=0.5)
    assert policy.noise_scale == 0.5
    assert torch.equal(policy.sample(batch, noise=noise).chunk, half)
    policy.set_sampler(noise_scale=0)
    still = policy.sample(batch, noise=noise).chunk
    assert torch.equal(policy.sample(batch, noise=-noise).chunk, still)
    for bad in (-1.0, float("nan")):
        with pytest.raises(InputError, match="noise_scale is .*, expected a (finite )?number"):
            policy.set_sampler(noise_scale=bad)
    assert policy.noise_scale == 0
    policy.set_sampler()
    assert policy.noise_scale == 1


def test_more_steps_change_the_result_a_little(policy: Policy) -> None:
    batch, noise = batch_of(policy, 2), torch.randn(2, 6, 3)
    chunks = []
    for nfe in (2, 64, 128):
        policy.set_sampler(nfe=nfe)
        chunks.append(policy.sample(batch, noise=noise).chunk)
    assert not torch.equal(chunks[0], chunks[1])
    assert (chunks[1] - chunks[2]).abs().mean() < 0.2 * (chunks[0] - chunks[2]).abs().mean()


# -- cameras --------------------------------------------------------------------------------------

CAMERAS = {
    "encoder": {"name": "cameras", "image": {"name": "compact", "width": 4, "keypoints": 2}},
    "policy": {"n_obs_steps": 3, "horizon": 6, "n_action_steps": 1, "clip_actions": False},
}
CAMERA_SHAPES = {"image": (16, 18, 3), "pose": (4,), "wrist": (16, 16, 1)}


@pytest.fixture
def seeing(make_policy: MakePolicy) -> Policy:
    return make_policy(obs_shapes=CAMERA_SHAPES, **CAMERAS)


def test_a_frame_is_encoded_once_however_many_chunks_see_it(
    seeing: Policy, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    for key in seeing.model.encoder.image_keys:
        module = seeing.model.encoder.image_encoder(key)
        original = module.features
        monkeypatch.setattr(
            module,
            "features",
            lambda images, original=original: seen.append(len(images)) or original(images),
        )
    for step in range(5):  # a chunk in every step
        seeing.select_action(seeing.fake_obs(step))
    assert seen == [1] * (5 * 2)  # two cameras
    seen.clear()
    seeing.set_sampler(nfe=8)  # the number of network evaluations changes nothing
    seeing.reset()
    seeing.select_action(seeing.fake_obs(0))
    assert seen == [1, 1]


def test_one_robot_and_a_batch_get_the_same_actions(seeing: Policy) -> None:
    frames = [seeing.fake_obs(step) for step in range(4)]
    seeing.sample_seed(3)
    actions = [seeing.select_action(frame) for frame in frames]
    histories = [[0, 0, 0], [0, 0, 1], [0, 1, 2], [1, 2, 3]]
    seeing.sample_seed(3)
    for action, history in zip(actions, histories, strict=True):
        batch = {key: np.stack([frames[i][key] for i in history])[None] for key in frames[0]}
        expected = seeing.predict_action_chunk(batch)[0, 0]
        np.testing.assert_allclose(action, expected, rtol=1e-4, atol=1e-3)


def test_fake_observations_of_cameras_are_bytes(seeing: Policy) -> None:
    obs = seeing.fake_obs()
    assert {key: (value.shape, value.dtype.name) for key, value in obs.items()} == {
        "image": ((16, 18, 3), "uint8"),
        "pose": ((4,), "float32"),
        "wrist": ((16, 16, 1), "uint8"),
    }


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((16, 18, 3), np.float32), "'image' has dtype float32, expected uint8"),
        (np.zeros((3, 16, 18), np.uint8), r"'image' has shape \(3, 16, 18\), expected \(16, 18, 3"),
        ([[1], [2, 3]], "'image' is not an array"),
    ],
)
def test_images_that_are_none(seeing: Policy, image: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        seeing.select_action({**seeing.fake_obs(), "image": image})
    obs = seeing.fake_obs()
    batch = {key: np.stack([value] * 3)[None] for key, value in obs.items()}
    if isinstance(image, np.ndarray):
        batch["image"] = np.stack([image] * 3)[None]
        with pytest.raises(InputError, match="'image' has"):
            seeing.predict_action_chunk(batch)


def chunk(policy: Policy) -> np.ndarray:
    policy.sample_seed(3, episode=1)
    return policy.predict_action_chunk(policy.fake_batch(4, seed=2)).numpy()


def test_what_is_saved_acts_as_the_policy_does(checkpoint: Path, tmp_path: Path) -> None:
    policy = load_policy(checkpoint)
    policy.set_sampler(solver="midpoint", nfe=8, noise_scale=0.5)
    policy.n_action_steps = 2
    expected = chunk(policy)
    saved = load_policy(policy.save(tmp_path / "saved"))
    np.testing.assert_array_equal(chunk(saved), expected)
    assert (saved.nfe, saved.solver, saved.n_action_steps) == (8, "midpoint", 2)
    assert saved.info["steps"] == policy.info["steps"]
    # It replaces a checkpoint, also the one that it was loaded from.
    saved.set_sampler(nfe=2, solver="euler")
    expected = chunk(saved)
    saved.save(tmp_path / "saved")
    np.testing.assert_array_equal(chunk(load_policy(tmp_path / "saved")), expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "saved"]


def test_saving_replaces_nothing_else(checkpoint: Path, tmp_path: Path, policy: Policy) -> None:
    loaded = load_policy(checkpoint)
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("teach it more")
    with pytest.raises(InputError, match=r"no checkpoint alone \(it holds todo.txt\)"):
        loaded.save(tmp_path / "notes")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="no checkpoint alone"):
        loaded.save(tmp_path / "file")
    (checkpoint / "mine.txt").write_text("")
    with pytest.raises(InputError, match="mine.txt"):
        loaded.save(checkpoint)
    with pytest.raises(InputError, match="nothing is known of the training"):
        policy.save(tmp_path / "random")  # made by hand
    assert (tmp_path / "notes" / "todo.txt").read_text() == "teach it more"
    assert not (tmp_path / "random").exists()
