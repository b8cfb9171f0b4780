"""``lfm-policy serve`` as a process beside a benchmark, and what it says of itself."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

START_SECONDS = 120.0


class ServerProcess:
    """A server that is started, killed and started again on the same port."""

    def __init__(self, policy: str, options: Sequence[str] = ()) -> None:
        self._policy = policy
        self._options = list(options)
        self._log = Path(tempfile.mkdtemp(prefix="lfm-bench-server-")) / "log.jsonl"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def __enter__(self) -> ServerProcess:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.terminate()

    def start(self) -> float:
        """Start it and return the seconds until it listened."""
        started = time.perf_counter()
        arguments = ["serve", self._policy, "--port", str(self.port), *self._options]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "lfm_policy", *arguments],
                stderr=log,
                env=os.environ | {"OMP_NUM_THREADS": "1"},
            )
        while not (listening := [e for e in self.log() if e["event"] == "listening"]):
            if self._process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                raise SystemExit(f"the server did not start:\n{self._log.read_text()}")
            time.sleep(0.02)
        self.port = listening[0]["port"]
        return time.perf_counter() - started

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of the log so far."""
        lines = self._log.read_text(encoding="utf-8").split("\n")[:-1]
        return [json.loads(line) for line in lines]

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """End it as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def terminate(self) -> int:
        """End it in order and return its exit code."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    def metric(self, name: str) -> float:
        """Return a metric, summed over its labels; 0 if it has not been counted yet."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as page:
            text = page.read().decode()
        found = re.findall(rf"^{re.escape(name)}(?:{{[^}}]*}})? (\S+)$", text, re.MULTILINE)
        return sum(map(float, found))

    @property
    def resident_mb(self) -> float:
        """Resident memory in MB."""
        return self.metric("process_resident_memory_bytes") / 1e6
