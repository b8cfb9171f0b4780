"""The network of each block, and of students: the common options and the changes to them."""

from __future__ import annotations

from lfm_policy.config.changes import with_changes
from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.errors import InputError
from lfm_policy.networks import NETWORKS, NetworkConfig


def network_configs(config: ExperimentConfig) -> list[NetworkConfig]:
    """Return the options of the network of each block, index 0 = block 1 (data side).

    Raises:
        InputError: an entry of ``block_networks`` has an unknown key or a wrong value.
    """
    if not config.block_networks:
        return [config.network] * config.flow.n_blocks
    configs = []
    for position, changes in enumerate(config.block_networks):
        entry = f"block_networks[{position}]"
        if changes.get("name", config.network.name) != config.network.name:
            raise InputError(
                f"{entry}.name is '{changes['name']}', expected '{config.network.name}': blocks "
                "differ in size, not in family"
            )
        configs.append(with_changes(config.network, changes, entry))
    return configs


def student_network(config: ExperimentConfig) -> NetworkConfig:
    """Return the options of the network of a teacher's students, see ``distill.network``.

    Args:
        config: of the teacher.

    Raises:
        InputError: ``distill.network`` has an unknown name or key, or a wrong value.
    """
    changes, base = config.distill.network, config.network
    name = changes.get("name", base.name)
    if name != base.name:  # options of the teacher's network mean nothing to this one
        try:
            base = NETWORKS.get(str(name))()
        except InputError as error:
            raise InputError(f"distill.network.name: {error}") from None
    return with_changes(base, changes, "distill.network")
