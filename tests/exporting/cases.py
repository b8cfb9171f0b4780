"""One small policy for every kind of network, encoder, solver and prediction.

With the fewest evaluations that show a kind: an export traces each, which takes half a second.
"""

from __future__ import annotations

from typing import Any

STEPS = {"n_obs_steps": 2, "horizon": 6, "n_action_steps": 3}
CAMERAS = {"image": (24, 20, 3), "wrist": (16, 16, 1), "pose": (4,)}
COMPACT = {"name": "compact", "width": 4, "keypoints": 3, "crop": [16, 16]}

CASES: dict[str, dict[str, Any]] = {
    "mlp, euler, encoder, prefix, limits": {
        "encoder": {"name": "state", "hidden": [8]},
        "policy": {**STEPS, "max_prefix": 2, "clip_actions": True},
        "sampler": {"solver": "euler", "nfe": 3, "noise_scale": 0.7},
    },
    "unet1d, shapes, names": {
        "n_blocks": 1,
        "obs_shapes": {"noise": (), "observation.key points": (2, 3)},
        "network": {
            "name": "unet1d",
            "channels": [8, 16],
            "n_groups": 4,
            "embed_dim": 8,
            "time_embed_dim": 8,
        },
        "sampler": {"solver": "euler", "nfe": 1},
    },
    "transformer, resize, prefix": {
        "n_blocks": 1,
        "obs_shapes": CAMERAS,
        "network": {
            "name": "transformer",
            "width": 8,
            "n_layers": 1,
            "n_heads": 2,
            "time_embed_dim": 8,
        },
        "encoder": {"name": "cameras", "image": {**COMPACT, "resize": [18, 17]}},
        "policy": {**STEPS, "max_prefix": 1},
    },
    "keypoints of two scales, differences": {
        "n_blocks": 1,
        "obs_shapes": CAMERAS,
        "encoder": {
            "name": "cameras",
            "history": "differences",
            "image": {
                **COMPACT,
                "fine_keypoints": 3,
                "spread": True,
                "values": 2,
                "coordinates": True,
                "temperatures": "each",
                "output_dim": 5,
            },
        },
    },
    "two-step regression, resnet18": {
        "n_blocks": 1,
        "obs_shapes": {"image": (40, 36, 3)},
        "encoder": {
            "name": "cameras",
            "image": {"name": "resnet18", "width": 16, "keypoints": 4, "output_dim": 4},
        },
        "flow": {"n_blocks": 1, "method": "regression"},
        "sampler": {"solver": "euler", "nfe": 2, "times": [0.1]},
    },
    "diffusion, ddim": {
        "n_blocks": 1,
        "flow": {"n_blocks": 1, "method": "diffusion"},
        "sampler": {"solver": "ddim", "nfe": 2},
    },
    "diffusion of v, dpmsolver++": {
        "n_blocks": 1,
        "flow": {"n_blocks": 1, "method": {"name": "diffusion", "prediction": "v"}},
        "sampler": {"solver": "dpmsolver++", "nfe": 3},
    },
    "diffusion, heun": {
        "n_blocks": 1,
        "flow": {"n_blocks": 1, "method": "diffusion"},
        "sampler": {"solver": "heun", "nfe": 2},
    },
    "guided mlp, heun, prefix": {
        "n_blocks": 1,
        "flow": {"n_blocks": 1, "drop_obs": 0.1},
        "policy": {**STEPS, "max_prefix": 2},
        "sampler": {"solver": "heun", "nfe": 4, "guidance": 1.5},
    },
    "guided unet1d, camera": {
        "n_blocks": 1,
        "obs_shapes": {"image": (24, 20, 3), "pose": (4,)},
        "flow": {"n_blocks": 1, "drop_obs": 0.1},
        "network": {
            "name": "unet1d",
            "channels": [8],
            "n_groups": 4,
            "embed_dim": 8,
            "time_embed_dim": 8,
        },
        "encoder": {"name": "cameras", "image": COMPACT},
        "sampler": {"solver": "euler", "nfe": 2, "guidance": 3.0},
    },
    "guided transformer, clean chunks": {
        "n_blocks": 1,
        "flow": {"n_blocks": 1, "drop_obs": 0.1, "method": "data"},
        "network": {
            "name": "transformer",
            "width": 8,
            "n_layers": 1,
            "n_heads": 2,
            "time_embed_dim": 8,
        },
        "sampler": {"solver": "euler", "nfe": 2, "guidance": 0.5},
    },
    "guided diffusion, ddim": {
        "n_blocks": 1,
        "flow": {"n_blocks": 1, "drop_obs": 0.1, "method": "diffusion"},
        "sampler": {"solver": "ddim", "nfe": 2, "guidance": 1.5},
    },
    "one evaluation per block, renoise": {
        "flow": {"n_blocks": 2, "c": 0.2},
        "sampler": {"solver": "euler", "nfe": 2, "renoise": 0.8},
    },
    "no observations, midpoint": {
        "n_blocks": 1,
        "obs_shapes": {},
        "sampler": {"solver": "midpoint", "nfe": 2},
    },
}
