"""Action-chunk policies by Local Flow Matching: train block by block, roll out, deploy."""

from __future__ import annotations

from lfm_policy.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from lfm_policy.errors import InputError
    from lfm_policy.policy import Policy, load_policy
    from lfm_runtime.plugins import load_plugin

__all__ = ["InputError", "Policy", "__version__", "load_plugin", "load_policy"]


def __getattr__(name: str) -> Any:
    # `lfm-policy --help` and `import lfm_envs` should not wait for torch; and Ctrl-C is only caught
    # once the command begins, so that what is imported before should take no time at all.
    if name == "InputError":
        from lfm_policy.errors import InputError

        return InputError
    if name == "load_plugin":
        from lfm_runtime.plugins import load_plugin

        return load_plugin
    if name in ("Policy", "load_policy"):
        from lfm_policy import policy

        return getattr(policy, name)
    raise AttributeError(f"module 'lfm_policy' has no attribute '{name}'")
