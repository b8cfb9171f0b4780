"""Serving a policy to robots over a network."""

from __future__ import annotations

from lfm_policy.serving.access import ApiKeys, tls_context
from lfm_policy.serving.options import ServerOptions
from lfm_policy.serving.served import ServedPolicy, load_served_policy, served_policy
from lfm_policy.serving.server import PolicyServer

__all__ = [
    "ApiKeys",
    "PolicyServer",
    "ServedPolicy",
    "ServerOptions",
    "load_served_policy",
    "served_policy",
    "tls_context",
]
