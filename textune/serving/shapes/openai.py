"""What shapes of OpenAI's kind have in common: the model that a request names, the form of a refusal, and the list of
models.

    GET /v1/models           {"object": "list", "data": [{"id", "object", "created", "owned_by"}]}
    GET /v1/models/NAME      one of them

The list also holds `models`, as clients of `/v1/systemone` read it. A refusal is
`{"error": {"message", "type", "param", "code"}}`, where a request that cannot be used has status 400, not 422.
"""

from __future__ import annotations

import datetime
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel

from textune.prediction import ModelCard
from textune.serving.guarded import guarded
from textune.serving.models import Models, Served
from textune.serving.refusals import Kind, Refusal
from textune.serving.settings import Settings

REFUSALS: Final = (400, 401, 404, 408, 413, 415, 424, 429, 503)
"""Status codes that refusals of these shapes have."""
_CODES: dict[Kind, str] = {
    "unauthorized": "invalid_api_key",
    "unknown": "model_not_found",
    "full": "rate_limit_exceeded",
}
_TYPES: dict[Kind, str] = {"full": "rate_limit_error", "failed": "server_error", "internal": "server_error"}
_TYPES |= {"late": "server_error", "stopping": "server_error"}


class ErrorInfo(BaseModel):
    """Why a request was refused."""

    message: str
    type: str
    param: str | None
    code: str | int | None


class ErrorResponse(BaseModel):
    """A refusal."""

    error: ErrorInfo


class ModelEntry(BaseModel):
    """A model as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int
    """When its files were written, in seconds since 1970."""
    owned_by: str = "textune"
    max_model_len: int
    """Most tokens of a text, as vLLM says it."""


class ModelMetadata(BaseModel):
    """A model as clients of `/v1/systemone` list it."""

    name: str
    description: str
    release_date: str


class ModelList(BaseModel):
    """All models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelEntry]
    models: list[ModelMetadata]


def write_error(refusal: Refusal) -> Response:
    """A refusal as OpenAI writes it."""
    kind = _TYPES.get(refusal.kind, "invalid_request_error")
    return error_response(refusal, kind, _CODES.get(refusal.kind))


def error_response(refusal: Refusal, kind: str, code: str | int | None) -> Response:
    """A refusal in this form; what cannot be used is a bad request."""
    body = {"error": {"message": refusal.sentence, "type": kind, "param": None, "code": code}}
    return JSONResponse(body, status_of(refusal), refusal.headers)


def status_of(refusal: Refusal) -> int:
    """The status code of HTTP."""
    return 400 if refusal.kind == "unusable" else refusal.status


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Refusals of these status codes, for the description of a route."""
    return {status: {"model": ErrorResponse} for status in statuses}


def chosen(models: Models, request: Request, name: str | None) -> Served:
    """The model that the path of a request names, else its body, else the first one. Refusal `unknown` where there is
    no such model."""
    return models.of(request) if "model" in request.path_params else models.get(name)


def require_single(card: ModelCard) -> None:
    """Refusal for a model of pairs, which these shapes cannot give it."""
    if card.columns.text_pair is not None:
        raise Refusal("unusable", "The model takes pairs of texts, and a request of this kind has none: use /predict.")


def router(models: Models, settings: Settings) -> APIRouter:
    """The list of models."""
    routes = APIRouter(route_class=guarded(models, settings, write_error), tags=["openai"])

    @routes.get("/v1/models", responses=refused(401))
    async def list_models() -> ModelList:
        """The models that are served."""
        return ModelList(data=[_entry(one) for one in models], models=[_metadata(one) for one in models])

    @routes.get("/v1/models/{name}", responses=refused(401, 404))
    async def show_model(name: str) -> ModelEntry:
        """One of them."""
        return _entry(models.get(name))

    return routes


def _entry(served: Served) -> ModelEntry:
    return ModelEntry(id=served.name, created=_written(served), max_model_len=served.card.max_length)


def _metadata(served: Served) -> ModelMetadata:
    maps = served.card.label_maps
    one = len(maps) == 1
    about = "; ".join(label_map.about() if one else f"{name}: {label_map.about()}" for name, label_map in maps.items())
    day = datetime.datetime.fromtimestamp(_written(served), datetime.UTC).date()
    return ModelMetadata(name=served.name, description=about, release_date=day.isoformat())


def _written(served: Served) -> int:
    return served.stamp[0] // 1_000_000_000
