"""What every request goes through before a shape sees it: its token, its body (`bodies.py`), whether its client is
still there; and how a refusal becomes an answer. After `models.py`, before `shapes/`."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from textune.serving.bodies import unreadable, with_body
from textune.serving.models import Models
from textune.serving.refusals import STATUS, Kind, Refusal, refusal_of
from textune.serving.settings import Settings

Form = Callable[[Refusal], Response]
"""How a shape writes a refusal."""
_KINDS: dict[int, Kind] = {status: kind for kind, status in reversed(STATUS.items())}


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
                        read = await with_body(request, settings)
                        async with _while_there(request.receive):
                            return await handle(read)
                    return await handle(request)
                except RequestValidationError as error:
                    refusal = unreadable(error)
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


@contextlib.asynccontextmanager
async def _while_there(receive: Receive) -> AsyncIterator[None]:
    """Cancel what is done for a client that has hung up, so that it takes nobody's place in the queue: Refusal `gone`.
    The request's body has been received."""

    async def watch() -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        limit.reschedule(asyncio.get_running_loop().time())

    try:
        async with asyncio.timeout(None) as limit:
            watching = asyncio.create_task(watch())
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        raise Refusal("gone", "The client has gone.") from None
