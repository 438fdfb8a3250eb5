"""`POST /v1/moderations` as OpenAI has it (https://platform.openai.com/docs/api-reference/moderations): for each text
which labels the model gives, and how probable each is.

Categories are the model's own labels. A model of several labels gives each by its own decision; of two classes the
second one is the category, and whether an answer would be withheld is not said here. Other models have nothing that
could be flagged, and are refused. A list of parts (`{"type": "text", "text": ...}`) is one input, as there.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from textune.prediction import Scores
from textune.serving.bodies import Body
from textune.serving.guarded import guarded
from textune.serving.inputs import Fields, field_columns
from textune.serving.models import Models
from textune.serving.refusals import Refusal
from textune.serving.settings import Settings
from textune.serving.shapes import openai
from textune.serving.shapes.questions import is_of_two_classes
from textune.tasks import Head


class Part(BaseModel):
    """A part of an input."""

    model_config = ConfigDict(strict=True)

    type: Literal["text", "image_url"]
    text: str | None = None
    image_url: dict[str, Any] | None = None


class ModerationRequest(Body):
    """Texts to moderate."""

    input: Annotated[
        str | list[str] | list[Part],
        Field(description="A text, several, or the parts of one. Images are refused.", examples=["I like you"]),
    ]
    model: str | None = Field(default=None, description="The name of a model; the first one by default.")
    fields: Fields = None


class Moderation(BaseModel):
    """What the model says of one text."""

    flagged: bool
    """Whether any category is given."""
    categories: dict[str, bool]
    category_scores: dict[str, float]
    """Calibrated probabilities."""
    category_applied_input_types: dict[str, list[Literal["text"]]]


class ModerationResponse(BaseModel):
    """Answers in the order of the texts."""

    id: str
    model: str
    results: list[Moderation]


def router(models: Models, settings: Settings) -> APIRouter:
    """The shape's one route."""
    routes = APIRouter(route_class=guarded(models, settings, openai.write_error), tags=["openai"])

    @routes.post("/v1/moderations", response_model=ModerationResponse, responses=openai.refused(*openai.REFUSALS))
    async def moderate(request: Request, body: ModerationRequest) -> Response:
        """Which of its labels the model gives to each text."""
        served = openai.chosen(models, request, body.model)
        texts = texts_of(body.input, max_batch=settings.max_batch)
        openai.require_single(served.card)
        heads = flagging(served.predictor.scorer.task.heads)
        fields = field_columns(body.fields, served.card, len(texts))
        scored = await served.engine.score(texts, fields=fields)
        results = moderated(heads, scored.scores, alone=len(scored.scores) == 1)
        return JSONResponse({"id": f"modr-{uuid.uuid4().hex}", "model": served.name, "results": results})

    return routes


def texts_of(given: str | list[str] | list[Part], *, max_batch: int) -> list[str]:
    """The texts of a request; Refusal for none, too many, or an image."""
    if isinstance(given, str):
        return [given]
    if not given:
        raise Refusal("unusable", "`input` is empty: send a text, or a list of texts.")
    if len(given) > max_batch:
        raise Refusal("too_large", f"`input` has {len(given):,} items, and a request at most {max_batch:,}.")
    parts = [one for one in given if isinstance(one, Part)]
    if not parts:
        return [one for one in given if isinstance(one, str)]
    texts = [part.text for part in parts if part.type == "text" and part.text is not None]
    if len(texts) < len(parts):
        raise Refusal("unusable", '`input` has a part that is not {"type": "text", "text": ...}: images are not read.')
    return ["\n".join(texts)]


def flagging(heads: tuple[Head, ...]) -> list[Head]:
    """The tasks whose labels are categories; Refusal where there is none."""
    found = [head for head in heads if head.label_map.several or is_of_two_classes(head)]
    if not found:
        problem = heads[0].label_map.problem
        raise Refusal(
            "unusable",
            f"The model has no label that could be flagged ({problem}): moderation takes one of several labels, or of"
            " two classes. Use /predict or /classify.",
        )
    return found


def moderated(heads: list[Head], scores: Scores, *, alone: bool) -> list[dict[str, Any]]:
    """The `Moderation` of each text; labels are named after their task where the model has several."""
    columns = [_categories(head, scores[head.name], "" if alone else f"{head.name}/") for head in heads]
    num_texts = len(scores[heads[0].name])
    return [
        _result({name: pair for of_head in columns for name, pair in of_head.items()}, n) for n in range(num_texts)
    ]


def _categories(head: Head, scores_NK: np.ndarray, prefix: str) -> dict[str, tuple[list[bool], list[float]]]:
    """For each category whether each text has it, and how probable that is."""
    probabilities_NK, decided = head.calibrated(scores_NK), head.decide(scores_NK)
    if is_of_two_classes(head):
        return {f"{prefix}{head.labels[1]}": ((decided == 1).tolist(), probabilities_NK[:, 1].tolist())}
    return {
        f"{prefix}{name}": ((decided[:, k] == 1).tolist(), probabilities_NK[:, k].tolist())
        for k, name in enumerate(head.labels)
    }


def _result(categories: Mapping[str, tuple[list[bool], list[float]]], text: int) -> dict[str, Any]:
    given = {name: has[text] for name, (has, _) in categories.items()}
    return {
        "flagged": any(given.values()),
        "categories": given,
        "category_scores": {name: numbers[text] for name, (_, numbers) in categories.items()},
        "category_applied_input_types": {name: ["text"] for name in categories},
    }
