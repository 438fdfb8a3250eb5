"""`POST /predict`: the answers of text-embeddings-inference, and what `predict` writes."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.serving import client, some_texts
from starlette.testclient import TestClient

from textune.prediction import load


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> Iterator[TestClient]:
    with client(folders, max_batch=40) as found:
        yield found


def ask(served: TestClient, model: str, inputs: Any, **keys: Any) -> Any:
    answer = served.post(f"/models/{model}/predict", json={"inputs": inputs, **keys})
    assert answer.status_code == 200, answer.text
    return answer.json()


def by_label(row: list[dict[str, Any]]) -> dict[str, float]:
    return {item["label"]: item["score"] for item in row}


def test_one_text_is_a_flat_list_and_several_are_lists(served: TestClient) -> None:
    texts = some_texts(3)
    one, several = ask(served, "topic", texts[0]), ask(served, "topic", [[text] for text in texts])
    assert [set(item) for item in one] == [{"label", "score"}] * 3
    assert [item["score"] for item in one] == sorted((item["score"] for item in one), reverse=True)
    assert len(several) == 3 and by_label(several[0]) == pytest.approx(by_label(one), abs=1e-6)
    assert ask(served, "topic", texts) == several, "a flat list is several texts for a model of single texts"
    assert ask(served, "topic", texts[:1]) == one
    assert served.post("/predict", json={"inputs": texts[0]}).json() == one, "the first model has no prefix"


@pytest.mark.parametrize("name", ["topic", "tone", "tags", "number"])
def test_answers_are_those_of_predict(served: TestClient, folders: dict[str, Path], name: str) -> None:
    texts = some_texts(30)
    predictor = load(folders[name], device="cpu")
    expected = predictor.predict(texts)
    rows = ask(served, name, [[text] for text in texts])
    for row, prediction in zip(rows, expected, strict=True):
        assert by_label(row) == pytest.approx(prediction.scores, abs=1e-5)
        if name == "topic":
            assert row[0]["label"] == prediction.label
        if name == "tone":
            assert [item["label"] for item in row if item["answer"]] == [prediction.label]


@pytest.mark.parametrize("name", ["topic", "tone", "tags", "number"])
def test_one_text_at_a_time_has_the_same_bits(served: TestClient, folders: dict[str, Path], name: str) -> None:
    predictor = load(folders[name], device="cpu")
    for text in some_texts(8):
        [prediction] = predictor.predict([text])
        assert by_label(ask(served, name, text)) == prediction.scores


def test_several_labels_have_their_own_probabilities(served: TestClient) -> None:
    rows = ask(served, "tags", some_texts(20))
    sums = [sum(by_label(row).values()) for row in rows]
    assert max(abs(total - 1) for total in sums) > 0.05, "no softmax"


def test_an_answer_that_is_withheld_has_no_label(served: TestClient) -> None:
    assert not any(item["answer"] for row in ask(served, "unsure", some_texts(5)) for item in row)


def test_several_tasks_stand_one_after_the_other(served: TestClient, folders: dict[str, Path]) -> None:
    [text] = some_texts(1)
    expected = load(folders["both"], device="cpu").predict([text])
    row = ask(served, "both", text)
    assert [item["label"].partition("/")[0] for item in row] == ["tone"] * 2 + ["topic"] * 3
    assert isinstance(expected, dict)
    for task, [prediction] in expected.items():
        assert by_label(row) | {f"{task}/{name}": score for name, score in prediction.scores.items()} == by_label(row)


def test_raw_scores_are_logits(served: TestClient) -> None:
    text = some_texts(6)[5]
    for name, temperature in (("topic", 1.0), ("tone", 2.0)):
        probabilities, logits = (by_label(ask(served, name, text, raw_scores=raw)) for raw in (False, True))
        raised = {label: np.exp(logit / temperature) for label, logit in logits.items()}
        total = sum(raised.values())
        assert probabilities == pytest.approx({label: one / total for label, one in raised.items()}, abs=1e-6)
    tags, logits = (by_label(ask(served, "tags", text, raw_scores=raw)) for raw in (False, True))
    assert tags == pytest.approx({label: 1 / (1 + np.exp(-logit)) for label, logit in logits.items()}, abs=1e-6)


def test_pairs(served: TestClient, folders: dict[str, Path]) -> None:
    firsts, seconds = some_texts(4), some_texts(8)[4:]
    expected = load(folders["pairs"], device="cpu").predict(firsts, seconds)
    rows = ask(served, "pairs", [list(pair) for pair in zip(firsts, seconds, strict=True)])
    for row, prediction in zip(rows, expected, strict=True):
        assert by_label(row) == pytest.approx(prediction.scores, abs=1e-5)
    one = ask(served, "pairs", [firsts[0], seconds[0]])
    assert by_label(one) == pytest.approx(by_label(rows[0]), abs=1e-6), "as there, two texts are one pair"


def test_fields_stand_before_texts(served: TestClient, folders: dict[str, Path]) -> None:
    texts = some_texts(3)
    predictor = load(folders["fields"], device="cpu", on_notice=lambda notice: None)
    rows = [{"text": text, "source": "film"} for text in texts]
    expected = predictor.predict(rows)
    for given in ("film", ["film"] * 3):
        for row, prediction in zip(ask(served, "fields", texts, fields={"source": given}), expected, strict=True):
            assert by_label(row) == pytest.approx(prediction.scores, abs=1e-5)
    bare = predictor.predict(texts)
    assert by_label(ask(served, "fields", texts)[2]) == pytest.approx(bare[2].scores, abs=1e-5)
    assert bare[2].scores != pytest.approx(expected[2].scores, abs=1e-5)


def test_long_texts_are_cut_as_asked(served: TestClient, folders: dict[str, Path]) -> None:
    words = some_texts(200, longest=150)[29]
    assert len(words.split()) > 40
    kept = load(folders["topic"], device="cpu").predict([words])[0].scores
    assert by_label(ask(served, "topic", words)) == kept
    assert by_label(ask(served, "topic", words, truncate=True, truncation_direction="right")) == kept
    assert by_label(ask(served, "topic", words, truncate=True, truncation_direction="Left")) != kept
    refused = served.post("/models/topic/predict", json={"inputs": words, "truncate": False})
    assert refused.status_code == 413 and refused.json()["error_type"] == "Validation"
    assert "at most 24 tokens" in refused.json()["error"]
    by_card = served.post("/models/strict/predict", json={"inputs": words})
    assert by_card.status_code == 413, "its run refused such texts, too"
    assert ask(served, "strict", words, truncate=True)


@pytest.mark.parametrize(
    ("model", "inputs", "status", "said"),
    [
        ("topic", [], 422, "empty"),
        ("topic", [[]], 422, "one text or a pair"),
        ("topic", [["a", "b", "c"]], 422, "one text or a pair"),
        ("topic", [["a"], ["b", "c"]], 422, "all of them are alike"),
        ("topic", [["a", "b"]], 422, "single texts"),
        ("pairs", "a", 422, "pairs of texts"),
        ("pairs", [["a"], ["b"]], 422, "pairs of texts"),
        ("pairs", ["a", "b", "c"], 422, "takes pairs"),
        ("topic", ["a"] * 41, 413, "batch size 41 > maximum allowed batch size 40"),
        ("topic", 7, 422, "`inputs`"),
        ("topic", None, 422, "`inputs`"),
        ("topic", [["a"], 3], 422, "`inputs`"),
        ("topic", "\ud800", 422, "`inputs`"),
        ("nothing", "a", 404, "There is no model 'nothing'; there are: topic, tone"),
    ],
    ids=str,
)
def test_inputs_that_cannot_be(served: TestClient, model: str, inputs: Any, status: int, said: str) -> None:
    import json

    body = json.dumps({"inputs": inputs})
    answer = served.post(f"/models/{model}/predict", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "error_type"} and said in answer.json()["error"]


DEEP = b"[" * 90_000


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 422),
        (b"{", "application/json", 400),
        (b'{"inputs": "\xff"}', "application/json", 400),
        (b'{"inputs": ' + DEEP, "application/json", 400),
        (b'{"inputs": ' + DEEP + b"]" * 90_000 + b"}", "application/json", 400),
        (b"[1]", "application/json", 422),
        (b'{"input": "a"}', "application/json", 422),
        (b'{"inputs": "a", "truncate": "yes"}', "application/json", 422),
        (b'{"inputs": "a", "fields": {"source": "x"}}', "application/json", 422),
        (b'{"inputs": "a"}', "text/plain", 415),
        (b'{"inputs": "a"}', "application/x-www-form-urlencoded", 415),
        (b'{"inputs": "' + b"a" * 2_100_000 + b'"}', "application/json", 413),
    ],
    ids=["none", "half", "bytes", "deep", "closed", "list", "key", "flag", "field", "text", "form", "large"],
)
def test_bodies_that_cannot_be(served: TestClient, body: bytes, kind: str, status: int) -> None:
    answer = served.post("/predict", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error", "error_type"} and answer.json()["error"].endswith(".")
    assert "aaaa" not in answer.text
