"""`POST /batch`: JSON lines in, JSON lines out, in the same order, while they arrive.

A line is a text ("..."), a pair (["...", "..."]) or an object with the columns that the model was trained on. Its
answer has the columns that `textune predict` adds. A line that cannot be answered has an object with `error` in its
place, and the others are answered. A stream never has more than a few lines in the queue: it waits where others are
refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from functools import partial
from itertools import groupby
from typing import Any, NamedTuple

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic import JsonValue
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from textune.batches import TokenStore, join_stores
from textune.errors import InputError
from textune.prediction import Predictor, named_scores
from textune.serving.bodies import parsed
from textune.serving.guarded import guarded
from textune.serving.models import Models
from textune.serving.refusals import Kind, Refusal
from textune.serving.settings import Settings
from textune.serving.shapes.tei import refused, write_error

LINES = 64
"""Lines that are answered together, at most ..."""
CHARACTERS = 65_536
"""... and so many characters, or one line with more."""
CHUNKS = 2
"""Of a stream, so many such parts are in the queue at once: one is tokenised while the other is computed."""
PAUSE = 0.1
"""Seconds until a stream that found the queue full asks again."""
_OF_ONE_LINE: frozenset[Kind] = frozenset({"unusable", "too_large", "failed"})
"""Refusals that may be due to one of several lines."""

KIND = "application/x-ndjson"
_LINES_IN = {"requestBody": {"required": True, "content": {KIND: {"schema": {"type": "string"}}}}}
_LINES_OUT: dict[int | str, dict[str, Any]] = {200: {"content": {KIND: {"schema": {"type": "string"}}}}}


def router(models: Models, settings: Settings) -> APIRouter:
    """The shape's one route."""
    routes = APIRouter(route_class=guarded(models, settings, write_error, streamed=True), tags=["JSON lines"])

    @routes.post(
        "/batch",
        openapi_extra=_LINES_IN,
        responses=_LINES_OUT | refused(401, 404, 422),
        response_class=Response,
    )
    async def batch(request: Request, all_scores: bool = False) -> Response:
        """A line of JSON for each line of JSON: what `textune predict` writes of it, with `all_scores` also of every
        label."""
        name = models.of(request).name
        return _LineAnswers(_Stream(models, settings, name, all_scores=all_scores), request)

    return routes


class _Value(NamedTuple):
    """What a line says."""

    json: JsonValue
    size: int
    """Bytes of the line."""


