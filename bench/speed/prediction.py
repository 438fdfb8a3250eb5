"""Prediction: texts in, labels out, beside `transformers.pipeline`, sentence-transformers, ONNX Runtime and
OpenVINO."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.machine import found_level, is_held
from bench.rows import Row, compared
from bench.speed.backbones import encoder_parameters, read_config
from bench.speed.measure import Comparison, repeat, significant
from bench.speed.texts import Example, short_texts
from bench.speed.work import BATCH_SIZE, MAX_LENGTH, Settings, write_config
from bench.worker import Json, Skip, Worker, run_module

CALIBRATION_ROWS = 320
SEGMENT_ROWS = (256, 2000)
"""Fewest and most texts that one system predicts while the others wait."""
TRIAL_ROWS = 256
TRAINING_ROWS = 1920
OURS = ("textune", "textune int8")
PEERS = {
    "pipeline": "transformers.pipeline, texts sorted by hand",
    "pipeline, unsorted": "transformers.pipeline, texts as they come",
    "sentence-transformers": "SentenceTransformer.encode (embeddings only)",
    "ONNX Runtime": "ONNX Runtime, texts sorted by hand",
    "ONNX Runtime int8": "ONNX Runtime, int8, quantised dynamically, texts sorted by hand",
    "OpenVINO int8": "OpenVINO, int8, quantised by NNCF, texts sorted by hand",
}
"""Systems by their place in the table."""
NOT_HELD = "has no setting that holds it to narrower vectors: it used all that the processor has"


class Systems:
    """The systems that can run here, each peer at the batch size that is faster on the trial texts."""

    def __init__(self, started: Mapping[str, Worker], trial: list[str]) -> None:
        self.workers, self.left_out = dict(started), {}
        for name, worker in started.items():
            try:
                _ = worker.facts
            except Skip as reason:
                if name in {"textune", "pipeline"}:
                    raise
                self.left_out[name] = str(reason)
                del self.workers[name]
        for worker in self.workers.values():  # warm whatever is made once for each length
            worker.ask(texts=trial[:64], batch_size=32, by_length=True)
        self.options: dict[str, Json] = {}
        self.pace = 0.0
        """Seconds that a text takes all of them."""
        for name in (name for name in (*OURS, *PEERS) if name.partition(",")[0] in self.workers):
            ways = (
                [{}] if name in OURS else [{"batch_size": s, "by_length": "unsorted" not in name} for s in (32, 128)]
            )
            tried = [(self.ask(name, trial, way)["seconds"], way) for way in ways]
            seconds, self.options[name] = min(tried, key=lambda found: found[0])
            self.pace += seconds / len(trial)

    def ask(self, name: str, texts: list[str], options: Json | None = None) -> Json:
        """One system's answer."""
        return self.workers[name.partition(",")[0]].ask(texts=texts, **(options or self.options.get(name, {})))

    def measure(
        self, settings: Settings, texts: list[str], size: int
    ) -> tuple[list[dict[str, float]], dict[str, list[str]]]:
        """Rows per second of every system, segments of `size` texts in turns, and the labels that they gave."""
        starts = iter(range(0, len(texts) - size + 1, size))
        labels: dict[str, list[str]] = {name: [] for name in self.options}

        def turn() -> dict[str, float]:
            start, rates = next(starts), {}
            for name in self.options:
                reply = self.ask(name, texts[start : start + size])
                rates[name] = size / reply["seconds"]
                labels[name] += reply.get("labels", [])
            return rates

        most = len(texts) // size
        return repeat(turn, seconds=settings.left(), at_least=min(3, most), at_most=most), labels


