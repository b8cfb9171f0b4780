from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lfm_policy.collect import CollectError, CollectOptions
from lfm_policy.collect.workers import Workers
from lfm_policy.data.robomimic.demos import DemoRecording

_OPTIONS = CollectOptions("Lift", episodes=3, seed_start=1)


@pytest.fixture
def attempts(monkeypatch: pytest.MonkeyPatch) -> object:
    # Worker processes import the functions by the name of their module.
    monkeypatch.syspath_prepend(Path(__file__).parent)
    sys.modules.pop("attempts", None)
    import attempts

    return attempts


def _run(workers: Workers, seeds: list[int]) -> dict[int, bool]:
    results: dict[int, bool] = {}
    try:
        for seed in seeds:
            workers.submit(seed)
        while workers.running:
            results |= dict(workers.collect(1.0))
    finally:
        workers.close(now=True)
    return results


def test_attempts_are_reported_and_kept(attempts: object, tmp_path: Path) -> None:
    path = tmp_path / "demos.hdf5"
    workers = Workers(2, path, _OPTIONS, attempts.quick)  # type: ignore[attr-defined]
    assert _run(workers, [1, 2, 3]) == {1: True, 2: True, 3: False}
    assert workers.crashes == 0
    recording = DemoRecording(path, _OPTIONS.facts())
    assert (recording.demos(), recording.skipped()) == ([1, 2], [3])


def test_an_episode_that_kills_its_process_is_run_again(attempts: object, tmp_path: Path) -> None:
    workers = Workers(1, tmp_path / "demos.hdf5", _OPTIONS, attempts.crashes_once)  # type: ignore[attr-defined]
    assert _run(workers, [1, 2]) == {1: True, 2: True}
    assert workers.crashes == 1


def test_an_episode_that_always_crashes_is_given_up(attempts: object, tmp_path: Path) -> None:
    workers = Workers(1, tmp_path / "demos.hdf5", _OPTIONS, attempts.always_crashes)  # type: ignore[attr-defined]
    with pytest.raises(CollectError, match="seed 2 died 3 times.*goes on"):
        _run(workers, [2])
