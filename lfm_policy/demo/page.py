"""The page of a demo: one HTML file that needs nothing from anywhere else."""

from __future__ import annotations

import html
from collections.abc import Sequence
from importlib import resources
from string import Template

from lfm_policy.demo.facts import made_of
from lfm_policy.demo.pictures.charts import loss_figure, results_figure, score_interval
from lfm_policy.demo.pictures.flow_figure import flow_figure
from lfm_policy.demo.pictures.theme import DARK, LIGHT, data_address, themed_picture
from lfm_policy.demo.results import DemoResults, PolicyResult
from lfm_policy.evaluation import mcnemar_exact, successes_of
from lfm_policy.version import __version__


def demo_page(results: DemoResults) -> str:
    """Return the page as HTML: pictures, videos, style and script are all inside."""
    return Template(_resource("page.html")).substitute(
        version=__version__,
        style=_resource("page.css"),
        script=_resource("page.js"),
        lead=_lead(results),
        cards="\n".join(_card(policy) for policy in results.policies),
        results_text=_results_text(results),
        table=_table(results),
        table_note=_table_note(results),
        results_figure=themed_picture(
            lambda theme: results_figure(results.policies, theme), alt=_results_alt(results)
        ),
        results_caption=_results_caption(results),
        flow_text=_flow_text(results),
        flow_film=_flow_film(results),
        flow_figure=themed_picture(
            lambda theme: flow_figure(results.policies, results.scene, theme),
            alt="Boards of PushT with action chunks drawn as lines: tangled noise on the left, "
            "ordered paths from the agent around or to the T on the right; one row for each policy",
            raster=True,
        ),
        flow_caption=_flow_caption(results),
        rollouts_text=_rollouts_text(results),
        rollouts="\n".join(_episode(results, k) for k in range(len(results.chosen))),
        training_text=_training_text(results),
        loss_figure=themed_picture(
            lambda theme: loss_figure(results.policies, theme),
            alt="Loss over gradient steps on a logarithmic axis, one panel for each policy, one "
            "curve for each block",
        ),
        loss_caption="Lines: training loss; dots: loss on demonstrations that were held out. The "
        "blocks of one policy are trained one after the other.",
        made=made_of(results),
    )


def _resource(name: str) -> str:
    return resources.files("lfm_policy.demo").joinpath(name).read_text(encoding="utf-8")


# -- results ----------------------------------------------------------------------------------


def _lead(results: DemoResults) -> str:
    config = results.policies[0].header.config
    n_blocks = config.flow.n_blocks
    students = _list([_times(policy) for policy in results.policies[1:]])
    networks = f"{n_blocks} small networks, one after the other," if n_blocks > 1 else "a network"
    return (
        f"From {results.data.n_episodes} demonstrations a policy learned to push a T-shaped "
        "block into its goal zone. It begins with noise and lets it flow, through "
        f"{networks} into the next {config.policy.horizon} actions: Local Flow Matching. The "
        f"teacher evaluates its networks {_times(results.policies[0])} for that; the students "
        f"that were distilled from it do so {students}. Here is how well each of them does from "
        f"{_n(results)} starts that none has seen before, how long a decision takes, and what the "
        "flow looks like."
    )


def _card(policy: PolicyResult) -> str:
    cell = policy.evaluation.cell
    summary = cell.summary()
    rate = "success is not reported"
    if summary["successes"] is not None:
        low, high = summary["success_interval"]
        rate = f"{summary['success_rate']:.0%}, 95% interval {low:.0%} to {high:.0%}"
    return (
        f'<div class="card {policy.name}"><p class="name">{policy.title}</p>'
        f'<p class="big">{_solved(policy)}/{summary["n"]} <small>solved</small></p>'
        f'<p class="rest">{rate}<br>'
        f"{cell.latency['median_ms']:.2f} ms per chunk</p></div>"
    )


def _results_text(results: DemoResults) -> str:
    teacher = results.policies[0]
    slow = teacher.evaluation.cell.latency["median_ms"]
    summary = teacher.evaluation.cell.summary()
    compared = []
    for student in results.policies[1:]:
        cell = student.evaluation.cell
        compared.append(
            f"The student with {_evaluations(student)} solves {_solved(student)} and "
            f"is {slow / cell.latency['median_ms']:.1f} times as fast."
        )
    return (
        f"All policies start from the same {summary['n']} positions, of which the teacher solves "
        f"{_solved(teacher)}. {' '.join(compared)} An episode is solved when the T covers 95% "
        f"of its goal zone within {teacher.header.config.env.max_episode_steps} steps."
    )


