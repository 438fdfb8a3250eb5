"""`GET /metrics`: read by Prometheus' own parser; every request counted, no text in it, and drift that shows."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kits.runs import BAD, GOOD, reviews, write_place
from kits.serving import client, some_texts
from prometheus_client.openmetrics.parser import text_string_to_metric_families as open_metrics
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

import textune
from textune.prediction import load
from textune.prediction.usual import USUAL_NAME, read_usual

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def measured(served: TestClient, **headers: str) -> Samples:
    answer = served.get("/metrics", headers=headers)
    assert answer.status_code == 200
    read = open_metrics if "openmetrics" in answer.headers["content-type"] else text_string_to_metric_families
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in read(answer.text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples[name, tuple(sorted(labels.items()))]


def drifts(samples: Samples, name: str = "textune_drift_distance") -> dict[str, float]:
    return {dict(labels)["of"]: found for (known, labels), found in samples.items() if known == name}


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("usual")
    write_place(
        home,
        '[data.train]\nfiles = "rows.csv"\n[data.validation]\ncount = 200\n[model]\npretrained = "backbone"\n'
        '[train]\nduration = "3 epochs"\n',
        reviews(500),
    )
    return Path(textune.train(home / "config.toml", run=home / "run").run)


def send(served: TestClient, texts: list[str]) -> None:
    for start in range(0, len(texts), 50):
        assert served.post("/predict", json={"inputs": [[text] for text in texts[start : start + 50]]}).is_success


@pytest.mark.slow
def test_rows_like_those_of_validation_are_near_and_others_are_far(trained_run: Path) -> None:
    like = [row["text"] for row in reviews(500, seed=5)]
    with client({"film": trained_run}) as served:
        send(served, like[:90])
        assert drifts(measured(served)) == {}, "too few rows to say anything"
        send(served, like[90:])
        near = measured(served)
        assert set(drifts(near)) == {"lengths", "labels", "scores"}
        assert max(drifts(near).values()) < 0.15
        # Two samples of one distribution differ by their noise, seldom by three times as much.
        noise = drifts(near, "textune_drift_psi_noise")
        assert all(psi < 3 * noise[of] for of, psi in drifts(near, "textune_drift_psi").items())
        words = random.Random(0)
        send(served, [" ".join(words.choices(BAD, k=40)) for _ in range(1000)])
        far = measured(served)
        assert drifts(far)["lengths"] > 0.5 and drifts(far)["labels"] > 0.4
        assert min(drifts(far, "textune_drift_psi")["lengths"], drifts(far, "textune_drift_psi")["labels"]) > 0.25
        send(served, like + like)
        assert max(drifts(measured(served)).values()) < 0.15, "the window holds the last rows alone"


def test_what_is_counted_is_what_predict_says(trained_run: Path) -> None:
    texts = [row["text"] for row in reviews(60, seed=9)]
    predicted = load(trained_run, device="cpu").predict(texts)
    assert isinstance(predicted, list)
    usual = read_usual(trained_run / "best")
    assert usual is not None
    with client({"film": trained_run}) as served:
        send(served, texts)
        samples = measured(served)
    for label in ("neg", "pos"):
        given = value(samples, "textune_labels_total", model="film", head="label", label=label)
        assert given == sum(one.label == label for one in predicted)
    assert value(samples, "textune_labels_total", model="film", head="label", label="(none)") == 0
    assert value(samples, "textune_texts_total", model="film") == 60
    assert value(samples, "textune_score_sum", model="film", head="label") == pytest.approx(
        sum(one.score for one in predicted), abs=1e-3
    )
    assert value(samples, "textune_score_bucket", model="film", head="label", le="0.9") == sum(
        one.score <= 0.9 for one in predicted
    )
    assert value(samples, "textune_usual_rows", model="film") == usual.rows == 200


@pytest.fixture(scope="module")
def served(folders: dict[str, Path]) -> Iterator[TestClient]:
    with client(folders, max_batch=40) as found:
        yield found


@pytest.mark.every_day(1)
@pytest.mark.parametrize("accept", ["text/plain", "application/openmetrics-text; version=1.0.0"])
def test_requests_are_counted_by_address_model_and_status(served: TestClient, accept: str) -> None:
    def changed(name: str, **labels: str) -> float:
        key = (name, tuple(sorted(labels.items())))
        return after.get(key, 0) - before.get(key, 0)

    before = measured(served, accept=accept)
    texts = some_texts(5)
    for text in texts:
        assert served.post("/models/tags/predict", json={"inputs": text}).is_success
    assert served.post("/predict", json={"inputs": texts}).is_success
    assert served.post("/models/number/predict", json={"inputs": []}).status_code == 422
    assert served.post("/models/nobody's/predict", json={"inputs": "a"}).status_code == 404
    assert served.post("/classify", json={"input": "a", "model": "tone"}).is_success
    assert served.post("/no/such/place", json={}).status_code == 404
    after = measured(served, accept=accept)
    total = "textune_requests_total"
    assert changed(total, path="/predict", model="tags", status="200") == 5
    assert changed(total, path="/predict", model="topic", status="200") == 1
    assert changed(total, path="/predict", model="number", status="422") == 1
    assert changed(total, path="/predict", model="", status="404") == 1
    assert changed(total, path="(other)", model="", status="404") == 1
    assert changed(total, path="/classify", model="tone", status="200") == 1
    assert changed(total, path="/metrics", model="", status="200") == 1
    assert changed("textune_request_seconds_count", path="/predict", model="tags") == 5
    assert changed("textune_refused_total", reason="unusable") == 1
    assert changed("textune_refused_total", reason="unknown") == 1
    assert changed("textune_texts_total", model="tags") == changed("textune_texts_total", model="topic") == 5
    tokens = changed("textune_text_tokens_sum", model="tags")
    assert changed("textune_batch_tokens_sum", model="tags") == tokens > 5
    assert changed("textune_batch_seconds_count", model="tags") == 5
    assert value(after, "textune_queue_tokens", model="tags") == 0
    assert value(after, "textune_queue_requests", model="tags") == 0
    assert value(after, "process_resident_memory_bytes") > 1e6
    assert not any("nobody" in str(key) for key in after)


def test_no_text_is_in_it(served: TestClient) -> None:
    secret = "swordfish"
    for model in ("topic", "tags", "number", "both"):
        served.post(f"/models/{model}/predict", json={"inputs": secret})
    served.post("/predict", json={"inputs": [[secret, 3]]})
    served.get(f"/{secret}")
    assert secret not in served.get("/metrics").text
    assert served.get("/metrics").headers["content-type"].startswith("text/plain")


def test_several_tasks_and_numbers_have_their_own_series(served: TestClient) -> None:
    for model in ("both", "number"):
        served.post(f"/models/{model}/predict", json={"inputs": some_texts(3)})
    samples = measured(served)
    assert sum(
        value(samples, "textune_labels_total", model="both", head="tone", label=label) for label in ("neg", "pos")
    ) == value(samples, "textune_texts_total", model="both")
    inside = value(samples, "textune_score_bucket", model="number", head="label", le="+Inf")
    assert inside == value(samples, "textune_texts_total", model="number")
    assert not [1 for name, labels in samples if name == "textune_labels_total" and ("model", "number") in labels]


def test_the_page_names_every_metric(trained_run: Path) -> None:
    page = (Path(textune.__file__).parents[1] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    with client({"film": trained_run}) as served:
        send(served, [row["text"] for row in reviews(150)])
        served.post("/predict", json={"inputs": []})
        for family in text_string_to_metric_families(served.get("/metrics").text):
            name = family.name + ("_total" if family.type == "counter" else "")
            if not (name.startswith("process_") or name.endswith("_created")):
                assert any(f"`{name}`" in row for row in rows), name


def test_every_application_has_its_own_metrics(folders: dict[str, Path], served: TestClient) -> None:
    with client({"topic": folders["topic"]}) as other:
        served.post("/predict", json={"inputs": "a"})
        assert value(measured(other), "textune_texts_total", model="topic") == 0


def test_they_are_read_with_the_token_alone(folders: dict[str, Path]) -> None:
    with client({"topic": folders["topic"]}, token="secret") as locked:
        assert locked.get("/metrics").status_code == 401
        found = measured(locked, authorization="Bearer secret")
        assert value(found, "textune_refused_total", reason="unauthorized") == 1


def test_a_damaged_file_is_said_and_everything_is_answered(trained_run: Path, tmp_path: Path) -> None:
    from textune.exports import export
    from textune.serving import LoadOptions, Models, Settings

    export(trained_run, tmp_path / "model")
    (tmp_path / "model" / USUAL_NAME).write_text("{", encoding="utf-8")
    said: list[str] = []
    models = Models({"film": tmp_path / "model"}, Settings(), LoadOptions(device="cpu"), on_notice=said.append)
    assert models.default.usual is None
    assert len(said) == 1 and USUAL_NAME in said[0]


def test_a_model_that_was_opened_again_starts_anew(trained_run: Path) -> None:
    with client({"film": trained_run}, token="t") as served:
        served.headers["authorization"] = "Bearer t"
        send(served, [row["text"] for row in reviews(150)])
        assert drifts(measured(served))
        assert served.post("/models/film/reload").status_code == 200
        samples: Any = measured(served)
        assert value(samples, "textune_texts_total", model="film") == 0
        assert drifts(samples) == {}
        send(served, GOOD)
        assert value(measured(served), "textune_texts_total", model="film") == len(GOOD)
