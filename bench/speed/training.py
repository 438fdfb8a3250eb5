"""Training throughput: beside `transformers.Trainer`, beside textune's own switches, and beside the machine's
products."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from bench.machine import best_precision
from bench.rows import Row, beside, compared
from bench.speed.measure import Comparison, significant, spread_of
from bench.speed.race import TEXTUNE, TRAINER, Plan, Race, race
from bench.speed.texts import long_texts, paired_texts
from bench.speed.work import BATCH_SIZE, Settings, Task, short_task
from bench.worker import ROOT, Json, Skip

TITLES = {
    "minilm": "MiniLM-L6",
    "bert-base": "BERT-base shape",
    "xlmr-base": "XLM-R-base shape",
    "modernbert-base": "ModernBERT-base shape",
    "deberta-small": "DeBERTa-v3-small shape",
    "smollm2": "SmolLM2-135M shape",
}
MAX_ROWS = 12_800
"""Rows that a training question reads: enough that Trainer groups 50 batches at a time, few enough to prepare in
seconds."""
LONG_ROWS, LONG_BATCH = 2048, 16
GROUPED_BATCHES = 50
"""Batches that Trainer's length-grouped sampler sorts at a time."""
GPU_WORK = "BERT-base shape, MNLI lengths"
GPU_BATCH = 256
"""Rows of a batch that keeps a GPU busy."""
GPU_WARM_UP = 60
"""Optimizer steps in which a GPU's kernels are compiled; the rows are twice as many."""
TERA = 1e12
SWITCHES = {
    "packed batches": ("model.attention", "padded"),
    "compiled kernels": ("model.compile", "off"),
    "compact vocabulary": ("train.compact_vocabulary", "off"),
}
"""Name to configuration key and its value when the switch is off; on is what a run does by default."""
TASKS = {"label": 2, "second": 3, "third": 4}
"""The tasks of `several_tasks` and their classes; a quarter of the rows has no label for the third."""
BEST = "Trainer at its best: length-grouped, dynamic padding, fused AdamW, bf16 where that is faster"
AT_BEST = {"padded": False, "grouped": True, "fused": True, "precision": "best", "compiled": False}


def beside_trainer(
    settings: Settings,
    *,
    id: str,
    shape: str = "minilm",
    long: bool = False,
    limit: str = "",
    warm_up: int = 2,
    peer_name: str = BEST,
    trainer: Json | None = None,
) -> list[Row]:
    """Speed beside Trainer under the options `trainer`; then the share of the limit, or the peak memory of a larger
    shape.

    `long`: whole reviews instead of short texts. `limit`: the id of the row of the share.
    """
    options = AT_BEST | (trainer or {})
    if options["precision"] == "bf16" and best_precision(settings.device) != "bf16":
        raise Skip("there are no bf16 products at this level, so there is no such peer")
    task, work = short_task(settings, shape, MAX_ROWS), f"{TITLES[shape]}, short texts, batch {BATCH_SIZE}"
    if long:
        texts = long_texts(settings.count(LONG_ROWS)).first(LONG_ROWS, multiple_of=LONG_BATCH)
        task = Task(texts, settings.backbone(), batch_size=LONG_BATCH, max_length=512)
        work = f"MiniLM-L6, IMDB reviews up to 512 tokens, batch {LONG_BATCH}"
    plan = Plan(grouped_block(task) if options["grouped"] else 1, warm_up, with_limit=bool(limit))
    result = race(settings, task, _sides(task, settings, Trainer=options), plan)
    speed = _speed(id, f"training, {work}", result, "Trainer", peer_name)
    if shape != "minilm":
        memory = [speed.details["memory_mb"][name]["peak_memory_mb"] for name in ("textune", "Trainer")]
        details = {key: speed.details[key] for key in ("data", "threads", "header")}
        question = f"peak memory of the process, {work}"
        return [speed, beside(f"{id}-memory", question, (memory[0], memory[1]), details, unit="MiB", peer=peer_name)]
    speed.details["dev_metric"] = {} if long else dev_metric()
    return [speed, share_of_limit(limit, work, result)] if limit else [speed]


def gpu_train(settings: Settings) -> list[Row]:
    """Beside the faster of Trainer at its best and the same compiled; and the share of the limit."""
    texts = paired_texts(settings.count(MAX_ROWS), settings.data).first(MAX_ROWS, multiple_of=BATCH_SIZE)
    task = Task(texts, settings.backbone("bert-base"), total_steps=36_816)  # three epochs of MNLI
    sides = _sides(task, settings, compiled=AT_BEST | {"compiled": not settings.tiny}, Trainer=AT_BEST)
    # Compiled kernels need many steps until no new length makes them compile again.
    plan = Plan(grouped_block(task), 3 if settings.tiny else GROUPED_BATCHES, with_limit=True)
    result = race(settings, task, sides, plan)
    rates = {name: result.comparison(name).medians()[1] for name in ("compiled", "Trainer")}
    fastest, work = max(rates, key=lambda name: rates[name]), f"{GPU_WORK}, batch {BATCH_SIZE}"
    peer = BEST if fastest == "Trainer" else f"{BEST}, torch.compile"
    row = _speed("gpu-train", f"training, {work}", result, fastest, peer)
    row.details["rows_per_second_of_each_peer"] = {name: significant(rate) for name, rate in rates.items()}
    return [row, share_of_limit(f"gpu-limit-{BATCH_SIZE}", work, result)]