def _table(results: DemoResults) -> str:
    headers = (
        "policy",
        "success",
        "95% interval",
        "score",
        "network<br>evaluations",
        "ms per chunk<br>median (p95)",
        "parameters",
        "gradient<br>steps",
        "training,<br>s",
    )
    head = "".join(f'<th scope="col">{header}</th>' for header in headers)
    rows = "\n".join(_row(policy) for policy in results.policies)
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>"


def _row(policy: PolicyResult) -> str:
    cell, training = policy.evaluation.cell, policy.header.training
    summary = cell.summary()
    interval = summary["success_interval"]
    cells = (
        f"{_solved(policy)}/{summary['n']}",
        "-" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}",
        f"{summary['score']:.3f}",
        f"{cell.nfe:g}",
        f"{cell.latency['median_ms']:.2f} <small>({cell.latency['p95_ms']:.2f})</small>",
        f"{training['parameters']['total']:,}",
        f"{training['steps']:,}",
        f"{training['train_seconds']:.0f} <small>+ {training['push_seconds']:.0f}</small>",
    )
    return (
        f'<tr class="{policy.name}"><th scope="row">{policy.title}</th>'
        + "".join(f"<td>{text}</td>" for text in cells)
        + "</tr>"
    )


def _table_note(results: DemoResults) -> str:
    latency = results.policies[0].evaluation.cell.latency
    threads = latency["threads"]
    return (
        f"n = {_n(results)} is a quick look: intervals are wide (Wilson, 95%), and a difference "
        "within them says little. Score: mean over episodes of the largest reward, the share of "
        "the goal zone that the T covers, where 95% count as 1. A chunk is one decision, "
        f"{results.policies[0].header.config.policy.n_action_steps} steps of the robot; "
        f"milliseconds at batch 1, {threads} thread{'s' * (threads != 1)}, {latency['device']}. "
        "After the plus: seconds of push-forward between blocks (teacher) and of the teacher's "
        "samples (students; the last student finds those of the one before)."
    )


def _results_alt(results: DemoResults) -> str:
    parts = []
    for policy in results.policies:
        cell = policy.evaluation.cell
        summary = cell.summary()
        rate = summary["success_rate"]
        parts.append(
            f"{policy.title}: success {'not reported' if rate is None else f'{rate:.0%}'}, score "
            f"{summary['score']:.3f}, {cell.latency['median_ms']:.2f} ms per chunk"
        )
    return "; ".join(parts)


def _results_caption(results: DemoResults) -> str:
    second = successes_of(results.policies[0].evaluation.cell.episodes)
    tests = []
    for student in results.policies[1:]:
        first = successes_of(student.evaluation.cell.episodes)
        if first is None or second is None:
            tests.append(f"{_evaluations(student)}: success is not reported")
            continue
        won = sum(a and not b for a, b in zip(first, second, strict=True))
        lost = sum(b and not a for a, b in zip(first, second, strict=True))
        tests.append(
            f"{_evaluations(student)}: {won} won, {lost} lost, "
            f"p = {mcnemar_exact(first, second):.2f}"
        )
    scores = []
    for policy in results.policies:
        low, high = score_interval(policy)
        scores.append(f"{low:.3f} to {high:.3f}")
    return (
        f"Student against teacher, start by start (McNemar's exact test): {'; '.join(tests)}. "
        f"95% intervals of the scores, by bootstrap: {', '.join(scores)}."
    )


# -- flow -------------------------------------------------------------------------------------


def _flow_text(results: DemoResults) -> str:
    n_samples = len(results.policies[0].flow[0].chunks)
    return (
        f"{n_samples} action chunks for one and the same situation, the start of the episode with "
        f"seed {results.scene.seed}. Each line is one chunk: the positions on the board that the "
        "agent is to head for, one after the other. All three policies begin with the same noise. "
        "The teacher bends it step by step into paths; each student block jumps in one step to "
        "where a whole stretch of the teacher would lead."
    )


