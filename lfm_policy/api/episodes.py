"""Episodes as people have them in memory, checked and laid end to end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from lfm_policy.data.images.cache import as_uint8
from lfm_policy.data.images.depth import METRES, depth_layout, has_fractions, looks_like_depth
from lfm_policy.data.images.layout import ImageLayout, image_layout
from lfm_policy.data.replay_buffer import ACTION_KEY, ReplayBuffer, not_finite
from lfm_policy.errors import InputError, brief

OBS = "obs"

Episode: TypeAlias = Mapping[str, Any] | Sequence[Mapping[str, Any]]
"""``{"obs": {name: (T, ...)}, "action": (T, action_dim)}``, or one such dictionary per step."""


def buffer_of_episodes(episodes: Iterable[Episode], source: str) -> ReplayBuffer:
    """Return a validated buffer of episodes, see `Dataset.from_episodes`.

    Args:
        episodes: see there.
        source: what to call them in messages.

    Raises:
        InputError: an episode is not what it has to be; the message names it and the key.
    """
    if isinstance(episodes, (Mapping, str, bytes)):
        raise InputError(
            f"{source}: found one {type(episodes).__name__}, expected a list of episodes: "
            '[{"obs": {"joints": ...}, "action": ...}, ...]'
        )
    parts: list[dict[str, np.ndarray]] = []
    for number, episode in enumerate(episodes):
        where = f"{source}, episode {number}"
        arrays = _arrays(episode, where)
        _check_episode(arrays, where)
        if parts:
            _check_alike(arrays, parts[0], where)
        parts.append(arrays)
    if not parts:
        raise InputError(f"{source}: there is no episode")
    joined = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    for key, array in joined.items():
        joined[key] = _as_frames(array, key, source)
    ends = np.cumsum([len(part[ACTION_KEY]) for part in parts], dtype=np.int64)
    buffer = ReplayBuffer(joined, ends, source)
    buffer.validate()
    return buffer


def episodes_of_buffer(buffer: ReplayBuffer) -> list[dict[str, Any]]:
    """Return the episodes of a buffer, as `buffer_of_episodes` takes them; views, no copies."""
    return [
        {
            OBS: {key: a[begin:end] for key, a in buffer.arrays.items() if key != ACTION_KEY},
            ACTION_KEY: buffer.arrays[ACTION_KEY][begin:end],
        }
        for begin, end in zip(buffer.episode_starts, buffer.episode_ends, strict=True)
    ]


def _arrays(episode: Episode, where: str) -> dict[str, np.ndarray]:
    """Return action and observations of an episode, time first, whichever way they are given."""
    if isinstance(episode, Mapping):
        obs = _parts(episode, where)
        given = {ACTION_KEY: episode[ACTION_KEY], **obs}
        return {key: _array(value, f"{where}: {_name(key)}") for key, value in given.items()}
    if isinstance(episode, (str, bytes)) or not isinstance(episode, Iterable):
        raise InputError(
            f"{where}: is of type {type(episode).__name__}, expected a dictionary with "
            f"'{OBS}' and '{ACTION_KEY}', or one per step"
        )
    columns: dict[str, list[np.ndarray]] = {}
    for step, row in enumerate(episode):
        at = f"{where}, step {step}"
        if not isinstance(row, Mapping):
            raise InputError(f"{at}: is of type {type(row).__name__}, expected a dictionary")
        given = {ACTION_KEY: row.get(ACTION_KEY), **_parts(row, at)}
        if step and given.keys() != columns.keys():
            raise InputError(f"{at}: holds {_list(given)}, step 0 holds {_list(columns)}")
        for key, value in given.items():
            array = _array(value, f"{at}: {_name(key)}")
            column = columns.setdefault(key, [])
            if column and array.shape != column[0].shape:
                raise InputError(
                    f"{at}: {_name(key)} has shape {array.shape}, in step 0 {column[0].shape}"
                )
            column.append(array)
    if not columns:
        raise InputError(f"{where}: is empty; leave it out")
    return {key: np.stack(column) for key, column in columns.items()}


def _parts(given: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return the observations by name, and check that the action is there."""
    if set(given) != {OBS, ACTION_KEY}:
        raise InputError(
            f"{where}: has the keys {', '.join(map(repr, given)) or 'of nothing'}; expected "
            f'"{OBS}", the observations by name, and "{ACTION_KEY}"'
        )
    obs = given[OBS]
    if not isinstance(obs, Mapping) or not obs:
        found = "no observation" if isinstance(obs, Mapping) else f"a {type(obs).__name__}"
        raise InputError(
            f'{where}: "{OBS}" holds {found}, expected observations by name, such as '
            '{"joints": (T, 7)}'
        )
    for key in obs:
        usable = isinstance(key, str) and key and "/" not in key and not key.startswith(".")
        if not usable or key == ACTION_KEY:
            raise InputError(
                f"{where}: {key!r} cannot be the name of an observation: expected text without "
                f"'/' that is not '{ACTION_KEY}'"
            )
    return obs


