"""What a server measures of itself and of its models, as Prometheus reads it: `GET /metrics`; after `watched.py`.

Every application has a registry of its own. No metric holds a text, nor a label that is not a model's; the number of
its series is bounded whatever is asked.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from typing import Final

import numpy as np
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from textune.prediction import Predictor, Scores
from textune.serving.models import Models, Served
from textune.serving.watched import Counted, CountedNumbers, Watched

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the histograms of times."""
BATCH_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536)
"""Bounds of the histogram of tokens that are computed together."""
OTHER = "(other)"
"""An address that the server does not have."""
_ANSWERED_BY: ContextVar[list[str]] = ContextVar("answered_by")
"""The models that answered a request, for whoever counts it: a shape may read a model's name in the body."""


class Metrics:
    """A `Watcher` of models, and what Prometheus reads of it."""

    def __init__(self, models: Models) -> None:
        self._models: Final = models
        self._watched: dict[str, tuple[Predictor, Watched]] = {}
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "textune_requests",
            "Requests by address, the model that answered, and status code.",
            ("path", "model", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            "textune_request_seconds",
            "From a request's first byte to the last one of its answer.",
            ("path", "model"),
            buckets=SECONDS,
            registry=self._registry,
        )
        self._refused = Counter(
            "textune_refused", "Requests that were refused, by reason.", ("reason",), registry=self._registry
        )
        self._batch_tokens = Histogram(
            "textune_batch_tokens",
            "Tokens of the texts that were computed together.",
            ("model",),
            buckets=BATCH_TOKENS,
            registry=self._registry,
        )
        self._batch_seconds = Histogram(
            "textune_batch_seconds", "To compute a batch.", ("model",), buckets=SECONDS, registry=self._registry
        )
        self._registry.register(_OfModels(self))
        ProcessCollector(registry=self._registry)

    # --- what it is told ---------------------------------------------------------------------------------------------

    def answered(self, model: str, predictor: Predictor, num_tokens: np.ndarray, scores: Scores) -> None:
        """As in `Watcher`."""
        if (by := _ANSWERED_BY.get(None)) is not None and model not in by:
            by.append(model)
        served = next((one for one in self._models if one.name == model), None)
        if served is not None and served.predictor is predictor:  # not one that was replaced meanwhile
            self._of(served).add(num_tokens, scores)

    def computed(self, model: str, num_tokens: int, seconds: float) -> None:
        """As in `Watcher`."""
        self._batch_tokens.labels(model).observe(num_tokens)
        self._batch_seconds.labels(model).observe(seconds)

    def refused(self, reason: str) -> None:
        """As in `Watcher`."""
        self._refused.labels(reason).inc()

    def requested(self, path: str, model: str, status: int, seconds: float) -> None:
        """A request to an address of the server (`OTHER`: to none) was answered."""
        self._requests.labels(path, model, str(status)).inc()
        self._seconds.labels(path, model).observe(seconds)

    # --- what is read ------------------------------------------------------------------------------------------------

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """All of it in the form that the header `Accept` asks for, and the type of that."""
        encode, kind = choose_encoder(accept)
        return encode(self._registry), kind

    def counted(self) -> Iterator[tuple[Served, Watched, Counted]]:
        """What each model was asked and answered."""
        for served in self._models:
            watched = self._of(served)
            yield served, watched, watched.counted()

    def name_of(self, scope: Scope, by: list[str]) -> str:
        """The model of a request: the (first) one that answered, else the one that its address names, else none."""
        if by:
            return by[0]
        named = scope.get("path_params", {}).get("model")
        return named if any(one.name == named for one in self._models) else ""

    def _of(self, served: Served) -> Watched:
        """What is known of a model since it was opened."""
        known = self._watched.get(served.name)
        if known is None or known[0] is not served.predictor:
            heads = served.predictor.scorer.task.heads
            known = served.predictor, Watched(heads, served.card.tokens, served.usual)
            self._watched[served.name] = known
        return known[1]


