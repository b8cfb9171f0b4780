"""Which demonstrations a policy is checked on, and the instants at which it is asked."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lfm_policy.assets import POLICIES, bundled_demonstrations
from lfm_policy.config.load import Source, merged_sources, parse_override
from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.data.dataset_config import DatasetConfig
from lfm_policy.data.derived import DERIVATIONS
from lfm_policy.data.download.locations import where_to_get
from lfm_policy.data.formats import DATASET_FORMATS
from lfm_policy.data.images.cache import ImageCache
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer
from lfm_policy.data.split import split_episodes
from lfm_policy.data.tools.contents import stored_name, without_levels
from lfm_policy.data.tools.detect import detect_format, open_dataset
from lfm_policy.data.windows import check_any_window, windows_of_lengths
from lfm_policy.errors import InputError, OptionError
from lfm_policy.options import checked, declared
from lfm_runtime.disk.files import exists
from lfm_runtime.policy.chunk_policy import ChunkPolicy
from lfm_runtime.policy.spec import is_image

HELD_OUT, OTHER, TRAINING, UNKNOWN = "held-out", "other", "training", "unknown"
"""Episodes that the run kept for validation; of other demonstrations than those of training; that
it was trained on; of which is not known whether it was."""


@dataclass(frozen=True)
class Demonstrations:
    """Episodes to check a policy on.

    Attributes:
        buffer: all that was read.
        checked: episodes that are asked about, int64, sorted.
        reference: episodes that baselines and ranges are taken from: those of training where they
            are known, else those that are not checked, and where there are no others all.
        kind: `HELD_OUT`, `OTHER`, `TRAINING` or `UNKNOWN`: what the policy knows of ``checked``.
        remark: the same in a sentence.
    """

    buffer: ReplayBuffer
    checked: np.ndarray
    reference: np.ndarray
    kind: str
    remark: str


@dataclass(frozen=True)
class Instants:
    """Instants of episodes at which the policy is asked for a chunk, M in all, in order.

    They are those of a policy that always predicts on time: every ``n_action_steps`` from the
    first frame of an episode on.

    Attributes:
        buffer: the demonstrations.
        episode: (M,) int64, number of the episode.
        step: (M,) int64, step of the newest observation within its episode.
        obs_steps: (M, n_obs_steps) int64, steps of the buffer that the policy sees.
        demonstrated: (M, horizon, action_dim) float64; before the beginning and beyond the end of
            an episode its first and last actions are repeated, as in training.
        there: (M, horizon) bool, which of these are actions of the episode from ``step`` on.
        executed: (M, horizon) bool, which of those the policy would execute.
        before: (M, action_dim) float64, the action before ``step``; NaN at an episode's beginning.
        trained: (M,) bool, which of these windows training would take from such an episode.
    """

    buffer: ReplayBuffer
    episode: np.ndarray
    step: np.ndarray
    obs_steps: np.ndarray
    demonstrated: np.ndarray
    there: np.ndarray
    executed: np.ndarray
    before: np.ndarray
    trained: np.ndarray

    def __len__(self) -> int:
        """Return M."""
        return len(self.episode)

    @property
    def started(self) -> np.ndarray:
        """Which instants have an action before them, (M,) bool."""
        return self.step > 0

    def observations(self, rows: np.ndarray, keys: tuple[str, ...]) -> dict[str, np.ndarray]:
        """Return the histories of some instants, by key (B, n_obs_steps, *shape), as recorded."""
        steps = self.obs_steps[rows]
        return {key: np.asarray(self.buffer.arrays[key][steps]) for key in keys}


def load_demonstrations(
    name: str,
    policy: ChunkPolicy,
    config: ExperimentConfig | None,
    *,
    data: str | ReplayBuffer | None = None,
    overrides: Sequence[str] = (),
    image_cache: ImageCache | None = None,
    quiet: bool = True,
) -> Demonstrations:
    """Read demonstrations and say which episodes can be checked.

    Args:
        name: what the user called the policy.
        policy: the policy.
        config: of its training; None for an export, which does not tell.
        data: path of other demonstrations, or these themselves; None: those of the configuration.
        overrides: strings ``dataset.key=value`` that change how these are read.
        image_cache: where decoded images are kept, and at which size.
        quiet: no progress bars.

    Raises:
        InputError: they are absent, or not what the policy observes and does; or an override is
            wrong.
    """
    remark = ""
    if isinstance(data, ReplayBuffer):
        if overrides:
            raise InputError(f"{overrides[0]} says how data are read, and these are in memory")
        buffer = data
        buffer.validate()
    else:
        options, remark = _dataset_options(name, policy, config, data)
        buffer = changed_dataset(options, overrides).load(image_cache, quiet=quiet)
    shapes = {**policy.spec.obs_shapes, ACTION_KEY: (policy.spec.action_dim,)}
    buffer.check_shapes(shapes, "the policy")
    lengths = buffer.episode_lengths
    horizons = (policy.n_obs_steps, policy.horizon, policy.n_action_steps)
    check_any_window(lengths, *horizons, source=buffer.source)
    usable = windows_of_lengths(lengths, *horizons) > 0
    everything = np.flatnonzero(usable)
    same = bool(policy.spec.fingerprint) and buffer.fingerprint() == policy.spec.fingerprint
    if not same:
        what = f"{buffer.source}: other demonstrations than those of the training, or more of them"
        if data is None and not (overrides or remark):
            what = f"{buffer.source} has changed since the training; what was learned from it is"
            return Demonstrations(buffer, everything, everything, UNKNOWN, f"{what} not known")
        return Demonstrations(buffer, everything, everything, OTHER, remark or what)
    if config is None:
        what = f"{buffer.source} is what the policy was trained on; an export does not tell which"
        return Demonstrations(
            buffer, everything, everything, UNKNOWN, f"{what} episodes were held out"
        )
    ratio, seed = config.dataset.validation_ratio, config.dataset.split_seed
    train, held_out = split_episodes(buffer.n_episodes, ratio, seed, usable=usable)
    if not len(held_out):
        what = f"{buffer.source} has no held-out episodes: these are TRAINING episodes, on which"
        remark = f"{what} every error looks smaller than it is"
        return Demonstrations(buffer, train, train, TRAINING, remark)
    remark = f"{len(held_out)} held-out episodes of {buffer.source} ({len(train)} for training)"
    return Demonstrations(buffer, held_out, train, HELD_OUT, remark)


def choose(demonstrations: Demonstrations, n_episodes: int, seed: int) -> Demonstrations:
    """Return the same with at most ``n_episodes`` to be checked, drawn at random.

    Of demonstrations whose training episodes are not known, the others become the reference.
    """
    checked = _drawn(demonstrations.checked, n_episodes, seed)
    reference = demonstrations.reference
    if demonstrations.kind in (OTHER, UNKNOWN) and len(checked) < len(reference):
        reference = np.setdiff1d(reference, checked)
    return dataclasses.replace(demonstrations, checked=checked, reference=reference)


def training_sample(demonstrations: Demonstrations, n_episodes: int, seed: int) -> np.ndarray:
    """Return some of the episodes that the policy was trained on; none where that is not known."""
    if demonstrations.kind != HELD_OUT:
        return np.zeros(0, np.int64)
    return _drawn(demonstrations.reference, n_episodes, seed)


def instants_of(buffer: ReplayBuffer, episodes: np.ndarray, policy: ChunkPolicy) -> Instants:
    """Return the instants of some episodes."""
    n_obs, horizon, n_action = policy.n_obs_steps, policy.horizon, policy.n_action_steps
    lengths = buffer.episode_lengths[episodes]
    steps = [np.arange(0, length, n_action) for length in lengths]
    episode = np.repeat(episodes, [len(part) for part in steps])
    step = np.concatenate(steps)
    start, length = buffer.episode_starts[episode], buffer.episode_lengths[episode]
    relative = step[:, None] - (n_obs - 1) + np.arange(horizon)
    rows = start[:, None] + np.clip(relative, 0, (length - 1)[:, None])
    action = np.asarray(buffer.arrays[ACTION_KEY], dtype=np.float64)
    there = (relative >= step[:, None]) & (relative < length[:, None])
    before = action[np.maximum(start + step - 1, 0)]
    before[step == 0] = np.nan
    return Instants(
        buffer=buffer,
        episode=episode,
        step=step,
        obs_steps=rows[:, :n_obs],
        demonstrated=action[rows],
        there=there,
        executed=there & (np.arange(horizon) < n_obs - 1 + n_action),
        before=before,
        trained=step <= length - horizon + (n_action - 1) + (n_obs - 1),
    )


def _drawn(episodes: np.ndarray, count: int, seed: int) -> np.ndarray:
    if len(episodes) <= count:
        return episodes
    chosen = np.random.default_rng(seed).choice(episodes, count, replace=False)
    return np.asarray(np.sort(chosen), dtype=np.int64)


def _dataset_options(
    name: str, policy: ChunkPolicy, config: ExperimentConfig | None, data: str | None
) -> tuple[DatasetConfig, str]:
    """Return what to read, and what is to be said of it."""
    if data is not None:
        return options_for(data, policy, config), ""
    if config is None:
        raise InputError(
            f"{name}: an export does not tell where its demonstrations are: give them with --data"
        )
    path = getattr(config.dataset, "path", None)
    if path is None or (path and exists(Path(path).expanduser())):
        return config.dataset, ""
    sees_images = any(map(is_image, policy.spec.obs_shapes.values()))
    if name in POLICIES and not exists(Path(name)) and not sees_images:
        return options_for(str(bundled_demonstrations()), policy, config), (
            "the bundled demonstrations, which another policy of the package recorded; those of "
            f"the training are not at {path}"
        )
    tried, where = Path(path).expanduser(), ": give"
    if path and not tried.is_absolute():
        where = f"; tried {tried.absolute()}: started in another folder? Give"
    raise InputError(
        f"{name}: its demonstrations are not at {path!r} (dataset.path) any more{where} them, or "
        f"others, with --data PATH{where_to_get(path) if path else ''}"
    )


def changed_dataset(options: DatasetConfig, overrides: Sequence[str]) -> DatasetConfig:
    """Return options of a dataset with others, strings ``dataset.key=value``.

    Raises:
        InputError: one is of something else, unknown, or has a wrong value.
    """
    sources = [parse_override(text) for text in overrides]
    for source in sources:
        if set(source.options) != {"dataset"} or not isinstance(source.options["dataset"], dict):
            raise InputError(
                f"{source.label}: expected an option of dataset, such as dataset.max_episodes=20"
            )
    same = {name: getattr(options, name) for name in declared(type(options))}
    merged, _ = merged_sources([Source("dataset", {"dataset": same}), *sources])
    try:
        return checked(type(options), merged["dataset"])
    except OptionError as error:
        raise InputError(str(error.under("dataset"))) from None


def options_for(data: str, policy: ChunkPolicy, config: ExperimentConfig | None) -> DatasetConfig:
    """Return options that read the policy's observations from a dataset of any format.

    Args:
        data: path of the dataset.
        policy: whose observations.
        config: with which it was trained, if that is known.

    Raises:
        InputError: nothing is there, or no dataset.
    """
    found = detect_format(data)
    if config is not None and config.dataset.name == found:
        own = config.dataset.of(data)
        if found == "zarr" and len(own.depth) < len(policy.spec.depth):
            # It learned from levels, of which not the options say the range.
            names = {name: key for key, name in getattr(own, "rename", {}).items()}
            depth = {names.get(key, key): list(ends) for key, ends in policy.spec.depth.items()}
            own = dataclasses.replace(own, depth=depth)
        return without_levels(own)
    kind = DATASET_FORMATS.get(found)
    known = {field.name for field in dataclasses.fields(kind)}
    # What dataset.tasks tells the policy is no array.
    keys = tuple(policy.spec.untold().obs_shapes)
    contents = open_dataset(Path(data))
    stored = contents.stored
    names = {stored_name(key, stored): key for key in keys}
    given: dict[str, Any] = {"path": data, "obs_keys": list(names)}
    if contents.action_key:
        given["action_key"] = contents.action_key
    if policy.spec.depth:
        ends = policy.spec.depth.items()
        given["depth"] = {stored_name(key, stored): list(pair) for key, pair in ends}
    if "rename" in known:
        given["rename"] = names
    if policy.spec.tasks:
        given["tasks"] = list(policy.spec.tasks)
    if "derive" in known:
        missing = {key for key in keys if key not in stored}
        fitting = [n for n, entry in DERIVATIONS.items() if missing & set(entry.outputs)]
        if fitting:
            given["derive"] = fitting[0]
    return without_levels(kind(**given))
