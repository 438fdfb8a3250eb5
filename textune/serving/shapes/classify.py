"""`POST /classify` as vLLM has it (https://docs.vllm.ai, `ClassificationRequest` and `ClassificationResponse`): for
each text the probabilities of all labels in the order of their ids, the label, and the tokens that were used.

It differs where theirs would not say what the model says: probabilities are calibrated, several labels that do not
exclude each other have their own probability each, and `label` is what the model decides: null where it withholds an
answer or gives no label, else the most probable of those that it gives. Texts are text: token ids are refused.
"""

from __future__ import annotations

import time
import uuid
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, Field

from textune.serving.answers import label_rows
from textune.serving.bodies import Body
from textune.serving.engine import Cut
from textune.serving.guarded import guarded
from textune.serving.inputs import Fields, field_columns
from textune.serving.models import Models
from textune.serving.refusals import Refusal
from textune.serving.settings import Settings
from textune.serving.shapes import openai
from textune.serving.waiting import Scored
from textune.tasks import Head, shown
from textune.wording import listing


class ClassifyRequest(Body):
    """Texts to classify."""

    input: Annotated[
        str | list[str] | list[int] | list[list[int]],
        Field(description="A text, or several. Token ids are refused.", examples=["a fine film"]),
    ]
    model: str | None = Field(default=None, description="The name of a model; the first one by default.")
    head: str | None = Field(default=None, description="Which task of a model of several answers.")
    truncate_prompt_tokens: int | None = Field(
        default=None,
        ge=-1,
        description="-1: a text that is too long is shortened. By default as in training.",
    )
    truncation_side: Literal["left", "right"] | None = Field(default=None, description="Where it is cut off.")
    use_activation: bool | None = Field(default=None, description="False: logits in place of probabilities.")
    user: str | None = None
    fields: Fields = None


class ClassificationData(BaseModel):
    """What the model says of one text."""

    index: int
    label: str | None
    probs: list[float]
    num_classes: int


class Usage(BaseModel):
    """Tokens that were read."""

    prompt_tokens: int
    total_tokens: int
    completion_tokens: int = 0
    prompt_tokens_details: None = None


class ClassifyResponse(BaseModel):
    """Answers in the order of the texts."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ClassificationData]
    usage: Usage


def write_error(refusal: Refusal) -> Response:
    """A refusal as vLLM writes it."""
    status = openai.status_of(refusal)
    kinds = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}
    return openai.error_response(refusal, kinds.get(status, HTTPStatus(status).phrase), status)


def router(models: Models, settings: Settings) -> APIRouter:
    """The shape's one route."""
    routes = APIRouter(route_class=guarded(models, settings, write_error), tags=["vLLM"])

    @routes.post("/classify", response_model=ClassifyResponse, responses=openai.refused(*openai.REFUSALS))
    async def classify(request: Request, body: ClassifyRequest) -> Response:
        """The label of each text, and the probabilities of all labels in the order of their ids."""
        served = openai.chosen(models, request, body.model)
        texts = texts_of(body.input, max_batch=settings.max_batch)
        openai.require_single(served.card)
        head = head_of(served.predictor.scorer.task.heads, body.head)
        cut = cut_of(body, served.card.max_length)
        fields = field_columns(body.fields, served.card, len(texts))
        scored = await served.engine.score(texts, fields=fields, cut=cut)
        names = [name if len(scored.scores) == 1 else f"{head.name}/{name}" for name in head.labels]
        rows = label_rows(served.predictor, scored, "logits" if body.use_activation is False else "probabilities")
        numbers = [{item["label"]: item["score"] for item in row} for row in rows]
        data = [
            {"index": index, "label": label, "probs": [of_text[name] for name in names], "num_classes": len(names)}
            for index, (label, of_text) in enumerate(zip(labels_of(head, scored), numbers, strict=True))
        ]
        used = int(scored.num_tokens.sum())
        return JSONResponse(
            {
                "id": f"classify-{uuid.uuid4().hex}",
                "object": "list",
                "created": int(time.time()),
                "model": served.name,
                "data": data,
                "usage": Usage(prompt_tokens=used, total_tokens=used).model_dump(),
            }
        )

    return routes


def texts_of(given: str | list[str] | list[int] | list[list[int]], *, max_batch: int) -> list[str]:
    """The texts of a request; Refusal for none, too many, or token ids."""
    if isinstance(given, str):
        return [given]
    texts = [text for text in given if isinstance(text, str)]
    if not given:
        raise Refusal("unusable", "`input` is empty: send a text, or a list of texts.")
    if len(texts) < len(given):
        raise Refusal("unusable", "`input` has token ids: send texts, which are read as the model was trained.")
    if len(texts) > max_batch:
        raise Refusal("too_large", f"`input` has {len(texts):,} texts, and a request at most {max_batch:,}.")
    return texts


def head_of(heads: tuple[Head, ...], name: str | None) -> Head:
    """The task that a request names; Refusal where it names none of several, or one that there is not."""
    by_name = {head.name: head for head in heads}
    if name is None and len(heads) > 1:
        raise Refusal("unusable", f"The model has several tasks: name one by `head`: {listing(by_name)}.")
    if name is not None and name not in by_name:
        raise Refusal("unusable", f"`head`: the model has no task {name!r:.80}; it has {listing(by_name)}.")
    return heads[0] if name is None else by_name[name]


def cut_of(body: ClassifyRequest, max_length: int) -> Cut | None:
    """What becomes of a text that is too long. Refusal for a length of the client's own."""
    wanted = body.truncate_prompt_tokens
    if wanted is None and body.truncation_side is None:
        return None
    if wanted not in (None, -1, max_length):
        raise Refusal(
            "unusable", f"`truncate_prompt_tokens` is -1, or the {max_length} tokens that the model was trained with."
        )
    return "tail" if body.truncation_side == "left" else "head"


def labels_of(head: Head, scored: Scored) -> list[str | None]:
    """The answer for each text."""
    answers, _, probabilities = shown(head, scored.scores[head.name])
    if not head.label_map.choices:
        return [head.labels[0]] * len(answers)
    found: list[str | None] = []
    for answer, of_text in zip(answers, probabilities.tolist(), strict=True):
        given = [(number, name) for number, name in zip(of_text, head.labels, strict=True) if _has(answer, name)]
        found.append(max(given)[1] if given else None)
    return found


def _has(answer: object, name: str) -> bool:
    return name in answer if isinstance(answer, tuple) else answer == name
