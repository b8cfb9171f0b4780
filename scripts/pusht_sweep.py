"""What makes a good teacher on PushT state: one training per setting, on selection seeds only.

Each setting is trained once (seed 0) and evaluated with few and many steps and with several scales
of the initial noise. Can be stopped and started again; what is finished is kept in
docs/results/pusht_sweep.json, and the table in docs/results.md has what is there.

    python scripts/pusht_sweep.py --dataset pusht_cchi_v7_replay.zarr --only n2-g01 n3
    python scripts/pusht_sweep.py --tables-only
"""

from __future__ import annotations

from pieces import (
    SELECTION_SEEDS,
    Model,
    Sampler,
    finish,
    measure,
    open_study,
    parse_study,
    study_options,
)
from study_tables import Part, Row, plot_settings, write_part


def _lfm(step_sizes: str, *overrides: str) -> Model:
    n_blocks = step_sizes.count(",") + 2
    return Model((f"flow.n_blocks={n_blocks}", f"flow.step_sizes={step_sizes}", *overrides))


# FM, the number of blocks, and the first steps of two.
STEPS = {
    "fm": Model(),
    "n2-g10": _lfm("[0.1]"),
    "n2-g03": _lfm("[0.03]"),
    "n2-g01": _lfm("[0.01]"),
    "n2-g003": _lfm("[0.003]"),
    "n3": _lfm("[0.01,0.1]"),
    "n4": _lfm("[0.01,0.03,0.1]"),
    "n2-g03-data": _lfm("[0.03]", "flow.method=data"),
}
# Other steps and other changes against "n3".
THREE_BLOCKS = {
    "n3-g003-g03": _lfm("[0.003,0.03]"),
    "n3-g01-g03": _lfm("[0.01,0.03]"),
    "n3-g01-g30": _lfm("[0.01,0.3]"),
    "n3-g03-g30": _lfm("[0.03,0.3]"),
    "n3-shaped-noise": _lfm(
        "[0.01,0.1]", "training.obs_noise=0.05", "training.obs_noise_covariance=data"
    ),
    "n3-trigonometric": _lfm("[0.01,0.1]", "flow.block_interpolants=[linear,linear,trigonometric]"),
    "n3-shares": _lfm("[0.01,0.1]", "training.block_shares=[0.2,0.3,0.5]"),
    "n3-dropout-0": _lfm("[0.01,0.1]", "network.dropout=0.0"),
    "n3-dropout-0-short": _lfm("[0.01,0.1]", "network.dropout=0.0", "policy.horizon=9"),
}
UNET = ("network.name=unet1d", "network.channels=[48,96]")
# Three times the steps of "unet1d", so three times as long as all others.
UNETS = {
    "n3-unet1d": _lfm("[0.01,0.1]", *UNET, "training.total_steps=7500"),
    "fm-unet1d": Model((*UNET, "training.total_steps=7500")),
}
# One change each against "n2-g01".
TWO_BLOCKS = {
    "trigonometric": _lfm("[0.01]", "flow.block_interpolants=[linear,trigonometric]"),
    "shares": _lfm("[0.01]", "training.block_shares=[0.33,0.67]"),
    "cold-start": _lfm("[0.01]", "training.warm_start=false"),
    "small-noise-block": _lfm("[0.01]", "block_networks=[{width: 224},{width: 152}]"),
    "small-data-block": _lfm("[0.01]", "block_networks=[{width: 152},{width: 224}]"),
    "times-at-data": _lfm(
        "[0.01]", "flow.time.name=beta", "flow.time.alpha=1.0", "flow.time.beta=1.5"
    ),
    "times-at-ends": _lfm(
        "[0.01]", "flow.time.name=beta", "flow.time.alpha=0.7", "flow.time.beta=0.7"
    ),
    "independent": _lfm("[0.01]", "flow.coupling=independent"),
    "parallel": _lfm("[0.01]", "training.block_training=parallel"),
    "long-average": _lfm("[0.01]", "training.ema_decay=0.9999"),
    "dropout-0": _lfm("[0.01]", "network.dropout=0.0"),
    "dropout-02": _lfm("[0.01]", "network.dropout=0.2"),
    "no-weight-decay": _lfm("[0.01]", "training.weight_decay=0.0"),
    "one-frame": _lfm("[0.01]", "policy.n_obs_steps=1", "policy.horizon=15"),
    "three-frames": _lfm("[0.01]", "policy.n_obs_steps=3", "policy.horizon=17"),
    "short-chunk": _lfm("[0.01]", "policy.horizon=9"),
    # As many steps as take them as long as the others' 24,000: they make 3.7 and 6.5 per second
    # where the MLP makes 62.
    "transformer": _lfm(
        "[0.01]",
        "network.name=transformer",
        "network.width=92",
        "network.dropout=0.1",
        "training.total_steps=1400",
    ),
    "unet1d": _lfm("[0.01]", *UNET, "training.total_steps=2500"),
}
SETTINGS: dict[str, Model] = {**STEPS, **THREE_BLOCKS, **UNETS, **TWO_BLOCKS}
NOISE_SCALES = (1.0, 0.7, 0.5)
WHOLE = ("fm", "n2-g03", "n2-g01", "n2-g03-data")
"""Settings that are evaluated with every sampler; the others with two."""

FEW = Sampler(16, noise_scale=0.5)
FINE = Sampler(64, "midpoint", 0.5)


def samplers_of(name: str, model: Model) -> tuple[Sampler, ...]:
    """Return how a setting is evaluated: few steps and many, scales of noise."""
    if name not in WHOLE:
        return (FEW, FINE)
    many = 32 if not model.overrides else 64
    return tuple(
        sampler
        for scale in NOISE_SCALES
        for sampler in (
            Sampler(4, noise_scale=scale),
            Sampler(16, noise_scale=scale),
            Sampler(many, "midpoint", scale),
        )
    )


SWEEP = Part(
    "sweep",
    tuple(Row(name, name, samplers_of(name, model)) for name, model in SETTINGS.items()),
    plot_settings,
    tuple(
        ((name, sampler), (base, sampler))
        for base, settings in (
            ("n2-g01", ("n2-g10", "n2-g03", "n2-g003", "n3", "n4", *TWO_BLOCKS)),
            ("n3", (*THREE_BLOCKS, *UNETS)),
            ("n3-unet1d", ("n3-dropout-0", "fm-unet1d")),  # the U-Net has no dropout
        )
        for name in settings
        for sampler in (FEW, FINE)
    ),
)


def main() -> None:
    parser = study_options(__doc__, output="runs/sweep")
    parser.add_argument("--only", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    parser.add_argument("--episodes", type=int, default=200)
    arguments = parse_study(parser)
    study = open_study(
        SETTINGS,
        arguments,
        "pusht_sweep.json",
        episodes=arguments.episodes,
        seed_start=SELECTION_SEEDS,
    )
    wanted = [(row.model, 0, row.samplers) for row in SWEEP.rows if row.model in arguments.only]
    failures = measure(study, wanted, arguments)
    write_part(SWEEP, study, arguments.results, seeds=(0,))
    finish(failures)


if __name__ == "__main__":
    main()
