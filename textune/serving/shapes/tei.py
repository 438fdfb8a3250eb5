"""`POST /predict` as text-embeddings-inference has it (https://github.com/huggingface/text-embeddings-inference,
`docs/openapi.json`): a flat list of labels for one text, a list of such lists for several.

It differs where theirs would not say what the model says: several labels that do not exclude each other have their
own probability each (theirs takes a softmax over them), probabilities are calibrated, and long texts are cut as in
training unless a request says otherwise. A flat list of texts is several texts for a model of single texts; for a
model of pairs two of them are one pair, as there.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from textune.serving.answers import Item, label_rows
from textune.serving.bodies import Body
from textune.serving.engine import Cut
from textune.serving.guarded import guarded
from textune.serving.inputs import Fields, field_columns, read_inputs
from textune.serving.models import Models
from textune.serving.refusals import Kind, Refusal
from textune.serving.settings import Settings

Inputs = Annotated[
    str | list[str] | list[list[str]],
    Field(
        description="A text; `[text, second text]` for a model of pairs; or several: `[[text], [text]]`, of pairs"
        " `[[text, second text], ...]`.",
        examples=["a fine film"],
    ),
]
_TYPES: dict[Kind, str] = {
    "unusable": "Tokenizer",
    "full": "Overloaded",
    "late": "Overloaded",
    "failed": "Backend",
    "internal": "Backend",
    "stopping": "Unhealthy",
}
"""`error_type` by kind; `Validation` for the others."""


class PredictRequest(Body):
    """Texts to predict."""

    inputs: Inputs
    truncate: bool | None = Field(
        default=None, description="Shorten texts that are too long, or refuse them; by default as in training."
    )
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(
        default=None, description="Where a long text is cut off; by default as in training."
    )
    raw_scores: bool = Field(default=False, description="Logits in place of probabilities.")
    fields: Fields = None


class ErrorResponse(BaseModel):
    """Why a request was refused."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer"]


def write_error(refusal: Refusal) -> Response:
    """A refusal as text-embeddings-inference writes it."""
    body = {"error": refusal.sentence, "error_type": _TYPES.get(refusal.kind, "Validation")}
    return JSONResponse(body, refusal.status, refusal.headers)


def refused(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Refusals of these status codes, for the description of a route."""
    return {status: {"model": ErrorResponse} for status in statuses}


REFUSALS = (400, 401, 404, 408, 413, 415, 422, 424, 429, 503)
"""Status codes that a shape's refusals have."""


def router(models: Models, settings: Settings) -> APIRouter:
    """The shape's one route."""
    routes = APIRouter(route_class=guarded(models, settings, write_error), tags=["text-embeddings-inference"])

    @routes.post(
        "/predict",
        response_model=list[Item] | list[list[Item]],
        responses=refused(*REFUSALS),
    )
    async def predict(request: Request, body: PredictRequest) -> Response:
        """Labels with their scores, the highest first: one list for one text, a list of lists for several."""
        served = models.of(request)
        given = read_inputs(body.inputs, served.card, max_batch=settings.max_batch)
        scored = await served.engine.score(
            given.texts,
            given.pairs,
            fields=field_columns(body.fields, served.card, len(given.texts)),
            cut=cut_of(body.truncate, body.truncation_direction),
        )
        rows = label_rows(served.predictor, scored, "logits" if body.raw_scores else "probabilities")
        return JSONResponse(rows[0] if given.is_one else rows)

    return routes


def cut_of(truncate: bool | None, direction: str | None) -> Cut | None:
    """What becomes of a text that is too long."""
    if truncate is False:
        return "refuse"
    if direction is None:
        return "head" if truncate else None
    return "tail" if direction.lower() == "left" else "head"
