"""The page of a demo: one HTML file that needs nothing from anywhere else."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata, resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from PIL import Image

from lfm_policy.demo.pictures.charts import loss_figure, results_figure, score_interval
from lfm_policy.demo.pictures.flow_figure import flow_figure
from lfm_policy.demo.pictures.themed import data_address, themed_picture
from lfm_policy.demo.results import DemoResults, PolicyResult
from lfm_policy.evaluation import compare_paired, successes_of
from lfm_policy.evaluation.episodes import describe_outcome
from lfm_policy.pictures import DARK, LIGHT
from lfm_policy.policy.model import ou_schedule
from lfm_policy.text.numbers import percent, rounded
from lfm_policy.version import __version__

PACKAGES = ("torch", "numpy", "gymnasium", "gym-pusht", "pymunk")
MEDIA_TYPES = {".mp4": "video/mp4", ".png": "image/png"}


def demo_page(results: DemoResults) -> str:
    """Return the page as HTML: pictures, videos, style and script are all inside.

    What it says stands in page.html.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "data_address": _file_address,
        "evaluations": _evaluations,
        "height": _height,
        "listed": _listed,
        "outcome": describe_outcome,
        "percent": percent,
        "share": _share,
        "solved": _solved,
        "times": _times,
    }
    policies = results.policies
    sizes = ou_schedule(policies[0].header.config.flow).step_sizes
    versions = [("lfm-policy", policies[0].evaluation.report["versions"]["lfm-policy"])]
    versions += [(name, _version(name)) for name in PACKAGES]
    versions.append(("Python", platform.python_version()))
    return environment.from_string(_resource("page.html")).render(
        results=results,
        version=__version__,
        style=_resource("page.css"),
        script=_resource("page.js"),
        results_picture=themed_picture(lambda theme: results_figure(policies, theme)),
        results_alt="; ".join(map(_achieved, policies)),
        comparisons=[comparison(student, policies[0]) for student in policies[1:]],
        score_intervals=[" to ".join(map(_share, score_interval(one))) for one in policies],
        flow_picture=themed_picture(
            lambda theme: flow_figure(policies, results.scene, theme), raster=True
        ),
        loss_picture=themed_picture(lambda theme: loss_figure(policies, theme)),
        light=LIGHT,
        dark=DARK,
        step_sizes=[f"{size:g}" for size in sizes],
        stages={k: v for k, v in results.seconds.items() if k != "draw the page"},
        versions=[f"{name} {version}" for name, version in versions],
        machine=f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}",
    )


def _resource(name: str) -> str:
    return resources.files("lfm_policy.demo").joinpath(name).read_text(encoding="utf-8")


def _file_address(path: Path) -> str:
    return data_address(MEDIA_TYPES[path.suffix], path.read_bytes())


def _height(video: Path, width: int) -> int:
    """Return the height of a film of this width, in pixels of CSS."""
    with Image.open(video.with_suffix(".png")) as picture:
        return round(width * picture.height / picture.width)


def _share(value: float) -> str:
    """Return a score, or a rate, or an end of an interval; 0 and 1 are said of nothing less."""
    return rounded(value, 3, limits=(0.0, 1.0))


def _achieved(policy: PolicyResult) -> str:
    """Say what the chart of the results shows of a policy, for those who cannot see it."""
    cell = policy.evaluation.cell
    summary = cell.summary()
    rate = summary["success_rate"]
    return (
        f"{policy.title}: success {'not reported' if rate is None else percent(rate)}, score "
        f"{_share(summary['score'])}, {cell.latency['median_ms']:.2f} ms per chunk"
    )


def comparison(student: PolicyResult, teacher: PolicyResult) -> str:
    """Say in words what the successes of a student and its teacher tell, and what they do not."""
    cells = [one.evaluation.cell for one in (student, teacher)]
    first, second = (successes_of(cell.episodes) for cell in cells)
    if first is None or second is None:
        return f"Of the student with {_evaluations(student)} success is not reported."
    n, counts = len(first), compare_paired(first, second)
    more = sum(first) - sum(second)
    than = {1: "more than", 0: "as many as", -1: "fewer than"}[(more > 0) - (more < 0)]
    words = (
        f"The student with {_evaluations(student)} solves {sum(first)} of the {n} starts, "
        f"{f'{abs(more)} ' if more else ''}{than} its teacher"
    )
    p = rounded(counts.p_value, 2, limits=(0.0, 0.05, 1.0))
    paired = (
        f"start by start, {counts.only_first} were solved by the student alone and "
        f"{counts.only_second} by the teacher alone (McNemar's exact test: p\u00a0=\u00a0{p})"
    )
    if counts.only_first == counts.only_second == 0:
        return f"{words}, and the very same ones."
    if counts.p_value < 0.05:
        return f"{words}: {paired}. Chance alone seldom makes such a difference."
    own, others = (cell.summary()["success_interval"] for cell in cells)
    overlap = own[0] <= others[1] and others[0] <= own[1]
    intervals = " and ".join(f"{percent(low)} to {percent(high)}" for low, high in (own, others))
    words += f": {paired}. {'Such a difference' if more else 'That'} is within chance"
    if overlap:
        words += f", and the 95% intervals overlap ({intervals})"
    if more > 0:
        words += (
            ". A student imitates its teacher and has no better source: more episodes would tell "
            "whether it is really ahead"
        )
    return f"{words}."


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


def _listed(parts: Iterable[str]) -> str:
    """Return "a, b and c"."""
    *first, last = list(parts) or [""]
    return " and ".join([", ".join(first), last]) if first else last


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"
