"""Training throughput beside `transformers.Trainer`: as run_glue.py configures it, in bf16, and at its best."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from bench.speed.data import long_texts, paired_texts, short_texts
from bench.speed.level import has_bf16
from bench.speed.measure import significant
from bench.speed.protocol import Skip
from bench.speed.questions.common import BATCH_SIZE, Settings, Task, ours_spec, trainer_spec
from bench.speed.questions.limits import GPU_WORK, share_of_limit
from bench.speed.questions.race import GROUPED_BATCHES, Race, grouped_block, race
from bench.speed.rows import Answer
from bench.speed.shapes import encoder_parameters, read_config
from bench.speed.workers import ROOT

TITLES = {
    "minilm": "MiniLM-L6",
    "bert-base": "BERT-base shape",
    "xlmr-base": "XLM-R-base shape",
    "modernbert-base": "ModernBERT-base shape",
    "deberta-small": "DeBERTa-v3-small shape",
}
MAX_ROWS = 12_800
"""Rows that a training question reads: enough that Trainer groups 50 batches at a time, few enough to prepare in seconds."""
LONG_ROWS = 2048
LONG_BATCH = 16

BEST = "Trainer at its best: length-grouped, dynamic padding, fused AdamW, bf16 where that is faster"
COMPILED = f"{BEST}, torch.compile"


def train_best(settings: Settings) -> list[Answer]:
    """Training MiniLM-L6 on short texts, batch 32: beside Trainer at its best, and as a share of the machine's limit."""
    task = _task(settings, "minilm")
    work = "MiniLM-L6, short texts, batch 32"
    return _with_share(settings, task, ("train-best", "limit-short"), work, warm_up=6)


def train_best_long(settings: Settings) -> list[Answer]:
    """The same on whole reviews of up to 512 tokens, batch 16."""
    texts = long_texts(settings.count(LONG_ROWS)).first(LONG_ROWS, multiple_of=LONG_BATCH)
    task = Task(texts, settings.backbone("minilm"), batch_size=LONG_BATCH, max_length=512)
    work = "MiniLM-L6, IMDB reviews up to 512 tokens, batch 16"
    return _with_share(settings, task, ("train-best-long", "limit-long"), work, warm_up=2)


def train_padded_bf16(settings: Settings) -> list[Answer]:
    """Training MiniLM-L6 on short texts, batch 32, beside Trainer with every text padded to 128 tokens, in bf16."""
    if not has_bf16():
        raise Skip("there are no bf16 products at this level, so there is no such peer")
    options = {"padded": True, "grouped": False, "best": False, "precision": "bf16"}
    return _beside_trainer(settings, "train-padded-bf16", "minilm", "Trainer, padded to 128, bf16", warm_up=3, **options)[:1]


def train_padded_fp32(settings: Settings) -> list[Answer]:
    """Training MiniLM-L6 on short texts, batch 32, beside Trainer as run_glue.py configures it: padded to 128, fp32."""
    peer = "Trainer, padded to 128, fp32 (run_glue.py's default)"
    options = {"padded": True, "grouped": False, "best": False, "precision": "fp32"}
    return _beside_trainer(settings, "train-padded-fp32", "minilm", peer, warm_up=2, **options)[:1]


def bert_base(settings: Settings) -> list[Answer]:
    """Training a BERT-base shaped model with random weights: speed and memory, beside Trainer at its best."""
    return _beside_trainer(settings, "bert-base", "bert-base")


def xlmr_base(settings: Settings) -> list[Answer]:
    """Training an XLM-R-base shaped model with random weights: speed and memory, beside Trainer at its best."""
    return _beside_trainer(settings, "xlmr-base", "xlmr-base")


def modernbert_base(settings: Settings) -> list[Answer]:
    """Training a ModernBERT-base shaped model with random weights: speed and memory, beside Trainer at its best."""
    return _beside_trainer(settings, "modernbert-base", "modernbert-base")


def deberta_small(settings: Settings) -> list[Answer]:
    """Training a DeBERTa-v3-small shaped model with random weights: speed and memory, beside Trainer at its best."""
    return _beside_trainer(settings, "deberta-small", "deberta-small")


