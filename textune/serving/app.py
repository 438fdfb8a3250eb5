"""The application: every shape of `shapes/table.py`, and what is asked of the server itself; after `guarded.py`."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated, cast

from fastapi import APIRouter, Depends, FastAPI, Path, Request
from fastapi.exceptions import HTTPException
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.exceptions import HTTPException as AnyHTTPException

from textune.data import LabelMap
from textune.errors import TextuneError
from textune.serving import page
from textune.serving.guarded import guarded
from textune.serving.metrics import Measured, Metrics
from textune.serving.models import Models, Served
from textune.serving.refusals import Refusal
from textune.serving.settings import Settings
from textune.serving.shapes.table import SHAPES
from textune.serving.shapes.tei import refused, write_error
from textune.version import __version__


class Health(BaseModel):
    """Whether the server answers."""

    status: str = "ok"


class TaskInfo(BaseModel):
    """One thing that a served model predicts."""

    name: str
    problem: str
    labels: list[str]
    """As they are answered."""


class ModelInfo(BaseModel):
    """What a served model answers."""

    name: str
    problem: str
    labels: list[str]
    """Of several tasks as `task/label`."""
    tasks: list[TaskInfo]
    takes_pairs: bool
    max_length: int
    fields: list[str]
    """Columns that are read before each text."""
    step: int | None
    """Optimizer steps of its run."""
    queued_tokens: int
    """Tokens that wait or are computed."""


def build_app(models: Models, settings: Settings) -> FastAPI:
    """The application that answers with these models."""

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(follow(models, settings.follow)) if settings.follow else None
        yield
        if following is not None:
            following.cancel()
        await models.close()

    app = FastAPI(
        title="textune",
        version=__version__,
        description="Text models that answer in the shapes that clients of other servers know.",
        lifespan=lifespan,
    )
    metrics = Metrics(models)
    models.watchers.append(metrics)
    app.add_middleware(Measured, metrics=metrics)
    app.add_exception_handler(AnyHTTPException, _unknown_path)
    for name in SHAPES:
        router = shape_router(name)(models, settings)
        app.include_router(router)
        for routes in (router, _without_slash(router)):
            app.include_router(routes, prefix="/models/{model}", dependencies=[Depends(_named)])
    app.include_router(_own_routes(models, settings, metrics))
    app.include_router(page.router())
    return app


def shape_router(name: str) -> Callable[[Models, Settings], APIRouter]:
    """What makes the router of a shape."""
    module, _, function = SHAPES[name].partition(":")
    return cast(Callable[[Models, Settings], APIRouter], getattr(importlib.import_module(module), function))


def _without_slash(router: APIRouter) -> APIRouter:
    """What takes requests at `/`, as it is for `/models/NAME` without another slash."""
    alias = APIRouter(route_class=router.route_class)
    for route in router.routes:
        if isinstance(route, APIRoute) and route.path == "/" and "POST" in (route.methods or ()):
            alias.add_api_route("", route.endpoint, methods=["POST"], include_in_schema=False)
    return alias


def _named(model: Annotated[str, Path(description="The name of a model.")]) -> None:
    """The name in the path, for the description of a route; `Models.of` reads it."""


def _own_routes(models: Models, settings: Settings, metrics: Metrics) -> APIRouter:
    routes = APIRouter(route_class=guarded(models, settings, write_error), tags=["server"])
    of_models = refused(401, 404)

    @routes.get("/models", responses=refused(401))
    async def list_models() -> list[ModelInfo]:
        """The models that are served; the first one answers where a request names none."""
        return [_info(one) for one in models]

    @routes.get("/models/{model}", responses=of_models)
    async def show_model(model: str) -> ModelInfo:
        """One of them."""
        return _info(models.get(model))

    @routes.post(
        "/models/{model}/reload",
        responses=of_models | refused(403, 409),
    )
    async def reload(model: str) -> ModelInfo:
        """Open a model's files again; what was asked before is answered by the model of before."""
        if settings.token is None:
            raise Refusal("forbidden", "Models are reloaded by whoever has the server's token, and it has none.")
        models.get(model)
        try:
            return _info(await models.reload(model))
        except (TextuneError, OSError) as error:
            raise Refusal("conflict", f"The model stays as it was: {error}") from error

    @routes.get("/metrics", response_class=PlainTextResponse, responses=refused(401))
    async def measured(request: Request) -> Response:
        """What the server measures, as Prometheus reads it."""
        text, kind = metrics.text(request.headers.get("accept", ""))
        return Response(text, headers={"content-type": kind})

    unguarded = APIRouter(tags=["server"])

    @unguarded.get("/health", responses=refused(503))
    async def health() -> Health:
        """Whether every model is at work; asks for no token."""
        if not all(one.engine.is_alive for one in models):
            raise HTTPException(503, "A model is not at work")
        return Health()

    routes.include_router(unguarded)
    return routes


def _info(served: Served) -> ModelInfo:
    card = served.card
    return ModelInfo(
        name=served.name,
        problem=card.problem,
        labels=list(card.names),
        tasks=[_task_info(name, one, alone=len(card.heads) == 1) for name, one in card.label_maps.items()],
        takes_pairs=card.columns.text_pair is not None,
        max_length=card.max_length,
        fields=[] if card.metadata is None else list(card.metadata.columns),
        step=card.step,
        queued_tokens=served.engine.held_tokens,
    )


def _task_info(name: str, label_map: LabelMap, *, alone: bool) -> TaskInfo:
    labels = list(label_map.names) if alone else [f"{name}/{label}" for label in label_map.names]
    return TaskInfo(name=name, problem=label_map.problem, labels=labels)


async def _unknown_path(request: Request, error: Exception) -> Response:
    """A path that no shape has, or a method that it does not take."""
    assert isinstance(error, AnyHTTPException)
    sentences = {404: "There is nothing at this address; /docs shows what there is."}
    body = {"error": sentences.get(error.status_code, f"{error.detail}."), "error_type": "Validation"}
    return JSONResponse(body, error.status_code, error.headers)


async def follow(models: Models, seconds: float) -> None:
    """Look every so many seconds for models whose files changed, and open them again. What cannot be opened yet, such
    as a folder that is being copied, is tried again, and said once."""
    said: dict[str, str] = {}
    while True:
        await asyncio.sleep(seconds)
        for name in models.changed():
            said[name] = await reload_saying(models, name, unless=said.get(name, ""))


async def reload_saying(models: Models, name: str, *, unless: str = "") -> str:
    """Reload a model, and say how that ended, unless it is this. The sentence where it failed, else nothing."""
    try:
        served = await models.reload(name)
    except Exception as error:  # files may be anything while they are written; the model of before answers
        failed = f"{name} stays as it was: {str(error) or type(error).__name__}"
        if failed != unless:
            models.on_notice(failed)
        return failed
    step = "" if served.card.step is None else f" (step {served.card.step:,})"
    models.on_notice(f"{name} was opened again{step}")
    return ""