def gpu_limit(settings: Settings) -> list[Row]:
    """The share of the limit with a large batch."""
    texts = paired_texts(settings.count(GPU_BATCH * 2 * GPU_WARM_UP, tiny=4 * GPU_BATCH), settings.data)
    task = Task(texts.first(len(texts.examples), multiple_of=GPU_BATCH), settings.backbone("bert-base"), GPU_BATCH)
    warm_up = 2 if settings.tiny else min(GPU_WARM_UP, len(task.texts.examples) // (2 * GPU_BATCH))
    result = race(settings, task, _sides(task, settings), Plan(warm_up=warm_up, with_limit=True))
    return [share_of_limit(f"gpu-limit-{GPU_BATCH}", f"{GPU_WORK}, batch {GPU_BATCH}", result)]


def switches(settings: Settings) -> list[Row]:
    """Each switch off, everything else as it is by default, beside all of them on."""
    task, rows = short_task(settings), []
    config = str(task.write(settings))
    changes: dict[str, list[str]] = {"on": []} | {name: [f"{key}={off}"] for name, (key, off) in SWITCHES.items()}
    sides = {name: (TEXTUNE, {"config": config, "overrides": changed}) for name, changed in changes.items()}
    result = race(settings, task, sides, Plan(warm_up=4))
    for name, (key, off) in SWITCHES.items():
        details = result.details()
        details["memory_mb"] = {"on": details["memory_mb"]["on"], "off": details["memory_mb"][name]}
        question, id = f"training, MiniLM-L6, short texts, batch 32: {name}", f"switch-{name.replace(' ', '-')}"
        rows.append(compared(id, question, result.comparison(name), details, unit="rows/s", peer=f"{key} = {off}"))
    return rows


def several_tasks(settings: Settings) -> list[Row]:
    """Three tasks in one head beside one task: the same rows, and two more labels each."""
    task = short_task(settings)
    config, rows = str(task.write(settings)), settings.work / "three.csv"
    with rows.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", *TASKS])
        for number, (text, _, label) in enumerate(task.texts.examples):
            writer.writerow([text, label, number % 3, "" if number % 4 == 3 else number % 4])
    words = [f"data.train.files={rows}", f"data.columns.labels={list(TASKS)}", "task.kind=multitask"]
    words.append(f"task.group_sizes={list(TASKS.values())}")
    sides = {"three": (TEXTUNE, {"config": config, "overrides": words}), "one": (TEXTUNE, {"config": config})}
    result = race(settings, task, sides, Plan(warm_up=4))
    question = f"training, MiniLM-L6, short texts, batch {BATCH_SIZE}: three tasks in one head"
    return [compared("tasks", question, result.comparison("one"), result.details(), unit="rows/s", peer="one task")]


def share_of_limit(id: str, work: str, result: Race) -> Row:
    """What our segments did per second, over the best matrix product measured just before each of them."""
    # Two operations for the forward pass, four for the backward pass: one multiplication and one addition each.
    per_token = 6 * result.task.encoder_parameters / TERA
    useful = [per_token * rate for rate in result.rates("textune")]
    limits = [max(rates.values()) / TERA for rates in result.products]
    comparison = Comparison(list(zip(useful, limits, strict=True)))
    ours, limit, _ = comparison.medians()
    tokens = round(result.tokens_per_row * result.task.batch_size)
    rates = {shape: spread_of([rates[shape] / TERA for rates in result.products]) for shape in result.products[0]}
    details = result.details() | {
        "tokens_per_batch": tokens,
        "encoder_parameters": result.task.encoder_parameters,
        "formula": "6 x encoder parameters x real tokens / seconds, over the best rate of the products below",
        "products_tflops": rates,
        "step_ms": significant(per_token * tokens / ours * 1000),
        "step_ms_at_the_limit": significant(per_token * tokens / limit * 1000),
        "memory_mb": {},
    }
    question, peer = f"share of the limit while training, {work}", "best measured matrix product"
    return compared(id, question, comparison, details, unit="TFLOP/s", peer=peer)


def grouped_block(task: Task) -> int:
    """Batches that Trainer sorts by length at a time: 50, or a quarter of them all where there are fewer than 200."""
    return max(1, min(GROUPED_BATCHES, len(task.texts.examples) // (4 * task.batch_size)))


def dev_metric(folder: Path = ROOT / "bench" / "results") -> Json:
    """Scores of whole runs of both systems on SST-2, from the files of `make bench-scores`: speed is nothing without
    them."""
    found: Json = {"source": "bench/results/*/sst2-0.json: one epoch of SST-2, score of the dev set"}
    for system in ("textune", "trainer"):
        result = json.loads((folder / system / "sst2-0.json").read_text(encoding="utf-8"))
        metric = result["metric"]
        found[system] = {metric: significant(result["last"][metric]), "date": result["date"][:10]}
    return found


def _sides(task: Task, settings: Settings, **peers: Json) -> dict[str, tuple[str, Json]]:
    """textune, and Trainer under the options of each peer, on the same config."""
    config = {"config": str(task.write(settings)), "device": settings.device}
    return {"textune": (TEXTUNE, config)} | {name: (TRAINER, config | options) for name, options in peers.items()}


def _speed(id: str, question: str, result: Race, peer: str, peer_name: str) -> Row:
    more = {"batch_size": result.task.batch_size, "encoder_parameters": result.task.encoder_parameters}
    return compared(id, question, result.comparison(peer), result.details() | more, unit="rows/s", peer=peer_name)
