"""Bodies that would keep the server busy, or have no answer, are refused before they do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.serving import LabelMap, client, save_model
from pydantic import ValidationError
from starlette.testclient import TestClient

from textune.serving.bodies import MAX_VALUES, Body, parsed
from textune.serving.refusals import Refusal
from textune.serving.shapes.classify import ClassifyRequest
from textune.serving.shapes.inference import TextClassificationRequest
from textune.serving.shapes.moderations import ModerationRequest
from textune.serving.shapes.systemone import SystemOneRequest
from textune.serving.shapes.tei import PredictRequest


@pytest.fixture(scope="module")
def served(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    scale = save_model(tmp_path_factory.mktemp("scale") / "scale", {"label": LabelMap("multiclass", ("1", "2", "3"))})
    with client({"topic": folders["topic"], "scale": scale}) as found:
        yield found


def post(served: TestClient, path: str, content: bytes) -> Any:
    return served.post(path, content=content, headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        (PredictRequest, "inputs"),
        (TextClassificationRequest, "inputs"),
        (ClassifyRequest, "input"),
        (ModerationRequest, "input"),
        (SystemOneRequest, "questions"),
    ],
    ids=["predict", "inference", "classify", "moderations", "systemone"],
)
def test_very_many_mistakes_are_one(kind: type[Body], key: str) -> None:
    """Each would cost the thread of the event loop as much as a text."""
    wrong: Any = dict.fromkeys(map(str, range(500)), 1) if key == "questions" else [1.5] * 500
    with pytest.raises(ValidationError) as raised:
        kind.model_validate({key: wrong, "state": "a"})
    assert raised.value.error_count() == 1
    with pytest.raises(ValidationError, match=key):
        kind.model_validate({key: 7, "state": "a"})


@pytest.mark.parametrize("path", ["/predict", "/", "/classify", "/v1/moderations", "/v1/systemone"])
@pytest.mark.parametrize("values", ["1", "[]", '{"a": 1}'], ids=["numbers", "lists", "objects"])
def test_a_body_of_too_many_values(served: TestClient, path: str, values: str) -> None:
    several = ",".join([values] * (MAX_VALUES + 1))
    answer = post(served, path, f'{{"inputs": [{several}], "input": "a"}}'.encode())
    assert answer.status_code == 413 and "100,000 values" in answer.text


def test_values_are_not_counted_within_texts(served: TestClient) -> None:
    text = 'a, "film" [of {\\' * 20_000
    assert post(served, "/predict", json.dumps({"inputs": text}).encode()).status_code == 200
    assert post(served, "/predict", b"\xef\xbb\xbf" + json.dumps({"inputs": text}).encode()).status_code == 200


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_numbers_that_no_answer_can_repeat(served: TestClient, number: str) -> None:
    """The legend of a score repeats its criteria, and JSON has no such number."""
    question = f'{{"type": "score", "criteria": [{{"a": {number}}}, "b", "c"]}}'
    body = f'{{"state": "film", "model": "scale", "questions": {{"label": {question}}}}}'
    answer = post(served, "/v1/systemone", body.encode())
    assert answer.status_code == 400, answer.text
    assert post(served, "/v1/systemone", body.replace(number, "1").encode()).status_code == 200


@pytest.mark.parametrize("depth", [*range(900, 1000, 9), 20_000])
def test_no_depth_is_an_error_of_the_server(served: TestClient, depth: int) -> None:
    deep = "[" * depth + "]" * depth
    question = f'{{"type": "score", "criteria": [{deep}, "b", "c"]}}'
    body = f'{{"state": "film", "model": "scale", "questions": {{"label": {question}}}}}'
    assert post(served, "/v1/systemone", body.encode()).status_code in {200, 400}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON: Expecting"),
        ('{"a": 1}'.encode("utf-16"), "UTF-8"),
        (b"9" * 5000, "too many digits"),
        (b"[" * 20_000, "too deeply"),
    ],
    ids=["half", "utf-16", "digits", "deep"],
)
def test_what_is_not_json(content: bytes, said: str) -> None:
    with pytest.raises(Refusal, match=said) as refused:
        parsed(content, "the line")
    assert refused.value.sentence.startswith("the line")
