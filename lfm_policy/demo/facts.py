"""The last section of the page: command, data, versions, seeds and the time it all took."""

from __future__ import annotations

import html
import os
import platform
from collections.abc import Sequence
from importlib import metadata

from lfm_policy.demo.results import DemoResults

PACKAGES = ("torch", "numpy", "gymnasium", "gym-pusht", "pymunk")


def made_of(results: DemoResults) -> str:
    """Return HTML that says what one needs to make the page again."""
    command = f"<pre><code>{html.escape(results.command)}</code></pre>\n" if results.command else ""
    seconds = {k: v for k, v in results.seconds.items() if k != "draw the page"}
    stages = [(name, f"{value:.0f}") for name, value in seconds.items()]
    # A stage cannot be timed on a page that it makes.
    stages.append(("all together, but for drawing this page", f"{sum(seconds.values()):.0f}"))
    return "\n".join(
        [
            f'{command}<div class="columns">',
            _table(("stage", "wall-clock seconds"), stages, "stages"),
            _table(("what", "this time"), _facts(results), "facts"),
            "</div>",
        ]
    )


def _facts(results: DemoResults) -> list[tuple[str, str]]:
    teacher, data = results.policies[0], results.data
    evaluation, training = teacher.evaluation.report, teacher.header.training
    episodes = teacher.evaluation.cell.episodes
    versions = [f"lfm-policy {evaluation['versions']['lfm-policy']}"]
    versions += [f"{name} {_version(name)}" for name in PACKAGES]
    versions.append(f"Python {platform.python_version()}")
    threads = training["threads"]
    rollouts = evaluation["config"]
    return [
        (
            "demonstrations",
            f"{html.escape(data.name)}: {data.n_episodes} episodes, {data.n_steps:,} steps, "
            f"{training['train_windows']:,} training windows",
        ),
        ("their SHA-256", f"<code>{teacher.header.spec.fingerprint}</code>"),
        ("training seed", f"{teacher.header.config.seed}"),
        (
            "evaluation",
            f"{rollouts['env_id']}, seeds {episodes[0].seed} to {episodes[-1].seed}, noise seed "
            f"{rollouts['noise_seed']}, averaged weights",
        ),
        (
            "checkpoints",
            "; ".join(
                f"{policy.title.lower()}: <code>{policy.header.sha256[:12]}</code>"
                for policy in results.policies
            ),
        ),
        ("versions", ", ".join(versions)),
        (
            "machine",
            f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}; training on "
            f"{training['device']} with {threads} thread{'s' * (threads != 1)}",
        ),
    ]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(not installed)"


def _table(headers: tuple[str, str], rows: Sequence[tuple[str, str]], name: str) -> str:
    head = "".join(f'<th scope="col">{header}</th>' for header in headers)
    body = "".join(
        f'<tr><th scope="row">{name}</th><td>{value}</td></tr>\n' for name, value in rows
    )
    return f'<table class="{name}"><thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody></table>'
