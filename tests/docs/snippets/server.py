"""The server of commands: has imported what takes long, and forks for every command.

    python server.py SOCKET

With SNIPPETS_TIMES in the environment it says how long the CPU worked for each.

Commands are `lfm-policy`, `python` (a file, -c, -m or standard input), `accelerate`, and
`python-session`, which executes the files that it reads the paths of in one namespace.
"""

from __future__ import annotations

import atexit
import gc
import importlib
import json
import linecache
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from pathlib import Path
from types import ModuleType
from typing import Any

TAKE_LONG = (
    "accelerate",
    "gym_pusht.envs.pusht",
    "h5py",
    "lfm_envs.pusht",
    "onnx",
    "onnxruntime",
    "onnxscript",
    "PIL.JpegImagePlugin",
    "tensorboard.compat.proto",
    "torch._dynamo",
    "torch.onnx._internal.exporter._core",
    "torch.utils.tensorboard",
    "torchdiffeq",
)
"""What commands import besides modules of the package; none of it may start a thread."""


def import_what_takes_long() -> None:
    """Import it, and the package."""
    for name in TAKE_LONG:
        importlib.import_module(name)
    package = importlib.import_module("lfm_policy")
    for module in pkgutil.walk_packages(package.__path__, "lfm_policy."):
        if not module.name.endswith("__main__"):
            with suppress(ImportError):  # it needs what is not installed here
                importlib.import_module(module.name)


def run_command(program: str, arguments: list[str]) -> int | None:
    """Run a command in this process; returns its exit code, or leaves by SystemExit."""
    sys.argv = [program, *arguments]
    if program == "lfm-policy":
        if Path("lerobot").is_dir():  # what stands for it: see `stand_ins`
            sys.path.insert(0, os.getcwd())
        from lfm_policy.cli.main import entry_point

        entry_point()
    elif program == "accelerate":
        # What it starts comes back here. (Others are left alone: some look at what is imported.)
        sys.executable = str(Path(os.environ["SNIPPETS_PROGRAMS"]) / "python")
        runpy.run_module("accelerate.commands.accelerate_cli", run_name="__main__", alter_sys=True)
    elif program == "python-session":
        python_session()
    else:
        python(arguments)
    return 0


def python(arguments: list[str]) -> None:
    """Do what ``python`` does with these arguments."""
    while arguments and arguments[0] in ("-u", "-I", "-s"):
        arguments = arguments[1:]
    main = sys.modules["__main__"] = ModuleType("__main__")
    match arguments:
        case ["-m", "pip", *rest]:
            print(f"(not run: pip {' '.join(rest)})")
        case ["-m", "venv", folder]:  # one whose `activate` changes nothing
            Path(folder, "bin").mkdir(parents=True)
            Path(folder, "bin", "activate").touch()
        case ["-c", code, *rest]:
            sys.argv, sys.path[0] = ["-c", *rest], ""
            exec(compile(code, "<string>", "exec"), main.__dict__)
        case ["-m", module, *rest]:
            sys.argv, sys.path[0] = [module, *rest], os.getcwd()
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-", *_] | []:
            sys.path[0] = ""
            exec(compile(sys.stdin.read(), "<stdin>", "exec"), main.__dict__)
        case [file, *rest]:
            if "benchmarks" in Path(file).parts:  # a process of Python for each row comes back here
                sys.executable = str(Path(os.environ["SNIPPETS_PROGRAMS"]) / "python")
            sys.argv, sys.path[0] = [file, *rest], str(Path(file).resolve().parent)
            runpy.run_path(file, run_name="__main__")


def python_session() -> None:
    """Execute files of code in one namespace; standard output says how each ended.

    A line of standard input is JSON: path of the page, first line, and the code.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the code prints goes where its errors go
    main = sys.modules["__main__"] = ModuleType("__main__")
    sys.path[0] = ""
    for request in sys.stdin:
        page, line, code = json.loads(request)
        linecache.checkcache(page)
        try:
            exec(compile("\n" * (line - 1) + code, page, "exec"), main.__dict__)
            answer = 0
        except SystemExit as ended:
            answer = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        except BaseException:
            traceback.print_exc()
            answer = 1
        sys.stdout.flush()
        sys.stderr.flush()
        answers.write(f"{answer}\n")


def become(command: dict[str, Any], descriptors: list[int]) -> None:
    """Be the command, in a forked process; never returns."""
    code = 1
    try:
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.set_wakeup_fd(-1)
        for target, descriptor in enumerate(descriptors):
            os.dup2(descriptor, target)
            os.close(descriptor)
        os.chdir(command["folder"])
        os.environ.clear()
        os.environ.update(command["environment"])
        try:
            code = run_command(command["program"], command["arguments"]) or 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
            if isinstance(ended.code, str):
                print(ended.code, file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        atexit._run_exitfuncs()
    finally:
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


class Server:
    """Forks for every client, and tells it how the process ended."""

    def __init__(self, path: str) -> None:
        self.listening = socket.socket(socket.AF_UNIX)
        self.listening.bind(path)
        self.listening.listen(64)
        self.clients: dict[int, socket.socket] = {}
        self.said: dict[int, str] = {}
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        self.sockets = [self.listening, woken, wake]
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listening, selectors.EVENT_READ, self.accept)
        self.selector.register(woken, selectors.EVENT_READ, lambda: woken.recv(4096))
        # Whoever started this one has ended: nobody needs it any more.
        self.selector.register(sys.stdin, selectors.EVENT_READ, self.end)

    def end(self) -> None:
        """End, and all commands with it."""
        for process in self.clients:
            os.kill(process, signal.SIGKILL)
        sys.exit(0)

    def accept(self) -> None:
        """Start the command of a client."""
        client, _ = self.listening.accept()
        header, descriptors, _, _ = socket.recv_fds(client, 4, 3)
        wanted, received = int.from_bytes(header, "big"), b""
        while len(received) < wanted:
            received += client.recv(wanted - len(received))
        process = os.fork()
        if process == 0:
            for open_socket in (*self.sockets, *self.clients.values(), client):
                open_socket.close()
            self.selector.close()
            become(json.loads(received), descriptors)
        if "SNIPPETS_TIMES" in os.environ:
            command = json.loads(received)
            self.said[process] = " ".join([command["program"], *command["arguments"]])
        for descriptor in descriptors:
            os.close(descriptor)
        client.sendall(process.to_bytes(4, "big"))
        self.clients[process] = client

    def reap(self) -> None:
        """Tell clients whose commands have ended."""
        while self.clients:
            process, status, used = os.wait4(-1, os.WNOHANG)
            if process == 0:
                return
            if process in self.said:
                seconds = used.ru_utime + used.ru_stime
                print(f"{seconds:6.1f} s  {self.said.pop(process)}", file=sys.stderr)
            code = os.waitstatus_to_exitcode(status)
            with suppress(OSError), self.clients.pop(process) as client:
                client.sendall(bytes([code if code >= 0 else 128 - code]))

    def serve(self) -> None:
        """Serve until standard input ends."""
        print("ready", flush=True)
        while True:
            for key, _ in self.selector.select():
                key.data()
            self.reap()


if __name__ == "__main__":
    from shortened import shorten_everything

    shorten_everything()
    import_what_takes_long()
    os.fsync = lambda descriptor: None  # protects from power cuts, not from what commands do
    gc.collect()
    gc.freeze()  # otherwise every command looks through, and copies, all that was imported
    Server(sys.argv[1]).serve()
