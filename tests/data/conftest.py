"""Fixtures of tests of data that somebody else may have written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def limited_memory() -> Any:
    """Let no single allocation of this process succeed beyond about 2 GB more than it has."""
    resource = pytest.importorskip("resource")
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("the memory in use is read from /proc, which this system does not have")
    used = int(statm.read_text().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**31, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)
