"""Which models the PushT state study makes, and which rows its tables have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pieces import Model, Sampler
from study_tables import (
    Part,
    Row,
    plot_against_blocks,
    plot_against_nfe,
    plot_against_noise,
    plot_against_parameters,
    plot_seconds,
    plot_settings,
)

NOISE = 0.6
"""Scale of the initial noise that students learn, of selection seeds (scripts/pusht_sweep.py)."""

CHOSEN = {
    "lfm-2": Sampler(2, noise_scale=0.4),
    "lfm-1": Sampler(1, noise_scale=0.5),
}
"""Noise at which students did better than at `NOISE` on selection seeds (pusht_noise.py)."""

# Width of each block for (about) 663,008 parameters in all, FM's number, and for parts of it.
WIDTHS = {1: 192, 2: 136, 3: 108, 4: 92, 8: 60}
SMALL_WIDTHS = {50: 92, 25: 64, 12: 44}
STEP_SIZES = {
    2: "[0.01]",
    3: "[0.01,0.1]",
    4: "[0.01,0.03,0.1]",
    8: "[0.01,0.015,0.0225,0.034,0.05,0.076,0.114]",
}
STUDENT = (
    f"sampler.noise_scale={NOISE}",
    "training.total_steps=24000",
    "distill.samples=16",
    "distill.inputs=corrected",
    "distill.tail_weight=0.1",
    "training.obs_noise=0.05",
)
MANY = 1000
"""Test episodes where few leave a question open."""

LONG = 72_000
"""Gradient steps of students that are trained three times as long as their teacher."""

# What brings students near their teacher: asked as well about what it sees at work, displaced only
# as observations can be, with larger steps. A student learns the teacher's best sampler.
TEACHER_SAMPLER = Sampler(16, noise_scale=NOISE)
SEEN = (
    f"sampler.noise_scale={NOISE}",
    f"training.total_steps={LONG}",
    "training.learning_rate=0.003",
    "training.obs_noise=0.05",
    "training.obs_noise_covariance=data",
    "distill.samples=8",
    "distill.inputs=corrected",
    "distill.tail_weight=0.1",
    "distill.teacher_solver=euler",
)
SEEN_EPISODES = 300
MORE_EPISODES = 900
"""What students of the first table learn from: a teacher without dropout is sharper."""
# Euler steps of each block, for 15 of the 16 evaluations of LFM with three blocks, and 16 of FM.
SEEN_STEPS = {
    "lfm3": "distill.teacher_steps=5",
    "n3-large": "distill.teacher_steps=5",
    "fm": "distill.teacher_steps=16",
}


def _unet(channels: str) -> tuple[str, ...]:
    return ("network.name=unet1d", f"network.channels={channels}", "training.total_steps=7500")


UNET = _unet("[48,96]")
"""A network of about the MLP's parameters that takes three times as long to train."""
UNET_WIDE = _unet("[88,184]")
"""As many parameters as three of those."""
UNET_SAMPLER = Sampler(6, noise_scale=NOISE)
"""Of LFM's U-Nets: as good as 16 evaluations on selection seeds."""

# 16 evaluations of every block of LFM, 32 of FM's one, for a sample.
TEACHER_STEPS = {
    "lfm": "distill.teacher_steps=8",
    "fm": "distill.teacher_steps=16",
    "n3-large": "distill.teacher_steps=8",
}
FAMILIES = ("lfm", "fm")
# Gradient steps for the cost of 24,000 of regression, counted in passes through networks: 3 for a
# step forward and back; progressive and consistency look through the network 2 and 1 times more,
# and distribution trains two networks and looks through a third.
METHODS = {
    "regression": (),
    "progressive": ("training.total_steps=15600",),
    "consistency": ("training.total_steps=18000",),
    "distribution": ("training.total_steps=10300", "sampler.noise_scale=1.0"),
}
# The student at the noise has the most to learn.
SHARES = {2: ("training.block_shares=[0.35,0.65]",)}


def _lfm(n_blocks: int, width: int) -> Model:
    return Model(
        (
            f"flow.n_blocks={n_blocks}",
            f"flow.step_sizes={STEP_SIZES[n_blocks]}",
            f"network.width={width}",
        )
    )


def _distilled(teacher: str, k: int, *overrides: str, **how: Any) -> Model:
    options = (*STUDENT, TEACHER_STEPS[teacher], *SHARES.get(k, ()), *overrides)
    return Model(options, teacher=teacher, nfe=k, **how)


