"""Where ``config.json`` and ``model.safetensors`` of a pretrained backbone are, and reading them.

Only JSON and safetensors are ever read, neither of which can run code.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lfm_policy.encoders.pretrained.backbones import stable_name
from lfm_policy.encoders.pretrained.options import options_from_config
from lfm_policy.errors import InputError
from lfm_runtime.disk.files import exists, is_file

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
MAXIMUM_CONFIG_BYTES = 1_000_000
# Formats that can run code when they are read, and weights in several files.
_OTHER_WEIGHTS = (
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
    "model.safetensors.index.json",
    "tf_model.h5",
    "flax_model.msgpack",
)
_FLOATS = ("F64", "F32", "F16", "BF16")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def read_options(model: str) -> dict[str, Any]:
    """Return the options of a backbone from its ``config.json``, see `options_from_config`.

    Args:
        model: a folder, or the name of a model on the Hugging Face hub.

    Raises:
        InputError: there is no such file, it is not JSON, or not of a known backbone.
    """
    path = find_file(model, CONFIG_FILE)
    try:
        with path.open("rb") as file:
            content = file.read(MAXIMUM_CONFIG_BYTES + 1)
        if len(content) > MAXIMUM_CONFIG_BYTES:
            raise InputError(f"{path}: is larger than {MAXIMUM_CONFIG_BYTES:,} bytes")
        config = json.loads(content)
    except InputError:
        raise
    # ValueError: not JSON, or not UTF-8.
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as JSON: {str(error)[:300]}") from None
    if not isinstance(config, dict):
        raise InputError(f"{path}: expected an object, found a {type(config).__name__}")
    try:
        return options_from_config(config)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def load_weights(model: str, targets: Mapping[str, Tensor]) -> None:
    """Read ``model.safetensors`` into tensors that are there already.

    Everything is checked before the first of them changes. Weights that the file has besides,
    such as those of a classifier, are left out.

    Args:
        model: a folder, or the name of a model on the Hugging Face hub.
        targets: weights by stable name (`stable_name`); any floating point dtype.

    Raises:
        InputError: there is no such file, it is damaged, lacks a weight, or has one of another
            shape.
    """
    path = find_file(model, WEIGHTS_FILE)
    try:
        with safe_open(str(path), framework="pt", device="cpu") as file:
            names = {stable_name(name): name for name in sorted(file.keys())}
            for name, target in targets.items():
                if name not in names:
                    raise InputError(
                        f"{path}: weight '{name}' is missing: the file does not belong to the "
                        f"{CONFIG_FILE} beside it"
                    )
                part, shape = file.get_slice(names[name]), tuple(target.shape)
                if tuple(part.get_shape()) != shape or part.get_dtype() not in _FLOATS:
                    raise InputError(
                        f"{path}: weight '{name}' has shape {tuple(part.get_shape())} and dtype "
                        f"{part.get_dtype()}, expected {shape} and one of {', '.join(_FLOATS)}"
                    )
            values = {name: file.get_tensor(names[name]) for name in targets}
            for name, value in values.items():
                if not bool(torch.isfinite(value).all()):
                    raise InputError(f"{path}: weight '{name}' holds NaN or infinity")
            with torch.no_grad():
                for name, target in targets.items():
                    target.copy_(values[name])
    except (SafetensorError, OSError, KeyError, OverflowError, AttributeError) as error:
        raise InputError(f"{path}: not a readable safetensors file: {str(error)[:300]}") from None


def find_file(model: str, name: str) -> Path:
    """Return the path of a file of a model, fetched from the hub if it is nowhere here.

    A folder wins over a model on the hub, and the hub's cache over the network.

    Raises:
        InputError: it is nowhere; the message says where it was looked for and what to do.
    """
    folder = Path(model)
    if exists(folder):
        path = folder / name
        if is_file(path):
            return path
        raise InputError(f"{folder}: expected a folder with '{name}'" + _hint(folder, model, name))
    if not _HUB_ID.fullmatch(model):
        raise InputError(
            f"{model[:500]}: there is no such folder, and it is no name on the Hugging Face hub, "
            "such as facebook/dinov2-small"
        )
    return _from_hub(model, name)


def _hint(folder: Path, model: str, name: str) -> str:
    others = [other for other in _OTHER_WEIGHTS if is_file(folder / other)]
    if name == WEIGHTS_FILE and others:
        return f", found {', '.join(others)} only. {_convert(model)}"
    return ", and there is none in it" if folder.is_dir() else ", found something else"


def _convert(model: str) -> str:
    return (
        "Only one file of safetensors is read, because other formats can run code. If you trust "
        'the model, convert it once with python -c "from transformers import AutoModel; '
        f"AutoModel.from_pretrained('{model}').save_pretrained('FOLDER', max_shard_size='99GB')\""
    )


def _from_hub(model: str, name: str) -> Path:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(model, name, local_files_only=True))
    except (OSError, ValueError, EntryNotFoundError):
        pass
    try:
        return Path(hf_hub_download(model, name))
    # The network library under it raises whatever it likes.
    except Exception as error:
        reached = isinstance(error, EntryNotFoundError)
        if reached and not isinstance(error, LocalEntryNotFoundError):
            hint = _convert(model) if name == WEIGHTS_FILE else "It is no model of transformers."
            raise InputError(f"{model}: has no '{name}' on the Hugging Face hub. {hint}") from None
        reason = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise InputError(
            f"{model}: '{name}' was not found: there is no folder of this name in {Path.cwd()}, "
            f"it is not in the cache {constants.HF_HUB_CACHE}, and the Hugging Face hub did not "
            f"give it ({reason}). Without network, get it elsewhere with 'hf download {model} "
            f"{CONFIG_FILE} {WEIGHTS_FILE} --local-dir FOLDER', copy that folder here, and set "
            "model to its path"
        ) from None
