"""A checkpoint with its model card on the Hugging Face hub.

What is sent is the checkpoint's three files, the card, and exported graphs where they are asked
for: never the state of a training, recordings, or demonstrations.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lfm_policy.checkpoint_folders import CHECKPOINT_FILES
from lfm_policy.errors import InputError
from lfm_policy.policy.checkpoint import (
    CheckpointHeader,
    read_header,
    read_model_state,
    require_sampleable,
)
from lfm_policy.policy.checkpoint_writer import CARD_FILE
from lfm_policy.sharing.card import model_card
from lfm_policy.sharing.front_matter import CardOptions, check_license
from lfm_policy.sharing.hub import HubName, hub_errors, hub_name
from lfm_policy.sharing.meanings import dataset_path
from lfm_policy.sharing.reports import Measured, find_reports, read_reports
from lfm_runtime.disk.files import atomic_folder, write_text
from lfm_runtime.export.file import DESCRIPTION_FILE, GRAPH_FILE, is_export, read_description

EXPORTS = "onnx"


@dataclass(frozen=True)
class PushOptions:
    """What goes to the hub besides the checkpoint.

    Attributes:
        license: as the hub calls it; empty: the card says that none is given.
        description: what the policy does, for the card.
        onnx: exported folders of this very checkpoint.
        reports: files of `eval` and `check` for the card; empty: those beside the checkpoint.
        incomplete: whether a training that is not complete may be pushed.
        card: whether the card is written; without it, the one that is there stays.
    """

    license: str = ""
    description: str = ""
    onnx: Sequence[Path] = field(default=())
    reports: Sequence[Path] = field(default=())
    incomplete: bool = False
    card: bool = True


@dataclass(frozen=True)
class Prepared:
    """A folder that can be uploaded as it is.

    Attributes:
        folder: what is uploaded.
        files: in it, with their bytes, by name.
        notes: what its owner should know before.
    """

    folder: Path
    files: dict[str, int]
    notes: tuple[str, ...]


def prepare_push(
    source: str | Path, repo: str, folder: Path, options: PushOptions | None = None
) -> Prepared:
    """Write the folder that would be uploaded.

    Args:
        source: checkpoint, run folder, or policy of the package.
        repo: ``user/name`` on the hub, which the card names.
        folder: to write; it must not exist.
        options: what goes with it.

    Raises:
        InputError: no checkpoint or a damaged one, a training that is not complete, no name of
            the hub, or an export or a report of another checkpoint.
        FileExistsError: ``folder`` exists.
    """
    options = options or PushOptions()
    name = _target(repo)
    if options.license:
        check_license(options.license)
    header = _checked(source, options)
    exports = {_export_folder(path, header): path for path in options.onnx}
    if len(exports) < len(options.onnx):
        raise InputError("--onnx: two folders have the same name, which they would have there, too")
    insist = bool(options.reports)
    measured = Measured()
    if options.card:
        paths = options.reports or find_reports(source, header)
        measured = read_reports(paths, header, insist=insist)
    with atomic_folder(folder) as temporary:
        for file in CHECKPOINT_FILES:
            shutil.copyfile(header.folder / file, temporary / file)
        for place, path in exports.items():
            (temporary / place).mkdir(parents=True)
            for file in (DESCRIPTION_FILE, GRAPH_FILE):
                shutil.copyfile(path / file, temporary / place / file)
        if options.card:
            card = CardOptions(
                name=name.repo,
                license=options.license,
                description=options.description,
                exports=tuple(exports),
            )
            write_text(temporary / CARD_FILE, model_card(header, measured, card))
    files = {
        path.relative_to(folder).as_posix(): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    return Prepared(folder, files, tuple(_notes(header, measured, options)))


def push_to_hub(
    source: str | Path,
    repo: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    message: str = "",
    options: PushOptions | None = None,
) -> str:
    """Upload a checkpoint with its card; returns the address of the commit.

    The repository is made when it is not there. Exported graphs of an earlier push are removed, so
    that all that is there belongs together.

    Args:
        source: checkpoint, run folder, or policy of the package.
        repo: ``user/name``, or ``user/name@branch`` for a branch that is there.
        private: whether a new repository can only be seen by its owner; None: as the account is
            set.
        token: of the hub; by default that of ``hf auth login`` or ``HF_TOKEN``.
        message: of the commit.
        options: what goes with it.

    Raises:
        InputError: see `prepare_push`; the hub cannot be reached or refuses it; or it is to be
            private, and there is a public one already.
    """
    with TemporaryDirectory() as temporary:
        prepared = prepare_push(source, repo, Path(temporary) / "policy", options)
        return upload(prepared, repo, private=private, token=token, message=message)


def upload(
    prepared: Prepared,
    repo: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    message: str = "",
) -> str:
    """Upload what `prepare_push` wrote; arguments, result and errors as `push_to_hub`."""
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    name, api = _target(repo), HfApi(token=token, library_name="lfm-policy")
    with hub_errors(name):
        api.create_repo(name.repo, private=private, exist_ok=True)
        if private and not api.model_info(name.repo).private:
            raise InputError(
                f"{name.repo} is there already, and public: make it private on the hub, leave "
                "--private out, or choose another name"
            )
        there = api.list_repo_files(name.repo, revision=name.revision)
        old = [f for f in there if f.startswith(f"{EXPORTS}/") and f not in prepared.files]
        # One commit, and not `upload_folder`, which may make several: whoever downloads meanwhile
        # gets files that belong together.
        commit: Any = api.create_commit(
            name.repo,
            [
                *(CommitOperationAdd(f, prepared.folder / f) for f in prepared.files),
                *(CommitOperationDelete(file) for file in old),
            ],
            commit_message=message or "Upload a policy of lfm-policy",
            revision=name.revision,
        )
    return str(commit.commit_url)


def _target(repo: str) -> HubName:
    name = hub_name(repo)
    if name is None:
        raise InputError(
            f"'{repo[:200]}' is no name on the hub: expected user/name, of letters, digits and "
            "-_. alone"
        )
    return name


def _checked(source: str | Path, options: PushOptions) -> CheckpointHeader:
    if is_export(source):
        raise InputError(
            f"{source}: is an exported policy: push the checkpoint that it was made of, and give "
            f"this folder with --onnx {source}"
        )
    header = read_header(source)
    require_sampleable(header)
    if not header.complete and not options.incomplete:
        raise InputError(
            f"{header.folder}: its training is not complete ({header.training['steps']:,} gradient "
            "steps done): finish it with --resume, or push it as it is with --incomplete"
        )
    read_model_state(header)  # what is damaged should be known before others download it
    return header


def _export_folder(path: Path, header: CheckpointHeader) -> str:
    """Return where an exported folder goes in the repository."""
    description = read_description(path)
    if description.checkpoint_sha256 != header.sha256:
        raise InputError(
            f"{path}: was exported from the checkpoint {description.checkpoint_sha256[:12]}..., "
            f"not from {header.folder} ({header.sha256[:12]}...): export it again"
        )
    return f"{EXPORTS}/{path.resolve().name}"


def _notes(header: CheckpointHeader, measured: Measured, options: PushOptions) -> list[str]:
    """Return what the owner should know before others see it."""
    notes = [f"{path} is of another checkpoint and was left out" for path in measured.left_out]
    if options.card and not measured.rollouts and not measured.open_loop:
        notes.append("the card says 'not evaluated': run `lfm-policy eval` or `check` first")
    if options.card and not options.license:
        notes.append("the card says that no licence is given: choose one with --license")
    path = dataset_path(header.config)
    if path is not None and path.is_absolute():
        notes.append(f"config.json says where the demonstrations were: {path}")
    return notes
