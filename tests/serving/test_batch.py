"""`POST /batch`: JSON lines, each answered as `textune predict` writes it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.serving import client, some_texts
from starlette.testclient import TestClient

from textune.prediction import load, predict_table


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> Iterator[TestClient]:
    with client(folders, max_body=5000) as found:
        yield found


def ask(served: TestClient, model: str, lines: list[bytes], query: str = "") -> list[Any]:
    answer = served.post(f"/models/{model}/batch{query}", content=b"\n".join(lines))
    assert answer.status_code == 200 and answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.content.splitlines()]


def as_lines(values: list[Any]) -> list[bytes]:
    return [json.dumps(value).encode() for value in values]


@pytest.mark.every_day(2)
@pytest.mark.parametrize("name", ["topic", "tone", "tags", "number", "both", "unsure"])
def test_answers_are_what_predict_writes(served: TestClient, folders: dict[str, Path], name: str) -> None:
    texts = some_texts(150)
    expected = predict_table(load(folders[name], device="cpu"), {"text": texts}, all_scores=True).to_pylist()
    for lines in (as_lines(texts), as_lines([{"text": text, "id": 3} for text in texts])):
        answers = ask(served, name, lines, "?all_scores=true")
        assert len(answers) == len(expected)
        for answer, row in zip(answers, expected, strict=True):
            assert answer.keys() == row.keys()
            assert answer == {
                key: pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
                for key, value in row.items()
            }


def test_pairs_and_fields(served: TestClient, folders: dict[str, Path]) -> None:
    first, second = some_texts(2)
    [as_list, as_row] = ask(served, "pairs", as_lines([[first, second], {"text": first, "second": second}]))
    assert as_list == as_row
    predictor = load(folders["fields"], device="cpu", on_notice=lambda notice: None)
    [expected] = predict_table(predictor, [{"text": first, "source": "film"}]).to_pylist()
    [with_field] = ask(served, "fields", as_lines([{"text": first, "source": "film"}]))
    assert with_field["predicted_score"] == pytest.approx(expected["predicted_score"], abs=1e-5)


def test_a_bad_line_has_an_error_in_its_place(served: TestClient) -> None:
    good = as_lines(some_texts(3))
    bad = {
        1: b"{",
        2: b"",
        3: b"[1, 2]",
        4: b"7",
        5: b'["a", "b"]',
        6: b'{"other": "a"}',
        8: b'"\xff"',
        9: b'"' + b"a" * 6000 + b'"',
        10: b'"\\ud800"',
        11: b"[" * 4000,
        12: b'["a", "b", "c"]',
        13: b"null",
        14: b"[" * 900 + b"]" * 900,
    }
    lines = [bad.get(index, good[index % 3]) for index in range(16)]
    answers = ask(served, "topic", lines)
    assert {index for index, answer in enumerate(answers) if "error" in answer} == set(bad)
    assert answers[0]["predicted_label"] == answers[15]["predicted_label"]
    assert all(answer["error"] for index, answer in enumerate(answers) if index in bad)
    assert "5,000 bytes" in answers[9]["error"]


def test_no_lines_and_an_unknown_model(served: TestClient) -> None:
    assert ask(served, "topic", []) == []
    assert served.post("/models/nothing/batch", content=b'"a"').status_code == 404
    assert served.post("/batch?all_scores=perhaps", content=b'"a"').status_code == 422
