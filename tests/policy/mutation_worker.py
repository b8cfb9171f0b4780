"""Loads mutated checkpoints in a process that may take little memory and little time.

Run by test_mutations.py as ``mutation_worker.py BASE WORK SEED COUNT``; prints one JSON object.
The process is its own, so that a crash or a hang in native code is a result and not the end of the
test session.
"""

from __future__ import annotations

import collections
import json
import random
import resource
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from mutations import mutate

from lfm_policy import InputError, load_policy
from lfm_policy.policy import Policy

SECONDS_PER_MUTATION = 10
EXTRA_BYTES = 2_000_000_000


class TooSlow(BaseException):
    """Not an Exception, so that no handler in the code under test can catch it."""


def _too_slow(signal_number: int, frame: Any) -> None:
    raise TooSlow


def fixed_actions(policy: Policy) -> torch.Tensor:
    """Return the actions for an observation and noise that never change."""
    obs = {
        key: torch.full((1, policy.n_obs_steps, *shape), 200.0)
        for key, shape in policy.spec.obs_shapes.items()
    }
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(1, *policy.model.chunk_shape, generator=generator)
    return policy.predict_action_chunk(obs, noise=noise)


def outcome_of(folder: Path, reference: Policy, expected: torch.Tensor) -> str:
    """Load a mutated checkpoint; returns ``refused``, ``same`` or ``other``."""
    try:
        policy = load_policy(folder)
    except InputError as error:
        message = str(error)
        if not message.strip() or "allocate" in message or "memory" in message.lower():
            return f"bad message: {message!r}"
        if len(message) > 3000:
            return f"message of {len(message)} characters: {message[:200]}"
        return "refused"
    if policy.config == reference.config and policy.spec == reference.spec:
        try:
            return "same" if torch.equal(fixed_actions(policy), expected) else "other"
        except FloatingPointError as error:
            # Finite but absurd weights, with a valid checksum: no action leaves the policy.
            return "refused" if "not finite" in str(error) else f"bad message: {error}"
    # Somebody changed an option, which is his right; the policy has to work all the same.
    policy.set_sampler(solver="euler", nfe=policy.model.n_blocks)
    actions = fixed_actions(policy)
    if actions.shape != (1, policy.n_action_steps, policy.spec.action_dim):
        return f"actions of shape {tuple(actions.shape)}"
    return "other"


def _virtual_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def main(base: Path, work: Path, seed: int, count: int) -> dict[str, Any]:
    """Return the histogram of outcomes, the failures and the largest time and memory."""
    torch.set_num_threads(1)
    reference = load_policy(base)
    expected = fixed_actions(reference)
    signal.signal(signal.SIGALRM, _too_slow)
    limit = _virtual_bytes() + EXTRA_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes: collections.Counter[str] = collections.Counter()
    failures, slowest = [], (0.0, "")
    for number in range(count):
        rng = random.Random(f"{seed}-{number}")
        folder = work / "mutated"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(base, folder)
        kind, rehashed, done = mutate(rng, folder)
        # A crash leaves the last line of this file as the culprit.
        (work / "current").write_text(f"{number}: {done}", errors="backslashreplace")
        start = time.perf_counter()
        signal.alarm(SECONDS_PER_MUTATION)
        try:
            outcome = outcome_of(folder, reference, expected)
        except TooSlow:
            outcome = "too slow"
        except BaseException:
            outcome = "exception\n" + traceback.format_exc()[-2500:]
        finally:
            signal.alarm(0)
        slowest = max(slowest, (time.perf_counter() - start, f"{number}: {done}"))
        good = outcome in ("refused", "same") or (outcome == "other" and rehashed)
        if not good:
            failures.append({"number": number, "rehashed": rehashed, "did": done, "got": outcome})
        label = outcome if good else "FAILED"
        outcomes[f"{kind}, {'rehashed' if rehashed else 'stale'}: {label}"] += 1
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "outcomes": dict(sorted(outcomes.items())),
        "failures": failures,
        "slowest": slowest,
        "extra_megabytes": (after - before) / 1024,
    }


if __name__ == "__main__":
    result = main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    print(json.dumps(result))
