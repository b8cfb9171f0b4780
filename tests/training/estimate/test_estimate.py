"""Arithmetic and words of an estimate."""

from __future__ import annotations

import json
import shlex
import time
from typing import Any

import pytest

from lfm_policy.config import config_from_dict
from lfm_policy.config.load import changed_config
from lfm_policy.text.numbers import duration
from lfm_policy.training.estimate import Estimate, Share
from lfm_policy.training.estimate.advice import Names, advise, small_enough
from lfm_policy.training.estimate.estimate import ending, fewer


@pytest.mark.parametrize(
    ("count", "factor", "result"),
    [(72_000, 1 / 3, 24_000), (8, 0.3, 2), (1, 0.1, 1), (999, 1, 990)],
)
def test_fewer_steps_are_round_numbers(count: float, factor: float, result: int) -> None:
    assert fewer(count, factor) == result


def test_an_end_far_away_has_its_day() -> None:
    noon = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
    assert ending(52 * 60, noon) == "about 12:52"
    assert ending(13 * 3600, noon) == "Friday about 01:00"
    assert ending(8 * 86400, noon) == "on 04 December 2026"


SHARES = (
    Share("encoder", "step", 30_000, 0.062),
    Share("blocks", "step", 24_000, 0.045),
    Share("features", "frame", 200_000, 0.0006),
    Share("push-forward", "evaluation", 10, 0.1),
)


def test_a_paragraph_says_what_takes_how_long() -> None:
    estimate = Estimate(SHARES, "cpu (2 threads)", 1_200_000_000, {"camera frames": 640_000_000})
    noon = time.mktime((2026, 11, 26, 12, 0, 0, 0, 0, -1))
    assert estimate.seconds == pytest.approx(1860 + 1080 + 120 + 1)
    assert estimate.dominant == SHARES[0]
    assert not estimate.is_long
    assert estimate.text(noon) == (
        "estimate: about 51 min on cpu (2 threads), done about 12:51: encoder 31 min (30,000 steps "
        "of 62 ms), blocks 18 min (24,000 steps of 45 ms), features 2 min (200,000 frames of "
        "0.6 ms)\n"
        "    memory up to 1.2 GB, disk 640 MB (most of it camera frames)"
    )
    assert json.loads(json.dumps(estimate.to_dict()))["shares"][0]["seconds"] == 1860


def test_nothing_left_is_no_time() -> None:
    estimate = Estimate((), "cpu")
    assert estimate.seconds == 0 and estimate.dominant is None and not estimate.is_long
    assert estimate.text(0).startswith("estimate: about 0 ms")


# -- advice ---------------------------------------------------------------------------------------

CAMERAS = {"front": (240, 320, 3), "wrist": (240, 320, 3), "arm": (7,)}
CONFIG = config_from_dict(
    {
        "encoder": {"name": "cameras", "image": {"resize": []}},
        "training": {"encoder": "joint", "encoder_steps": 30_000, "total_steps": 24_000},
        "flow": {"n_blocks": 2, "step_sizes": [0.01]},
        "sampler": {"nfe": 4},
    },
    "test",
)


def test_large_frames_are_to_be_resized() -> None:
    shares = (Share("encoder", "step", 30_000, 39.0), Share("blocks", "step", 24_000, 0.05))
    sentences = advise(Estimate(shares, "cpu (2 threads)"), CONFIG, CAMERAS)
    assert sentences[0] == (
        "long: 39 s a step, 100% of the time is encoder, which sees 2 cameras of 240 x 320 pixels"
    )
    each = 39.0 * (96 * 128) / (240 * 320)
    assert f"encoder.image.resize=[96,128] makes it about {duration(each)} a step" in sentences[1]
    assert any(sentence.startswith("  training.encoder_steps=7500 ") for sentence in sentences)


@pytest.mark.parametrize(
    ("image", "cameras", "shapes", "expected"),
    [
        (
            {"resize": "auto", "crop": [0.9, 0.9]},
            {},
            CAMERAS,
            "resize=[84,63] encoder.image.crop=[0.9,0.9] makes",
        ),
        # Other proportions, and cameras that are small enough, stay what they are.
        (
            {"resize": []},
            {},
            {"front": (480, 640, 3), "wrist": (96, 96, 3)},
            "'encoder.cameras={front: {resize: [96, 128]}}' makes it about",
        ),
        (
            {"resize": []},
            {"wrist": {"resize": [200, 200], "crop": [0.8, 0.8]}},
            CAMERAS,
            "'encoder.cameras={front: {resize: [96, 128]}, "
            "wrist: {resize: [128, 128], crop: [0.9, 0.9]}}' makes it about",
        ),
    ],
)
def test_what_is_proposed_can_be_pasted_and_is_small_enough(
    image: dict[str, Any],
    cameras: dict[str, Any],
    shapes: dict[str, tuple[int, ...]],
    expected: str,
) -> None:
    shapes = {"front": (320, 240, 3)} if image.get("crop") else shapes
    encoder = {"name": "cameras", "image": image, "cameras": cameras}
    config = changed_config(CONFIG, [f"encoder={json.dumps(encoder)}"])
    estimate = Estimate((Share("encoder", "step", 30_000, 39.0),), "cpu (2 threads)")
    sentence = advise(estimate, config, shapes)[1]
    assert expected in sentence
    overrides = shlex.split(sentence.partition(" makes it")[0])
    smaller = changed_config(config, overrides)
    for key, shape in shapes.items():
        if len(shape) == 3:
            height, width, channels = shape
            assert max(smaller.encoder.frame_size(key, (height, width, channels))) <= 128


def test_long_students_get_fewer_steps() -> None:
    shares = (
        Share("teacher's samples", "evaluation", 100, 6),
        Share("student", "step", 72_000, 0.2),
    )
    estimate = Estimate(shares, "cpu (1 thread)")
    first, second, *_ = advise(estimate, CONFIG, {"arm": (7,)})
    assert first == "long: 96% of the time is student"
    # A quarter is the least that is proposed: 600 s and 18,000 steps of 0.2 s.
    assert second == (
        "  distill.training.total_steps=18000 makes it 1 h 10 min in all; more steps may do better"
    )


def test_a_recording_is_named_where_the_teacher_takes_long() -> None:
    estimate = Estimate((Share("teacher's samples", "evaluation", 100, 100),), "cpu (1 thread)")
    names = Names(asked_about="3 windows and 900 of distill.recording")
    first, second = advise(estimate, CONFIG, {"arm": (7,)}, names)
    assert first.endswith("is teacher's samples, about 3 windows and 900 of distill.recording")
    # An hour of 10,000 s is 36% of the samples.
    samples = int(CONFIG.distill.samples * 0.36)
    assert second.startswith(f"  distill.samples={samples} makes it ")


def test_short_trainings_get_no_advice() -> None:
    assert advise(Estimate(SHARES, "cpu (2 threads)"), CONFIG, CAMERAS) == []


@pytest.mark.parametrize(
    ("frame", "smaller"),
    [
        ((240, 320), (96, 128)),
        ((480, 270), (128, 72)),
        ((96, 96), (96, 96)),
        ((2000, 10), (128, 1)),
    ],
)
def test_frames_keep_their_proportions(frame: tuple[int, int], smaller: tuple[int, int]) -> None:
    assert small_enough(frame, 128) == smaller
