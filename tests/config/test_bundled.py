"""Every configuration of the package can be loaded, and says where its policy is rolled out."""

import gymnasium as gym
import lfm_envs
import pytest

from lfm_policy.config import config_from_dict, config_to_dict
from lfm_policy.config.load import bundled_config_names, load_config

NAMES = bundled_config_names()
TASKS = ("lift", "can", "square", "tool_hang", "transport")


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_configuration_loads_and_its_environment_is_registered(name: str) -> None:
    config = load_config(name)
    assert config.name != "experiment"
    assert config_from_dict(config_to_dict(config), "again") == config
    # Whose robot we do not know, and which task the demonstrations say.
    if name.startswith("own/") or name == "metaworld/state":
        assert config.env.id == ""
        return
    assert lfm_envs.__name__ == "lfm_envs"
    spec = gym.registry[config.env.id.replace("{task}", "reach-v3")]
    assert config.env.max_episode_steps == spec.max_episode_steps


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("suffix", ["", "_image", "_gpu", "_image_gpu"])
def test_every_task_has_four_configurations_of_one_kind(task: str, suffix: str) -> None:
    config = load_config(f"robomimic/{task}{suffix}")
    assert (config.policy.n_obs_steps, config.policy.horizon, config.policy.n_action_steps) == (
        2,
        16,
        8,
    )
    keys = config.dataset.obs_keys
    images = [key for key in keys if key.endswith("_image")]
    assert bool(images) == ("image" in suffix) == config.env.id.endswith("Image-v0")
    assert ("object" in keys) == (not images)
    arms = {key.split("_")[0] for key in keys if key.endswith("_eef_pos")}
    assert arms == ({"robot0", "robot1"} if task == "transport" else {"robot0"})
