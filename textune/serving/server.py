"""A server that runs until it is asked to stop: `textune serve`; after `app.py`.

SIGTERM and SIGINT: no new connections, what is in flight is answered, exit code 0. SIGHUP: every model is opened
again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Final

import uvicorn

from textune.errors import RunError
from textune.serving.app import build_app, reload_saying
from textune.serving.models import Models
from textune.serving.settings import Settings

IDLE_SECONDS: Final = 30
"""After which a connection without requests is closed."""


class _Server(uvicorn.Server):
    """Without uvicorn's way to end, which hands the signal on to the process."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _is_no_cut(record: logging.LogRecord) -> bool:
    """Whether a line of uvicorn's log is something else than the traceback of a request that the end of the drain has
    cut off: how many there were is a line of its own."""
    return not (record.exc_info and isinstance(record.exc_info[1], asyncio.CancelledError))


def serve(models: Models, settings: Settings, *, on_start: Callable[[str], None] = lambda address: None) -> None:
    """Answer requests until a signal asks to stop. `on_start` gets the address, once requests are answered. RunError
    where the address cannot be listened on."""
    listening = listen(settings)
    with contextlib.closing(listening):
        asyncio.run(_serve(models, settings, listening, on_start))


def listen(settings: Settings) -> socket.socket:
    """A socket at the address of these settings; RunError where it cannot be had."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # With the protocol left out asyncio would not set TCP_NODELAY: the body of an answer would wait for the client's
    # acknowledgement of its head, some 40 ms.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except (OSError, OverflowError) as error:
        listening.close()
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise RunError(
            f"cannot listen on {settings.host}:{settings.port}: {reason}.",
            hint="Choose another with --port, or stop what listens there.",
            key="port",
            value=settings.port,
            reason=reason,
        ) from error
    return listening


async def _serve(
    models: Models, settings: Settings, listening: socket.socket, on_start: Callable[[str], None]
) -> None:
    config = uvicorn.Config(
        build_app(models, settings),
        access_log=False,
        log_level="warning",
        limit_concurrency=settings.max_connections + 1,  # from which on uvicorn refuses
        timeout_keep_alive=IDLE_SECONDS,
        timeout_graceful_shutdown=int(settings.drain) + 1,
        server_header=False,
    )
    server = _Server(config)
    logging.getLogger("uvicorn.error").addFilter(_is_no_cut)
    loop = asyncio.get_running_loop()
    reloading: set[asyncio.Task[str]] = set()

    def stop() -> None:
        server.should_exit = True

    def reload() -> None:
        for served in models:
            task = asyncio.create_task(reload_saying(models, served.name))
            reloading.add(task)
            task.add_done_callback(reloading.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    loop.add_signal_handler(signal.SIGHUP, reload)
    starting = asyncio.create_task(_say_started(server, settings, listening, on_start))
    try:
        await server.serve(sockets=[listening])
    finally:
        starting.cancel()
        logging.getLogger("uvicorn.error").removeFilter(_is_no_cut)


async def _say_started(
    server: uvicorn.Server, settings: Settings, listening: socket.socket, on_start: Callable[[str], None]
) -> None:
    while not server.started:
        await asyncio.sleep(0.01)
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    on_start(f"http://{host}:{listening.getsockname()[1]}")
