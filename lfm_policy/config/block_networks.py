"""The network of each block, and of students: the common options and the changes to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lfm_policy.errors import OptionError
from lfm_policy.options import Chosen, with_changes

if TYPE_CHECKING:
    from lfm_policy.config.schema import ExperimentConfig
    from lfm_policy.networks.options import NetworkConfig


def network_configs(config: ExperimentConfig) -> list[NetworkConfig]:
    """Return the options of the network of each block, index 0 = block 1 (data side).

    Raises:
        OptionError: an entry of ``block_networks`` has an unknown key or a wrong value.
    """
    if not config.block_networks:
        return [config.network] * config.flow.n_blocks
    configs = []
    for position, changes in enumerate(config.block_networks):
        try:
            name = changes.get("name", config.network.name)
            if name != config.network.name:
                raise OptionError(
                    "name",
                    f"is '{name}', expected '{config.network.name}': blocks differ in size, not in "
                    "family",
                )
            configs.append(with_changes(config.network, changes))
        except OptionError as error:
            raise error.under("block_networks", position) from None
    return configs


def student_network(config: ExperimentConfig) -> NetworkConfig:
    """Return the options of the network of a teacher's students, see ``distill.network``.

    Args:
        config: of the teacher.

    Raises:
        OptionError: ``distill.network`` has an unknown name or key, or a wrong value.
    """
    changes, base = config.distill.network, config.network
    try:
        if changes.get("name", base.name) != base.name:
            # Options of the teacher's network mean nothing to this one.
            base = Chosen("network", base.name).options_class(changes)()
        return with_changes(base, changes)
    except OptionError as error:
        raise error.under("distill", "network") from None