def _array(value: Any, what: str) -> np.ndarray:
    """Return numbers as numpy has them: arrays, lists, and tensors of torch on any device."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"{what} is no array of numbers ({brief(error)})") from None
    if array.dtype.kind not in "fiub":
        raise InputError(f"{what} has dtype {array.dtype}, expected numbers")
    return array


def _check_episode(arrays: Mapping[str, np.ndarray], where: str) -> None:
    for key, array in arrays.items():
        what, is_action = f"{where}: {_name(key)}", key == ACTION_KEY
        if array.ndim < 2 or (is_action and array.ndim != 2):
            size = "action_dim" if is_action else "dim"
            hint = "; a number per step is (T, 1): array[:, None]" if array.ndim == 1 else ""
            raise InputError(f"{what} has shape {array.shape}, expected (T, {size}){hint}")
        if not array.size:
            hint = "leave the episode out" if not len(array) else "it holds no values"
            raise InputError(f"{what} has shape {array.shape}: {hint}")
        if len(array) != len(arrays[ACTION_KEY]):
            raise InputError(
                f"{what} has {len(array)} steps, the action has {len(arrays[ACTION_KEY])}; every "
                "array has one row per step"
            )
        steps, found = not_finite(array)
        if len(steps):
            raise InputError(
                f"{what} holds {found} in step {steps[0]} ({len(steps)} such steps): every value "
                "must be a finite float32; repair or drop the episode"
            )


def _check_alike(
    arrays: Mapping[str, np.ndarray], first: Mapping[str, np.ndarray], where: str
) -> None:
    if arrays.keys() != first.keys():
        raise InputError(f"{where}: holds {_list(arrays)}, episode 0 holds {_list(first)}")
    for key, array in arrays.items():
        if array.shape[1:] != first[key].shape[1:]:
            raise InputError(
                f"{where}: {_name(key)} has shape {array.shape[1:]} per step, in episode 0 "
                f"{first[key].shape[1:]}"
            )


def _as_frames(array: np.ndarray, key: str, source: str) -> np.ndarray:
    """Return images as everything past here has them, uint8 (T, height, width, channels)."""
    layout = image_layout(array.shape[1:], array.dtype)
    if looks_like_depth(array.shape[1:], array.dtype) or _are_metres(array, layout):
        # Distances stay what they are: what becomes of them is said by the option dataset.depth.
        height, width, _ = depth_layout(array.shape[1:], array.dtype, source).frame_shape
        return array.reshape(len(array), height, width)
    if layout is None or key == ACTION_KEY:
        return array
    if layout.frame_shape[2] == 4:
        layout = layout.with_alpha_of(array)
    (frames,) = as_uint8(f"{source}: {_name(key)}", [layout.to_frames(array)])
    return np.ascontiguousarray(frames)


def _are_metres(array: np.ndarray, layout: ImageLayout | None) -> bool:
    if layout is None or array.dtype.kind != "f":
        return False
    frames = layout.to_frames(array)
    return has_fractions(frames) and 1 < float(frames.max()) < METRES


def _name(key: str) -> str:
    return "the action" if key == ACTION_KEY else f"observation '{key}'"


def _list(keys: Iterable[str]) -> str:
    return ", ".join(sorted(keys))
