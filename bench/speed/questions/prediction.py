"""Prediction: texts in, labels out, beside `transformers.pipeline`, sentence-transformers, ONNX Runtime and OpenVINO."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.speed.data import Example, Texts, short_texts
from bench.speed.level import not_held
from bench.speed.measure import compare, repeat, significant
from bench.speed.protocol import Skip
from bench.speed.questions.common import BATCH_SIZE, MAX_LENGTH, Settings, write_config
from bench.speed.rows import Answer
from bench.speed.shapes import encoder_parameters, read_config
from bench.speed.workers import Worker, run_module

FLOAT, BYTES, OPENVINO = "model.onnx", "model-int8.onnx", "openvino-int8.xml"
"""The model in the files of other runtimes."""
CALIBRATION_ROWS = 320
SEGMENT_ROWS = (256, 2000)
"""Fewest and most texts that one system predicts while the others wait."""
TRIAL_ROWS = 256
TRAINING_ROWS = 1920
BATCH_SIZES = (32, 128)
OURS = ("textune", "textune int8")
LEADERS = {
    "pipeline": "transformers.pipeline, texts sorted by hand",
    "pipeline, unsorted": "transformers.pipeline, texts as they come",
    "sentence-transformers": "SentenceTransformer.encode (embeddings only)",
    "ONNX Runtime": "ONNX Runtime, texts sorted by hand",
    "ONNX Runtime int8": "ONNX Runtime, int8, quantised dynamically, texts sorted by hand",
    "OpenVINO int8": "OpenVINO, int8, quantised by NNCF, texts sorted by hand",
}
"""Peers by their place in the table."""

System = tuple[Worker, dict[str, Any]]
"""A worker and the options of its commands."""


def predict(settings: Settings) -> list[Answer]:
    """Short texts from a saved model, MiniLM-L6, floats and int8; the pipeline sorted by hand is at its better batch size."""
    texts = short_texts(settings.count(20_000, tiny=48), settings.data)
    model = _trained_model(settings)
    ours = {"model": str(model), "device": settings.device}
    peer = {**ours, "max_length": MAX_LENGTH}
    encoder = {"backbone": str(settings.backbone()), "device": settings.device, "max_length": MAX_LENGTH}
    with ExitStack() as stack:
        started = _start(
            stack,
            settings.work,
            {
                "textune": ("ours.predicting", {**ours, "precision": "auto"}),
                "textune int8": ("ours.predicting", {**ours, "precision": "int8"}),
                "pipeline": ("peers.pipeline", peer),
                "sentence-transformers": ("peers.sentence", encoder),
            },
        )
        files = _exported(settings, model, texts.examples)  # while the others load
        started |= _start(
            stack,
            settings.work,
            {
                "ONNX Runtime": ("peers.onnx", {**peer, "file": str(files / FLOAT), "precision": "fp32"}),
                "ONNX Runtime int8": ("peers.onnx", {**peer, "file": str(files / BYTES), "precision": "int8"}),
                "OpenVINO int8": ("peers.openvino", {**peer, "file": str(files / OPENVINO)}),
            },
        )
        workers, skipped = _ready(started)
        systems, pace = _systems(workers, [text for text, _, _ in texts.examples[:TRIAL_ROWS]])
        size = _segment_rows(settings, pace)
        turns, labels = _measure(settings, systems, texts, size)
        facts = {name: worker.facts for name, worker in workers.items()}
        memory = {name: round(worker.close()["peak_memory_mb"]) for name, worker in workers.items()}
    truth = [label for _, _, label in texts.examples[: len(labels["textune"])]]
    details = {
        "data": texts.name,
        "rows": len(truth),
        "segment": {"rows": size, "segments": len(turns)},
        "precision": {name: fact["precision"] for name, fact in facts.items()},
        "memory_mb": memory,
        "accuracy": {name: _share_of_same(found, truth) for name, found in labels.items() if found},
        "batch_size": BATCH_SIZE,
        "encoder_parameters": encoder_parameters(read_config(settings.backbone())),
        "left_out": skipped,
        "not_held": not_held([name for name in workers if name.startswith("ONNX")]),
        "threads": facts["textune"]["threads"],
    }
    return list(_answers(turns, labels, systems, details))


def _start(stack: ExitStack, work: Path, wanted: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, Worker]:
    """Workers that prepare themselves side by side."""
    return {name: stack.enter_context(Worker(module, spec, work=work)) for name, (module, spec) in wanted.items()}


def _ready(started: Mapping[str, Worker]) -> tuple[dict[str, Worker], dict[str, str]]:
    """The workers that can run here, and why the others cannot; textune and the pipeline must."""
    skipped = {}
    for name, worker in started.items():
        try:
            _ = worker.facts
        except Skip as reason:
            if name in {"textune", "pipeline"}:
                raise
            skipped[name] = str(reason)
    return {name: worker for name, worker in started.items() if name not in skipped}, skipped


def _systems(workers: Mapping[str, Worker], trial: list[str]) -> tuple[dict[str, System], float]:
    """Name to system, each peer at the batch size that is faster on the trial texts; and the seconds that a text takes all.

    This is the warm-up too.
    """
    # Warm whatever is made once for each length, then see.
    for worker in workers.values():
        worker.ask(texts=trial[:64], batch_size=32, by_length=True)
    systems: dict[str, System] = {}
    seconds = 0.0
    for name in OURS:
        if name in workers:
            seconds += workers[name].ask(texts=trial)["seconds"]
            systems[name] = (workers[name], {})
    for name in LEADERS:
        worker = workers.get(name.partition(",")[0])
        if worker is None:
            continue
        options = {"by_length": "unsorted" not in name}
        tried = {size: worker.ask(texts=trial, batch_size=size, **options)["seconds"] for size in BATCH_SIZES}
        best = min(tried, key=lambda size: tried[size])
        seconds += tried[best]
        systems[name] = (worker, {**options, "batch_size": best})
    return systems, seconds / len(trial)


def _measure(
    settings: Settings, systems: Mapping[str, System], texts: Texts, size: int
) -> tuple[list[dict[str, float]], dict[str, list[str]]]:
    """Rows a second of every system, segment by segment, and the labels that they gave."""
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
    return repeat(turn, seconds=settings.left(), at_least=min(3, at_most), at_most=at_most), labels


def _segment_rows(settings: Settings, pace: float) -> int:
    """Texts of a segment: three rounds of them fit into the time, as long as that is enough texts to batch."""
    fewest, most = SEGMENT_ROWS
    return 16 if settings.tiny else max(fewest, min(most, int(settings.left() / 3 / pace)))


def _answers(
    turns: list[dict[str, float]],
    labels: Mapping[str, list[str]],
    systems: Mapping[str, System],
    details: dict[str, Any],
) -> Iterator[Answer]:
    """One row for each peer: floats beside floats, int8 beside int8 (our floats where we have none), and our two."""
    question, precision = "prediction, MiniLM-L6, short texts", details["precision"]
    for name, (_, options) in systems.items():
        if name in OURS:
            continue
        is_int8 = "int8" in name
        ours = "textune int8" if is_int8 and "textune int8" in systems else "textune"
        words = f"{question}, {precision[ours]} beside int8" if is_int8 else question
        title = f"{LEADERS[name]}{'' if is_int8 else ', ' + precision[name.partition(',')[0]]}, batch {options['batch_size']}"
        yield _answer(name, words, title, turns, (ours, name), details | _agreement(labels, ours, name))
    if "textune int8" in systems:
        pair = ("textune int8", "textune")
        title = f"textune, {precision['textune']}"
        yield _answer("int8", f"{question}, int8", title, turns, pair, details | _agreement(labels, *pair))


def _answer(
    name: str, question: str, title: str, turns: list[dict[str, float]], pair: tuple[str, str], details: dict[str, Any]
) -> Answer:
    comparison = compare([(turn[pair[0]], turn[pair[1]]) for turn in turns])
    return Answer(
        id="predict-" + name.lower().replace(", ", "-").replace(" ", "-"),
        question=question,
        ours=comparison.ours,
        peer=comparison.peer,
        ratio=comparison.ratio,
        unit="rows/s",
        peer_name=title,
        details={**comparison.details(), **details},
    )


def _agreement(labels: Mapping[str, list[str]], ours: str, peer: str) -> dict[str, Any]:
    """Share of the texts on which both say the same."""
    return {"same_label": _share_of_same(labels[ours], labels[peer])} if labels[peer] else {}


def _share_of_same(one: list[str], other: list[str]) -> float:
    return significant(sum(a == b for a, b in zip(one, other, strict=True)) / len(one))


def _exported(settings: Settings, model: Path, examples: list[Example]) -> Path:
    """A folder with the model in the files of other runtimes; those whose packages are missing are not there."""
    folder = settings.work / "exported"
    folder.mkdir()
    calibration = folder / "texts.txt"
    lines = [" ".join(text.split()) for text, _, _ in examples[-CALIBRATION_ROWS:]]
    calibration.write_text("\n".join(lines), encoding="utf-8")
    files = [str(folder / name) for name in (FLOAT, BYTES, OPENVINO)]
    run_module("bench.speed.peers.exported", str(model), str(calibration), *files)
    return folder


def _trained_model(settings: Settings) -> Path:
    """The folder of a model that was trained for a few steps, so that its labels mean something."""
    texts = short_texts(None, settings.data).last(64 if settings.tiny else TRAINING_ROWS)
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
    run_module("textune", "train", str(config), "--run", str(run), "train.optimizer.lr=2e-4", "train.schedule.warmup=6 steps")
    return run / "best"
