"""What every request goes through before a shape sees it: token, kind and size of the body, time; and how a refusal
becomes an answer. After `models.py`, before `shapes/`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from textune.serving.models import Models
from textune.serving.refusals import STATUS, Kind, Refusal, refusal_of
from textune.serving.settings import Settings
from textune.wording import listing

Form = Callable[[Refusal], Response]
"""How a shape writes a refusal."""
_KINDS: dict[int, Kind] = {status: kind for kind, status in reversed(STATUS.items())}
_PASSED_OVER = 4
"""A body that is too large is read on to so many times the limit, since clients listen only after they have sent
it."""


def guarded(models: Models, settings: Settings, form: Form, *, streamed: bool = False) -> type[APIRoute]:
    """The class of routes of a shape (`APIRouter(route_class=...)`): it refuses what has no token, and what a shape
    cannot read, in the shape's own form. `streamed`: the shape reads the body itself."""

    class Guarded(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def answer(request: Request) -> Response:
                try:
                    require_token(request, settings)
                    if request.method == "POST" and not streamed and self.body_field is not None:
                        _require_json(request)
                        request = await _with_body(request, settings)
                    return await handle(request)
                except RequestValidationError as error:
                    refusal = _unreadable(error)
                except HTTPException as error:
                    refusal = Refusal(_KINDS.get(error.status_code, "malformed"), f"{error.detail}.")
                except ClientDisconnect:
                    refusal = Refusal("malformed", "The request ended before its body.")
                except Exception as error:
                    refusal = refusal_of(error)
                models.refused(refusal.kind)
                return form(refusal)

            return answer

    return Guarded


def require_token(request: Request, settings: Settings) -> None:
    """Refusal `unauthorized` where a token is asked for and the request has another one, or none."""
    if settings.token is None:
        return
    given = request.headers.get("authorization", "")
    if not secrets.compare_digest(given.encode("latin-1"), f"Bearer {settings.token}".encode()):
        raise Refusal("unauthorized", "This server asks for its token: send `Authorization: Bearer TOKEN`.")


def _require_json(request: Request) -> None:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    main, _, sub = kind.partition("/")
    if main != "application" or not (sub == "json" or sub.endswith("+json")):
        raise Refusal("media_type", "The body must be JSON: send `Content-Type: application/json`.")


async def _with_body(request: Request, settings: Settings) -> Request:
    """The request with its body read. Refusal for a body that is too large or too slow."""
    limit = settings.max_body
    too_large = Refusal("too_large", f"The body has more than {limit:,} bytes: send fewer texts at once.")
    size = request.headers.get("content-length", "")
    if size.isdigit() and int(size) > _PASSED_OVER * limit:
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
    body: Message = {"type": "http.request", "body": b"".join(chunks), "more_body": False}

    async def receive() -> Message:
        return body

    return Request(request.scope, receive)


def _unreadable(error: RequestValidationError) -> Refusal:
    """The sentence of a body that is JSON of another form, or none at all. It holds nothing of the body."""
    errors = error.errors()
    if errors[0]["type"] == "json_invalid":
        return Refusal("malformed", f"The body is not JSON: {errors[0]['ctx']['error']}.")
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