def _seen(teacher: str, k: int, episodes: int = SEEN_EPISODES) -> Model:
    """A student that is also asked about what its teacher sees at work."""
    return Model(
        (*SEEN, SEEN_STEPS[teacher]),
        teacher=teacher,
        nfe=k,
        groups=(2, 1) if k == 2 and teacher != "fm" else (),
        recorded=episodes,
        recorded_with=TEACHER_SAMPLER,
    )


MODELS: dict[str, Model] = {
    "fm": Model(),
    "fm-wide": Model(("network.width=272",)),
    "fm-wider": Model(("network.width=336",)),
    "regression": Model(config="pusht/regression"),
    "mip": Model(config="pusht/mip"),
    "lfm": Model(config="pusht/lfm"),
    **{f"{teacher}-{k}": _distilled(teacher, k) for teacher in FAMILIES for k in (4, 2, 1)},
    "n3-large-2": _distilled("n3-large", 2, groups=(1, 2)),
    "n3-large-1": _distilled("n3-large", 1),
    # As the students above, three times as long.
    **{
        f"{teacher}-{k}-long": _distilled(teacher, k, f"training.total_steps={LONG}")
        for teacher in FAMILIES
        for k in (2, 1)
    },
    **{f"{teacher}-{k}-seen": _seen(teacher, k) for teacher in SEEN_STEPS for k in (2, 1)},
    **{
        f"{teacher}-{k}-more": _seen(teacher, k, MORE_EPISODES)
        for teacher in ("lfm3", "fm")
        for k in (2, 1)
    },
    # As the students above, with the observation noise of their teachers.
    **{
        f"{teacher}-{k}-obs02": _distilled(teacher, k, "training.obs_noise=0.02")
        for teacher in FAMILIES
        for k in (2, 1)
    },
    **{
        f"lfm-2-{method}": _distilled("lfm", 2, "distill.inputs=teacher", *overrides, method=method)
        for method, overrides in METHODS.items()
    },
    **{f"n{n}": _lfm(n, WIDTHS[n]) for n in STEP_SIZES},
    # The best teacher has no dropout; "n3-large" has that of all others.
    "lfm3": Model(config="pusht/lfm3"),
    "n3-large": Model(("network.dropout=0.1",), config="pusht/lfm3"),
    "lfm3-unet": Model(config="pusht/lfm3_unet"),
    "fm-unet": Model(UNET),
    "fm-unet-wide": Model(UNET_WIDE),
    # Students as their teacher's configuration says, which are MLPs.
    **{
        f"lfm3-unet-{k}": Model(
            teacher="lfm3-unet",
            nfe=k,
            groups=(2, 1) if k == 2 else (),
            recorded=MORE_EPISODES,
            recorded_with=UNET_SAMPLER,
        )
        for k in (2, 1)
    },
    "fm-dropout-0": Model(("network.dropout=0.0",)),
    "fm-wider-dropout-0": Model(("network.width=336", "network.dropout=0.0")),
    **{f"n{n}-large": _lfm(n, WIDTHS[1]) for n in STEP_SIZES if n > 3},
    **{f"lfm-{p}%": _lfm(2, width) for p, width in SMALL_WIDTHS.items()},
}


def _euler(*nfes: int, noise_scale: float | None = None) -> tuple[Sampler, ...]:
    return tuple(Sampler(nfe, noise_scale=noise_scale) for nfe in nfes)


def _student(nfe: int) -> Sampler:
    return Sampler(nfe, noise_scale=NOISE)


def _many(sampler: Sampler) -> Sampler:
    return replace(sampler, episodes=MANY)


def _recorded(family: str, k: int, what: str = "") -> tuple[str, Sampler]:
    """Return a student with its sampler; `what` is "seen" or "more" where a teacher has both."""
    return "-".join(part for part in (family, str(k), what) if part), _student(k)


def _many_of_students(label: str, family: str, what: str = "") -> tuple[Row, ...]:
    students = (_recorded(family, k, what) for k in (2, 1))
    return tuple(Row(label, model, (_many(sampler),)) for model, sampler in students)


def _method_sampler(method: str) -> Sampler:
    return Sampler(2, noise_scale=1.0 if method == "distribution" else NOISE)


LFM_FINE = Sampler(64, "midpoint", NOISE)
FM_FINE = Sampler(32, "midpoint", NOISE)


