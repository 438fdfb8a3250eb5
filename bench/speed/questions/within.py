"""textune beside itself: its loop and a hand-written one, its switches on and off, many rows and long ones."""

from __future__ import annotations

from typing import Any

from bench.speed.data import Texts, short_texts
from bench.speed.measure import compare, repeat, significant
from bench.speed.protocol import Skip
from bench.speed.questions.common import BATCH_SIZE, Settings, Task, ours_spec, race, random_order, write_config
from bench.speed.rows import Answer
from bench.speed.workers import Worker

SWITCHES = {
    "packed batches": ("model.attention", "packed", "padded"),
    "compiled kernels": ("model.compile", "on", "off"),
    "compact vocabulary": ("train.compact_vocabulary", "on", "off"),
}
"""Name to configuration key, its value when the switch is on, and when it is off."""

ROW_COUNTS = (1_000, 10_000, 100_000, 1_000_000)
LENGTHS = (16, 64, 256, 1024, 4096, 8192)
TOKENS_PER_STEP = 8192


def loop(settings: Settings) -> list[Answer]:
    """What the training loop costs beside a loop written by hand over the same model and batches."""
    texts = _texts(settings)
    task = Task(texts, settings.backbone())
    _, config = task.write(settings)
    steps = 2 if settings.tiny else 10
    with Worker("ours.loop", ours_spec(config), work=settings.work) as worker:
        facts = worker.facts
        worker.tell(order=random_order(len(texts.examples)), batches=len(texts.examples) // task.batch_size)
        for which in ("ours", "plain"):
            worker.ask(do=which, steps=steps)

        def turn() -> tuple[float, float]:
            ours, plain = (worker.ask(do=which, steps=steps)["seconds"] / steps * 1000 for which in ("ours", "plain"))
            return ours, plain

        pairs = repeat(turn, seconds=settings.budget(15), at_least=2 if settings.tiny else 5, at_most=40)
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
            goal=1.02,
            goal_is="at most",
            details={
                **comparison.details(),
                "data": texts.name,
                "segment": {"steps": steps, "segments": len(pairs)},
                "header": facts["header"],
                "threads": facts["threads"],
            },
        )
    ]


def switches(settings: Settings) -> list[Answer]:
    """Each of textune's own switches on and off, everything else as it is by default."""
    texts = _texts(settings)
    task = Task(texts, settings.backbone())
    answers = []
    for name, (key, on, off) in SWITCHES.items():
        _, config = task.write(settings)
        specs = {
            which: {**ours_spec(config, f"{key}={value}"), "may_be_missing": True}
            for which, value in (("on", on), ("off", off))
        }
        try:
            result = race(
                settings,
                {which: ("ours.training", spec) for which, spec in specs.items()},
                seconds=12,
                block=1,
                warm_up=3 if settings.tiny else 8,
                batch_size=task.batch_size,
                order=random_order(len(texts.examples)),
            )
        except Skip as reason:
            print(f"switches: {name} left out, {reason}", flush=True)
            continue
        comparison = result.comparison("off", ours="on")
        answers.append(
            Answer(
                id=f"switch-{name.replace(' ', '-')}",
                question=f"training, MiniLM-L6, short texts, batch 32: {name}",
                ours=comparison.ours,
                peer=comparison.peer,
                ratio=comparison.ratio,
                unit="rows/s",
                peer_name=f"{key} = {off}",
                details={**result.details(comparison, texts), "on": f"{key} = {on}"},
            )
        )
    return answers


def scaling(settings: Settings) -> list[Answer]:
    """What a token costs as rows grow from 1,000 to a million, and as they grow from 16 to 8,192 tokens; generated rows."""
    return [_rows_scaling(settings), _length_scaling(settings)]


def _rows_scaling(settings: Settings) -> Answer:
    texts = _texts(settings)
    _, config = Task(texts, settings.backbone()).write(settings)
    steps, warm_up = (2, 1) if settings.tiny else (40, 10)
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
            steps, warm_up = (1, 1) if settings.tiny else (2, 1) if length > 1024 else (4, 2)
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
