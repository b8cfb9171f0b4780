"""The demo from its first to its last stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from lfm_policy.config import ExperimentConfig
from lfm_policy.demo.evaluations import KeptEvaluation, evaluate_once
from lfm_policy.demo.flow_states import FlowState, flow_states
from lfm_policy.demo.options import (
    SEED_START,
    STUDENT_METHOD,
    STUDENTS,
    demo_config,
    rollout_config,
    student_groups,
    student_overrides,
)
from lfm_policy.demo.page import demo_page
from lfm_policy.demo.pictures.films import choose_episodes, film
from lfm_policy.demo.pictures.flow_film import write_flow_film
from lfm_policy.demo.pictures.scene import Scene, most_open_scene, start_scenes
from lfm_policy.demo.results import DataFacts, DemoResults, PolicyResult
from lfm_policy.demo.stages import Stages
from lfm_policy.device import choose_device
from lfm_policy.distillation import distill
from lfm_policy.environments import environment_errors
from lfm_policy.errors import InputError
from lfm_policy.policy import Policy, chunk_noise, load_policy, read_header
from lfm_policy.training import train
from lfm_policy.training.run_folder.metrics import METRICS_FILE, read_metrics
from lfm_runtime.disk.files import exists, is_file, write_json, write_text

PAGE = "demo.html"
REPORT = "demo.json"
FLOW_FILM = "flow.mp4"
SECONDS = "seconds.json"
TEACHER = "teacher"
EVALUATIONS = "eval"

FLOW_SAMPLES = 64
"""Chunks in the picture of the flow."""
FLOW_SCENES = 16
"""Starts among which the one for that picture is chosen."""


def run_demo(
    output: Path,
    *,
    dataset: Path | None = None,
    overrides: Sequence[str] = (),
    episodes: int = 50,
    device: str = "auto",
    command: str = "",
    resume: bool = False,
    quiet: bool = False,
) -> DemoResults:
    """Train, distil, evaluate and film, and write ``demo.html`` and ``demo.json``.

    Args:
        output: folder of the demo: run folders of the teacher and the students, ``eval/`` with
            their evaluations and videos, and the page.
        dataset: PushT demonstrations; None: the bundled ones.
        overrides: strings ``section.key=value`` on top of the configuration ``pusht/demo``.
        episodes: test episodes per policy.
        device: ``auto``, ``cpu`` or ``cuda``.
        command: what the page calls the command that made it; empty: it names none.
        resume: go on with a demo in ``output``, if there is one; what is done is kept.
        quiet: say nothing.

    Returns:
        What the page shows.

    Raises:
        InputError: bad options or data, a missing simulator, or ``output`` holds something else.
        Interrupted: SIGINT, SIGTERM or SIGHUP came during a training; what was done is kept.
        TrainingError: a loss became NaN.
    """
    config = demo_config(dataset, overrides)
    torch_device = choose_device(device)
    _check_output(output, resume=resume)
    data = _look_at_data(config)
    _check_simulator(config.env.id)

    # Each policy is made and evaluated; then come films and page.
    stages = Stages(output / SECONDS, total=2 * (1 + len(STUDENTS)) + 2, quiet=quiet)
    titles = {TEACHER: "Teacher"}
    with stages.stage("train the teacher"):
        train(config, output / TEACHER, device=device, resume=resume, quiet=quiet)
    for nfe in STUDENTS:
        name, evaluations = f"student-nfe{nfe}", f"{nfe} evaluation{'s' * (nfe != 1)}"
        titles[name] = f"Student, {evaluations}"
        with stages.stage(f"distil to {evaluations}"):
            distill(
                output / TEACHER,
                output / name,
                nfe=nfe,
                groups=student_groups(config, nfe),
                method=STUDENT_METHOD,
                overrides=student_overrides(config, nfe),
                device=device,
                resume=resume,
                quiet=quiet,
            )

    policies = {name: load_policy(output / name, device=torch_device) for name in titles}
    rollouts = rollout_config(config)
    kept: dict[str, KeptEvaluation] = {}
    # One thread, as `lfm-policy eval`: for networks of this size more are not faster.
    torch.set_num_threads(1)
    for name, policy in policies.items():
        with stages.stage(f"evaluate: {titles[name].lower()}"):
            folder = output / EVALUATIONS / name
            kept[name] = evaluate_once(policy, rollouts, episodes, folder, quiet=quiet)
    with stages.stage("film"):
        chosen = choose_episodes([evaluation.cell.episodes for evaluation in kept.values()])
        films = {
            name: film(policy, rollouts, kept[name], chosen) for name, policy in policies.items()
        }
    with stages.stage("draw the page"):
        scene, flows = _flows(policies, config, episodes)
        results = [
            PolicyResult(
                name=name,
                title=title,
                header=read_header(output / name),
                evaluation=kept[name],
                metrics=read_metrics(output / name / METRICS_FILE),
                flow=flows[name],
                films=films[name],
            )
            for name, title in titles.items()
        ]
        write_flow_film(output / FLOW_FILM, results, scene)
        demo = DemoResults(
            data=data,
            policies=results,
            scene=scene,
            flow_film=output / FLOW_FILM,
            chosen=chosen,
            command=command,
            seconds=stages.seconds,
        )
        write_text(output / PAGE, demo_page(demo))
        write_json(output / REPORT, demo.to_dict())
    return demo


def _flows(
    policies: Mapping[str, Policy], config: ExperimentConfig, episodes: int
) -> tuple[Scene, dict[str, list[FlowState]]]:
    """Return a scene and each policy's chunks in it, from the same noise."""
    teacher = policies[TEACHER]
    shape = teacher.model.chunk_shape
    noise = torch.stack([chunk_noise(0, k, 0, shape) for k in range(FLOW_SAMPLES)])
    seeds = [SEED_START + episode for episode in range(min(episodes, FLOW_SCENES))]
    scene = most_open_scene(teacher, start_scenes(teacher, config.env.id, seeds), noise)
    return scene, {name: flow_states(policy, scene.obs, noise) for name, policy in policies.items()}


def _check_output(output: Path, *, resume: bool) -> None:
    """Check that a folder is free, or holds a demo to go on with.

    Raises:
        InputError: it is not, or is not to be continued.
    """
    if is_file(output):
        raise InputError(f"{output}: is a file, expected a folder or nothing")
    holds_demo = exists(output / TEACHER)
    if holds_demo and not resume:
        raise InputError(
            f"{output}: there is a demo already; continue it with --resume, or choose another "
            "folder with --output"
        )
    if not holds_demo and exists(output) and any(output.iterdir()):
        raise InputError(
            f"{output}: exists already and holds no demo; choose another folder with --output"
        )


def _look_at_data(config: ExperimentConfig) -> DataFacts:
    """Read the demonstrations once, so that what is wrong with them is said at once.

    Raises:
        InputError: they cannot be used.
    """
    buffer = config.dataset.load()
    return DataFacts(
        name=Path(buffer.source).name,
        n_episodes=buffer.n_episodes,
        n_steps=int(buffer.episode_ends[-1]),
    )


def _check_simulator(env_id: str) -> None:
    """Check that rollouts will be possible, before minutes are spent on a training.

    Raises:
        InputError: the simulator is missing or does not fit.
    """
    import lfm_envs

    with environment_errors(env_id):
        lfm_envs.make_vector_env(env_id, 1).close()
