"""Why a request is not answered; each shape writes it in the form of its clients. Before every other module here."""

from __future__ import annotations

import logging
import traceback
from typing import Final, Literal, get_args

from textune.errors import DataError, TextuneError

Kind = Literal[
    "malformed",
    "unauthorized",
    "forbidden",
    "unknown",
    "slow",
    "conflict",
    "too_large",
    "media_type",
    "unusable",
    "failed",
    "full",
    "gone",
    "internal",
    "late",
    "stopping",
]
"""What is wrong, in one word. `gone`: the client has hung up, and nobody reads the answer."""
STATUS: Final[dict[Kind, int]] = dict(
    zip(get_args(Kind), (400, 401, 403, 404, 408, 409, 413, 415, 422, 424, 429, 499, 500, 503, 503), strict=True)
)
"""The status code of HTTP for each."""

_log = logging.getLogger("textune.serving")


class Refusal(Exception):
    """A request that is not answered: a sentence for whoever sent it."""

    def __init__(self, kind: Kind, sentence: str, *, retry_after: int | None = None) -> None:
        super().__init__(sentence)
        self.kind: Final = kind
        self.status: Final = STATUS[kind]
        self.sentence: Final = sentence
        self.retry_after: Final = retry_after
        """Seconds after which it is worth asking again."""

    @property
    def headers(self) -> dict[str, str]:
        """Those of HTTP that go with it."""
        headers = {} if self.retry_after is None else {"retry-after": str(self.retry_after)}
        return headers | ({"www-authenticate": "Bearer"} if self.kind == "unauthorized" else {})


def refusal_of(error: Exception) -> Refusal:
    """What an error says to whoever sent the request; one that is a fault of ours goes to the log, without its
    message, which may hold a text."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, UnicodeEncodeError):
        return Refusal("unusable", "a text of `inputs` is not valid Unicode: it has half of a surrogate pair.")
    if isinstance(error, DataError):
        return Refusal("unusable", str(error))
    if isinstance(error, TextuneError):
        return Refusal("failed", str(error))
    if isinstance(error, RecursionError):
        return Refusal("malformed", "The body is nested too deeply.")
    frames = "".join(traceback.format_list(traceback.extract_tb(error.__traceback__)))
    _log.error("internal error: %s\n%s", type(error).__name__, frames.rstrip())
    return Refusal("internal", "Internal error; the server's log says where.")
