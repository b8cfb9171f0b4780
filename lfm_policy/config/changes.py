"""Options of one place that are another place's but for a few changes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, TypeVar

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lfm_policy.config.option import validate_options
from lfm_policy.errors import InputError
from lfm_runtime.registry import nearest_names

OptionsT = TypeVar("OptionsT")


def with_changes(base: OptionsT, changes: Mapping[str, Any], label: str) -> OptionsT:
    """Return a copy of the options ``base``, a dataclass, with some of them changed.

    Args:
        base: all options.
        changes: name -> value.
        label: what to call the changes in messages, such as ``block_networks[0]``.

    Raises:
        InputError: an unknown name, a wrong type, or a value out of bounds.
    """
    known = [field.name for field in dataclasses.fields(base)]  # type: ignore[arg-type]
    for key in changes:
        if key not in known:
            hint = nearest_names(str(key)[:100], known)
            raise InputError(f"{label} has an unknown key '{str(key)[:200]}': {hint}")
    try:
        merged = OmegaConf.merge(OmegaConf.structured(base), dict(changes))
        changed = OmegaConf.to_object(merged)
    except (OmegaConfBaseException, ValueError) as error:
        raise InputError(f"{label}: {str(error).splitlines()[0]}") from None
    assert isinstance(changed, type(base))
    validate_options(changed, prefix=f"{label}.")
    return changed