def predict(settings: Settings) -> list[Row]:
    """Rows per second of every system on the same texts in turns: floats beside floats, int8 beside int8, and our
    two."""
    texts = short_texts(settings.count(20_000, tiny=48), settings.data)
    words = [text for text, _, _ in texts.examples]
    model = _trained_model(settings)
    with ExitStack() as stack:

        def start(side: str, **spec: Any) -> Worker:
            given = {"model": str(model), "device": settings.device, "max_length": MAX_LENGTH, **spec}
            return stack.enter_context(Worker(f"bench.sides.{side}", given))

        started = {
            "textune": start("textune:predicting", precision="auto"),
            "textune int8": start("textune:predicting", precision="int8"),
            "pipeline": start("predictors:pipeline"),
            "sentence-transformers": start("predictors:sentence", model=str(settings.backbone())),
        }
        floats, bytes_, openvino = _exported(settings, model, texts.examples)  # while the others load
        started |= {
            "ONNX Runtime": start("predictors:onnx", file=floats, precision="fp32"),
            "ONNX Runtime int8": start("predictors:onnx", file=bytes_, precision="int8"),
            "OpenVINO int8": start("predictors:openvino", file=openvino),
        }
        systems = Systems(started, words[:TRIAL_ROWS])
        # Three rounds of a segment fit into the time, as long as that is enough texts to batch.
        size = max(SEGMENT_ROWS[0], min(SEGMENT_ROWS[1], int(settings.left() / 3 / systems.pace)))
        size = 16 if settings.tiny else size
        turns, labels = systems.measure(settings, words, size)
        memory = {name: round(worker.close()["peak_memory_mb"]) for name, worker in systems.workers.items()}
    truth = [label for _, _, label in texts.examples[: len(labels["textune"])]]
    uncapped = [name for name in memory if name.startswith("ONNX")] if is_held(found_level()) else []
    details = {
        "data": texts.name,
        "rows": len(truth),
        "segment": {"rows": size, "segments": len(turns)},
        "precision": {name: worker.facts["precision"] for name, worker in systems.workers.items()},
        "memory_mb": memory,
        "accuracy": {name: _share_of_same(found, truth) for name, found in labels.items() if found},
        "batch_size": BATCH_SIZE,
        "encoder_parameters": encoder_parameters(read_config(settings.backbone())),
        "left_out": systems.left_out,
        "not_held": dict.fromkeys(uncapped, NOT_HELD),
        "threads": systems.workers["textune"].facts["threads"],
    }
    return _rows(turns, labels, systems, details)


def _rows(
    turns: list[dict[str, float]], labels: Mapping[str, list[str]], systems: Systems, details: Json
) -> list[Row]:
    """One row for each peer; an int8 peer stands beside our floats where we have no int8."""
    has_int8, precision = "textune int8" in systems.options, details["precision"]
    rows = []
    for name, options in systems.options.items():
        if name == "textune":
            continue
        is_int8, batch = "int8" in name, options.get("batch_size")
        ours = "textune int8" if is_int8 and has_int8 else "textune"
        question, peer = "prediction, MiniLM-L6, short texts", name
        if name == "textune int8":
            peer, name = "textune", "int8"
            question, title = f"{question}, int8", f"textune, {precision['textune']}"
        elif is_int8:
            question, title = f"{question}, {precision[ours]} beside int8", f"{PEERS[name]}, batch {batch}"
        else:
            title = f"{PEERS[name]}, {precision[name.partition(',')[0]]}, batch {batch}"
        same = {"same_label": _share_of_same(labels[ours], labels[peer])} if labels[peer] else {}
        comparison = Comparison([(turn[ours], turn[peer]) for turn in turns])
        id = "predict-" + name.lower().replace(", ", "-").replace(" ", "-")
        rows.append(compared(id, question, comparison, details | same, unit="rows/s", peer=title))
    return sorted(rows, key=lambda row: row.id == "predict-int8")


def _share_of_same(one: list[str], other: list[str]) -> float:
    return significant(sum(a == b for a, b in zip(one, other, strict=True)) / len(one))


def _exported(settings: Settings, model: Path, examples: list[Example]) -> list[str]:
    """The model as ONNX, ONNX in int8 and OpenVINO in int8; files whose packages are missing are not written."""
    folder = settings.work / "exported"
    folder.mkdir()
    lines = [" ".join(text.split()) for text, _, _ in examples[-CALIBRATION_ROWS:]]
    (folder / "texts.txt").write_text("\n".join(lines), encoding="utf-8")
    files = [str(folder / name) for name in ("model.onnx", "model-int8.onnx", "openvino-int8.xml")]
    run_module("bench.sides.exported", str(model), str(folder / "texts.txt"), *files)
    return files


def _trained_model(settings: Settings) -> Path:
    """The folder of a model that was trained for a few steps, so that its labels mean something."""
    texts = short_texts(None, settings.data).last(64 if settings.tiny else TRAINING_ROWS)
    keys = {"train.duration": "1 epoch", "train.device": settings.device, "train.optimizer.lr": 2e-4}
    keys["train.schedule.warmup"] = "6 steps"
    rows = texts.write(settings.work / "training.csv")
    config = write_config(settings.work / "training.toml", keys, rows=rows, backbone=settings.backbone())
    run_module("textune", "train", str(config), "--run", str(settings.work / "model"))
    return settings.work / "model" / "best"
