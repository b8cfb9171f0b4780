"""A local HTTP server that gives parts of files, breaks off, lies and changes its files."""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class FileServer(ThreadingHTTPServer):
    """Serves `files`; every request is kept in `requests` as (path, Range or None), and what it
    says of who asks in `authorizations`.

    Attributes:
        breaks: numbers of bytes after which the next answers break off, one per answer.
        answers: statuses of the next answers, instead of files.
        ranges: whether parts are given.
        versions: whether the server says which version of a file it gives.

    A path below ``/hub`` is answered as the hub does for large files: with what it is and where.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.authorizations: list[str | None] = []
        self.breaks: list[int] = []
        self.answers: list[int] = []
        self.ranges = True
        self.versions = True

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_port}{path}"


class _Handler(BaseHTTPRequestHandler):
    server: FileServer

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        self.server.authorizations.append(self.headers.get("Authorization"))
        if self.server.answers:
            self.send_error(self.server.answers.pop(0))
            return
        if self.path.startswith("/hub/"):
            path = self.path.removeprefix("/hub")
            content = self.server.files[path]
            self.send_response(302)
            self.send_header("Location", f"http://localhost:{self.server.server_port}{path}")
            self.send_header("X-Linked-Etag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("X-Linked-Size", str(len(content)))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if self.path not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[self.path]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        same = self.headers.get("If-Range") in (None, etag)
        begin = 0
        if asked and same and self.server.ranges:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - begin))
        if self.server.versions:
            self.send_header("ETag", etag)
        self.send_header("X-Repo-Commit", "0" * 40)  # as the Hugging Face hub
        self.end_headers()
        if body:
            end = begin + self.server.breaks.pop(0) if self.server.breaks else len(content)
            self.wfile.write(content[begin:end])

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving() -> Iterator[FileServer]:
    server = FileServer()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
