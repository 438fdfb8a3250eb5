"""textune beside itself: its loop and a hand-written one, its switches on and off, many rows and long ones."""

from __future__ import annotations

from typing import Any

from bench.speed.data import Texts, short_texts
from bench.speed.measure import choose_steps, compare, repeat, significant
from bench.speed.questions.common import BATCH_SIZE, Settings, Task, ours_spec, write_config
from bench.speed.questions.race import race, random_order
from bench.speed.rows import Answer
from bench.speed.workers import Worker

SWITCHES = {
    "packed batches": ("model.attention", "padded"),
    "compiled kernels": ("model.compile", "off"),
    "compact vocabulary": ("train.compact_vocabulary", "off"),
}
"""Name to configuration key and its value when the switch is off; on is what a run does by default."""

ROW_COUNTS = (1_000, 30_000, 1_000_000)
LENGTHS = (16, 64, 256, 1024, 4096, 8192)
TOKENS_PER_STEP = 8192


def loop(settings: Settings) -> list[Answer]:
    """What the training loop costs beside a loop written by hand over the same model and batches."""
    texts = _texts(settings)
    task = Task(texts, settings.backbone())
    _, config = task.write(settings)
    with Worker("ours.loop", ours_spec(config), work=settings.work) as worker:
        facts = worker.facts
        worker.tell(order=random_order(len(texts.examples)), batches=len(texts.examples) // task.batch_size)
        pace = sum(_loop_pace(worker, which) for which in ("ours", "plain"))
        steps = choose_steps(pace, seconds=settings.left(), most=10)

        def turn() -> tuple[float, float]:
            ours, plain = (worker.ask(do=which, steps=steps)["seconds"] / steps * 1000 for which in ("ours", "plain"))
            return ours, plain

        pairs = repeat(turn, seconds=settings.left(), at_least=settings.pairs, at_most=40)
        worker.close()
    comparison = compare(pairs)
    return [
        Answer(
            id="loop",
            question="optimizer step, MiniLM-L6, short texts, batch 32: textune's loop over one written by hand",
            ours=comparison.ours,
            peer=comparison.peer,
            ratio=comparison.ratio,
            unit="ms",
            peer_name="forward, backward, clip, AdamW: no loader, no schedule, the same model and batches",
            details={
                **comparison.details(),
                "data": texts.name,
                "segment": {"steps": steps, "segments": len(pairs)},
                "header": facts["header"],
                "threads": facts["threads"],
            },
        )
    ]


def _loop_pace(worker: Worker, which: str) -> float:
    """Seconds of a step, after a few that are not counted."""
    worker.ask(do=which, steps=2)
    return float(worker.ask(do=which, steps=2)["seconds"]) / 2


def switches(settings: Settings) -> list[Answer]:
    """Each of textune's own switches off, everything else as it is by default, beside all of them on."""
    texts = _texts(settings)
    task = Task(texts, settings.backbone())
    _, config = task.write(settings)
    specs = {"on": ours_spec(config)}
    specs |= {name: ours_spec(config, f"{key}={off}") for name, (key, off) in SWITCHES.items()}
    result = race(
        settings,
        {name: ("ours.training", spec) for name, spec in specs.items()},
        block=1,
        warm_up=4,
        batch_size=task.batch_size,
        order=random_order(len(texts.examples)),
    )
    answers = []
    for name, (key, off) in SWITCHES.items():
        comparison = result.comparison(name)
        details = result.details(comparison, texts)
        memory = {"on": details["memory_mb"]["on"], "off": details["memory_mb"][name]}
        answers.append(
            Answer(
                id=f"switch-{name.replace(' ', '-')}",
                question=f"training, MiniLM-L6, short texts, batch 32: {name}",
                ours=comparison.ours,
                peer=comparison.peer,
                ratio=comparison.ratio,
                unit="rows/s",
                peer_name=f"{key} = {off}",
                details={**details, "memory_mb": memory},
            )
        )
    return answers


def scaling(settings: Settings) -> list[Answer]:
    """What a token costs as rows grow from 1,000 to a million, and as they grow from 16 to 8,192 tokens; generated rows."""
    return [_rows_scaling(settings), _length_scaling(settings)]


def _rows_scaling(settings: Settings) -> Answer:
    texts = _texts(settings)
    _, config = Task(texts, settings.backbone()).write(settings)
    steps, warm_up = (2, 1) if settings.tiny else (10, 3)
    counts = ROW_COUNTS[:2] if settings.tiny else ROW_COUNTS
    with Worker("ours.scaling", {}, work=settings.work) as worker:
        threads = worker.facts["threads"]
        points = []
        for rows in counts:
            reply = worker.ask(config=str(config), rows=rows, length=None, steps=steps, warm_up=warm_up)
            planning = reply["planning"] / reply["epoch_tokens"] * 1e6
            points.append(_point({"rows": rows}, reply, planning_us=planning))
    question = f"cost of a token at {counts[-1]:,} rows over {counts[0]:,}: plan, load, step"
    details = {"data": f"rows made of the tokens of {texts.source}", "points": points, "threads": threads}
    return _growth("scaling-rows", question, points, "rows", details)


def _length_scaling(settings: Settings) -> Answer:
    texts = _texts(settings)
    rows = texts.write(settings.work / "rows.csv")
    points = []
    with Worker("ours.scaling", {}, work=settings.work) as worker:
        threads = worker.facts["threads"]
        for length in LENGTHS[:2] if settings.tiny else LENGTHS:
            batch_size = TOKENS_PER_STEP // length
            # A step of very long rows takes seconds, and its kernels are ready after one.
            steps, warm_up = (1, 1) if settings.tiny or length > 1024 else (3, 2)
            config = write_config(
                settings.work / "length.toml",
                rows=rows,
                backbone=settings.backbone("modernbert-long"),
                cache=settings.work / "cache",
                batch_size=batch_size,
                device=settings.device,
            )
            count = batch_size * (steps + warm_up)
            reply = worker.ask(config=str(config), rows=count, length=length, steps=steps, warm_up=warm_up)
            points.append(_point({"length": length}, reply, planning_us=0.0))
    question = f"cost of a token in rows of {points[-1]['length']:,} tokens over rows of {points[0]['length']}"
    details = {
        "data": f"rows made of the tokens of {texts.source}",
        "model": "ModernBERT shape, 4 layers of 192, every third with global attention",
        "tokens_per_step": TOKENS_PER_STEP,
        "points": points,
        "threads": threads,
    }
    return _growth("scaling-length", question, points, "length", details)


def _point(where: dict[str, Any], reply: dict[str, Any], *, planning_us: float) -> dict[str, Any]:
    """Microseconds a token: in steps (loading included), and in the plan of the epoch; and the most memory until then."""
    step = reply["seconds"] / reply["tokens"] * 1e6
    memory = round(reply["peak_memory_mb"])
    return {**where, "step_us": significant(step), "planning_us": significant(planning_us), "peak_memory_mb": memory}


def _growth(name: str, question: str, points: list[dict[str, Any]], key: str, details: dict[str, Any]) -> Answer:
    first, last = (point["step_us"] + point["planning_us"] for point in (points[0], points[-1]))
    return Answer(
        id=name,
        question=question,
        ours=last,
        peer=first,
        ratio=last / first,
        unit="us/token",
        peer_name=f"{key} = {points[0][key]:,}",
        details=details,
    )


def _texts(settings: Settings) -> Texts:
    return short_texts(None, settings.data).first(settings.count(6400), multiple_of=BATCH_SIZE)
