"""A real MLflow server in a thread, with faults put in front of it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

LONGEST = 200
"""Characters of a value that the server takes while it is narrow."""

QUIET = pytest.mark.filterwarnings(
    "ignore:The ``noload`` loader strategy:DeprecationWarning",  # MLflow's tables, in the SQLAlchemy of today
    "ignore:starlette.middleware.wsgi is deprecated",
)
"""What MLflow and its parts warn of while they are imported."""


class Server:
    """`mode` is what the next requests get: healthy, hangs, fails (500), closes (no answer), full (500 for whatever
    writes), narrow (400 for values of more than `LONGEST` characters)."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.mode = "healthy"
        self.requests: list[str] = []
        """Method and path of every request."""
        self.let_go = threading.Event()
        """Ends what hangs."""
        self.url = ""

    def heal(self) -> None:
        """Work again; what hangs is let go, without an answer."""
        self.mode = "healthy"
        self.let_go.set()
        self.let_go = threading.Event()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        self.requests.append(f"{method} {path}")
        if self.mode == "hangs":
            self.let_go.wait(60)
            self._close(environ)
        elif self.mode == "closes":
            self._close(environ)
        elif self.mode == "fails" or (self.mode == "full" and self._writes(method, path)):
            start("500 Internal Server Error", [("Content-Type", "text/plain")])
            return [b"No space left on device"]
        elif self.mode == "narrow" and method == "POST":
            size = int(environ.get("CONTENT_LENGTH") or 0)
            body = environ["wsgi.input"].read(size)
            if self._is_long(body):
                start("400 Bad Request", [("Content-Type", "application/json")])
                return [json.dumps({"error_code": "INVALID_PARAMETER_VALUE", "message": "too long"}).encode()]
            environ["wsgi.input"] = _Body(body)
        return self._application(environ, start)  # type: ignore[no-any-return]

    @staticmethod
    def _writes(method: str, path: str) -> bool:
        return method == "PUT" or path.endswith(("log-batch", "set-tag"))

    @staticmethod
    def _close(environ: dict[str, Any]) -> None:
        environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        raise ConnectionAbortedError

    @staticmethod
    def _is_long(body: bytes) -> bool:
        found = json.loads(body or b"{}")
        values = [*found.get("params", []), *found.get("tags", []), *([found] if "value" in found else [])]
        return any(len(one["value"]) > LONGEST for one in values)


class _Body:
    def __init__(self, body: bytes) -> None:
        self._body = body

    def read(self, size: int = -1) -> bytes:
        size = len(self._body) if size < 0 else size
        read, self._body = self._body[:size], self._body[size:]
        return read

    def readline(self, size: int = -1) -> bytes:
        return self.read(size)


@contextmanager
def serving(folder: Path) -> Iterator[Server]:
    """A server whose database and artefacts are in a folder; one in a process, as MLflow keeps its store."""
    settings = {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{folder / 'server.db'}",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(folder / "artefacts"),
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in settings.items():
            patch.setenv(name, value)
        yield from _serving()


def _serving() -> Iterator[Server]:
    from mlflow.server import app
    from mlflow.tracking import MlflowClient
    from werkzeug.serving import ThreadedWSGIServer, WSGIRequestHandler

    class Handler(WSGIRequestHandler):
        def log(self, *arguments: object) -> None:
            pass

    class Quiet(ThreadedWSGIServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(app)
    with Quiet("127.0.0.1", 0, server, handler=Handler) as listening:
        server.url = f"http://127.0.0.1:{listening.server_port}"
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            MlflowClient(tracking_uri=server.url).search_runs(["0"])  # makes the tables, imports the rest
            yield server
        finally:
            server.let_go.set()
            listening.shutdown()
            thread.join()
