"""The model card of a checkpoint: ``README.md``, as the Hugging Face hub reads it.

Everything that it says is read from the checkpoint, from the reports of what was measured of it,
and from what its owner says of it; what nobody recorded is said to be so. The same facts give the
same text. What the card says stands in card.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import resources

from lfm_policy.config import ExperimentConfig, SamplerConfig, config_to_dict
from lfm_policy.data.normalizer import Normalizer
from lfm_policy.plugins import needed_plugins
from lfm_policy.policy.checkpoint import CheckpointHeader, read_normalizer
from lfm_policy.sharing.front_matter import (
    CardOptions,
    evaluations_of,
    front_matter,
    hub_dataset,
)
from lfm_policy.sharing.meanings import ACTION, NOT_RECORDED, dataset_path, meanings, rate
from lfm_policy.sharing.reports import Measured, OpenLoopError, Rollouts
from lfm_policy.text.numbers import counted, duration
from lfm_policy.text.samplers import numbers
from lfm_policy.text.students import (
    DISTANCE,
    RECORDING_STANDS_IN,
    TEACHER_IMPORTED,
    distance_in_words,
)
from lfm_runtime.policy.spec import TASK_KEY, is_image

_LISTED_DIMS = 8
_EXPORTED_WITH = {"ddpm": "--solver ddim --nfe 10 ", "dopri5": "--solver heun --nfe 16 "}
"""What a graph needs in place of solvers that draw noise or choose their steps."""

_BASELINES = {
    "repeat": "repeating the last action",
    "mean": "the mean chunk of all demonstrations",
    "zero": "no action at all (zeros)",
}


def model_card(header: CheckpointHeader, measured: Measured, options: CardOptions) -> str:
    """Return the text of ``README.md``.

    Raises:
        InputError: the normaliser of the checkpoint is damaged.
    """
    from jinja2 import Environment, StrictUndefined

    config = header.config
    normalizer = read_normalizer(header)
    environment = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = resources.files("lfm_policy.sharing").joinpath("card.md").read_text("utf-8")
    text = environment.from_string(template).render(
        metadata=front_matter(header, measured, options),
        title=options.name.partition("@")[0].rpartition("/")[2],
        name=options.name,
        repo=options.name.partition("@")[0],
        description=options.description.strip(),
        about=_about(header),
        complete=header.complete,
        steps=f"{header.training['steps']:,}",
        version=header.package_version or NOT_RECORDED,
        plugins=list(needed_plugins(config_to_dict(config))),
        env=config.env.id,
        call=_call(header),
        action=f"({header.spec.action_dim},) {header.spec.dtype(ACTION)}",
        tasks=list(header.spec.tasks),
        export_options=_EXPORTED_WITH.get(_solver(config), ""),
        exports=list(options.exports),
        rows=_rows(header, normalizer),
        asked=_asked(config),
        data=_data(header, options.data_note),
        rollouts=[_rollout_row(cell) for cell in measured.rollouts],
        seeds_note=_seeds_note(measured.rollouts),
        open_loop=[_open_loop(error) for error in measured.open_loop],
        latency=_latency(measured.rollouts),
        limits=_limits(header, measured),
        training=_training(header),
        licence=options.license
        or "None is given here, so none is granted: ask who published it before you use it.",
    )
    return text.rstrip() + "\n"


# -- what it is -------------------------------------------------------------------------------


def _about(header: CheckpointHeader) -> str:
    config, counts = header.config, dict(header.training["parameters"])
    policy, sampler, n_blocks = config.policy, config.sampler, config.flow.n_blocks
    blocks = f"{n_blocks} blocks take" if n_blocks > 1 else "one block takes"
    solver = _solver(config)
    evaluations = (
        "as many network evaluations as its adaptive solver (dopri5) takes"
        if solver == "dopri5"
        else f"{_spent(sampler)} ({solver})"
    )
    others = "".join(f", with {said}" for said in numbers(sampler, noise=""))
    total = counts.pop("total", sum(counts.values()))
    parts = ", ".join(f"{part} {count:,}" for part, count in counts.items() if count)
    method = config.flow.method.name
    rules = {"diffusion": "denoising diffusion", "regression": "regression"}
    rule = rules.get(method, "conditional Local Flow Matching")
    trainer = header.imported or "lfm-policy"
    sentences = [
        f"A robot policy that predicts chunks of actions, trained with {trainer} by {rule}: "
        f"{blocks} noise (standard deviation {sampler.noise_scale:g}) to "
        f"a chunk of {policy.horizon} actions in {evaluations}{others}.",
        f"The network of every block is `{config.network.name}`, the encoder of observations "
        f"`{config.encoder.name}`; {total:,} parameters ({parts}).",
    ]
    if method != "velocity":
        sentences.append(f"Its blocks were trained by the method `{method}`.")
    if config.distill.method:
        sentences.append(
            f"It is a student, distilled by the method `{config.distill.method}` from a teacher of "
            f"{counted(config.distill.teacher_blocks, 'block')} (checkpoint "
            f"`{config.distill.teacher[:12]}`"
            + (f", trained with {by})." if (by := header.training.get(TEACHER_IMPORTED)) else ").")
        )
        if DISTANCE in header.training:
            told = distance_in_words(header.training)
            sentences.append(f"{told[0].upper()}{told[1:]}.")
        if header.only_teacher_saw:
            sentences.append(
                f"That teacher also saw {_quoted(header.only_teacher_saw)}, which this policy "
                "does not see: **its results used recorded or simulated state beyond its own "
                "observations**, in training only."
            )
    elif config.init.gives_blocks:
        sentences.append(
            "It was fine-tuned: its training began with the weights of the checkpoint "
            f"`{config.init.source[:12]}`."
        )
    elif config.init.source:
        sentences.append(
            "Its encoder began with the weights of the checkpoint "
            f"`{config.init.source[:12]}`, its blocks are new."
        )
    return " ".join(sentences)


def _solver(config: ExperimentConfig) -> str:
    return config.sampler.solver or config.flow.method.create().default_solver


def _spent(sampler: SamplerConfig) -> str:
    text = counted(sampler.nfe, "network evaluation")
    if sampler.block_nfe:
        text += f", {_listed(sampler.block_nfe)} in its blocks from the data to the noise"
    return text


def _quoted(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _listed(numbers: Sequence[int]) -> str:
    *others, last = map(str, numbers)
    return f"{', '.join(others)} and {last}" if others else last


def _asked(config: ExperimentConfig) -> str:
    policy, hz = config.policy, rate(config)
    text = (
        f"It remembers {counted(policy.n_obs_steps, 'observation')}, predicts {policy.horizon} "
        f"actions, and executes {policy.n_action_steps} of them before it looks again"
    )
    if hz:
        text += (
            f": at the {hz:g} steps per second of its demonstrations that is every "
            f"{policy.n_action_steps / hz:.3g} s"
        )
    else:
        text += ". The rate of its demonstrations was not recorded: run it at the same"
    clipped = "are clipped" if policy.clip_actions else "are not clipped"
    return f"{text}. Actions {clipped} to the range in training."


def _call(header: CheckpointHeader) -> str:
    """Return the argument of `select_action`, in the style of formatters."""
    spec = header.spec.untold()
    lines = [
        f'        "{key}": {_identifier(key)},  # {tuple(shape)} {spec.numbers(key)}\n'
        for key, shape in spec.obs_shapes.items()
    ]
    return f"\n    {{\n{''.join(lines)}    }}\n" if lines else "{}"


def _identifier(key: str) -> str:
    name = "".join(c if c.isalnum() or c == "_" else "_" for c in key)
    return name if name.isidentifier() else f"obs_{name}"


def _rows(header: CheckpointHeader, normalizer: Normalizer) -> list[dict[str, str]]:
    spec = header.spec
    shapes = {**spec.obs_shapes, ACTION: (spec.action_dim,)}
    known = meanings(header.config, {key: math.prod(shape) for key, shape in shapes.items()})
    rows = []
    for key, shape in shapes.items():
        camera = key != ACTION and is_image(shape)
        values = "0 to 255" if camera else _range(normalizer, key)
        if key in spec.depth:
            values = spec.numbers(key)
            meaning = "camera of distances, in the units of the demonstrations; 0: none"
        elif key == TASK_KEY and spec.tasks:
            meaning = f"which task, one-hot: {', '.join(spec.tasks)}"
        elif camera:
            meaning = {1: "camera, grey", 3: "camera, RGB", 4: "camera, 4 channels"}[shape[2]]
        else:
            meaning = known.get(key, f"unit {NOT_RECORDED}")
        rows.append(
            {
                "name": f"`{_cell(key)}`" if key != ACTION else "**action**",
                "shape": str(tuple(shape)),
                "dtype": "any" if key in spec.depth else spec.dtype(key),
                "range": values,
                "meaning": _cell(meaning),
            }
        )
    return rows


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _range(normalizer: Normalizer, key: str) -> str:
    low = normalizer[key].raw("min").flatten().tolist()
    high = normalizer[key].raw("max").flatten().tolist()
    pairs = list(zip(low, high, strict=True))
    if len(pairs) > _LISTED_DIMS:
        return f"{min(low):.4g} to {max(high):.4g} (over all numbers)"
    return "; ".join(f"{a:.4g} to {b:.4g}" for a, b in pairs)


def _data(header: CheckpointHeader, note: str) -> str:
    config, training = header.config, header.training
    path = dataset_path(config)
    hub = hub_dataset(config)
    if header.imported:
        said = [f"- of its training with {header.imported}: nothing is recorded"]
        return "\n".join([*said, *([f"- {note}"] if note else [])])
    # The last part only: where it lay on somebody's disk is nobody's business.
    where = f": `{path.name}`" if path is not None else ""
    if hub:
        where = f": [{hub}](https://huggingface.co/datasets/{hub})"
    lines = [f"- format `{config.dataset.name}`{where}"]
    stands_in = training.get(RECORDING_STANDS_IN, False)
    if stands_in:
        lines.append(
            "- no demonstrations: these are observations of a robot, about which its teacher was "
            "asked; what was done then was not learned"
        )
    if note:
        lines.append(f"- {note}")
    windows, episodes = training.get("train_windows"), training.get("train_episodes")
    if windows is not None:
        of = f" of {counted(episodes, 'episode')}" if episodes is not None else ""
        lines.append(f"- trained on {windows:,} windows{of}")
    kept = training.get("validation_episodes")
    if kept is None and config.dataset.validation_ratio:
        kept = f"{config.dataset.validation_ratio * 100:.3g}% of all episodes"
    if kept:
        lines.append(
            f"- kept for validation: {kept if isinstance(kept, str) else counted(kept, 'episode')}"
        )
    hz = rate(config)
    lines.append(f"- rate: {f'{hz:g} steps per second' if hz else NOT_RECORDED}")
    cameras = [f"`{k}` {h} x {w}" for k, (h, w, *_) in _images(header).items()]
    lines.append(f"- cameras: {', '.join(cameras) or 'none'}")
    if header.spec.fingerprint:
        whose = "recording" if stands_in else "demonstrations"
        lines.append(f"- SHA-256 of the {whose}: `{header.spec.fingerprint}`")
    if config.distill.recording:
        lines.append(
            "- as a student it was also asked about observations recorded with "
            "`lfm-policy control --record`"
        )
    return "\n".join(lines)


def _images(header: CheckpointHeader) -> dict[str, tuple[int, ...]]:
    return {key: shape for key, shape in header.spec.obs_shapes.items() if is_image(shape)}


# -- how good it is ---------------------------------------------------------------------------


def _rollout_row(cell: Rollouts) -> dict[str, str]:
    success = "not reported by the environment"
    if cell.successes is not None and cell.success_interval is not None:
        low, high = cell.success_interval
        success = (
            f"{cell.successes}/{cell.n} = {cell.successes / cell.n:.3f} ({low:.3f} to {high:.3f})"
        )
    low, high = cell.score_interval
    return {
        "env": cell.env,
        "episodes": f"{cell.n:,} (seeds {cell.seed_start} to {cell.last_seed})",
        "evaluations": evaluations_of(cell),
        "success": success,
        "score": f"{cell.score:.3f} ({low:.3f} to {high:.3f})",
    }


def _seeds_note(rollouts: Sequence[Rollouts]) -> str:
    seeds = sorted({cell.noise_seed for cell in rollouts})
    return f"Seed of the policy's noise: {', '.join(map(str, seeds))}."


def _open_loop(error: OpenLoopError) -> str:
    low, high = error.interval
    episodes = "held-out" if error.kind == "held-out" else f"{error.kind} (not held-out)"
    return (
        f"Error of the executed actions on {counted(error.episodes, 'episode')} "
        f"({episodes}), in normalised units: {error.error:.3g} ({low:.3g} to {high:.3g}, 95%); "
        f"{_BASELINES.get(error.baseline, error.baseline)} has {error.baseline_error:.3g}"
    )


def _latency(rollouts: Sequence[Rollouts]) -> list[str]:
    lines = []
    for cell in rollouts:
        time = cell.latency
        lines.append(
            f"{counted(round(cell.nfe), 'evaluation')} ({cell.sampler.solver}): median "
            f"{time['median_ms']:.2f} ms, 95% below {time['p95_ms']:.2f} ms "
            f"({counted(time['threads'], 'thread')}, {time['device']}, PyTorch)"
        )
    return list(dict.fromkeys(lines))


def _limits(header: CheckpointHeader, measured: Measured) -> list[str]:
    cameras, config = _images(header), header.config
    envs = sorted({cell.env for cell in measured.rollouts})
    same = "this robot, these units and this rate"
    if cameras:
        same += (
            f", and {'these cameras' if len(cameras) > 1 else 'this camera'} where "
            f"{'they were' if len(cameras) > 1 else 'it was'}, in such light"
        )
    lines = [
        f"**Anything but what it was shown**: {same}. Outside the ranges above nobody knows what "
        "it does, and it does not notice.",
        "**People, obstacles, other tasks**: it knows of none that its demonstrations did not "
        "show. It has no limits of joints, forces or speeds of its own"
        + (
            " besides the range of actions in training"
            if config.policy.clip_actions
            else ", and its actions are not clipped"
        )
        + ": run it behind limits and an emergency stop.",
    ]
    if envs:
        lines.append(
            f"**A robot without trying it first**: it was evaluated in simulation only "
            f"({', '.join(envs)}); nothing is recorded of any hardware."
        )
    else:
        lines.append(
            "**Use without supervision**: no rollout of it is recorded, neither in simulation nor "
            "on hardware."
        )
    return lines


def _training(header: CheckpointHeader) -> list[str]:
    training, config = header.training, header.config
    seconds = training["train_seconds"] + training["push_seconds"]
    device = training.get("device", NOT_RECORDED)
    made = f"{training['steps']:,} gradient steps in {duration(seconds)} on `{device}`" + (
        f" (torch {training['torch']})" if "torch" in training else ""
    )
    if header.imported:
        made = f"trained with {header.imported}, imported with `lfm-policy import`"
    lines = [
        f"configuration `{config.name}`, seed {config.seed}: all options are in config.json",
        made,
        f"written by lfm-policy {header.package_version or NOT_RECORDED}",
        f"SHA-256 of the checkpoint: `{header.sha256}`",
    ]
    if header.also_trained_on:
        names = ", ".join(f"`{name}`" for name in header.also_trained_on)
        whose = "its encoder or its teacher's" if config.distill.method else "its encoder"
        lines.insert(1, f"{whose} was also trained on: {names}, which it does not see")
    return lines
