"""From a file of another framework to a checkpoint of ours, in one call."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from lfm_policy.errors import InputError
from lfm_policy.importing.checkpoint import renamed, write_policy
from lfm_policy.importing.description import Found, refuse_ignored
from lfm_policy.importing.frameworks import read_foreign
from lfm_policy.importing.lerobot.hub import downloaded
from lfm_policy.lerobot.read import FRAMEWORK, is_lfm, read_lfm, renamed_lfm, write_lfm
from lfm_runtime.disk.files import exists


def import_policy(
    path: str | Path,
    output: str | Path,
    *,
    framework: str = "",
    rename: Mapping[str, str] | None = None,
    solver: str = "",
    nfe: int = 0,
    ignored: Collection[str] = (),
    env: str = "",
) -> Found:
    """Write a policy of another framework as a checkpoint that `load_policy` takes.

    It is a diffusion policy of `FRAMEWORKS`, or one of ours that `export_lerobot` or LeRobot wrote.

    Args:
        path: a folder or file, or a LeRobot policy ``user/name`` on the Hugging Face hub.
        output: the folder to write; it must not exist.
        framework: of `FRAMEWORKS`; recognised if empty.
        rename: new names of observations, by the old ones.
        solver: the solver that the policy has afterwards; as its file says if empty.
        nfe: evaluations of it; as its file says if 0.
        env: gymnasium id of the environment that it is evaluated in, or ``module:Name-v0``.
        ignored: options of its configuration that are not known and change nothing.

    Returns:
        What was found.

    Raises:
        InputError: it cannot be imported; the message says what was found and what is supported.
    """
    folder = Path(output)
    if exists(folder):
        raise InputError(f"{folder}: exists already; choose another folder or remove it")
    source = downloaded(path)
    if framework in ("", "lerobot") and is_lfm(source):
        refuse_ignored(Path(path), ignored)
        return _import_lfm(source, folder, rename or {}, solver=solver, nfe=nfe, env=env)
    found = read_foreign(source, framework, ignored=ignored)
    if found.refused and not (solver and nfe):
        raise InputError(found.refused)
    changes = {"solver": solver, "nfe": nfe}
    sampler = found.sampler | {key: value for key, value in changes.items() if value}
    found = renamed(replace(found, sampler=sampler), rename or {})
    write_policy(found, folder, env)
    return found.found


def _import_lfm(
    source: Path, folder: Path, rename: Mapping[str, str], *, solver: str, nfe: int, env: str
) -> Found:
    """Write a policy of type ``lfm`` as a checkpoint."""
    read = renamed_lfm(read_lfm(source), rename)
    sampler = read.config.sampler.changed(solver=solver or None, nfe=nfe or None)
    known = replace(read.config.env, id=env) if env else read.config.env
    config = replace(read.config, sampler=sampler, env=known)
    write_lfm(replace(read, config=config), folder)
    policy, method = config.policy, config.flow.method.create()
    return Found(
        kind="policy",
        framework=FRAMEWORK,
        facts={},
        shapes=dict(read.spec.obs_shapes),
        action_dim=read.spec.action_dim,
        sampler={"solver": sampler.solver or method.default_solver, "nfe": sampler.nfe},
        steps={
            "n_obs_steps": policy.n_obs_steps,
            "horizon": policy.horizon,
            "n_action_steps": policy.n_action_steps,
        },
    )
