"""Exit codes of the command line, and how an error gets its own; beside errors.py, below every room.

A scheduler needs one rule: codes from 64 on mean that the same command may succeed later, once the time, the memory or
the room is there. 1 and 2 mean that it will fail again until somebody mends something. 64 to 78 are those of BSD's
sysexits, and 128 plus the number of a signal is what shells use.
"""

from __future__ import annotations

import errno
import http.client
import socket
import urllib.error
from collections.abc import Iterator
from dataclasses import dataclass

from textune.errors import AGAIN, FAULT, MEND, NO_MEMORY, NO_ROOM, CodeError, TextuneError
from textune.locks import Held


@dataclass(frozen=True)
class ExitCode:
    """One row of the table."""

    code: int
    meaning: str

    @property
    def again(self) -> bool:
        """Whether the same command may succeed later."""
        return self.code >= FIRST_AGAIN


FIRST_AGAIN = 64
"""The lowest code after which a scheduler may try again."""
TABLE = (
    ExitCode(0, "done"),
    ExitCode(FAULT, "a fault of textune, or a promise or proof that does not hold"),
    ExitCode(MEND, "mend it: the command, the configuration, the rows or a file"),
    ExitCode(NO_MEMORY, "try again with more memory, or with fewer tokens at once"),
    ExitCode(NO_ROOM, "try again once there is room: the disk is full"),
    ExitCode(AGAIN, "try again: in use, the network failed, or a process was lost"),
    ExitCode(130, "try again: stopped by Ctrl+C (SIGINT)"),
    ExitCode(138, "try again: stopped by SIGUSR1, a scheduler's warning"),
    ExitCode(143, "try again: stopped by SIGTERM"),
)
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NETWORK = {
    errno.EADDRINUSE,  # a port, as while another process still ends
    errno.ECONNREFUSED,
    errno.ECONNRESET,
    errno.ECONNABORTED,
    errno.ENETUNREACH,
    errno.ENETDOWN,
    errno.EHOSTUNREACH,
    errno.ETIMEDOUT,
}
_UNKNOWN_HOST = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}
"""No host has this name, or it has no address; not every platform knows the second."""
_CLIENTS = {"httpx", "httpx2", "requests", "aiohttp"}
"""Packages that speak HTTP; named, since one that is not in use is not imported."""
_NO_ANSWER = {"TransportError", "ConnectionError", "Timeout", "ClientConnectionError"}
"""Their errors where no answer came."""
_WORDS_OF_MEMORY = ("can't allocate memory", "not enough memory", "out of memory", "bad_alloc", "status_alloc_failed")


def code_of_error(error: BaseException) -> int:
    """The code of an error: its own, else that of what caused it; `FAULT` where nothing tells that a user could help.

    What caused an error of ours counts also where its traceback is hidden (`from None`).
    """
    if isinstance(error, KeyboardInterrupt):
        return 130
    if isinstance(error, TextuneError) and error.exit_code != MEND:
        return error.exit_code
    causes = _causes(error) if isinstance(error, TextuneError | OSError) else iter((error,))
    for cause in causes:
        if is_out_of_memory(cause):
            return NO_MEMORY
        if isinstance(cause, OSError) and cause.errno in _FULL:
            return NO_ROOM
        if isinstance(cause, Held):
            return AGAIN
        if _is_of_the_network(cause):
            return MEND if any(_is_unknown_host(further) for further in _causes(cause)) else AGAIN
    return MEND if isinstance(error, TextuneError | OSError) else FAULT


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out: torch's own error, Python's, or one of the sentences that torch's C++ raises; also
    within code of the user's own."""
    if isinstance(error, CodeError) and error.__cause__ is not None:
        return is_out_of_memory(error.__cause__)
    if isinstance(error, MemoryError):
        return True
    # torch.OutOfMemoryError is a RuntimeError, and so is what its C++ raises.
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS_OF_MEMORY)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, and what it was raised from or during, the nearest first."""
    found: BaseException | None = error
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        yield found
        if isinstance(found, urllib.error.URLError) and isinstance(found.reason, BaseException):
            yield found.reason
        found = found.__cause__ or found.__context__


def _is_of_the_network(error: BaseException) -> bool:
    """Whether no answer came, or one that asks to come back later."""
    if isinstance(error, urllib.error.HTTPError):
        return worth_a_retry(error.code)
    if isinstance(error, socket.gaierror | TimeoutError | http.client.HTTPException):
        return True
    if isinstance(error, OSError) and error.errno in _NETWORK:
        return True
    of_a_client = {kind.__name__ for kind in type(error).__mro__ if kind.__module__.partition(".")[0] in _CLIENTS}
    status = getattr(getattr(error, "response", None), "status_code", None) if of_a_client else None
    return bool(of_a_client & _NO_ANSWER) or (isinstance(status, int) and worth_a_retry(status))


def _is_unknown_host(error: BaseException) -> bool:
    """Whether the name service answered that no host has this name; EAI_AGAIN says that it could not be asked."""
    return isinstance(error, socket.gaierror) and error.errno in _UNKNOWN_HOST


def worth_a_retry(status: int) -> bool:
    """Whether an HTTP status says that the same request may succeed later."""
    return status in (408, 425, 429) or status >= 500
