"""LeRobot policies on the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lfm_policy.errors import InputError
from lfm_policy.importing.lerobot.policy import CONFIG, MODEL, TYPE
from lfm_policy.importing.lerobot.scaling import POSTPROCESSOR, PREPROCESSOR
from lfm_policy.lerobot.fields import TYPE as LFM
from lfm_policy.sharing.hub import HubName, hub_errors, hub_name, kept_file
from lfm_runtime.disk.files import exists
from lfm_runtime.disk.input_files import read_json_object


def downloaded(path: str | Path) -> Path:
    """Return a path as it is, or the folder of a policy that was downloaded from the hub.

    Raises:
        InputError: there is neither such a path nor such a policy, or the hub is not reached.
    """
    if exists(Path(path)):
        return Path(path)
    name = hub_name(str(path))
    if name is None:
        raise InputError(f"{str(path)[:1000]}: there is no such file or folder")
    if not name.explicit and exists(Path(path).parent):
        raise InputError(f"{path}: there is no such file or folder; for the hub write hf://{path}")
    return _download(name)


def _download(name: HubName) -> Path:
    """Return the folder with what `LeRobot.read` needs, all of one commit."""
    from huggingface_hub import HfApi

    with hub_errors(name, file=CONFIG):
        file = kept_file(name, CONFIG, name.revision)
        commit = file.parent.name  # whatever is pushed meanwhile
    found = read_json_object(file)
    if "type" not in found:
        raise InputError(f"{name} on the hub is no policy of LeRobot: its {CONFIG} says no type")
    if found["type"] not in (TYPE, LFM):
        return file.parent  # the reader says what is supported
    with hub_errors(name, file=MODEL):
        there = {
            found.rfilename
            for found in HfApi().model_info(name.repo, revision=commit).siblings or []
        }
        for wanted in [MODEL, *(p for p in (PREPROCESSOR, POSTPROCESSOR) if p in there)]:
            path = kept_file(name, wanted, commit)
            if wanted == MODEL:
                continue
            for state in _state_files(read_json_object(path)):
                kept_file(name, state, commit)
    return file.parent


def _state_files(processor: dict[str, Any]) -> list[str]:
    steps = processor.get("steps")
    found = [step.get("state_file") for step in steps or [] if isinstance(step, dict)]
    return [file for file in found if isinstance(file, str) and Path(file).name == file]