# Label, model with dropout 0.1, model without.
_DROPOUT = (
    ("LFM N = 3", "n3-large", "lfm3"),
    ("FM", "fm", "fm-dropout-0"),
    ("FM, 2.0 M", "fm-wider", "fm-wider-dropout-0"),
)


def _students_part(name: str, nfes: tuple[int, ...], length: str = "") -> Part:
    """Students of both families beside their teachers; those of 2 and 1 tested against them."""
    suffix, label = (f"-{length}", f", {length}") if length else ("", "")
    teachers = (("lfm", LFM_FINE), ("fm", FM_FINE))
    rows = []
    for family, fine in teachers:
        rows.append(Row(f"{family.upper()} teacher", family, (fine,)))
        for k in nfes:
            student = f"{family}-{k}{suffix}"
            rows.append(Row(f"{family.upper()} to {k}{label}", student, (_student(k),)))
    compare = (
        *(
            ((f"{family}-{k}{suffix}", _student(k)), (family, fine))
            for family, fine in teachers
            for k in (2, 1)
        ),
        *(((f"lfm-{k}{suffix}", _student(k)), (f"fm-{k}{suffix}", _student(k))) for k in nfes),
    )
    return Part(name, tuple(rows), plot_against_nfe, compare)


PARTS: dict[str, Part] = {
    part.name: part
    for part in (
        Part(
            "few-steps",
            (
                Row("LFM teacher", "lfm3", (TEACHER_SAMPLER, LFM_FINE)),
                Row("LFM teacher", "lfm3", _euler(3, 6, 9, noise_scale=NOISE)),
                *(Row("LFM students", f"lfm3-{k}-more", (_student(k),)) for k in (2, 1)),
                Row("FM", "fm", _euler(1, 2, 4, 8, 16, noise_scale=1.0)),
                Row("FM, less noise", "fm", (TEACHER_SAMPLER, FM_FINE)),
                *(Row("FM students", f"fm-{k}-more", (_student(k),)) for k in (2, 1)),
                Row(
                    "FM, 1.3 M",
                    "fm-wide",
                    (*_euler(1, 2, 4, 8, 16, noise_scale=1.0), FM_FINE),
                ),
                Row("FM, LFM's parameters", "fm-wider", _euler(1, 2, 4, 8, 16, noise_scale=1.0)),
                Row("FM, LFM's parameters, less noise", "fm-wider", (TEACHER_SAMPLER, FM_FINE)),
                Row("LFM teacher, N = 2", "lfm", (LFM_FINE, *_euler(2, 16, noise_scale=NOISE))),
                Row("two-step regression (MIP)", "mip", (Sampler(2),)),
                Row("regression", "regression", (Sampler(1),)),
            ),
            plot_against_nfe,
            (
                *((_recorded("lfm3", k, "more"), ("lfm3", TEACHER_SAMPLER)) for k in (2, 1)),
                *((_recorded("fm", k, "more"), ("fm", TEACHER_SAMPLER)) for k in (2, 1)),
                *((_recorded("lfm3", k, "more"), _recorded("fm", k, "more")) for k in (2, 1)),
                *(
                    (_recorded("lfm3", k, "more"), (model, TEACHER_SAMPLER))
                    for k in (2, 1)
                    for model in ("fm", "fm-wider")
                ),
                *(
                    (_recorded("lfm3", k, "more"), ("fm", Sampler(k, noise_scale=1.0)))
                    for k in (2, 1)
                ),
                (_recorded("lfm3", 2, "more"), ("mip", Sampler(2))),
                (_recorded("lfm3", 1, "more"), ("regression", Sampler(1))),
                *(
                    (("lfm3", TEACHER_SAMPLER), other)
                    for other in (
                        ("fm", TEACHER_SAMPLER),
                        ("fm-wide", FM_FINE),
                        ("fm-wider", TEACHER_SAMPLER),
                        ("fm-wider", FM_FINE),
                        ("lfm", LFM_FINE),
                    )
                ),
            ),
        ),
        Part(
            # 200 episodes of three seeds leave differences of 0.05 in success to chance.
            "thousand",
            (
                Row("LFM teacher", "lfm3", (_many(TEACHER_SAMPLER),)),
                *_many_of_students("LFM students", "lfm3", "more"),
                Row("LFM teacher, dropout 0.1", "n3-large", (_many(TEACHER_SAMPLER),)),
                *_many_of_students("LFM students, dropout 0.1", "n3-large", "seen"),
                Row("FM, less noise", "fm", (_many(TEACHER_SAMPLER),)),
                *_many_of_students("FM students", "fm", "more"),
                *_many_of_students(f"FM students, {SEEN_EPISODES} recorded", "fm", "seen"),
                Row("FM, LFM's parameters, less noise", "fm-wider", (_many(TEACHER_SAMPLER),)),
                Row("LFM teacher, U-Nets", "lfm3-unet", (_many(UNET_SAMPLER),)),
                *_many_of_students("LFM students, U-Nets", "lfm3-unet"),
            ),
            plot_against_nfe,
            tuple(
                ((first, _many(sampler)), (second, _many(other)))
                for first, sampler, second, other in (
                    ("lfm3-2-more", _student(2), "lfm3", TEACHER_SAMPLER),
                    ("lfm3-1-more", _student(1), "lfm3", TEACHER_SAMPLER),
                    ("fm-2-more", _student(2), "fm", TEACHER_SAMPLER),
                    ("fm-1-more", _student(1), "fm", TEACHER_SAMPLER),
                    ("fm-2-more", _student(2), "fm-2-seen", _student(2)),
                    ("fm-1-more", _student(1), "fm-1-seen", _student(1)),
                    ("lfm3-2-more", _student(2), "fm-2-more", _student(2)),
                    ("lfm3-1-more", _student(1), "fm-1-more", _student(1)),
                    ("lfm3-1-more", _student(1), "fm-wider", TEACHER_SAMPLER),
                    ("lfm3", TEACHER_SAMPLER, "fm", TEACHER_SAMPLER),
                    ("lfm3", TEACHER_SAMPLER, "fm-wider", TEACHER_SAMPLER),
                    ("lfm3", TEACHER_SAMPLER, "n3-large", TEACHER_SAMPLER),
                    ("lfm3-2-more", _student(2), "n3-large-2-seen", _student(2)),
                    ("lfm3-1-more", _student(1), "n3-large-1-seen", _student(1)),
                    ("lfm3-unet", UNET_SAMPLER, "lfm3", TEACHER_SAMPLER),
                    ("lfm3-unet-2", _student(2), "lfm3-unet", UNET_SAMPLER),
                    ("lfm3-unet-1", _student(1), "lfm3-unet", UNET_SAMPLER),
                    ("lfm3-unet-2", _student(2), "lfm3-2-more", _student(2)),
                    ("lfm3-unet-1", _student(1), "lfm3-1-more", _student(1)),
                )
            ),
        ),
        Part(
            # The best that the study has; students as their teacher's configuration says.
            "unet",
            (
                Row("LFM teacher", "lfm3-unet", _euler(3, 6, 16, noise_scale=NOISE)),
                Row("LFM students", "lfm3-unet-2", (_student(2),)),
                Row("LFM students", "lfm3-unet-1", (_student(1),)),
                Row("FM", "fm-unet", _euler(3, 6, 16, noise_scale=NOISE)),
                Row("FM, LFM's parameters", "fm-unet-wide", _euler(3, 6, 16, noise_scale=NOISE)),
                Row("LFM teacher, MLPs", "lfm3", _euler(3, 6, 16, noise_scale=NOISE)),
                *(Row("LFM students, MLPs", f"lfm3-{k}-more", (_student(k),)) for k in (2, 1)),
                Row("FM, MLP", "fm", (TEACHER_SAMPLER,)),
            ),
            plot_against_nfe,
            (
                *((_recorded("lfm3-unet", k), ("lfm3-unet", UNET_SAMPLER)) for k in (2, 1)),
                *((_recorded("lfm3-unet", k), _recorded("lfm3", k, "more")) for k in (2, 1)),
                *(
                    (_recorded("lfm3-unet", k), (fm, TEACHER_SAMPLER))
                    for fm in ("fm-unet", "fm-unet-wide")
                    for k in (2, 1)
                ),
                *(
                    (("lfm3-unet", sampler), (fm, sampler))
                    for fm in ("fm-unet", "fm-unet-wide")
                    for sampler in _euler(3, 6, 16, noise_scale=NOISE)
                ),
                (("lfm3-unet", UNET_SAMPLER), ("lfm3", UNET_SAMPLER)),
            ),
        ),
        Part(
            "blocks",
            (
                Row("N = 1 (FM)", "fm", (*_euler(16, noise_scale=NOISE), FM_FINE)),
                *(
                    Row(f"N = {n}", f"n{n}", (*_euler(16, noise_scale=NOISE), LFM_FINE))
                    for n in STEP_SIZES
                ),
            ),
            plot_against_blocks,
            tuple(((f"n{n}", LFM_FINE), ("fm", FM_FINE)) for n in STEP_SIZES),
        ),
        Part(
            # A gradient step of a block that is as large as FM takes as long as one of FM.
            "blocks-seconds",
            (
                Row("N = 1 (FM)", "fm", (*_euler(16, noise_scale=NOISE), FM_FINE)),
                Row("N = 2", "lfm", (*_euler(16, noise_scale=NOISE), LFM_FINE)),
                *(
                    Row(f"N = {n}", f"n{n}-large", (*_euler(16, noise_scale=NOISE), LFM_FINE))
                    for n in STEP_SIZES
                    if n > 2
                ),
            ),
            plot_against_blocks,
            (
                (("lfm", LFM_FINE), ("fm", FM_FINE)),
                *(((f"n{n}-large", LFM_FINE), ("fm", FM_FINE)) for n in STEP_SIZES if n > 2),
            ),
        ),
        Part(
            # Every model of the study, so that its last row says what the study takes.
            "wall-clock",
            (
                Row("FM", "fm", (FM_FINE,)),
                Row("FM, 1.3 M", "fm-wide", (FM_FINE,)),
                Row("FM, 2.0 M", "fm-wider", (TEACHER_SAMPLER,)),
                Row("LFM N = 2", "lfm", (LFM_FINE,)),
                Row("LFM N = 3, no dropout", "lfm3", (TEACHER_SAMPLER,)),
                Row("LFM N = 3", "n3-large", (TEACHER_SAMPLER,)),
                *(
                    Row(f"{label} to {k}, more", f"{family}-{k}-more", (_student(k),))
                    for label, family in (("LFM N = 3", "lfm3"), ("FM", "fm"))
                    for k in (2, 1)
                ),
                *(
                    Row(f"{label} to {k}", f"{family}-{k}", (_student(k),))
                    for label, family in (("LFM N = 2", "lfm"), ("FM", "fm"))
                    for k in (4, 2, 1)
                ),
                *(Row(f"LFM N = {n}, FM's parameters", f"n{n}", (LFM_FINE,)) for n in STEP_SIZES),
                *(Row(f"LFM N = {n}", f"n{n}-large", (LFM_FINE,)) for n in STEP_SIZES if n > 3),
                *(Row(f"LFM N = 2, {p}%", f"lfm-{p}%", (_student(16),)) for p in SMALL_WIDTHS),
                Row("two-step regression (MIP)", "mip", (Sampler(2),)),
                Row("regression", "regression", (Sampler(1),)),
            ),
            plot_seconds,
            seconds=True,
        ),
        Part(
            "parameters",
            (
                Row("FM, 100%", "fm", (*_euler(16, noise_scale=NOISE),)),
                Row("LFM N = 2, 100%", "n2", _euler(16, noise_scale=NOISE)),
                *(
                    Row(f"LFM N = 2, {p}%", f"lfm-{p}%", _euler(16, noise_scale=NOISE))
                    for p in SMALL_WIDTHS
                ),
            ),
            plot_against_parameters,
            tuple(((f"lfm-{p}%", _student(16)), ("fm", _student(16))) for p in SMALL_WIDTHS),
        ),
        _students_part("distilled", (4, 2, 1)),
        _students_part("long", (2, 1), "long"),
        Part(
            "methods",
            tuple(
                Row(
                    f"LFM to 2, {method}",
                    f"lfm-2-{method}",
                    (_method_sampler(method),),
                )
                for method in METHODS
            ),
            plot_against_nfe,
            tuple(
                (
                    (f"lfm-2-{method}", _method_sampler(method)),
                    ("lfm-2-regression", _method_sampler("regression")),
                )
                for method in METHODS
                if method != "regression"
            ),
        ),
        Part(
            "dropout",
            tuple(
                Row(f"{label}, dropout {dropout}", model, (TEACHER_SAMPLER,))
                for label, usual, without in _DROPOUT
                for dropout, model in (("0.1", usual), ("0", without))
            ),
            plot_settings,
            tuple(
                ((first, TEACHER_SAMPLER), (second, TEACHER_SAMPLER))
                for first, second in (
                    *((without, usual) for _, usual, without in _DROPOUT),
                    ("lfm3", "fm-dropout-0"),
                    ("lfm3", "fm-wider-dropout-0"),
                )
            ),
        ),
        Part(
            "noise-test",
            (
                Row("LFM teacher", "lfm", (LFM_FINE,)),
                *(
                    Row(f"LFM to {MODELS[model].nfe}", model, (_student(MODELS[model].nfe), chosen))
                    for model, chosen in CHOSEN.items()
                ),
            ),
            plot_against_noise,
            tuple(((model, chosen), ("lfm", LFM_FINE)) for model, chosen in CHOSEN.items()),
        ),
        Part(
            "students",
            tuple(
                Row(f"{family.upper()} to {k}, observation noise {noise}", model, (_student(k),))
                for family in ("lfm", "fm")
                for k in (2, 1)
                for noise, model in (("0.05", f"{family}-{k}"), ("0.02", f"{family}-{k}-obs02"))
            ),
            plot_against_nfe,
        ),
        Part(
            "seen",
            (
                Row("LFM teacher", "n3-large", (TEACHER_SAMPLER,)),
                *(
                    Row(f"LFM to {k}{what}", f"n3-large-{k}{suffix}", (_student(k),))
                    for k in (2, 1)
                    for what, suffix in (("", ""), (", seen", "-seen"))
                ),
                Row("LFM teacher, no dropout", "lfm3", (TEACHER_SAMPLER,)),
                *(
                    Row(f"LFM, no dropout, to {k}, {what}", f"lfm3-{k}-{what}", (_student(k),))
                    for k in (2, 1)
                    for what in ("seen", "more")
                ),
                Row("FM teacher", "fm", (TEACHER_SAMPLER,)),
                *(
                    Row(f"FM to {k}{what}", f"fm-{k}{suffix}", (_student(k),))
                    for k in (2, 1)
                    for what, suffix in (
                        ("", ""),
                        (", long", "-long"),
                        (", seen", "-seen"),
                        (", more", "-more"),
                    )
                ),
            ),
            plot_settings,
            (
                *(
                    (_recorded("n3-large", k, "seen"), (f"n3-large-{k}", _student(k)))
                    for k in (2, 1)
                ),
                *(
                    (_recorded(family, k, "more"), _recorded(family, k, "seen"))
                    for family in ("lfm3", "fm")
                    for k in (2, 1)
                ),
                *((_recorded("lfm3", k, "seen"), ("lfm3", TEACHER_SAMPLER)) for k in (2, 1)),
                *((_recorded("fm", k, "seen"), (f"fm-{k}-long", _student(k))) for k in (2, 1)),
            ),
        ),
    )
}

