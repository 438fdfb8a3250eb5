"""An application behind a real socket of this machine, served by a thread of this process."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from kits.patience import PATIENCE


@contextlib.contextmanager
def listening(app: Any) -> Iterator[str]:
    """The address where `app` answers."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    end = time.monotonic() + PATIENCE
    while not server.started:
        assert thread.is_alive() and time.monotonic() < end
        time.sleep(0.01)
    [socket] = server.servers[0].sockets
    try:
        yield "http://{}:{}".format(*socket.getsockname())
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
