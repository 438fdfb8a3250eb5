"""Requests drawn from the OpenAPI document: none gets an answer that the document does not know, nor a 5xx."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.serving import client
from schemathesis.core import NOT_SET
from starlette.testclient import TestClient

FEW, MANY = 8, 1000


@schemathesis.serializer("application/x-ndjson")
def as_line(context: object, value: object) -> bytes:
    """What is sent as a line; it need not be JSON."""
    return str(value).encode("utf-8", "replace")


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> Iterator[TestClient]:
    with client({name: folders[name] for name in ("topic", "pairs")}) as found:
        yield found


def draw(served: TestClient, num: int) -> None:
    """So many requests of each address, half of them as described and half not."""
    document = served.app.openapi()  # type: ignore[attr-defined]
    schema = schemathesis.openapi.from_dict(document)
    for path, methods in document["paths"].items():
        for method in methods:
            draw_of(served, schema[path][method.upper()], num)


def draw_of(served: TestClient, operation: Any, num: int) -> None:
    described = {int(status) for status in operation.definition.raw["responses"]} | {404, 405, 307}

    @settings(max_examples=num, deadline=None, suppress_health_check=list(HealthCheck))
    @given(case=operation.as_strategy() | operation.as_strategy(schemathesis.GenerationMode.NEGATIVE))
    def each(case: Any) -> None:
        body: dict[str, Any] = {}
        if case.body is not NOT_SET:
            is_text = isinstance(case.body, str) and "ndjson" in str(case.media_type)
            text = case.body if is_text or isinstance(case.body, bytes) else json.dumps(case.body)
            content = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
            body = {"content": content, "headers": {"content-type": case.media_type}}
        answer = served.request(case.method, case.formatted_path, params=case.query or {}, **body)
        assert answer.status_code in described and answer.status_code < 500, (answer.status_code, answer.text)

    each()


def test_drawn_requests(served: TestClient) -> None:
    draw(served, FEW)


@pytest.mark.slow
def test_many_drawn_requests(served: TestClient) -> None:
    draw(served, MANY)


LEAF = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
KEYS = st.sampled_from(["text", "text_pair", "a"])
NESTED = LEAF | st.lists(LEAF, max_size=3) | st.dictionaries(KEYS, LEAF, max_size=2)
ANYTHING = NESTED | st.lists(NESTED, max_size=3) | st.dictionaries(KEYS, NESTED, max_size=2)


@pytest.mark.parametrize("path", ["/predict", "/", "/models/pairs/predict"])
def test_any_json_as_inputs(served: TestClient, path: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(inputs=ANYTHING)
    def each(inputs: Any) -> None:
        body = json.dumps({"inputs": inputs})
        answer = served.post(path, content=body, headers={"content-type": "application/json"})
        assert answer.status_code in {200, 422}, answer.text
        if answer.status_code != 200:
            assert answer.json()["error"]

    each()