STUDY = ("few-steps", "blocks", "blocks-seconds", "wall-clock", "parameters", "distilled")
"""Parts that are measured when none is named; the others answer further questions."""

SEEDS = dict.fromkeys(PARTS, (0, 1, 2)) | {"students": (0,)}
"""Training seeds of each part; what students see in training is a first look."""

# What is made first: a study that is stopped has the most important cells of all seeds.
ORDER: tuple[tuple[str, ...], ...] = (
    ("lfm3", "n3-large", "fm"),
    # Two at a time, of different teachers: students of one teacher wait for one recording.
    ("lfm3-2-more", "fm-2-more"),
    ("lfm3-1-more", "fm-1-more"),
    ("lfm3-unet", "fm-unet", "lfm3-unet-2", "lfm3-unet-1", "fm-unet-wide"),
    ("fm-wider",),
    ("lfm", "lfm-2", "fm-2", "lfm-1", "fm-1"),
    ("n8-large", "n4-large"),
    tuple(f"lfm-2-{method}" for method in METHODS),
    ("mip", "regression", "fm-wide"),
    ("n4", "n3", "n8", "n2", "lfm-25%", "lfm-50%", "lfm-12%", "lfm-4", "fm-4"),
    ("lfm-1-long", "lfm-2-long", "fm-1-long", "fm-2-long"),
    ("fm-dropout-0", "fm-wider-dropout-0"),
    ("lfm3-2-seen", "lfm3-1-seen", "n3-large-2-seen", "n3-large-1-seen"),
    ("fm-2-seen", "fm-1-seen"),
    ("n3-large-2", "n3-large-1"),
    ("lfm-2-obs02", "lfm-1-obs02", "fm-2-obs02", "fm-1-obs02"),
)
