"""Runs the blocks of a page, top to bottom, in a fresh folder."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from snippets.pages import ROOT, Block, blocks_of

HERE = Path(__file__).resolve().parent
SECONDS = 500
"""For one command or Python block."""

PROGRAMS = ("lfm-policy", "python", "python3", "accelerate", "python-session")
# What would install something, or fetch it: it is done already where snippets are run.
PRETENDED = {
    "pip": 'echo "(not run: pip $*)"',
    # A clone is the folder that one is in.
    "git": '[ "$1" = clone ] && { [ -e lfm-policy ] || ln -s . lfm-policy; }',
}


class SnippetError(AssertionError):
    """A block that fails; the message says where, and what was printed."""


@contextmanager
def server_of_commands(folder: Path) -> Iterator[dict[str, str]]:
    """Start the server; gives the environment in which its commands are found."""
    programs = folder / "programs"
    programs.mkdir()
    client = f"#!{sys.executable} -IS\n" + (HERE / "client.py").read_text(encoding="utf-8")
    scripts = dict.fromkeys(PROGRAMS, client)
    scripts |= {name: f"#!/bin/sh\n{line}\n" for name, line in PRETENDED.items()}
    for name, script in scripts.items():
        (programs / name).write_text(script, encoding="utf-8")
        (programs / name).chmod(0o755)
    socket = folder / "server"
    environment = os.environ | {
        "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SNIPPETS_SERVER": str(socket),
        "SNIPPETS_PROGRAMS": str(programs),
        "SNIPPETS_DATA": str(folder / "data"),
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "MPLBACKEND": "Agg",
        "SDL_VIDEODRIVER": "dummy",
        "HF_HUB_OFFLINE": "1",
        "COLUMNS": "120",
    }
    (folder / "data").mkdir()
    started = subprocess.Popen(
        [sys.executable, str(HERE / "server.py"), str(socket)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        text=True,
    )
    assert started.stdout is not None and started.stdin is not None
    try:
        assert started.stdout.readline() == "ready\n", "the server of commands did not start"
        yield environment
    finally:
        started.stdin.close()
        started.wait(60)


class Session:
    """A process that is given one thing after the other to run, and says how each ended."""

    def __init__(
        self, command: list[str], folder: Path, environment: dict[str, str], log: Path
    ) -> None:
        self.answers, given = os.pipe()
        environment = environment | {"SNIPPETS_ANSWERS": str(given)}
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment,
                stdin=subprocess.PIPE,
                # The one answers on its standard output, the other on a further descriptor.
                stdout=given if command == ["python-session"] else output,
                stderr=output,
                pass_fds=[given],
                start_new_session=True,
                text=True,
            )
        os.close(given)

    def run(self, line: str) -> str:
        """Return the exit code of what a line asks for, or why there is none."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return "no exit code: the shell or Python has ended before"
        answer, deadline = b"", time.monotonic() + SECONDS
        while not answer.endswith(b"\n"):
            if time.monotonic() > deadline:
                return f"no end within {SECONDS} s"
            ready, _, _ = select.select([self.answers], [], [], 0.1)
            if ready:
                part = os.read(self.answers, 64)
                if not part:
                    break
                answer += part
            elif self.process.poll() is not None:
                break
        return answer.decode().strip() or "no exit code: it ended the shell or Python"

    def end(self) -> None:
        """End it and all that it has left running."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        os.close(self.answers)


def commands_of(block: Block) -> list[tuple[int, str]]:
    """Return the commands of a bash block as a shell would read them, with their lines."""
    found, waiting, start = list[tuple[int, str]](), "", block.line
    for number, line in enumerate(block.code.split("\n"), block.line):
        if not waiting:
            start = number
            if not line.strip() or line.lstrip().startswith("#"):
                continue
        waiting += line + "\n"
        if line.endswith("\\"):
            continue
        check = subprocess.run(["bash", "-n"], input=waiting, capture_output=True, text=True)
        if check.returncode == 0 and not check.stderr:  # it warns of a here-document without end
            found.append((start, waiting))
            waiting = ""
    if waiting:
        found.append((start, waiting))
    return found


def run_page(page: Path, folder: Path, environment: dict[str, str], log: Path) -> int:
    """Run a page; returns how many blocks were.

    Args:
        page: a markdown file.
        folder: where its blocks run; the data that it uses lies there.
        environment: see `server_of_commands`.
        log: file for what is printed.

    Raises:
        SnippetError: a command or a block fails.
    """
    text = page.read_text(encoding="utf-8")
    bash = Session(["bash", "--norc"], folder, environment, log)
    python: Session | None = None
    scratch = log.with_suffix(".sh")
    ran = 0
    try:
        for block in blocks_of(text):
            if block.title:
                target = folder / block.title
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(block.code, encoding="utf-8")
            if not block.is_run:
                continue
            ran += 1
            if block.language == "bash":
                for line, command in commands_of(block):
                    scratch.write_text(command, encoding="utf-8")
                    order = f'. {scratch} </dev/null; echo "$?" >&$SNIPPETS_ANSWERS'
                    _run(bash, order, page, line, command, log)
            else:
                if python is None:
                    python = Session(["python-session"], folder, environment, log)
                order = json.dumps([str(page), block.line, block.code])
                _run(python, order, page, block.line, block.code, log)
    finally:
        bash.end()
        if python is not None:
            python.end()
    return ran


def _run(session: Session, order: str, page: Path, line: int, code: str, log: Path) -> None:
    before = log.stat().st_size
    answer = session.run(order)
    if answer != "0":
        with log.open("rb") as file:
            file.seek(before)
            printed = file.read().decode(errors="replace")[-6000:]
        where = page.relative_to(ROOT) if page.is_relative_to(ROOT) else page
        raise SnippetError(
            f"{where}:{line}: ended with {answer}:\n{code.rstrip()}\n--- printed:\n{printed}"
        )


def prepare(folder: Path, data: list[Path]) -> None:
    """Put the data of a page and what the repository has beside it into its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in data:
        if source.is_dir():
            shutil.copytree(source, folder / source.name)
        else:
            shutil.copy(source, folder / source.name)
    for name in ("docs", "configs"):
        (folder / name).symlink_to(ROOT / name)
    (folder / "scripts").mkdir()
    for path in (ROOT / "scripts").iterdir():
        link = folder / "scripts" / path.name
        if path.suffix == ".sh":  # the others would install the package, and run these tests
            command = "exec lfm-policy demo" if path.name == "demo.sh" else 'echo "(not run)"'
            link.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
            link.chmod(0o755)
        else:
            link.symlink_to(path)
