"""A small hub of models on loopback: the requests of a push, answered and kept, with faults put in front of them."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_" + "a" * 30
"""The one that the hub knows."""


class Repo:
    """A repository: its branches, each with the files of its head."""

    def __init__(self, *, private: bool, files: dict[str, bytes] | None = None) -> None:
        self.private = private
        self.branches: dict[str, dict[str, bytes]] = {"main": files or {}}
        self.commits: list[dict[str, Any]] = []
        """The header of each."""

    def head(self, branch: str) -> str:
        """A hash of what is there."""
        held = sorted((path, hashlib.sha1(data).hexdigest()) for path, data in self.branches[branch].items())
        return hashlib.sha1(json.dumps(held).encode()).hexdigest()


class Hub:
    """`faults`: a piece of a path to the status and the words with which requests for it are refused. Of a file that
    comes by Xet only its hash is kept."""

    def __init__(self) -> None:
        self.url = ""
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.faults: dict[str, tuple[int, str]] = {}
        self.requests: list[str] = []
        self.yaml: dict[str, list[dict[str, str]]] = {"errors": [], "warnings": []}
        """What is said of the lines before a card's text."""

    def fault(self, path: str) -> tuple[int, str] | None:
        """What a request for a path fails with."""
        return next((fault for piece, fault in self.faults.items() if piece in path), None)

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers of the answer to a request of somebody who is known."""
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return 400 if self.yaml["errors"] else 200, self.yaml, {}
        if path.startswith("/xet/"):
            return (404, {}, {}) if "/chunks/" in path else (200, {"was_inserted": True, "type": "result"}, {})
        if path.startswith("/blobs/") and method == "PUT":
            self.blobs[path.removeprefix("/blobs/")] = body
            return 200, {}, {}
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"transfer": "basic", "objects": [self._upload(it) for it in json.loads(body)["objects"]]}, {}
        if "/xet-write-token/" in path:
            until, place = int(time.time()) + 3600, f"{self.url}/xet"
            return 200, {"accessToken": "of xet", "casUrl": place, "exp": until}, {}
        owner, name, *rest = path.removeprefix("/api/models/").split("/")
        repo = self.repos.get(f"{owner}/{name}")
        if repo is None:
            return 404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"}
        branch = unquote(rest[1]) if len(rest) > 1 else "main"
        if branch not in repo.branches:
            return 404, {"error": f"Invalid rev id: {branch}"}, {"X-Error-Code": "RevisionNotFound"}
        if not rest or rest[0] == "revision":
            siblings = [{"rfilename": path} for path in repo.branches[branch]]
            known = {"id": f"{owner}/{name}", "private": repo.private, "sha": repo.head(branch), "siblings": siblings}
            return 200, known, {}
        if rest[0] == "preupload":
            return 200, {"files": [self._mode(file) for file in json.loads(body)["files"]]}, {}
        return self._commit(repo, f"{owner}/{name}", branch, [json.loads(line) for line in body.splitlines()])

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any, dict[str, str]]:
        name = f"{asked['organization']}/{asked['name']}"
        self.repos[name] = Repo(private=asked.get("visibility") == "private", files={".gitattributes": b""})
        return 200, {"url": f"{self.url}/{name}"}, {}

    def _upload(self, blob: dict[str, Any]) -> dict[str, Any]:
        return {**blob, "actions": {"upload": {"href": f"{self.url}/blobs/{blob['oid']}"}}}

    def _mode(self, file: dict[str, Any]) -> dict[str, Any]:
        large = file["path"].endswith(".safetensors")
        return {"path": file["path"], "uploadMode": "lfs" if large else "regular", "shouldIgnore": False}

    def _commit(
        self, repo: Repo, name: str, branch: str, lines: list[dict[str, Any]]
    ) -> tuple[int, Any, dict[str, str]]:
        head, *changes = lines
        if head["value"].get("parentCommit") not in (None, repo.head(branch)):
            return 412, {"error": "A commit has happened since"}, {}
        files = dict(repo.branches[branch])
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                files[value["path"]] = self.blobs.get(value["oid"], value["oid"].encode())
            else:
                del files[value["path"]]
        repo.branches[branch] = files
        repo.commits.append(head["value"])
        oid = repo.head(branch)
        return 200, {"commitUrl": f"{self.url}/{name}/commit/{oid}", "commitOid": oid}, {}


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self._body()
            path = urlsplit(self.path).path
            hub.requests.append(f"{self.command} {path}")
            fault = hub.fault(path)
            if fault is not None:
                self._send(fault[0], {"error": fault[1]}, {})
            elif not path.startswith(("/blobs/", "/xet/")) and self.headers.get("authorization") != f"Bearer {TOKEN}":
                said = "Invalid credentials in Authorization header"
                self._send(401, {"error": said}, {"X-Error-Message": said})
            else:
                self._send(*hub.answer(self.command, path, body))

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            parts = []
            while size := int(self.rfile.readline(), 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _send(self, status: int, answer: Any, headers: dict[str, str]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            usual = {"Content-Type": "application/json", "Content-Length": str(len(data))}
            for name, value in (usual | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = _serve

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler


@contextmanager
def hub_on_loopback() -> Iterator[Hub]:
    """A hub that answers while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
