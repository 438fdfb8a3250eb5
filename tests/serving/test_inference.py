"""`POST /`: what `huggingface_hub.InferenceClient` asks and reads."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub import InferenceClient, constants
from huggingface_hub.errors import HfHubHTTPError
from kits.serving import client, running, some_texts
from starlette.testclient import TestClient

from textune.prediction import load


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> Iterator[TestClient]:
    with client(folders) as found:
        yield found


def ask(served: TestClient, model: str, inputs: Any, **parameters: Any) -> Any:
    answer = served.post(f"/models/{model}", json={"inputs": inputs, "parameters": parameters})
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_one_text_is_a_list_in_a_list(served: TestClient, folders: dict[str, Path]) -> None:
    texts = some_texts(4)
    expected = load(folders["topic"], device="cpu").predict(texts)
    [one] = ask(served, "topic", texts[0])
    assert {item["label"]: item["score"] for item in one} == pytest.approx(expected[0].scores, abs=1e-6)
    rows = ask(served, "topic", texts)
    assert [row[0]["label"] for row in rows] == [prediction.label for prediction in expected]
    assert ask(served, "topic", texts, top_k=2) == [row[:2] for row in rows]
    assert served.post("/models/topic/", json={"inputs": texts}).json() == rows
    assert served.post("/", json={"inputs": texts}).json() == rows, "the first model"


def test_functions_of_logits(served: TestClient) -> None:
    def numbers(model: str, **parameters: Any) -> np.ndarray:
        [row] = ask(served, model, some_texts(6)[5], **parameters)
        return np.array([item["score"] for item in sorted(row, key=lambda item: str(item["label"]))])

    logits = numbers("topic", function_to_apply="none")
    raised = np.exp(logits)
    assert numbers("topic", function_to_apply="softmax") == pytest.approx(raised / raised.sum(), abs=1e-9)
    assert numbers("topic") == pytest.approx(raised / raised.sum(), abs=1e-6)
    assert numbers("topic", function_to_apply="sigmoid") == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-9)
    assert numbers("tags") == pytest.approx(numbers("tags", function_to_apply="sigmoid"), abs=1e-6)
    assert numbers("tone") == pytest.approx(numbers("tone", function_to_apply="softmax"), abs=1e-6), "calibrated"


def test_pairs_with_keys_or_in_a_list(served: TestClient) -> None:
    first, second = some_texts(2)
    with_keys = ask(served, "pairs", {"text": first, "text_pair": second})
    assert (
        ask(served, "pairs", [[first, second]])
        == with_keys
        == ask(served, "pairs", [{"text": first, "text_pair": second}])
    )


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"inputs": []}, 422),
        ({"inputs": "a", "parameters": {"top_k": 0}}, 422),
        ({"inputs": "a", "parameters": {"function_to_apply": "tanh"}}, 422),
        ({"inputs": {"text": 3}}, 422),
        ({"text": "a"}, 422),
        ({"inputs": {"text": "a", "text_pair": "b"}}, 422),
    ],
    ids=["none", "zero", "function", "number", "key", "pair"],
)
def test_requests_that_cannot_be(served: TestClient, body: Any, status: int) -> None:
    answer = served.post("/models/topic", json=body)
    assert answer.status_code == status and set(answer.json()) == {"error"}, answer.text


def test_the_client_of_the_hub(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """And several of them at once: each gets the answer to its own text."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    texts = some_texts(24)
    expected = [one.scores for one in load(folders["topic"], device="cpu").predict(texts)]
    with running(
        f"tone={folders['tone']}", f"topic={folders['topic']}", "--token", "secret", OMP_NUM_THREADS="1"
    ) as at:
        asking = InferenceClient(f"{at.url}/models/topic", token="secret")
        found: dict[int, dict[str, float]] = {}

        def ask_some(start: int) -> None:
            for index in range(start, len(texts), 4):
                answer = asking.text_classification(texts[index])
                found[index] = {str(item.label): item.score for item in answer}

        threads = [threading.Thread(target=ask_some, args=(start,)) for start in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for index, scores in enumerate(expected):
            assert found[index] == pytest.approx(scores, abs=1e-5)
        assert len(asking.text_classification(texts[0], top_k=1)) == 1
        with pytest.raises(HfHubHTTPError, match="asks for its token"):
            InferenceClient(f"{at.url}/models/topic", token="other").text_classification("a")
        assert at.stop() == 0
