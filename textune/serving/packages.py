"""What a server needs beside textune, and what to say where it is not installed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from textune.errors import ModelError

_NEEDED = frozenset({"fastapi", "starlette", "uvicorn", "prometheus_client"})


@contextlib.contextmanager
def needing_packages() -> Iterator[None]:
    """ModelError with the command where the packages of a server are missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _NEEDED:
            raise
        raise ModelError(
            f"a server needs {error.name}, which is not installed.", hint='Run `pip install "textune[serve]"`.'
        ) from error
