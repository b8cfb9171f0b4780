"""A command of a snippet: lets the server of commands run it, and ends as that does.

It is copied to a folder of the PATH under the names `lfm-policy`, `python` and so on. A start of
Python that imports torch costs seconds; this costs a fork.
"""

import json
import os
import signal
import socket
import sys

if sys.argv[1:3] == ["-m", "lfm_runtime.benchmark"]:  # it measures what starts without torch
    os.execv(sys.executable, [sys.executable, *sys.argv[1:]])

with socket.socket(socket.AF_UNIX) as server:
    server.connect(os.environ["SNIPPETS_SERVER"])
    command = json.dumps(
        {
            "program": os.path.basename(sys.argv[0]),
            "arguments": sys.argv[1:],
            "folder": os.getcwd(),
            "environment": dict(os.environ),
        }
    ).encode()
    socket.send_fds(server, [len(command).to_bytes(4, "big")], [0, 1, 2])
    server.sendall(command)
    process = int.from_bytes(server.recv(4), "big")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda number, _: os.kill(process, number))
    code = server.recv(1)
sys.exit(code[0] if code else "the server of commands has ended")
