"""Few trained numbers: low-rank adapters beside Trainer with peft, and beside textune training the whole model."""

from __future__ import annotations

from dataclasses import replace

from bench.rows import Row, beside, compared
from bench.speed.race import TEXTUNE, TRAINER, Plan, race
from bench.speed.training import AT_BEST, BEST, MAX_ROWS, TITLES, grouped_block
from bench.speed.work import BATCH_SIZE, Settings, short_task
from bench.worker import Json, Worker, WorkerError

LORA: Json = {"model.lora.r": 8}
"""Everything else is as both sides have it by default: alpha 16, no dropout, every linear layer."""
LORA_WORDS = [f"{key}={value}" for key, value in LORA.items()]
WORK = "LoRA r 8"
MEMORY_STEPS = 8
"""Optimizer steps before the memory of a process is read, and its checkpoint written."""


def beside_peft(settings: Settings, *, id: str, shape: str = "minilm") -> list[Row]:
    """Speed beside Trainer at its best on the model in peft's wrapper; both must train equally many numbers."""
    task = replace(short_task(settings, shape, MAX_ROWS), keys=LORA)
    config = {"config": str(task.write(settings)), "device": settings.device}
    sides = {"textune": (TEXTUNE, config), "Trainer": (TRAINER, config | AT_BEST)}
    result = race(settings, task, sides, Plan(grouped_block(task), warm_up=3))
    details = result.details()
    if len(set(details["numbers_trained"].values())) > 1:
        raise WorkerError(f"the systems train different numbers: {details['numbers_trained']}")
    question = f"training, {WORK}, {TITLES[shape]}, short texts, batch {BATCH_SIZE}"
    peer = BEST.replace("Trainer", "Trainer and peft", 1)
    return [compared(id, question, result.comparison("Trainer"), details, unit="rows/s", peer=peer)]


def beside_full(settings: Settings) -> list[Row]:
    """Speed beside our own training of all numbers."""
    task = short_task(settings)
    config = {"config": str(task.write(settings))}
    sides = {"textune": (TEXTUNE, {**config, "overrides": LORA_WORDS}), "all": (TEXTUNE, config)}
    result = race(settings, task, sides, Plan(warm_up=4))
    question, peer = f"training, {WORK}, MiniLM-L6, short texts, batch {BATCH_SIZE}", "textune, all numbers trained"
    return [compared("lora-full", question, result.comparison("all"), result.details(), unit="rows/s", peer=peer)]


def memory(settings: Settings) -> list[Row]:
    """Peak memory of the process after a few steps, and bytes of the checkpoint of that step; one process after the
    other, so that the machine holds one at a time."""
    task = short_task(settings, "xlmr-base")
    config = str(task.write(settings))
    peaks: dict[str, float] = {}
    sizes: dict[str, int] = {}
    facts: dict[str, Json] = {}
    for name, words in (("adapters", LORA_WORDS), ("all", list[str]())):
        spec = {"config": config, "overrides": words, "folder": str(settings.work / name), "every": MEMORY_STEPS}
        with Worker("bench.sides.textune:checkpoints", spec) as worker:
            peaks[name] = worker.ask(do="plain", steps=MEMORY_STEPS)["peak_memory_mb"]
            worker.ask(do="ours", steps=1)
            sizes[name], facts[name] = worker.close()["bytes"], worker.facts
    details = {
        "data": task.texts.name,
        "steps": MEMORY_STEPS,
        "numbers_trained": {name: fact["num_trained"] for name, fact in facts.items()},
        "header": facts["adapters"]["header"],
        "threads": facts["adapters"]["threads"],
    }
    work, peer = f"{WORK}, XLM-R-base shape, short texts, batch {BATCH_SIZE}", "textune, all numbers trained"
    mib = (sizes["adapters"] / 2**20, sizes["all"] / 2**20)
    held = (peaks["adapters"], peaks["all"])
    return [
        beside("lora-memory", f"peak memory of the process, {work}", held, details, unit="MiB", peer=peer),
        beside("lora-checkpoint", f"a checkpoint, {work}", mib, details, unit="MiB", peer=peer),
    ]
