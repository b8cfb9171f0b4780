"""A robot's program with the published openpi-client package; prints one JSON object.

Started by test_openpi_client.py as ``python openpi_client_session.py PORT KEY``, in an environment
that need not have anything of ours.
"""

import json
import sys

import numpy as np
from openpi_client import action_chunk_broker, websocket_client_policy


def error_of(policy, obs):
    try:
        policy.infer(obs)
    except RuntimeError as caught:
        return str(caught)
    return ""


def main() -> None:
    port, key = int(sys.argv[1]), sys.argv[2]
    policy = websocket_client_policy.WebsocketClientPolicy("127.0.0.1", port, api_key=key)
    metadata = policy.get_server_metadata()
    obs = {
        "state": np.array([1.0, 2.0, 3.0]),
        "camera": np.full((2, 3, 3), 9, dtype=np.uint8),
        "prompt": "push the T",
    }
    answer = policy.infer(obs)
    again = policy.infer({**obs, "state": np.zeros(3)})
    reset = policy.infer({"__reset__": True})
    broker = action_chunk_broker.ActionChunkBroker(policy, metadata["action_horizon"])
    steps = [broker.infer(obs)["actions"].shape for _ in range(metadata["action_horizon"] + 1)]
    policy.infer({"__reset__": True})
    # As openpi's own policies take it: channels first, floats in [0, 1], and more than is needed.
    floats = np.full((3, 2, 3), 9.5 / 255, dtype=np.float32)
    converted = policy.infer({**obs, "camera": floats, "session_id": "7f9c"})
    error = error_of(policy, {"state": np.zeros(3)})
    other = websocket_client_policy.WebsocketClientPolicy("127.0.0.1", port, api_key=key)
    too_large = error_of(other, {**obs, "camera": np.zeros(17 * 2**20, dtype=np.uint8)})
    print(
        json.dumps(
            {
                "metadata": metadata,
                "answer": answer["actions"].tolist(),
                "dtype": answer["actions"].dtype.str,
                "again": again["actions"].tolist(),
                "timing": sorted(answer["server_timing"]),
                "reset": reset,
                "steps": steps,
                "error": error,
                "converted": converted["actions"].tolist(),
                "too_large": too_large,
            }
        )
    )


if __name__ == "__main__":
    main()
