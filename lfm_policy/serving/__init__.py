"""Serving a policy to robots over a network."""

from __future__ import annotations

from lfm_policy.serving.access import (
    ApiKeys,
    check_bind,
    is_loopback,
    read_api_keys,
    tls_context,
    warning_of_secret,
)
from lfm_policy.serving.logs import configure_logging, log_event
from lfm_policy.serving.options import ServerOptions
from lfm_policy.serving.served import ServedPolicy, load_served_policy, served_policy
from lfm_policy.serving.server import PolicyServer

__all__ = [
    "ApiKeys",
    "PolicyServer",
    "ServedPolicy",
    "ServerOptions",
    "check_bind",
    "configure_logging",
    "is_loopback",
    "load_served_policy",
    "log_event",
    "read_api_keys",
    "served_policy",
    "tls_context",
    "warning_of_secret",
]
