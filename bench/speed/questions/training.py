"""Training throughput beside `transformers.Trainer`: as the seeds of this project configure it, in bf16, and at its best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.speed.data import paired_texts, short_texts
from bench.speed.measure import significant
from bench.speed.questions.common import (
    BATCH_SIZE,
    GROUPED_BATCHES,
    Race,
    Settings,
    Task,
    grouped_block,
    ours_spec,
    race,
    trainer_spec,
)
from bench.speed.rows import Answer
from bench.speed.workers import ROOT

MAX_ROWS = 12_800
"""Rows that a training question reads: enough that Trainer groups 50 batches at a time, few enough to prepare in seconds."""

BEST = "Trainer at its best: length-grouped, dynamic padding, bf16, fused AdamW"
COMPILED = f"{BEST}, torch.compile"


def train_best(settings: Settings) -> list[Answer]:
    """Training MiniLM-L6 on short texts, batch 32, beside Trainer at its best."""
    return [_beside_trainer(settings, "train-best", "minilm", BEST, goal=2.0, seconds=45, warm_up=10)]


def train_padded_bf16(settings: Settings) -> list[Answer]:
    """Training MiniLM-L6 on short texts, batch 32, beside Trainer with every text padded to 128 tokens, in bf16."""
    peer = "Trainer, padded to 128, bf16"
    options = {"padded": True, "grouped": False, "best": False, "precision": "bf16"}
    return [_beside_trainer(settings, "train-padded-bf16", "minilm", peer, goal=12.0, seconds=30, warm_up=4, **options)]


def train_padded_fp32(settings: Settings) -> list[Answer]:
    """Training MiniLM-L6 on short texts, batch 32, beside Trainer as run_glue.py configures it: padded to 128, fp32."""
    peer = "Trainer, padded to 128, fp32 (run_glue.py's default)"
    options = {"padded": True, "grouped": False, "best": False, "precision": "fp32"}
    return [_beside_trainer(settings, "train-padded-fp32", "minilm", peer, goal=30.0, seconds=30, warm_up=3, **options)]


def bert_base(settings: Settings) -> list[Answer]:
    """Training a BERT-base shaped model with random weights, beside Trainer at its best."""
    return [_beside_trainer(settings, "bert-base", "bert-base", BEST, goal=2.0, seconds=45, warm_up=3)]


def xlmr_base(settings: Settings) -> list[Answer]:
    """Training an XLM-R-base shaped model with random weights: speed and memory, beside Trainer at its best."""
    speed = _beside_trainer(settings, "xlmr-base", "xlmr-base", BEST, goal=2.0, seconds=45, warm_up=3)
    memory = speed.details["memory_mb"]
    ours, peer = (memory[name]["peak_memory_mb"] for name in ("textune", "Trainer"))
    share = Answer(
        id="xlmr-base-memory",
        question="peak memory of the process, XLM-R-base shape, batch 32",
        ours=ours,
        peer=peer,
        ratio=ours / peer,
        unit="MiB",
        peer_name=BEST,
        goal=0.5,
        goal_is="at most",
        details={"data": speed.details["data"], "threads": speed.details["threads"], "header": speed.details["header"]},
    )
    return [speed, share]


def gpu_train(settings: Settings) -> list[Answer]:
    """Training a BERT-base shape on pairs as long as MNLI's, beside Trainer at its best, compiled or not."""
    task = _task(settings, "bert-base", pairs=True, total_steps=36_816)
    rows, config = task.write(settings)
    workers = {
        "textune": ("ours.training", ours_spec(config)),
        "compiled": ("peers.trainer", trainer_spec(task, rows, settings, compiled=not settings.tiny)),
        "Trainer": ("peers.trainer", trainer_spec(task, rows, settings)),
    }
    # Compiled kernels need many steps until no new length makes them compile again.
    warm_up = 3 if settings.tiny else GROUPED_BATCHES
    result = race(settings, workers, seconds=60, block=grouped_block(task), warm_up=warm_up, batch_size=task.batch_size)
    fastest = max(("compiled", "Trainer"), key=lambda name: result.comparison(name).peer)
    question = "training, BERT-base shape, MNLI lengths, batch 32"
    answer = _answer("gpu-train", question, result, fastest, COMPILED if fastest == "compiled" else BEST, task, goal=3.0)
    others = {name: significant(result.comparison(name).peer) for name in ("compiled", "Trainer")}
    answer.details["rows_per_second_of_each_peer"] = others
    return [answer]


def _task(settings: Settings, shape: str, *, pairs: bool = False, total_steps: int = 6315) -> Task:
    count = settings.count(MAX_ROWS)
    texts = paired_texts(count, settings.data) if pairs else short_texts(None, settings.data)
    # A whole number of batches, so that a pass over the rows is the same for everyone.
    return Task(texts.first(count, multiple_of=BATCH_SIZE), settings.backbone(shape), total_steps=total_steps)


def _beside_trainer(
    settings: Settings, name: str, shape: str, peer: str, *, goal: float, seconds: float, warm_up: int, **options: Any
) -> Answer:
    task = _task(settings, shape)
    rows, config = task.write(settings)
    workers = {
        "textune": ("ours.training", ours_spec(config)),
        "Trainer": ("peers.trainer", trainer_spec(task, rows, settings, **options)),
    }
    block = grouped_block(task) if options.get("grouped", True) else 1
    result = race(settings, workers, seconds=seconds, block=block, warm_up=warm_up, batch_size=task.batch_size)
    titles = {"minilm": "MiniLM-L6", "bert-base": "BERT-base shape", "xlmr-base": "XLM-R-base shape"}
    answer = _answer(name, f"training, {titles[shape]}, short texts, batch 32", result, "Trainer", peer, task, goal=goal)
    if shape == "minilm":
        answer.details["dev_metric"] = dev_metric()
    return answer


def _answer(name: str, question: str, result: Race, peer: str, peer_name: str, task: Task, *, goal: float) -> Answer:
    comparison = result.comparison(peer)
    return Answer(
        id=name,
        question=question,
        ours=comparison.ours,
        peer=comparison.peer,
        ratio=comparison.ratio,
        unit="rows/s",
        peer_name=peer_name,
        goal=goal,
        details=result.details(comparison, task.texts),
    )


def dev_metric(folder: Path = ROOT / "bench" / "results") -> dict[str, Any]:
    """Scores of whole runs of both systems on SST-2, from the files of `make bench-scores`: speed is nothing without them."""
    found: dict[str, Any] = {}
    for system in ("textune", "trainer"):
        path = folder / system / "sst2-0.json"
        if path.exists():
            result = json.loads(path.read_text(encoding="utf-8"))
            metric = result["metric"]
            found[system] = {metric: significant(result["last"][metric]), "date": result["date"][:10]}
    return {"source": "bench/results/*/sst2-0.json: one epoch of SST-2, score of the dev set", **found} if found else {}
