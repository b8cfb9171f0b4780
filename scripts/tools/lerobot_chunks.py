"""Compare chunks that LeRobot computes with ours, from the same observations and noise.

  python scripts/tools/lerobot_chunks.py pretrained_model checkpoint

Run where LeRobot and lerobot_policy_lfm are installed. Exit code 1: they differ.
"""

from __future__ import annotations

import argparse
import sys

import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.utils.import_utils import register_third_party_plugins

from lfm_policy import load_policy
from lfm_runtime.policy.spec import is_image

TOLERANCE = 1e-5
ROWS = 16


def largest_difference(folder: str, checkpoint: str) -> float:
    """Return it, of normalised actions: their range is 2."""
    register_third_party_plugins()
    config = PreTrainedConfig.from_pretrained(folder, cli_overrides=["--device=cpu"])
    there = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, pretrained_path=folder)
    here = load_policy(checkpoint)
    generator = torch.Generator().manual_seed(0)
    own, given = {}, {}
    for key in config.input_features:
        name = config.names.get(key, key)
        shape = (ROWS, here.n_obs_steps, *here.spec.obs_shapes[name])
        if is_image(shape[2:]):
            own[name] = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
            given[key] = own[name].movedim(-1, -3).float() / 255
        else:
            low, high = (torch.from_numpy(end).float() for end in here.training_range(name))
            own[name] = low + (high - low) * torch.rand(shape, generator=generator)
            given[key] = own[name].clone()
    noise = torch.randn(ROWS, *here.chunk_shape, generator=generator)
    mine = here.predict_action_chunk(own, noise=noise)
    theirs = after(there.predict_action_chunk(before(given), noise=noise))
    low, high = (torch.from_numpy(end) for end in here.training_range("action"))
    return float(((mine - theirs).abs() / (high - low) * 2).max())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("checkpoint")
    arguments = parser.parse_args()
    found = largest_difference(arguments.folder, arguments.checkpoint)
    print(f"largest difference of normalised actions: {found:.1e} (at most {TOLERANCE:.0e})")
    return int(found > TOLERANCE)


if __name__ == "__main__":
    sys.exit(main())
