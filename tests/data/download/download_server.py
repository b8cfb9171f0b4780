"""A local HTTP server that gives parts of files, breaks off, lies and changes its files."""

from __future__ import annotations

import hashlib

from ...http_server import Handler, LocalServer


class FileServer(LocalServer):
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
        super().__init__(_Handler)
        self.files: dict[str, bytes] = {}
        self.requests: list[tuple[str, str | None]] = []
        self.authorizations: list[str | None] = []
        self.breaks: list[int] = []
        self.answers: list[int] = []
        self.ranges = True
        self.versions = True


class _Handler(Handler):
    server: FileServer

    def do_HEAD(self) -> None:
        self._file()

    def do_GET(self) -> None:
        self._file()

    def _file(self) -> None:
        asked = self.headers.get("Range")
        self.server.requests.append((self.path, asked))
        self.server.authorizations.append(self.headers.get("Authorization"))
        path = self.path.removeprefix("/hub")
        if self.server.answers:
            self.send_error(self.server.answers.pop(0))
            return
        if path not in self.server.files:
            self.send_error(404)
            return
        content = self.server.files[path]
        etag = f'"{hashlib.sha256(content).hexdigest()}"'
        if path != self.path:
            linked = {"X-Linked-Etag": etag, "X-Linked-Size": str(len(content))}
            there = f"http://localhost:{self.server.server_port}{path}"
            self.answer(302, {"Location": there, **linked})
            return
        same = self.headers.get("If-Range") in (None, etag)
        status, begin = 200, 0
        headers = {"X-Repo-Commit": "0" * 40}  # as the Hugging Face hub
        if asked and same and self.server.ranges:
            status, begin = 206, int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(content):
                self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        if self.server.versions:
            headers["ETag"] = etag
        end = len(content)
        if self.command == "GET" and self.server.breaks:
            end = begin + self.server.breaks.pop(0)
        length = {"Content-Length": str(len(content) - begin)}
        self.answer(status, headers | length, content[begin:end])
