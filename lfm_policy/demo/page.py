"""The page of a demo: one HTML file that needs nothing from anywhere else."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib import metadata, resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from lfm_policy.demo.pictures.charts import loss_figure, results_figure, score_interval
from lfm_policy.demo.pictures.flow_figure import flow_figure
from lfm_policy.demo.pictures.themed import data_address, themed_picture
from lfm_policy.demo.results import DemoResults, PolicyResult
from lfm_policy.evaluation import mcnemar_exact, successes_of
from lfm_policy.pictures import DARK, LIGHT
from lfm_policy.policy.model import ou_schedule
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
        "listed": _listed,
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
        tests=[_test(student, policies[0]) for student in policies[1:]],
        score_intervals=["{:.3f} to {:.3f}".format(*score_interval(one)) for one in policies],
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


def _achieved(policy: PolicyResult) -> str:
    """Say what the chart of the results shows of a policy, for those who cannot see it."""
    cell = policy.evaluation.cell
    summary = cell.summary()
    rate = summary["success_rate"]
    return (
        f"{policy.title}: success {'not reported' if rate is None else f'{rate:.0%}'}, score "
        f"{summary['score']:.3f}, {cell.latency['median_ms']:.2f} ms per chunk"
    )


def _test(student: PolicyResult, teacher: PolicyResult) -> str:
    """Say how many episodes a student won and lost against its teacher."""
    first, second = (successes_of(one.evaluation.cell.episodes) for one in (student, teacher))
    if first is None or second is None:
        return f"{_evaluations(student)}: success is not reported"
    won = sum(a and not b for a, b in zip(first, second, strict=True))
    lost = sum(b and not a for a, b in zip(first, second, strict=True))
    p = mcnemar_exact(first, second)
    return f"{_evaluations(student)}: {won} won, {lost} lost, p = {p:.2f}"


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
