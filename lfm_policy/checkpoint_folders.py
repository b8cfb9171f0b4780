"""Where checkpoints are: by themselves, in run folders, with the package, or on the hub.

Light to import.
"""

from __future__ import annotations

from pathlib import Path

from lfm_policy.assets import POLICIES, bundled_policy
from lfm_policy.errors import InputError
from lfm_policy.sharing.hub import SCHEME, download, hub_name
from lfm_runtime.disk.files import exists, is_file
from lfm_runtime.disk.input_files import read_json_object

FORMAT = "lfm-policy"
CONFIG_FILE = "config.json"
MODEL_FILE = "model.safetensors"
NORMALIZER_FILE = "normalizer.safetensors"
CHECKPOINT_FILES = (CONFIG_FILE, MODEL_FILE, NORMALIZER_FILE)
"""All that a policy is loaded from."""
LATEST_FILE = "latest"
CHECKPOINTS = "checkpoints"
RUNS = "runs"
"""Of run folders, unless another one is given: who writes ``runs/x`` does not mean the hub."""


def is_checkpoint(path: Path) -> bool:
    """Whether a path looks like a checkpoint or a run folder."""
    return (path / CONFIG_FILE).exists() or (path / LATEST_FILE).exists()


def is_of_lerobot(folder: Path) -> bool:
    """Whether a folder holds a policy of LeRobot, of whatever type.

    Raises:
        InputError: its ``config.json`` is no JSON object.
    """
    if not exists(folder / CONFIG_FILE):
        return False
    content = read_json_object(folder / CONFIG_FILE)
    marks = {"type", "input_features", "input_shapes"}
    return "format" not in content and not marks.isdisjoint(content)


def run_of_checkpoint(checkpoint: Path) -> Path | None:
    """Return the run folder that a checkpoint folder lies in; None for one by itself."""
    return checkpoint.parent.parent if checkpoint.parent.name == CHECKPOINTS else None


def find_checkpoint(path: str | Path) -> Path:
    """Return the checkpoint folder meant by a path: itself, or the newest one of a run folder.

    Where there is no such path, a name of `lfm_policy.assets.POLICIES` means that policy, and
    ``user/name`` or ``user/name@revision`` one on the Hugging Face hub, which is downloaded (see
    `lfm_policy.sharing.hub`).

    Raises:
        InputError: there is no checkpoint; the message says what was looked for.
    """
    folder = Path(path)
    if exists(folder / CONFIG_FILE):
        return folder
    if name := _newest_checkpoint(folder / LATEST_FILE):
        target = folder / CHECKPOINTS / name
        if exists(target / CONFIG_FILE):
            return target
        raise InputError(
            f"{folder}: '{LATEST_FILE}' names {name!r}, but {folder / CHECKPOINTS} has no folder "
            f"of this name with a '{CONFIG_FILE}': {or_another(folder, name, CONFIG_FILE)}"
        )
    if not exists(folder):
        if str(path) in POLICIES:
            return bundled_policy(str(path))
        missing = (
            f"{str(path)[:1000]}: no such checkpoint or run folder, nor a policy that comes with "
            f"the package ({', '.join(POLICIES)})"
        )
        if (there := hub_name(str(path))) is None:
            raise InputError(missing)
        if there.explicit:
            missing = ""
        elif exists(folder.parent) or str(folder.parent) == RUNS:
            raise InputError(
                f"{missing}. '{folder.parent}' is taken for the folder here, so the hub was not "
                f"asked; for a policy there write {SCHEME}{path}"
            )
        return download(there, CHECKPOINT_FILES, format=FORMAT, otherwise=missing)
    raise InputError(
        f"{folder}: not a checkpoint: expected '{CONFIG_FILE}' in it (or '{LATEST_FILE}', as in a "
        "run folder that has written a checkpoint)"
    )


def or_another(run: Path, name: str, needed: str) -> str:
    """Return what to do where a checkpoint of a run is gone or damaged.

    Args:
        run: the run folder.
        name: of the checkpoint.
        needed: file or folder that another one must hold to stand in for it.
    """
    others = [
        path
        for path in (run / CHECKPOINTS).glob("[!.]*")
        if path.name != name and exists(path / needed)
    ]
    if not others:
        return "bring it back from a copy, or train anew in another folder"
    newest = max(others, key=lambda path: path.stat().st_mtime)
    return f"bring it back from a copy, or write {newest.name} into {run / LATEST_FILE}"


def _newest_checkpoint(pointer: Path) -> str:
    """Return the name in the pointer file of a run; empty if there is none."""
    if not is_file(pointer):
        return ""
    try:
        with pointer.open("rb") as file:
            text = file.read(200).decode("utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"{pointer}: cannot be read: {error}") from None
    # Only the last part of the name is used, so that a pointer cannot lead out of the run.
    name = Path(text.strip()).name
    return "" if name == ".." else name
