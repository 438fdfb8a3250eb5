"""`/classify`, `/v1/moderations`, `/v1/systemone` and `/v1/models`: real clients, the answers of `predict`, and what
bad requests get."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import openai
import pytest
import schemathesis
import typesafe_sdk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.listening import listening
from kits.serving import some_texts
from schemathesis.core import NOT_SET
from schemathesis.core.transport import Response
from schemathesis.specs.openapi.checks import response_schema_conformance
from starlette.testclient import TestClient

from textune.prediction.load import load
from textune.prediction.predictor import Prediction
from textune.serving.app import build_app
from textune.serving.models import Models
from textune.serving.settings import LoadOptions, Settings

TEXTS = some_texts(6)


class Server(NamedTuple):
    """One application, in this process and behind a socket."""

    client: TestClient
    url: str
    folders: dict[str, Path]

    def predictions(self, name: str, texts: list[str] = TEXTS) -> list[Prediction]:
        found = load(self.folders[name], device="cpu").predict(texts)
        assert isinstance(found, list)
        return found

    def post(self, path: str, **body: Any) -> Any:
        answer = self.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture(scope="module")
def server(folders: dict[str, Path]) -> Iterator[Server]:
    chosen = Settings(max_batch=40, max_body=100_000, max_queue_tokens=5000)
    app = build_app(Models(folders, chosen, LoadOptions(device="cpu")), chosen)
    with listening(app) as url:
        yield Server(TestClient(app, raise_server_exceptions=False), url, folders)


# --- vLLM ------------------------------------------------------------------------------------------------------------


@pytest.mark.every_day(2)
@pytest.mark.parametrize("name", ["topic", "tone", "tags", "number", "unsure"])
def test_classify_has_the_labels_and_scores_of_predict(server: Server, name: str) -> None:
    answer = server.post("/classify", model=name, input=TEXTS)
    assert answer["object"] == "list" and answer["model"] == name and answer["id"].startswith("classify-")
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > len(TEXTS)
    for index, (item, expected) in enumerate(zip(answer["data"], server.predictions(name), strict=True)):
        assert item["index"] == index and item["num_classes"] == len(expected.scores)
        assert item["probs"] == pytest.approx(list(expected.scores.values()), abs=1e-5)
        if name == "number":
            assert item["label"] == "value"
        elif name == "tags":
            assert isinstance(expected.label, tuple)
            most = max(expected.label, key=lambda label: expected.scores[label], default=None)
            assert item["label"] == most
        else:
            assert item["label"] == expected.label
    if name == "unsure":
        assert None in {item["label"] for item in answer["data"]}


def test_classify_by_a_path_a_task_and_logits(server: Server) -> None:
    known = server.post("/classify", model="topic", input=TEXTS[0])["data"]
    assert server.post("/models/topic/classify", model="whatever", input=TEXTS[0])["data"] == known
    [logits] = server.post("/classify", model="topic", input=TEXTS[0], use_activation=False)["data"]
    raised = np.exp(logits["probs"])
    assert raised / raised.sum() == pytest.approx(known[0]["probs"], abs=1e-6)
    both = server.post("/classify", model="both", input=TEXTS[0], head="topic")["data"][0]
    assert both["num_classes"] == 3 and both["label"] in {"red", "green", "blue"}


def test_classify_shortens_where_that_is_asked_for(server: Server) -> None:
    long = " ".join(some_texts(1) * 400)
    refused = server.client.post("/classify", json={"model": "strict", "input": long})
    assert refused.status_code == 413 and "tokens" in refused.json()["error"]["message"]
    [head] = server.post("/classify", model="strict", input=long, truncate_prompt_tokens=-1)["data"]
    assert len(head["probs"]) == 3


# --- OpenAI ----------------------------------------------------------------------------------------------------------


def test_the_client_of_openai_moderates(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="any", max_retries=0)
    answer = client.moderations.create(model="tags", input=TEXTS)
    assert answer.model == "tags" and answer.id.startswith("modr-")
    for result, expected in zip(answer.results, server.predictions("tags"), strict=True):
        assert isinstance(expected.label, tuple)
        assert result.category_scores.to_dict() == pytest.approx(expected.scores, abs=1e-5)
        assert result.categories.to_dict() == {name: name in expected.label for name in expected.scores}
        assert result.flagged == bool(expected.label)
        assert set(result.category_applied_input_types.to_dict()) == set(expected.scores)
    [one] = client.moderations.create(model="tags", input=[{"type": "text", "text": text} for text in TEXTS]).results
    assert one.category_scores.to_dict() == pytest.approx(server.predictions("tags", ["\n".join(TEXTS)])[0].scores)
    assert [model.id for model in client.models.list()] == list(server.folders)
    assert client.models.retrieve("tags").object == "model"
    with pytest.raises(openai.NotFoundError, match="no model 'omni-moderation-latest'"):
        client.moderations.create(model="omni-moderation-latest", input="a text")
    with pytest.raises(openai.BadRequestError, match=r"no label that could be flagged \(multiclass\)"):
        client.moderations.create(model="topic", input="a text")
    named = openai.OpenAI(base_url=f"{server.url}/models/tags/v1", api_key="any", max_retries=0)
    assert named.moderations.create(model="omni-moderation-latest", input="a text").model == "tags"


def test_of_two_classes_the_second_is_flagged_by_the_decision_of_the_model(server: Server) -> None:
    answer = server.post("/v1/moderations", model="tone", input=TEXTS)
    expected = server.predictions("tone")
    assert [one["flagged"] for one in answer["results"]] == [prediction.label == "pos" for prediction in expected]
    assert [one["category_scores"]["pos"] for one in answer["results"]] == pytest.approx(
        [prediction.scores["pos"] for prediction in expected], abs=1e-5
    )


# --- System One ------------------------------------------------------------------------------------------------------


def test_the_client_of_typesafe_asks_what_the_model_knows(server: Server) -> None:
    with typesafe_sdk.TypeSafeClient(api_key="any", base_url=server.url) as client:
        choice = typesafe_sdk.Choice(instructions="Which?", criteria={"red": "warm", "green": None, "blue": None})
        answer = client.system_one(state=TEXTS[0], questions={"label": choice}, model="topic")
        [expected] = server.predictions("topic", TEXTS[:1])
        assert answer.choices["label"].choice == expected.label
        assert answer.choices["label"].probabilities == pytest.approx(expected.scores)
        assert answer.usage.input_tokens and answer.usage.output_tokens == 0
        fear = typesafe_sdk.Noul(instructions="Is there fear?")
        scale = typesafe_sdk.Score(instructions="How warm?", criteria=["blue", "green", "red"])
        [tags] = server.predictions("tags", TEXTS[:1])
        noul = client.system_one(state={"text": TEXTS[0]}, questions={"fear": fear}, model="tags")
        assert noul.nouls["fear"].noul == pytest.approx(tags.scores["fear"])
        score = client.system_one(state=TEXTS[0], questions={"label": scale}, model="topic").scores["label"]
        assert score.score == pytest.approx(expected.scores["green"] + 2 * expected.scores["red"])
        assert [model.name for model in client.models.list().models] == list(server.folders)
        with pytest.raises(typesafe_sdk.TypeSafeUnprocessableEntityError, match="choice 'label' among red, green"):
            client.system_one(state=TEXTS[0], questions={"fear": fear}, model="topic")
        both = client.system_one(
            state=TEXTS[0], questions={"tone": fear, "topic": choice, "topic/red": fear}, model="both"
        )
        assert set(both.nouls) == {"tone", "topic/red"} and set(both.choices) == {"topic"}


def test_a_state_has_the_columns_of_the_model(server: Server) -> None:
    question = {"red": {"type": "noul"}}
    pair = {"text": TEXTS[0], "second": TEXTS[1], "other": 3}
    found = server.post("/v1/systemone", model="pairs", state=pair, questions=question)
    predictor = load(server.folders["pairs"], device="cpu")
    [expected] = predictor.predict(TEXTS[:1], TEXTS[1:2])
    assert found["answers"]["red"]["noul"] == pytest.approx(expected.scores["red"])
    with_field = {"text": TEXTS[0], "source": "the web"}
    found = server.post("/v1/systemone", model="fields", state=with_field, questions=question)
    [expected] = load(server.folders["fields"], device="cpu").predict([with_field])
    assert found["answers"]["red"]["noul"] == pytest.approx(expected.scores["red"])


# --- bad requests ----------------------------------------------------------------------------------------------------

QUESTIONS = {"red": {"type": "noul"}}
BAD: dict[str, tuple[str, Any, int, str]] = {
    "classify: nothing": ("/classify", {}, 400, "`input` is missing"),
    "classify: empty": ("/classify", {"input": []}, 400, "empty"),
    "classify: a number": ("/classify", {"input": 7}, 400, "`input` is not as it should be"),
    "classify: token ids": ("/classify", {"input": [1, 2]}, 400, "token ids"),
    "classify: unknown model": ("/classify", {"input": "a", "model": "x"}, 404, "There is no model 'x'"),
    "classify: several tasks": ("/classify", {"input": "a", "model": "both"}, 400, "tone, topic"),
    "classify: unknown task": ("/classify", {"input": "a", "head": "x"}, 400, "no task 'x'"),
    "classify: pairs": ("/classify", {"input": "a", "model": "pairs"}, 400, "pairs"),
    "classify: another length": ("/classify", {"input": "a", "truncate_prompt_tokens": 7}, 400, "-1"),
    "classify: too many": ("/classify", {"input": ["a"] * 41}, 413, "at most 40"),
    "classify: huge": ("/classify", {"input": "a" * 120_000}, 413, "bytes"),
    "classify: half a character": ("/classify", b'{"input": "\\ud800"}', 400, ""),
    "classify: no JSON": ("/classify", b"{", 400, "not JSON"),
    "moderations: nothing": ("/v1/moderations", {}, 400, "`input` is missing"),
    "moderations: empty": ("/v1/moderations", {"input": [], "model": "tags"}, 400, "empty"),
    "moderations: image": (
        "/v1/moderations",
        {"model": "tags", "input": [{"type": "image_url", "image_url": {"url": "https://a"}}]},
        400,
        "images",
    ),
    "moderations: a number": ("/v1/moderations", {"model": "number", "input": "a"}, 400, "(regression)"),
    "moderations: unknown model": ("/v1/moderations", {"model": "x", "input": "a"}, 404, "no model"),
    "moderations: too many": ("/v1/moderations", {"model": "tags", "input": ["a"] * 41}, 413, "at most 40"),
    "systemone: nothing": ("/v1/systemone", {}, 422, "`state` is missing"),
    "systemone: no questions": ("/v1/systemone", {"state": "a", "questions": {}}, 422, "`questions`"),
    "systemone: another type": ("/v1/systemone", {"state": "a", "questions": {"b": {"type": "box"}}}, 422, "noul"),
    "systemone: a list": ("/v1/systemone", {"state": ["a"], "questions": QUESTIONS}, 422, "a list"),
    "systemone: other columns": ("/v1/systemone", {"state": {"b": "a"}, "questions": QUESTIONS}, 422, "'text'"),
    "systemone: no text": ("/v1/systemone", {"state": {"text": ["a"]}, "questions": QUESTIONS}, 422, "text"),
    "systemone: one text of two": (
        "/v1/systemone",
        {"state": "a", "questions": QUESTIONS, "model": "pairs"},
        422,
        "'second'",
    ),
    "systemone: images": ("/v1/systemone", {"state": "a", "questions": QUESTIONS, "assets": {"a": {}}}, 422, "images"),
    "systemone: another key": ("/v1/systemone", {"state": "a", "questions": QUESTIONS, "b": 1}, 422, "`b`"),
    "systemone: a number": (
        "/v1/systemone",
        {"state": "a", "questions": QUESTIONS, "model": "number"},
        422,
        "predicts a number",
    ),
    "models: unknown": ("/v1/models/x", None, 404, "no model"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_requests_get_a_sentence_in_the_form_of_the_shape(server: Server, case: str) -> None:
    path, body, status, words = BAD[case]
    if body is None:
        answer = server.client.get(path)
    elif isinstance(body, bytes):
        answer = server.client.post(path, content=body, headers={"content-type": "application/json"})
    else:
        answer = server.client.post(path, json=body)
    assert answer.status_code == status, answer.text
    said = answer.json()
    if path == "/v1/systemone":
        detail = said["detail"]
        sentence = detail[0]["msg"] if status == 422 else detail
    else:
        assert set(said["error"]) == {"message", "type", "param", "code"}
        sentence = said["error"]["message"]
        assert said["error"]["code"] == status if path == "/classify" else said["error"]["code"] != status
    assert words in sentence and sentence.endswith(".")


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
NESTED = LEAF | st.lists(LEAF, max_size=3) | st.dictionaries(st.sampled_from(["text", "type", "a"]), LEAF, max_size=2)
ANYTHING = NESTED | st.lists(NESTED, max_size=3) | st.dictionaries(st.sampled_from(["text", "a"]), NESTED, max_size=2)
TYPED = st.fixed_dictionaries(
    {"type": st.sampled_from(["choice", "score", "noul", "box"])}, optional={"criteria": NESTED}
)
ASKED = st.dictionaries(st.sampled_from(["label", "red", "joy", "a"]), TYPED | NESTED, max_size=2)


@pytest.mark.parametrize("path", ["/classify", "/v1/moderations", "/v1/systemone"])
def test_any_json_is_answered_or_refused(server: Server, path: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.data())
    def each(data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(["topic", "tags", "pairs", "number", "both"]))
        body = {"model": name, "input": data.draw(ANYTHING)}
        if path == "/v1/systemone":
            body = {"model": name, "state": data.draw(ANYTHING), "questions": data.draw(ASKED)}
        sent = json.dumps(body)
        answer = server.client.post(path, content=sent, headers={"content-type": "application/json"})
        assert answer.status_code in {200, 400, 413, 422}, answer.text
        said = answer.json()
        assert answer.status_code == 200 or said.get("error") or said.get("detail")

    each()


@pytest.mark.every_day(1)
@pytest.mark.parametrize("path", ["/classify", "/v1/moderations", "/v1/systemone", "/v1/models"])
def test_requests_drawn_from_the_description(server: Server, path: str) -> None:
    """Half of them as described, half not: each gets an answer that the description knows."""
    document = server.client.app.openapi()  # type: ignore[attr-defined]
    [method] = document["paths"][path]
    operation = schemathesis.openapi.from_dict(document)[path][method.upper()]

    @settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy() | operation.as_strategy(schemathesis.GenerationMode.NEGATIVE))
    def each(case: Any) -> None:
        body: dict[str, Any] = {}
        if case.body is not NOT_SET:
            sent = case.body if isinstance(case.body, bytes) else json.dumps(case.body).encode("utf-8", "replace")
            body = {"content": sent, "headers": {"content-type": case.media_type}}
        answer = server.client.request(case.method, case.formatted_path, params=case.query or {}, **body)
        assert str(answer.status_code) in {*document["paths"][path][method]["responses"], "405"}, answer.text
        if answer.status_code != 405:
            case.validate_response(Response.from_any(answer), checks=[response_schema_conformance])

    each()
