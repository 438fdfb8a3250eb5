"""textune beside itself: its loop and a hand-written one, with and without saving, many rows and long ones, its
kernels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from bench.machine import best_precision
from bench.rows import Row, beside, compared
from bench.speed.measure import Comparison, choose_steps, repeat, significant, spread_of
from bench.speed.race import random_order
from bench.speed.work import Settings, short_task, write_config
from bench.worker import Json, Worker

STEP = "optimizer step, MiniLM-L6, short texts, batch 32"
SAVE_EVERY = 10
"""Steps between two checkpoints."""
SENT_TOGETHER = 25
"""Steps in five seconds, after which a run sends what is new."""
ROW_COUNTS = (1_000, 30_000, 1_000_000)
LENGTHS = (16, 64, 256, 1024, 4096, 8192)
TOKENS_PER_STEP = 8192
ATTENTION_LENGTHS = (8, 16, 32, 64, 128, 256, 512)
ATTENTION_TOKENS = 2048
"""In all rows together."""


def loop(settings: Settings) -> list[Row]:
    """Our loop and a plain one in one process, over equal models and the same batches."""
    question = f"{STEP}: textune's loop over one written by hand"
    peer = "forward, backward, clip, AdamW: no loader, no schedule, the same model and batches"
    return [_in_turns(settings, "loops", {}, ("loop", question, peer))]


def checkpoints(settings: Settings) -> list[Row]:
    """Stretches of steps with a checkpoint every ten steps beside stretches without, in one process."""
    question = f"{STEP}: with a checkpoint every {SAVE_EVERY} steps over one without"
    spec = {"folder": str(settings.work / "checkpoints"), "every": SAVE_EVERY}
    return [
        _in_turns(settings, "checkpoints", spec, ("checkpoints", question, "no checkpoints"), multiple_of=SAVE_EVERY)
    ]


def tracking(settings: Settings) -> list[Row]:
    """Stretches of steps that are sent to two trackers at their end beside stretches that are only written down, in
    one process."""
    question = f"{STEP}: each step sent to TensorBoard and MLflow over each written to metrics.jsonl alone"
    names = ("tracking", question, "no trackers")
    spec = {"folder": str(settings.work / "tracked")}
    return [_in_turns(settings, "tracked", spec, names, multiple_of=1 if settings.tiny else SENT_TOGETHER)]


def _in_turns(settings: Settings, side: str, spec: Json, names: tuple[str, str, str], *, multiple_of: int = 1) -> Row:
    """Milliseconds per step of two ways, `ours` and `plain`, of one worker; a few steps of each do not count."""
    task = short_task(settings)
    count = len(task.texts.examples)
    batches = {"config": str(task.write(settings)), "order": random_order(count), "batches": count // task.batch_size}
    with Worker(f"bench.sides.textune:{side}", {**batches, **spec}) as worker:

        def step(way: str, steps: int) -> float:
            return float(worker.ask(do=way, steps=steps)["seconds"]) / steps

        pace = sum((step(way, 2), step(way, 2))[1] for way in ("ours", "plain"))
        steps = -(-choose_steps(pace, seconds=settings.left(), most=10) // multiple_of) * multiple_of
        pairs = repeat(
            lambda: (step("ours", steps) * 1000, step("plain", steps) * 1000),
            seconds=settings.left(),
            at_least=settings.pairs,
            at_most=40,
        )
        saved = worker.close()
        facts = worker.facts
    details = {"data": task.texts.name, "segment": {"steps": steps, "segments": len(pairs)}}
    details |= {name: facts[name] for name in ("opening_seconds",) if name in facts}
    details |= {name: spread_of(saved[name]) for name in ("copy_seconds", "write_seconds") if name in saved}
    details |= {name: facts[name] for name in ("header", "threads")} | {k: v for k, v in saved.items() if k == "bytes"}
    return compared(names[0], names[1], Comparison(pairs), details, unit="ms", peer=names[2])


def profile(settings: Settings) -> list[Row]:
    """Milliseconds in each part of a training step beside those of the whole step; processor time where there is one
    thread."""
    task = short_task(settings)
    spec = {"config": str(task.write(settings)), "overrides": ["model.compile=on"]}
    with Worker("bench.sides.textune:profile", spec) as worker:
        parts, facts = worker.ask(steps=2 if settings.tiny else 20)["parts"], worker.facts
    details = {"data": task.texts.name, "precision": facts["precision"], "threads": facts["threads"]}
    whole, rows = sum(parts.values()), []
    for name, ms in sorted(parts.items(), key=lambda part: -part[1]):
        id = f"profile-{name.replace(' ', '-')}"
        rows.append(beside(id, f"{STEP}: {name}", (ms, whole), details, unit="ms", peer="the whole step"))
    return rows


def scaling(settings: Settings) -> list[Row]:
    """The cost of a token over more rows, and over longer ones, all made of the tokens of the short texts."""
    task = short_task(settings)
    data, config = f"rows made of the tokens of {task.texts.source}", task.write(settings)
    points = []
    with Worker("bench.sides.textune:token_costs", {}) as worker:
        steps, warm_up = (2, 1) if settings.tiny else (10, 3)
        for rows in ROW_COUNTS[:2] if settings.tiny else ROW_COUNTS:
            reply = worker.ask(config=str(config), rows=rows, length=None, steps=steps, warm_up=warm_up)
            points.append({"rows": rows, **_cost(reply, planning=reply["planning"])})
        threads = worker.facts["threads"]
    question = f"cost of a token at {points[-1]['rows']:,} rows over {points[0]['rows']:,}: plan, load, step"
    by_rows = _growth("rows", question, {"data": data, "points": points, "threads": threads})
    points = []
    with Worker("bench.sides.textune:token_costs", {}) as worker:
        for length in LENGTHS[:2] if settings.tiny else LENGTHS:
            size = TOKENS_PER_STEP // length
            # A step of very long rows takes seconds, and its kernels are ready after one.
            steps, warm_up = (1, 1) if settings.tiny or length > 1024 else (3, 2)
            keys = {"train.batch_size": size, "train.device": settings.device}
            long, rows_file = settings.backbone("modernbert-long"), settings.work / "rows.csv"
            config = write_config(settings.work / "length.toml", keys, rows=rows_file, backbone=long)
            shape = {"rows": size * (steps + warm_up), "length": length}
            points.append(
                {"length": length, **_cost(worker.ask(config=str(config), **shape, steps=steps, warm_up=warm_up))}
            )
    question = f"cost of a token in rows of {points[-1]['length']:,} tokens over rows of {points[0]['length']}"
    model = {
        "model": "ModernBERT shape, 4 layers of 192, every third with global attention",
        "tokens_per_step": TOKENS_PER_STEP,
    }
    return [by_rows, _growth("length", question, {"data": data, **model, "points": points, "threads": threads})]


def _cost(reply: Json, planning: float = 0.0) -> Json:
    """Microseconds per token: in steps (loading included), and in the plan of the epoch; and the most memory until
    then."""
    step, plan = reply["step_seconds"] / reply["tokens"] * 1e6, planning / reply["epoch_tokens"] * 1e6
    memory = round(reply["peak_memory_mb"])
    return {"step_us": significant(step), "planning_us": significant(plan), "peak_memory_mb": memory}


def _growth(key: str, question: str, details: Json) -> Row:
    first, last = details["points"][0], details["points"][-1]
    costs = last["step_us"] + last["planning_us"], first["step_us"] + first["planning_us"]
    return beside(f"scaling-{key}", question, costs, details, unit="us/token", peer=f"{key} = {first[key]:,}")


def attention(settings: Settings) -> list[Row]:
    """12 heads of 32, without dropout and with it, at every length."""
    precision, rows = best_precision(), []
    with Worker("bench.sides.kernels:attention", {}) as worker:
        _ = worker.facts
        each = settings.left() / (2 * len(ATTENTION_LENGTHS))
        for dropout in (0.0, 0.1):
            points = []
            for length in ATTENTION_LENGTHS:
                shape = {"precision": precision, "dropout": dropout, "length": length}
                reply = worker.ask(**shape, tokens=64 if settings.tiny else ATTENTION_TOKENS, time=each)
                points.append({**shape, **{way: significant(1e3 * seconds) for way, seconds in reply["ways"].items()}})
            rows.append(_worst(points, dropout))
    return rows


def _worst(points: Sequence[Json], dropout: float) -> Row:
    """The length at which the kernel does worst stands for all: it must nowhere be slower."""
    worst = max(points, key=lambda point: point["kernel"] / min(point["products"], point["sdpa"]))
    id, words = ("attention-dropout", f"dropout {dropout:g}") if dropout else ("attention", "no dropout")
    details = {
        "data": f"{ATTENTION_TOKENS:,} random tokens, 12 heads of 32",
        "precision": worst["precision"],
        "points": points,
        "threads": 1,
    }
    question = f"attention kernel, {words}, at its worst length of 8 to 512: {worst['length']} tokens"
    peer = "the better of batched products and scaled_dot_product_attention; ratio: times as fast"
    ours, best = worst["kernel"], min(worst["products"], worst["sdpa"])
    return replace(beside(id, question, (ours, best), details, unit="ms", peer=peer), ratio=best / ours)
