"""Names that client and server of a policy share, beyond openpi's websocket protocol.

A message is a map from the names of observations to arrays. A policy server of this project also
understands these keys in it; no observation may be called like that.
"""

from __future__ import annotations

RESET = "__reset__"
"""True: forget the history of this connection. In a message of its own the answer is
``{"__reset__": True}``; beside observations these are the first of the new episode."""

NOISE = "__noise__"
"""``[seed, episode, k]``: sample from `chunk_noise` of these numbers instead of fresh noise."""

PREFIX = "__prefix__"
"""(d, action_dim) actions that are executed whatever the answer is; the answer continues them. For
policies that were trained with prefixes, see ``max_prefix`` of the metadata."""

PROMPT = "prompt"
"""What openpi's clients send along whatever the policy is; a policy of several tasks takes it for
the task where nothing else says it."""

INSTRUCTIONS = frozenset({RESET, NOISE, PREFIX})

POLICY_DIGEST = "policy_sha256"
"""Key of the metadata: digest of everything that was learnt, weights and normaliser; empty for a
policy that comes from no file."""

SERVER = "lfm-policy"
"""What the metadata's ``server`` says."""

DEFAULT_PORT = 8000