def _flow_film(results: DemoResults) -> str:
    video = data_address("video/mp4", results.flow_film.video.read_bytes())
    poster = data_address("image/png", results.flow_film.last_frame.read_bytes())
    return (
        '<article class="films">\n<header><h3>As a film</h3><p>Every policy gets the same time, '
        "however many network evaluations it makes in it.</p></header>\n"
        '<video class="wide" controls loop muted playsinline preload="metadata" '
        f'poster="{poster}" src="{video}" aria-label="Chunks of all policies on their way from '
        'noise to action"></video>\n</article>'
    )


def _flow_caption(results: DemoResults) -> str:
    light, dark = (", ".join(theme.chunk) for theme in (LIGHT, DARK))
    scale = results.policies[0].evaluation.cell.noise_scale
    return (
        f"<style>.key{{background:linear-gradient(90deg,{light})}}"
        f"@media(prefers-color-scheme:dark){{.key{{background:linear-gradient(90deg,{dark})}}}}"
        '</style>Colour: <span class="key"></span> from the first action of a chunk to its last. '
        "The strong line is one chunk, the same in every picture; its dot is the last action. "
        "Round: the agent. Grey: the T. Green: its goal zone. Numbers between pictures count "
        f"network evaluations. The noise has the standard deviation {scale:g} in normalised units."
    )


# -- rollouts ---------------------------------------------------------------------------------


def _rollouts_text(results: DemoResults) -> str:
    return (
        "The same starts side by side; the still picture is the end of each episode. The cross "
        "marks the position that the agent is heading for."
    )


def _episode(results: DemoResults, k: int) -> str:
    chosen = results.chosen[k]
    seed = results.policies[0].evaluation.cell.episodes[chosen.episode].seed
    figures = "\n".join(_video(policy, chosen.episode) for policy in results.policies)
    return (
        f'<article class="films">\n<header><h3>Seed {seed}</h3><p>{chosen.why}</p></header>\n'
        f'<div class="videos">\n{figures}\n</div>\n</article>'
    )


def _video(policy: PolicyResult, episode: int) -> str:
    result = policy.evaluation.cell.episodes[episode]
    film = policy.films[episode]
    video = data_address("video/mp4", film.video.read_bytes())
    poster = data_address("image/png", film.last_frame.read_bytes())
    outcome = {True: "solved", False: "not solved", None: "ended"}[result.success]
    text = f"{outcome} after {result.steps} steps, largest reward {result.max_reward:.2f}"
    return (
        f'<figure class="{policy.name}"><video controls muted playsinline preload="metadata" '
        f'width="256" height="256" poster="{poster}" src="{video}" '
        f'aria-label="{html.escape(f"{policy.title}, seed {result.seed}: {text}")}"></video>'
        f"<figcaption><b>{policy.title}</b>: {text}</figcaption></figure>"
    )


# -- training ---------------------------------------------------------------------------------


def _training_text(results: DemoResults) -> str:
    config = results.policies[0].header.config
    if config.flow.n_blocks == 1:
        how = "The teacher is one block, which flows from noise to action."
    else:
        sizes = _list([f"{size:g}" for size in config.flow.step_sizes]) or "geometric"
        how = (
            "Block 1 of the teacher learns to undo a little diffusion of the demonstrated chunks, "
            f"each further block a little more, the last one all the rest (time steps: {sizes}); "
            "between two blocks all data are pushed forward through the block that is done."
        )
    return (
        f"{how} The loss of a flow has a floor above zero: many velocities lead through one point. "
        f"Students learn, by regression, where {config.distill.samples} samples of the teacher per "
        "observation end. For them each noise has one answer, so their loss falls much further."
    )


# -- words ------------------------------------------------------------------------------------


def _n(results: DemoResults) -> int:
    return len(results.policies[0].evaluation.cell.episodes)


def _solved(policy: PolicyResult) -> str:
    """Return the number of solved episodes, ``-`` where the environment does not report it."""
    successes = policy.evaluation.cell.summary()["successes"]
    return "-" if successes is None else str(successes)


def _evaluations(policy: PolicyResult) -> str:
    nfe = policy.evaluation.cell.nfe
    return f"{nfe:g} network evaluation{'s' * (nfe != 1)}"


def _times(policy: PolicyResult) -> str:
    nfe = policy.evaluation.cell.nfe
    return {1.0: "once", 2.0: "twice"}.get(nfe, f"{nfe:g} times")


def _list(parts: Sequence[str]) -> str:
    """Return "a, b and c"."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
