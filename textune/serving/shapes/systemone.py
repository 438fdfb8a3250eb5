"""`POST /v1/systemone`: typed questions about a state, answered with probabilities, as `transformers serve` of 5.23
and TypeSafe's API have it (`transformers.cli.serving`, https://api.typesafe.ai/openapi.json).

The state is a text, or an object with the columns that the model was trained on. A question that names what the model
was trained for is answered by it; any other is refused with the questions that can be answered (`questions.py`).
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from textune.data import given_texts, text_columns
from textune.prediction import ModelCard
from textune.serving.bodies import Body
from textune.serving.guarded import guarded
from textune.serving.models import Models
from textune.serving.refusals import Refusal
from textune.serving.settings import Settings
from textune.serving.shapes import openai
from textune.serving.shapes.questions import Answer, Content, Question, planned, said_by
from textune.wording import listing

MAX_QUESTIONS = 64
"""Most questions of a request, as there."""
REFUSALS = (400, 401, 404, 408, 413, 415, 422, 424, 429, 503)


class SystemOneRequest(Body):
    """Questions about a state."""

    model_config = ConfigDict(extra="forbid")

    state: Content = Field(
        description="A text, or an object with the columns of the model.", examples=["I was charged twice."]
    )
    questions: dict[str, Question] = Field(
        min_length=1,
        max_length=MAX_QUESTIONS,
        examples=[{"toxic": {"type": "noul", "instructions": "Is it toxic?"}}],
    )
    model: str | None = Field(default=None, description="The name of a model; the first one by default.")
    assets: dict[str, Any] | None = Field(default=None, description="Images, which are refused.")


class Usage(BaseModel):
    """Tokens that were read."""

    input_tokens: int
    output_tokens: int = 0


class SystemOneResponse(BaseModel):
    """Answers by the names of their questions."""

    model: str
    answers: dict[str, Answer]
    usage: Usage


class Problem(BaseModel):
    """What is wrong with a part of a request."""

    loc: list[str | int]
    msg: str
    type: str


class ErrorResponse(BaseModel):
    """Why a request was refused."""

    detail: list[Problem] | str


def write_error(refusal: Refusal) -> Response:
    """A refusal as FastAPI writes it, which their servers are made with."""
    problems = [{"loc": ["body"], "msg": refusal.sentence, "type": "value_error"}]
    detail = problems if refusal.kind == "unusable" else refusal.sentence
    return JSONResponse({"detail": detail}, refusal.status, refusal.headers)


def router(models: Models, settings: Settings) -> APIRouter:
    """The shape's one route."""
    routes = APIRouter(route_class=guarded(models, settings, write_error), tags=["systemone"])

    @routes.post(
        "/v1/systemone",
        response_model=SystemOneResponse,
        responses={status: {"model": ErrorResponse} for status in REFUSALS},
    )
    async def answer(request: Request, body: SystemOneRequest) -> Response:
        """An answer to each question about the state."""
        served = openai.chosen(models, request, body.model)
        if body.assets:
            raise Refusal("unusable", "`assets`: the model reads text alone, no images.")
        plans = planned(body.questions, served.predictor.scorer.task.heads)
        given = given_texts([row_of(body.state, served.card)], None, served.card.columns, served.card.metadata)
        scored = await served.engine.score(given.texts, given.pairs, fields=given.fields)
        answers = {
            name: plan.answer(said_by(plan.head, scored.scores[plan.head.name])).model_dump()
            for name, plan in plans.items()
        }
        usage = {"input_tokens": int(scored.num_tokens.sum()), "output_tokens": 0}
        return JSONResponse({"model": served.name, "answers": answers, "usage": usage})

    return routes


def row_of(state: Content, card: ModelCard) -> dict[str, Any] | str:
    """What the model reads of a state; Refusal for one that it cannot read."""
    wanted = list(text_columns(card.columns))
    columns = f"an object with {listing(map(repr, wanted))}"
    if isinstance(state, str):
        if len(wanted) == 1:
            return state
        raise Refusal("unusable", f"`state` is a text, and the model reads {columns}.")
    if not isinstance(state, dict):
        raise Refusal(
            "unusable", f"`state` is a list, and the model reads {columns}{' or a text' * (len(wanted) == 1)}."
        )
    if lacking := [name for name in wanted if name not in state]:
        raise Refusal("unusable", f"`state` lacks {lacking[0]!r:.80}: the model reads {columns}.")
    read = {*wanted, *(() if card.metadata is None else card.metadata.columns)}
    return {name: value for name, value in state.items() if name in read}