class Measured:
    """An application of which every request is counted."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI has it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, status, by = time.perf_counter(), 500, list[str]()
        reset = _ANSWERED_BY.set(by)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, noting)
        finally:
            _ANSWERED_BY.reset(reset)
            path, model = _path(scope), self._metrics.name_of(scope, by)
            self._metrics.requested(path, model, status, time.perf_counter() - started)


def _path(scope: Scope) -> str:
    """The address as it is documented, without the name of a model."""
    found = getattr(scope.get("route"), "path", OTHER)
    return str(found).removeprefix("/models/{model}") or "/models/{model}"


class _OfModels(Collector):
    """What is counted of models, read when it is asked for."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def describe(self) -> Iterable[Metric]:
        """Nothing before it is asked for."""
        return []

    def collect(self) -> Iterable[Metric]:
        """The families, with a sample for each model, head and label."""
        families = _families()
        for served, watched, counted in self._metrics.counted():
            _add_model(families, served, watched, counted)
        return families.values()


def _families() -> dict[str, CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily]:
    of_drift = ("model", "head", "of")
    return {
        "queue_tokens": GaugeMetricFamily(
            "textune_queue_tokens", "Tokens that wait or are computed.", labels=("model",)
        ),
        "queue_requests": GaugeMetricFamily(
            "textune_queue_requests", "Requests that wait or are computed.", labels=("model",)
        ),
        "texts": CounterMetricFamily("textune_texts", "Texts that were answered.", labels=("model",)),
        "tokens": HistogramMetricFamily("textune_text_tokens", "Tokens of a text.", labels=("model",)),
        "labels": CounterMetricFamily(
            "textune_labels", "Texts that were given a label.", labels=("model", "head", "label")
        ),
        "scores": HistogramMetricFamily(
            "textune_score",
            "Calibrated probability of the answer (of several labels: of the most probable one), or the number.",
            labels=("model", "head"),
        ),
        "usual": GaugeMetricFamily(
            "textune_usual_rows", "Validation rows that the last texts are compared with.", labels=("model",)
        ),
        "psi": GaugeMetricFamily(
            "textune_drift_psi",
            "Population stability index of the last texts against the validation rows.",
            labels=of_drift,
        ),
        "noise": GaugeMetricFamily(
            "textune_drift_psi_noise", "What it would be on average without any drift.", labels=of_drift
        ),
        "distance": GaugeMetricFamily(
            "textune_drift_distance",
            "Jensen-Shannon distance of the last texts from the validation rows, 0 to 1.",
            labels=of_drift,
        ),
    }


def _add_model(
    families: dict[str, CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily],
    served: Served,
    watched: Watched,
    counted: Counted,
) -> None:
    model = served.name

    def add(family: str, value: float, *labels: str) -> None:
        found = families[family]
        assert not isinstance(found, HistogramMetricFamily)
        found.add_metric((model, *labels), value)

    def spread(family: str, numbers: CountedNumbers, *labels: str) -> None:
        found = families[family]
        assert isinstance(found, HistogramMetricFamily)
        bounds = [*map(floatToGoString, numbers.bounds), "+Inf"]
        buckets = list(zip(bounds, np.cumsum(numbers.counts).tolist(), strict=True))
        found.add_metric((model, *labels), buckets, numbers.sum)

    add("queue_tokens", served.engine.held_tokens)
    add("queue_requests", served.engine.num_requests)
    add("texts", counted.num_rows)
    spread("tokens", counted.lengths)
    for head in counted.heads:
        for label, count in head.labels.items():
            add("labels", count, head.name, label)
        spread("scores", head.scores, head.name)
    if watched.usual is not None:
        add("usual", watched.usual.rows)
    for name, what, drift in counted.drifts:
        add("psi", drift.psi, name, what)
        add("noise", drift.noise, name, what)
        add("distance", drift.distance, name, what)
