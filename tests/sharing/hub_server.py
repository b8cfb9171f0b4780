"""A local stand-in for the Hugging Face hub: its HTTP interface, as far as policies need it.

Repositories are made, listed, committed to (small files in the commit, large ones by the LFS
protocol) and downloaded from, at any commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from ..http_server import Handler, LocalServer

TOKEN = "hf_secret_of_nobody"


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, files: dict[str, bytes], message: str = "", branch: str = "main") -> str:
        self.messages.append(message)
        name = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[name] = files
        self.branches[branch] = name
        return name

    def at(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        name = self.branches.get(revision, revision)
        return (name, self.commits[name]) if name in self.commits else None


class HubServer(LocalServer):
    """Holds `repositories` by name; every request is kept as (method, path)."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.repositories: dict[str, Repository] = {}
        self.requests: list[tuple[str, str]] = []
        self.large: dict[str, bytes] = {}
        self.broken = False

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        found = self.repositories[repo].at(revision)
        assert found is not None
        return found[1]


class _Handler(Handler):
    server: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._handle()

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def do_PUT(self) -> None:
        self._handle()

    def _handle(self) -> None:
        path = unquote(urlsplit(self.path).path).strip("/")
        self.server.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = path.split("/")
        if self.server.broken:
            self._json({"error": "broken"}, 501)
        elif path == "api/validate-yaml":
            content = json.loads(body)["content"]
            bad = "license: proprietary" in content
            errors = [{"message": '"license" must be one of [mit, ...]'}] if bad else []
            self._json({"errors": errors, "warnings": []}, 400 if bad else 200)
        elif path == "api/repos/create":
            self._create(json.loads(body))
        elif parts[0] == "large":
            self.server.large[parts[1]] = body
            self._json({})
        elif parts[:2] == ["api", "models"]:
            self._api("/".join(parts[2:4]), parts[4:], body)
        elif path.endswith("info/lfs/objects/batch"):
            self._batch(json.loads(body))
        elif parts[2:3] == ["resolve"]:
            self._file("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._json({"error": "no such thing"}, 404)

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _repository(self, repo: str) -> Repository | None:
        """Return a repository, or answer why not: the hub does not tell what is private."""
        found = self.server.repositories.get(repo)
        if found is None or (found.private and not self._known):
            self._json({"error": "Repository not found"}, 401, code="RepoNotFound")
            return None
        if found.gated and not self._known:
            self._json({"error": "Access to it is restricted"}, 403, code="GatedRepo")
            return None
        return found

    def _create(self, wanted: dict[str, Any]) -> None:
        if not self._known:
            self._json({"error": "Invalid username or password."}, 401)
            return
        repo = f"{wanted['organization']}/{wanted['name']}"
        there = repo in self.server.repositories
        if not there:
            private = wanted.get("private") or wanted.get("visibility") == "private"
            self.server.repositories[repo] = Repository(private=bool(private))
            self.server.repositories[repo].commit({".gitattributes": b""})
        self._json({"url": f"{self.server.url}/{repo}"}, 409 if there else 200)

    def _api(self, repo: str, rest: list[str], body: bytes) -> None:
        found = self._repository(repo)
        if found is None:
            return
        revision = rest[1] if len(rest) > 1 else "main"
        state = found.at(revision)
        if state is None:
            self._json({"error": "Invalid rev id"}, 404, code="RevisionNotFound")
            return
        commit, files = state
        if not rest or rest[0] == "revision":
            siblings = [{"rfilename": name} for name in files]
            info = {"id": repo, "sha": commit, "private": found.private, "siblings": siblings}
            self._json(info)
        elif rest[0] == "tree":
            self._json(
                [
                    {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                    for name, content in files.items()
                ]
            )
        elif rest[0] == "preupload":
            mode = {True: "lfs", False: "regular"}
            self._json(
                {
                    "files": [
                        {
                            "path": file["path"],
                            "uploadMode": mode[file["path"].endswith((".safetensors", ".onnx"))],
                            "shouldIgnore": False,
                        }
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        elif rest[0] == "commit":
            name = self._commit(found, revision, dict(files), body)
            self._json(
                {
                    "success": True,
                    "commitOid": name,
                    "commitUrl": f"{self.server.url}/{repo}/commit/{name}",
                }
            )
        else:
            self._json({"error": "no such thing"}, 404)

    def _commit(self, found: Repository, branch: str, files: dict[str, bytes], body: bytes) -> str:
        message = ""
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        return found.commit(files, message, branch)

    def _batch(self, asked: dict[str, Any]) -> None:
        objects = [
            {
                "oid": one["oid"],
                "size": one["size"],
                "actions": {"upload": {"href": f"{self.server.url}/large/{one['oid']}"}},
            }
            for one in asked["objects"]
        ]
        self._json({"transfer": "basic", "objects": objects})

    def _file(self, repo: str, revision: str, name: str) -> None:
        found = self._repository(repo)
        if found is None:
            return
        state = found.at(revision)
        if state is None:
            self._json({"error": "Invalid rev id"}, 404, code="RevisionNotFound")
            return
        commit, files = state
        if name not in files:
            self._json({"error": "Entry not found"}, 404, code="EntryNotFound")
            return
        etag = f'"{hashlib.sha256(files[name]).hexdigest()}"'
        self.answer(200, {"ETag": etag, "X-Repo-Commit": commit}, files[name])

    def _json(self, value: Any, status: int = 200, *, code: str = "") -> None:
        headers = {"Content-Type": "application/json"} | ({"X-Error-Code": code} if code else {})
        self.answer(status, headers, json.dumps(value).encode())
