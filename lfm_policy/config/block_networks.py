"""The network of each block: the common options and the changes to them."""

from __future__ import annotations

import dataclasses

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from lfm_policy.config.option import validate_options
from lfm_policy.config.schema import ExperimentConfig
from lfm_policy.errors import InputError
from lfm_policy.networks import NetworkConfig
from lfm_policy.registry import nearest_names


def network_configs(config: ExperimentConfig) -> list[NetworkConfig]:
    """Return the options of the network of each block, index 0 = block 1 (data side).

    Raises:
        InputError: an entry of ``block_networks`` has an unknown key or a wrong value.
    """
    if not config.block_networks:
        return [config.network] * config.flow.n_blocks
    known = [field.name for field in dataclasses.fields(config.network)]
    configs = []
    for position, changes in enumerate(config.block_networks):
        entry = f"block_networks[{position}]"
        for key in changes:
            if key not in known:
                raise InputError(f"{entry} has an unknown key '{key}': {nearest_names(key, known)}")
        if changes.get("name", config.network.name) != config.network.name:
            raise InputError(
                f"{entry}.name is '{changes['name']}', expected '{config.network.name}': blocks "
                "differ in size, not in family"
            )
        try:
            network = OmegaConf.to_object(
                OmegaConf.merge(OmegaConf.structured(config.network), changes)
            )
        except (OmegaConfBaseException, ValueError) as error:
            raise InputError(f"{entry}: {str(error).splitlines()[0]}") from None
        assert isinstance(network, NetworkConfig)
        validate_options(network, prefix=f"{entry}.")
        configs.append(network)
    return configs
