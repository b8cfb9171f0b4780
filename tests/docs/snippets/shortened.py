"""Makes everything that a snippet does take seconds: few steps, narrow networks, short episodes.

What a page says is checked as it stands, by parsers and configurations; only what would be done
then is made less.
"""

from __future__ import annotations

import functools
import multiprocessing
from collections.abc import Callable
from typing import Any

EPISODES = 2
DEMOS = 12
TICKS = 20
STEPS = 20
ROWS = 4096
WIDTH = 32
MOST = {"width": WIDTH, "n_layers": 1, "embed_dim": WIDTH}


def fewer(steps: int) -> int:
    """Return fewer steps: more for more of them, so that a run can still be continued."""
    return steps if steps <= 200 else max(STEPS, steps // 1000)


def shortened(config: Any, *, network: bool) -> Any:
    """Return a configuration with less to do; with a narrow network, if that may be."""
    from lfm_policy.assets import bundled_demonstrations
    from lfm_policy.config.load import changed_config, override_texts

    training = config.training
    changes: dict[str, Any] = {
        "training.total_steps": fewer(training.total_steps),
        "training.encoder_steps": min(training.encoder_steps, 4),
        "training.batch_size": min(training.batch_size, 16),
        "training.encoder_batch_size": min(training.encoder_batch_size, 4),
        "training.encoder_views": min(training.encoder_views, 1),
        "training.parallel_processes": min(training.parallel_processes, 2),
        "eval.every": fewer(config.eval.every),
        "eval.episodes": min(config.eval.episodes, EPISODES),
        "distill.samples": 1,
        # Methods that learn on the way need a multiple of `trajectory_points`, 8.
        "distill.teacher_steps": min(config.distill.teacher_steps, 8),
    }
    if getattr(config.dataset, "path", "") == str(bundled_demonstrations()):
        changes["dataset.max_episodes"] = min(config.dataset.max_episodes or DEMOS, DEMOS)
    if training.warmup_steps is not None:
        changes["training.warmup_steps"] = min(training.warmup_steps, 2)
    student = config.distill.training
    for name in ("total_steps", "encoder_steps"):
        if name in student:
            changes[f"distill.training.{name}"] = fewer(student[name])
    if network and not config.block_networks:
        for name, most in MOST.items():
            if hasattr(config.network, name):
                changes[f"network.{name}"] = min(getattr(config.network, name), most)
        if channels := getattr(config.network, "channels", None):
            changes["network.channels"] = [min(WIDTH, n) for n in channels]
    return changed_config(config, override_texts(changes))


def replace(module: Any, name: str, make: Callable[[Callable[..., Any]], Any]) -> None:
    """Put another function in the place of one."""
    before = getattr(module, name)
    setattr(module, name, functools.wraps(before)(make(before)))


def shorten_everything() -> None:
    """Shorten training, distillation, rollouts, control and collecting in this process.

    Before anything else of the package is imported: what takes a function from a module by its name
    must find the short one there.
    """
    # What starts processes that import everything anew forks them instead: here are no threads.
    get_context = multiprocessing.get_context
    replace(multiprocessing, "get_context", lambda before: lambda method=None: get_context("fork"))

    import lfm_policy.flow.fitting

    def few_steps(before: Callable[..., Any]) -> Callable[..., Any]:
        def fit(chain: Any, x: Any, cond: Any = None, *, steps: int, **others: Any) -> Any:
            some = None if cond is None else cond[:ROWS]
            return before(chain, x[:ROWS], some, steps=fewer(steps), **others)

        return fit

    replace(lfm_policy.flow.fitting, "fit", few_steps)

    import lfm_policy.training

    def train(before: Callable[..., Any]) -> Callable[..., Any]:
        def train(config: Any, folder: Any, **others: Any) -> Any:
            whole = others.get("init_from") is None and not config.init.source
            return before(shortened(config, network=whole), folder, **others)

        return train

    replace(lfm_policy.training, "train", train)

    import lfm_policy.distillation.student

    def student_config(before: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given, **named: shortened(before(*given, **named), network=False)

    replace(lfm_policy.distillation.student, "student_config", student_config)

    import lfm_policy.evaluation.episodes

    def short_rollouts(before: Callable[..., Any]) -> Callable[..., Any]:
        def create(self: Any, *given: Any, **named: Any) -> None:
            before(self, *given, **named)
            object.__setattr__(self, "max_episode_steps", min(self.max_episode_steps, TICKS))

        return create

    replace(lfm_policy.evaluation.episodes.RolloutConfig, "__init__", short_rollouts)

    import lfm_policy.api.evaluation

    def few_episodes(before: Callable[..., Any]) -> Callable[..., Any]:
        def evaluate(*given: Any, episodes: int = EPISODES, **named: Any) -> Any:
            return before(*given, episodes=min(episodes, EPISODES), **named)

        return evaluate

    replace(lfm_policy.api.evaluation, "evaluate", few_episodes)

    from lfm_runtime.control.loop import ControlLoop

    def few_ticks(before: Callable[..., Any]) -> Callable[..., Any]:
        return lambda self, max_ticks=None: before(self, min(max_ticks or TICKS, TICKS))

    replace(ControlLoop, "run", few_ticks)

    import lfm_policy.demo.pictures.flow_film

    lfm_policy.demo.pictures.flow_film.FLOW_FRAMES = 2
    lfm_policy.demo.pictures.flow_film.ACTION_FRAMES = 2

    import lfm_policy.cli.main

    def few_of_everything(before: Callable[..., Any]) -> Callable[..., Any]:
        def build_parser() -> Any:
            parser = before()
            parse = parser.parse_known_args

            def parse_less(*given: Any, **named: Any) -> Any:
                parsed, extra = parse(*given, **named)
                for name, most in (("episodes", EPISODES), ("video", 1), ("samples", 2)):
                    if isinstance(value := getattr(parsed, name, None), int):
                        setattr(parsed, name, min(value, most))
                if filmed := getattr(parsed, "video_episodes", None):
                    parsed.video_episodes = [episode % EPISODES for episode in filmed]
                return parsed, extra

            parser.parse_known_args = parse_less
            return parser

        return build_parser

    replace(lfm_policy.cli.main, "build_parser", few_of_everything)
