"""The body of a request: read within its limits, parsed once, and what is said of one that is not as it should be;
before `guarded.py`.

All of this runs in the thread of the event loop, where one request must not keep the others waiting: what a body may
make it do is bounded before it is done.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from typing import Any, Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, ModelWrapValidatorHandler, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from starlette.types import Message

from textune.serving.refusals import Refusal
from textune.serving.settings import Settings
from textune.wording import listing

MAX_VALUES = 100_000
"""Most values of a body, at all depths; a request of 256 pairs has a hundredth."""
MAX_MISTAKES = 100
"""More of them are counted, and not told one by one: each costs as much as to read a hundred texts."""
_STRINGS = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_PASSED_OVER = 4
"""A body that is too large is read on to so many times the limit, since clients listen only after they have sent
it."""


class Body(BaseModel):
    """What every shape's request is: strict, and quick to refuse."""

    model_config = ConfigDict(strict=True)

    @model_validator(mode="wrap")
    @classmethod
    def _with_few_mistakes(cls, given: Any, handler: ModelWrapValidatorHandler[Body]) -> Body:
        try:
            return handler(given)
        except ValidationError as error:
            if error.error_count() <= MAX_MISTAKES:
                raise
            raise PydanticCustomError("many", "Input should be another: very many of its values are wrong") from None


class Parsed(Request):
    """A request whose body is at hand."""

    def __init__(self, request: Request, content: bytes) -> None:
        async def receive() -> Message:
            return {"type": "http.request", "body": content, "more_body": False}

        super().__init__(request.scope, receive)
        self._value: Final = parsed(content) if content else None

    async def json(self) -> Any:
        """What the body says."""
        return self._value


async def with_body(request: Request, settings: Settings) -> Parsed:
    """The request with its body read and parsed. Refusal for a body that is not said to be JSON, is too large or too
    slow, or is not JSON."""
    _require_json(request)
    limit = settings.max_body
    too_large = Refusal("too_large", f"The body has more than {limit:,} bytes: send fewer texts at once.")
    size = request.headers.get("content-length", "")
    if size.isdecimal() and int(size) > _PASSED_OVER * limit:
        raise too_large
    chunks: list[bytes] = []
    num_bytes = 0
    try:
        async with asyncio.timeout(settings.timeout):
            async for chunk in request.stream():
                num_bytes += len(chunk)
                if num_bytes <= limit:
                    chunks.append(chunk)
                elif num_bytes > _PASSED_OVER * limit:
                    raise too_large
    except TimeoutError:
        raise Refusal("slow", f"The body did not arrive within {settings.timeout:g} seconds.") from None
    if num_bytes > limit:
        raise too_large
    return Parsed(request, b"".join(chunks))


def _require_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    main, _, sub = kind.partition("/")
    if main != "application" or not (sub == "json" or sub.endswith("+json")):
        raise Refusal("media_type", "The body must be JSON: send `Content-Type: application/json`.")


def parsed(content: bytes, what: str = "The body") -> Any:
    """The value of JSON, in which every number is finite: an answer may repeat what it was asked. Refusal for what is
    not JSON, and for more than `MAX_VALUES`; its sentence calls it `what`, and holds nothing of it."""
    try:
        text = content.decode("utf-8-sig")
        _require_few_values(text, what)
        return json.loads(text, parse_constant=_no_number, parse_float=_number)
    except json.JSONDecodeError as error:
        raise Refusal("malformed", f"{what} is not JSON: {error.msg}.") from None
    except RecursionError:
        raise Refusal("malformed", f"{what} is nested too deeply.") from None
    except ValueError:
        raise Refusal("malformed", f"{what} is not JSON: it is not UTF-8, or a number has too many digits.") from None


def _require_few_values(text: str, what: str) -> None:
    """Counted by what opens or parts them, before they are made: that takes seconds."""
    if _num_marks(text) > MAX_VALUES and _num_marks(_STRINGS.sub("", text)) > MAX_VALUES:
        raise Refusal("too_large", f"{what} has more than {MAX_VALUES:,} values: send fewer texts at once.")


def _num_marks(text: str) -> int:
    return sum(map(text.count, "[{,"))


def _no_number(word: str) -> float:
    raise Refusal("malformed", f"It is not JSON, which has no {word}.")


def _number(digits: str) -> float:
    if not math.isfinite(value := float(digits)):
        raise Refusal("malformed", "It has a number that is too large.")
    return value


def unreadable(error: RequestValidationError) -> Refusal:
    """The sentence of a body that is JSON of another form. It holds nothing of the body."""
    errors = error.errors()
    place = [str(part) for part in errors[0]["loc"][1:2]]
    wanted = dict.fromkeys(
        one["msg"].removeprefix("Input should be ")
        for one in errors
        if one["loc"][1:2] == tuple(errors[0]["loc"][1:2])
    )
    key = f"`{place[0]}`" if place else "the body"
    if errors[0]["type"] == "missing":
        return Refusal("unusable", f"{key} is missing.")
    return Refusal("unusable", f"{key} is not as it should be: {listing(wanted, 3)}.")
