"""`POST /` as Hugging Face's Inference API has it, which `huggingface_hub.InferenceClient(url).text_classification`
asks: always a list of lists of labels, `parameters.top_k` and `parameters.function_to_apply`.

Where no function is asked for, scores are the calibrated probabilities of the model's own kind. A function that is
asked for is applied to the logits divided by the temperature of the card; `none` gives the logits.
"""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from textune.serving.answers import Item, Numbers, label_rows
from textune.serving.bodies import Body
from textune.serving.guarded import guarded
from textune.serving.inputs import Fields, Given, field_columns, read_inputs
from textune.serving.models import Models, Served
from textune.serving.refusals import Refusal
from textune.serving.settings import Settings
from textune.serving.shapes.tei import REFUSALS

_NUMBERS: dict[str | None, Numbers] = {
    None: "probabilities",
    "none": "logits",
    "softmax": "softmax",
    "sigmoid": "sigmoid",
}


class Pair(BaseModel):
    """A text with its second text, as pipelines of transformers take it."""

    model_config = ConfigDict(strict=True)

    text: str
    text_pair: str | None = None


class Parameters(BaseModel):
    """What is asked for beside the texts."""

    model_config = ConfigDict(strict=True)

    top_k: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="Only so many labels (of each task), the highest; by default all."
    )
    function_to_apply: Literal["sigmoid", "softmax", "none"] | None = None


class TextClassificationRequest(Body):
    """Texts to predict."""

    inputs: Annotated[
        str | Pair | list[str] | list[list[str]] | list[Pair],
        Field(description="A text or a list of texts; pairs as `[text, second text]` or with keys, in a list."),
    ]
    parameters: Parameters | None = None
    fields: Fields = None


class InferenceError(BaseModel):
    """Why a request was refused."""

    error: str


def write_error(refusal: Refusal) -> Response:
    """A refusal as the Inference API writes it."""
    return JSONResponse({"error": refusal.sentence}, refusal.status, refusal.headers)


def router(models: Models, settings: Settings) -> APIRouter:
    """The shape's one route."""
    routes = APIRouter(route_class=guarded(models, settings, write_error), tags=["Inference API"])

    @routes.post(
        "/",
        response_model=list[list[Item]],
        responses={status: {"model": InferenceError} for status in REFUSALS},
    )
    async def classify_texts(request: Request, body: TextClassificationRequest) -> Response:
        """A list of labels with their scores for each text, the highest first; also where there is one text."""
        served = models.of(request)
        given = _given(body.inputs, served, settings)
        asked = body.parameters or Parameters()
        fields = field_columns(body.fields, served.card, len(given.texts))
        scored = await served.engine.score(given.texts, given.pairs, fields=fields)
        return JSONResponse(label_rows(served.predictor, scored, _NUMBERS[asked.function_to_apply], asked.top_k))

    return routes


def _given(inputs: str | Pair | list[str] | list[list[str]] | list[Pair], served: Served, settings: Settings) -> Given:
    """The texts; a flat list of them is several, never a pair."""
    items = inputs if isinstance(inputs, list) else [inputs]
    lists = [_as_list(item) for item in items]
    return read_inputs(lists, served.card, max_batch=settings.max_batch)


def _as_list(item: str | list[str] | Pair) -> list[str]:
    if isinstance(item, Pair):
        return [item.text] if item.text_pair is None else [item.text, item.text_pair]
    return [item] if isinstance(item, str) else item