def gpu_train(settings: Settings) -> list[Answer]:
    """Training a BERT-base shape, pairs as long as MNLI's, batch 32: beside Trainer at its best; the share of the limit."""
    task = _task(settings, "bert-base", pairs=True, total_steps=36_816)
    rows, config = task.write(settings)
    workers = {
        "textune": ("ours.training", ours_spec(config)),
        "compiled": ("peers.trainer", trainer_spec(task, rows, settings, compiled=not settings.tiny)),
        "Trainer": ("peers.trainer", trainer_spec(task, rows, settings)),
    }
    # Compiled kernels need many steps until no new length makes them compile again.
    warm_up = 3 if settings.tiny else GROUPED_BATCHES
    limit_of, size = task.backbone, task.batch_size
    result = race(settings, workers, block=grouped_block(task), warm_up=warm_up, batch_size=size, limit_of=limit_of)
    fastest = max(("compiled", "Trainer"), key=lambda name: result.comparison(name).peer)
    work = f"{GPU_WORK}, batch {size}"
    answer = _answer("gpu-train", f"training, {work}", result, fastest, COMPILED if fastest == "compiled" else BEST, task)
    others = {name: significant(result.comparison(name).peer) for name in ("compiled", "Trainer")}
    answer.details["rows_per_second_of_each_peer"] = others
    return [answer, share_of_limit(f"gpu-limit-{size}", f"share of the limit while training, {work}", result, task)]


def _task(settings: Settings, shape: str, *, pairs: bool = False, total_steps: int = 6315) -> Task:
    count = settings.count(MAX_ROWS)
    texts = paired_texts(count, settings.data) if pairs else short_texts(None, settings.data)
    # A whole number of batches, so that a pass over the rows is the same for everyone.
    return Task(texts.first(count, multiple_of=BATCH_SIZE), settings.backbone(shape), total_steps=total_steps)


def _beside_trainer(
    settings: Settings, name: str, shape: str, peer: str = BEST, *, warm_up: int = 2, **options: Any
) -> list[Answer]:
    """Speed and memory beside Trainer, whose settings are `options`."""
    task = _task(settings, shape)
    work = f"{TITLES[shape]}, short texts, batch {task.batch_size}"
    result = _race(settings, task, warm_up=warm_up, **options)
    speed = _answer(name, f"training, {work}", result, "Trainer", peer, task)
    if shape == "minilm":
        speed.details["dev_metric"] = dev_metric()
    return [speed, _memory(speed, work)]


def _with_share(settings: Settings, task: Task, names: tuple[str, str], work: str, *, warm_up: int) -> list[Answer]:
    """Speed beside Trainer at its best and the share of the limit, from the same segments of ours."""
    result = _race(settings, task, warm_up=warm_up, limit_of=task.backbone)
    speed = _answer(names[0], f"training, {work}", result, "Trainer", BEST, task)
    speed.details["dev_metric"] = dev_metric() if task.batch_size == BATCH_SIZE else {}
    return [speed, share_of_limit(names[1], f"share of the limit while training, {work}", result, task)]


def _race(settings: Settings, task: Task, *, warm_up: int, limit_of: Path | None = None, **options: Any) -> Race:
    rows, config = task.write(settings)
    workers = {
        "textune": ("ours.training", ours_spec(config)),
        "Trainer": ("peers.trainer", trainer_spec(task, rows, settings, **options)),
    }
    block = grouped_block(task) if options.get("grouped", True) else 1
    return race(settings, workers, block=block, warm_up=warm_up, batch_size=task.batch_size, limit_of=limit_of)


def _memory(speed: Answer, work: str) -> Answer:
    """Largest resident size of both processes."""
    memory = speed.details["memory_mb"]
    ours, peer = (memory[name]["peak_memory_mb"] for name in ("textune", "Trainer"))
    return Answer(
        id=f"{speed.id}-memory",
        question=f"peak memory of the process, {work}",
        ours=ours,
        peer=peer,
        ratio=ours / peer,
        unit="MiB",
        peer_name=speed.peer_name,
        details={"data": speed.details["data"], "threads": speed.details["threads"], "header": speed.details["header"]},
    )


def _answer(name: str, question: str, result: Race, peer: str, peer_name: str, task: Task) -> Answer:
    comparison = result.comparison(peer)
    return Answer(
        id=name,
        question=question,
        ours=comparison.ours,
        peer=comparison.peer,
        ratio=comparison.ratio,
        unit="rows/s",
        peer_name=peer_name,
        details={
            **result.details(comparison, task.texts),
            "batch_size": task.batch_size,
            "encoder_parameters": encoder_parameters(read_config(task.backbone)),
        },
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
