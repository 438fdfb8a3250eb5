"""Prediction: texts in, labels out, beside `transformers.pipeline`, sentence-transformers and ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.speed.data import Texts, short_texts
from bench.speed.measure import compare, repeat, significant
from bench.speed.protocol import Skip
from bench.speed.questions.common import MAX_LENGTH, Settings, write_config
from bench.speed.rows import Answer
from bench.speed.workers import ROOT, Worker

SEGMENT_ROWS = 2000
"""Texts that one system predicts while the others wait."""
TRIAL_ROWS = 512
BATCH_SIZES = (32, 128)

Segment = tuple[float, list[str] | None]
"""Seconds, and the labels where the system gives any."""


def predict(settings: Settings) -> list[Answer]:
    """Short texts from a saved model, MiniLM-L6; the pipeline sorted by hand, at its better batch size, is the one to beat."""
    texts = short_texts(settings.count(20_000, tiny=48), settings.data)
    model = _trained_model(settings)
    ours = {"model": str(model), "device": settings.device}
    peer = {"model": str(model), "device": settings.device, "max_length": MAX_LENGTH}
    encoder = {"backbone": str(settings.backbone()), "device": settings.device, "max_length": MAX_LENGTH}
    with ExitStack() as stack:
        workers, skipped = _start(
            stack,
            settings.work,
            {
                "textune": ("ours.predicting", {**ours, "precision": "auto"}),
                "textune int8": ("ours.predicting", {**ours, "precision": "int8"}),
                "pipeline": ("peers.pipeline", peer),
                "sentence-transformers": ("peers.sentence", encoder),
                "ONNX Runtime": ("peers.onnx", peer),
            },
        )
        systems = _systems(workers, [text for text, _, _ in texts.examples[:TRIAL_ROWS]], _segment_rows(settings))
        turns, labels = _measure(settings, systems, texts)
        threads = workers["textune"].facts["threads"]
        facts = {name: worker.facts for name, worker in workers.items()}
        memory = {name: round(worker.close()["peak_memory_mb"]) for name, worker in workers.items()}
    details = {
        "data": texts.name,
        "rows": len(labels["textune"]),
        "segment": {"rows": _segment_rows(settings), "segments": len(turns)},
        "precision": {name: fact["precision"] for name, fact in facts.items()},
        "memory_mb": memory,
        "left_out": skipped,
        "threads": threads,
    }
    answers = [
        _answer(name, turns, details | _agreement(labels, name), batch_size=command.get("batch_size"))
        for name, (_, command) in systems.items()
        if name not in {"textune", "textune int8"}
    ]
    if "textune int8" in systems:
        answers.append(_int8(turns, details | _agreement(labels, "textune int8")))
    return answers


def _start(
    stack: ExitStack, work: Path, wanted: Mapping[str, tuple[str, dict[str, Any]]]
) -> tuple[dict[str, Worker], dict[str, str]]:
    """The workers that can run here, and why the others cannot; textune and the pipeline must."""
    started = {name: stack.enter_context(Worker(module, spec, work=work)) for name, (module, spec) in wanted.items()}
    skipped = {}
    for name, worker in started.items():
        try:
            _ = worker.facts
        except Skip as reason:
            if name in {"textune", "pipeline"}:
                raise
            skipped[name] = str(reason)
    return {name: worker for name, worker in started.items() if name not in skipped}, skipped


def _systems(workers: Mapping[str, Worker], trial: list[str], segment_rows: int) -> dict[str, tuple[Worker, dict[str, Any]]]:
    """Name to worker and options, each at the batch size that is faster on the trial texts; this is the warm-up too."""
    # Warm whatever is made once for each length, then see.
    for worker in workers.values():
        worker.ask(texts=trial[:64], batch_size=32, by_length=True)
    systems: dict[str, tuple[Worker, dict[str, Any]]] = {
        name: (workers[name], {}) for name in ("textune", "textune int8") if name in workers
    }
    for name, worker, options in [
        ("pipeline", workers["pipeline"], {"by_length": True}),
        ("pipeline, unsorted", workers["pipeline"], {"by_length": False}),
        *((name, workers[name], {}) for name in ("sentence-transformers", "ONNX Runtime") if name in workers),
    ]:
        seconds = {size: worker.ask(texts=trial, batch_size=size, **options)["seconds"] for size in BATCH_SIZES}
        systems[name] = (worker, {**options, "batch_size": min(seconds, key=lambda size: seconds[size])})
    for worker, options in list(systems.values())[: len(systems)]:
        if not options:
            worker.ask(texts=trial[:segment_rows])
    return systems


def _measure(
    settings: Settings, systems: Mapping[str, tuple[Worker, dict[str, Any]]], texts: Texts
) -> tuple[list[dict[str, float]], dict[str, list[str]]]:
    """Rows a second of every system, segment by segment, and the labels that they gave."""
    size = _segment_rows(settings)
    starts = iter(range(0, len(texts.examples) - size + 1, size))
    labels: dict[str, list[str]] = {name: [] for name in systems}

    def turn() -> dict[str, float]:
        start = next(starts)
        part = [text for text, _, _ in texts.examples[start : start + size]]
        rates = {}
        for name, (worker, options) in systems.items():
            reply = worker.ask(texts=part, **options)
            rates[name] = size / reply["seconds"]
            labels[name] += reply.get("labels", [])
        return rates

    at_most = len(texts.examples) // size
    return repeat(turn, seconds=settings.budget(50), at_least=min(3, at_most), at_most=at_most), labels


def _segment_rows(settings: Settings) -> int:
    return 16 if settings.tiny else SEGMENT_ROWS


def _agreement(labels: Mapping[str, list[str]], name: str) -> dict[str, Any]:
    """Share of the texts on which a system and textune say the same."""
    ours, theirs = labels["textune"], labels[name]
    if not theirs:
        return {}
    return {"same_label": significant(sum(a == b for a, b in zip(ours, theirs, strict=True)) / len(ours))}


def _answer(name: str, turns: list[dict[str, float]], details: dict[str, Any], *, batch_size: int | None) -> Answer:
    comparison = compare([(turn["textune"], turn[name]) for turn in turns])
    precision = details["precision"].get(name.partition(",")[0], "")
    titles = {
        "pipeline": "transformers.pipeline, texts sorted by hand",
        "pipeline, unsorted": "transformers.pipeline, texts as they come",
        "sentence-transformers": "SentenceTransformer.encode (embeddings only)",
        "ONNX Runtime": "ONNX Runtime, texts sorted by hand",
    }
    return Answer(
        id="predict-" + name.lower().replace(", ", "-").replace(" ", "-"),
        question="prediction, MiniLM-L6, short texts",
        ours=comparison.ours,
        peer=comparison.peer,
        ratio=comparison.ratio,
        unit="rows/s",
        peer_name=f"{titles[name]}, {precision}, batch {batch_size}",
        goal=4.0 if name == "pipeline" else None,
        details={**comparison.details(), **details},
    )


def _int8(turns: list[dict[str, float]], details: dict[str, Any]) -> Answer:
    comparison = compare([(turn["textune int8"], turn["textune"]) for turn in turns])
    return Answer(
        id="predict-int8",
        question="prediction, MiniLM-L6, short texts, int8 weights",
        ours=comparison.ours,
        peer=comparison.peer,
        ratio=comparison.ratio,
        unit="rows/s",
        peer_name=f"textune, {details['precision']['textune']}",
        details={**comparison.details(), **details},
    )


def _trained_model(settings: Settings) -> Path:
    """The folder of a model that was trained for a few steps, so that its labels mean something."""
    texts = short_texts(None, settings.data).last(64 if settings.tiny else 2560)
    rows = texts.write(settings.work / "training.csv")
    config = write_config(
        settings.work / "training.toml",
        rows=rows,
        backbone=settings.backbone(),
        cache=settings.work / "cache",
        duration="1 epoch",
        device=settings.device,
    )
    run = settings.work / f"model-{time.time_ns()}"
    subprocess.run(
        [sys.executable, "-m", "textune", "train", str(config), "--run", str(run)], check=True, cwd=ROOT, capture_output=True
    )
    return run / "best"
