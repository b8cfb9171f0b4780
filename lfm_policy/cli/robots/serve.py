"""Serve a checkpoint or an exported policy to many robots over websockets.

Speaks openpi's websocket protocol: on connection one message of metadata; then every observation
(msgpack, no batch dimension; images uint8 or floats in [0, 1], channels last or first) is answered
with {"actions": (n_action_steps, action_dim), "server_timing": {"infer_ms": ...}}. The first action
belongs to that observation. The server remembers n_obs_steps frames of each connection;
{"__reset__": True} forgets them. GET /healthz answers 200, GET /metrics is for Prometheus. Log: one
JSON object per line on standard error. SIGTERM and SIGINT end it after the requests under way.

examples:
  lfm-policy serve pusht-state
  lfm-policy serve runs/can/student-nfe2-regression --host 0.0.0.0 --api-key-file keys.txt \\
      --tls-cert server.pem --tls-key server.key
"""

from __future__ import annotations

import argparse
from pathlib import Path

from lfm_policy.cli.common import (
    SOLVERS,
    add_sampler_options,
    non_negative,
    options_of,
    positive,
    sampler_of,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "policy",
        help="checkpoint, run folder, exported folder, policy of the package, or user/name of one "
        "on the hub",
    )
    network = parser.add_argument_group("network")
    network.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; default 127.0.0.1"
    )
    network.add_argument(
        "--port", type=non_negative, default=8000, help="default 8000; 0: one that is free"
    )
    network.add_argument(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="keys, one per line; clients send 'Authorization: Api-Key KEY'",
    )
    network.add_argument("--tls-cert", type=Path, metavar="PEM", help="certificate (chain)")
    network.add_argument("--tls-key", type=Path, metavar="PEM", help="its unencrypted key")
    network.add_argument(
        "--allow-insecure-bind",
        action="store_true",
        help="let other machines connect without a key",
    )
    bounds = parser.add_argument_group("bounds")
    bounds.add_argument(
        "--max-connections", type=positive, default=128, help="robots at once; default 128"
    )
    bounds.add_argument(
        "--max-message-bytes",
        type=positive,
        help="default: what the observations need, at least 16 MiB",
    )
    bounds.add_argument(
        "--max-batch", type=positive, default=32, help="robots in one policy call; default 32"
    )
    bounds.add_argument(
        "--idle-timeout",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="close connections without a message for so long; default 300",
    )
    bounds.add_argument(
        "--strict",
        action="store_true",
        help="refuse observations that the policy does not know (default: left out, and logged)",
    )
    parser.add_argument(
        "--task",
        metavar="NAME",
        help="what a policy of several tasks is to do where a client says neither task nor prompt",
    )
    sampler = parser.add_argument_group("policy (checkpoints only)")
    add_sampler_options(sampler, solvers=SOLVERS)
    sampler.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:<n>")
    parser.add_argument("--seed", type=non_negative, help="of the noise (default: differs)")
    parser.add_argument("--threads", type=positive, default=1, help="CPU threads; default 1")
    parser.add_argument(
        "--log-level",
        choices=("debug", "info", "warning", "error"),
        default="info",
        help="default info",
    )


def run(arguments: argparse.Namespace) -> int:
    import asyncio
    import gc
    import logging

    from lfm_policy.serving import PolicyServer, ServerOptions, access, load_served_policy
    from lfm_policy.serving.logs import configure_logging, log_event

    # What can be wrong is looked at before the policy, which takes seconds to load.
    keys = (
        access.read_api_keys(arguments.api_key_file) if arguments.api_key_file else access.ApiKeys()
    )
    access.check_bind(arguments.host, keys=keys, insist=arguments.allow_insecure_bind)
    tls = access.tls_context(arguments.tls_cert, arguments.tls_key)
    options = options_of(ServerOptions, arguments)
    configure_logging(arguments.log_level)
    for path in (arguments.api_key_file, arguments.tls_key):
        if path is not None and (warning := access.warning_of_secret(path)):
            log_event(warning, level=logging.WARNING)
    served = load_served_policy(
        arguments.policy,
        device=arguments.device,
        threads=arguments.threads,
        **sampler_of(arguments),
    )
    if arguments.task is not None:
        served.policy.task = arguments.task
    served.warm_up(options.max_batch)
    # All that has been loaded stays: robots need not wait while the collector looks through it.
    gc.collect()
    gc.freeze()
    if tls is None and not access.is_loopback(arguments.host):
        log_event("keys and observations travel unencrypted", level=logging.WARNING)
    asyncio.run(PolicyServer(served, options, keys=keys, tls=tls).run(signals=True))
    return 0