class _LineAnswers(Response):
    """An answer that begins before the request has ended."""

    media_type = KIND

    def __init__(self, stream: _Stream, request: Request) -> None:
        super().__init__()
        del self.headers["content-length"]
        self._stream, self._request = stream, request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        timeout = self._stream.settings.timeout
        with contextlib.suppress(ClientDisconnect):
            async with contextlib.aclosing(self._stream.answers(self._request)) as answers:
                async for lines in answers:
                    try:
                        async with asyncio.timeout(timeout):
                            await send({"type": "http.response.body", "body": lines, "more_body": True})
                    except TimeoutError:
                        return  # a client that does not read must not hold its lines for ever: it is cut off
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Stream:
    """The lines of one request and their answers."""

    def __init__(self, models: Models, settings: Settings, name: str, *, all_scores: bool) -> None:
        self.settings = settings
        self._models, self._name, self._all_scores = models, name, all_scores
        self._is_cut_short = False

    async def answers(self, request: Request) -> AsyncGenerator[bytes]:
        """The answers of some lines after the other."""
        pending: deque[asyncio.Task[bytes]] = deque()
        chunks = self._chunks(request)

        async def following() -> list[bytes | None] | None:
            return await anext(chunks, None)

        coming: asyncio.Task[list[bytes | None] | None] | None = asyncio.create_task(following())
        try:
            while pending or coming is not None:
                has_room = coming is not None and len(pending) < CHUNKS
                # An answer goes out as soon as it is there: its client may wait for it before it sends more.
                waited: list[asyncio.Task[Any]] = [coming] if coming is not None and has_room else []
                await asyncio.wait([*waited, *list(pending)[:1]], return_when=asyncio.FIRST_COMPLETED)
                if pending and pending[0].done():
                    yield pending.popleft().result()
                elif coming is not None and has_room:
                    chunk, coming = coming.result(), None
                    if chunk is not None:
                        pending.append(asyncio.create_task(self._answer(chunk)))
                        coming = asyncio.create_task(following())
            if self._is_cut_short:
                yield _line({"error": f"Nothing more came within {self.settings.timeout:g} seconds."})
        finally:
            for task in (*pending, *([] if coming is None else [coming])):
                task.cancel()

    async def _chunks(self, request: Request) -> AsyncIterator[list[bytes | None]]:
        """Lines as they arrive; None for one that is too long."""
        limit, rest, is_long = self.settings.max_body, bytearray(), False
        pieces = aiter(request.stream())
        while True:
            try:
                async with asyncio.timeout(self.settings.timeout):
                    piece = await anext(pieces, None)
            except TimeoutError:
                piece, self._is_cut_short = None, True  # what has come is answered
            *ended, last = (piece or b"").split(b"\n")
            lines: list[bytes | None] = []
            for end in ended:
                is_long = is_long or len(rest) + len(end) > limit
                lines.append(None if is_long else bytes(rest + end))
                rest, is_long = bytearray(), False
            is_long = is_long or len(rest) + len(last) > limit
            rest = bytearray() if is_long else rest + last
            if piece is None and (rest or is_long):
                lines.append(None if is_long else bytes(rest))
            for part in _parts(lines):
                yield part
            if piece is None:
                return

    async def _answer(self, lines: list[bytes | None]) -> bytes:
        """The answers of these lines, as lines."""
        said: list[dict[str, Any]] = [{} for _ in lines]
        values: dict[int, _Value] = {}
        for index, line in enumerate(lines):
            try:
                values[index] = _parsed(line, self.settings.max_body)
            except Refusal as refusal:
                said[index] = {"error": refusal.sentence}
        try:
            answers = await self._predict(list(values.values()))
        except Refusal as refusal:
            if refusal.kind in _OF_ONE_LINE:
                answers = [await self._predict_alone(value) for value in values.values()]
            else:
                answers = [{"error": refusal.sentence}] * len(values)
        for index, answer in zip(values, answers, strict=True):
            said[index] = answer
        return b"".join(map(_line, said))

    async def _predict_alone(self, value: _Value) -> dict[str, Any]:
        try:
            return (await self._predict([value]))[0]
        except Refusal as refusal:
            return {"error": refusal.sentence}

    async def _predict(self, values: list[_Value]) -> list[dict[str, Any]]:
        """What the model says of each; waits where the queue is full. Raises as `Engine.score`."""
        if not values:
            return []
        encode = partial(encode_values, values=[value.json for value in values])
        sizes = [value.size for value in values]
        until = asyncio.get_running_loop().time() + self.settings.timeout
        while True:
            served = self._models.get(self._name)  # by name: it may have been reloaded since the lines before
            try:
                scored = await served.engine.answer(partial(encode, served.predictor), sizes)
            except Refusal as refusal:
                if refusal.kind != "full" or asyncio.get_running_loop().time() > until:
                    raise
                await asyncio.sleep(PAUSE)
                continue
            rows: list[dict[str, Any]] = named_scores(
                scored.scores, served.card, all_scores=self._all_scores
            ).to_pylist()
            return rows


def _line(said: dict[str, Any]) -> bytes:
    return json.dumps(said, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _parts(lines: list[bytes | None]) -> Iterator[list[bytes | None]]:
    """Neighbouring lines, not too many at once."""
    part: list[bytes | None] = []
    size = 0
    for line in lines:
        length = 0 if line is None else len(line)
        if part and (len(part) == LINES or size + length > CHARACTERS):
            yield part
            part, size = [], 0
        part.append(line)
        size += length
    if part:
        yield part


def _parsed(line: bytes | None, limit: int) -> _Value:
    """The value of a line; Refusal for one that has none."""
    if line is None:
        raise Refusal("too_large", f"the line has more than {limit:,} bytes.")
    if not line.strip():
        raise Refusal("unusable", "the line is empty.")
    return _Value(parsed(line, "the line"), len(line))


def encode_values(predictor: Predictor, values: list[JsonValue]) -> TokenStore:
    """Tokens of texts, pairs and rows of columns, in their order. InputError or DataError for anything else."""
    parts = [_encode_alike(predictor, kind, list(alike)) for kind, alike in groupby(values, type)]
    return parts[0] if len(parts) == 1 else join_stores(parts, names=tuple(parts[0].columns))


def _encode_alike(predictor: Predictor, kind: type, values: list[Any]) -> TokenStore:
    if kind is str or kind is dict:
        return predictor.encode(values)
    if kind is not list or any(len(value) not in (1, 2) for value in values):
        raise InputError("a line is a text, a pair of texts, or an object with the columns that the model reads")
    sizes = {len(value) for value in values}
    if len(sizes) > 1:
        raise InputError("single texts and pairs do not go together")
    firsts = [value[0] for value in values]
    return predictor.encode(firsts, [value[1] for value in values] if sizes == {2} else None)
