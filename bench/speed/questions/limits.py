"""How near the machine's own limit: useful floating-point operations a second over the measured rate of matrix products."""

from __future__ import annotations

from bench.speed.data import Texts, long_texts, paired_texts, short_texts
from bench.speed.measure import choose_steps, compare, repeat, significant, spread_of
from bench.speed.questions.common import Settings, Task, ours_spec, random_order
from bench.speed.rows import Answer
from bench.speed.shapes import encoder_parameters, product_shapes, read_config
from bench.speed.workers import working

TERA = 1e12
FLOPS_PER_PARAMETER_AND_TOKEN = 6
"""Two for the forward pass, four for the backward pass: one multiplication and one addition each."""
LARGE_SQUARE = {"cpu": 2048, "cuda": 8192}
"""Side of a matrix product that keeps the whole device busy."""
WARM_UP = {"cpu": 3, "cuda": 60}
"""Optimizer steps that are not counted: a GPU's kernels are compiled in them."""
MATRIX_SECONDS = 0.15
"""Seconds for each shape, before every segment of training."""


def limit_short(settings: Settings) -> list[Answer]:
    """Share of the limit: MiniLM-L6, short texts, batch 32."""
    texts = short_texts(settings.count(12_800), settings.data)
    question = "share of the limit while training, MiniLM-L6, short texts, batch 32"
    return [_share(settings, "limit-short", question, texts, seconds=15, goal=0.5)]


def limit_long(settings: Settings) -> list[Answer]:
    """Share of the limit: MiniLM-L6, whole reviews cut at 512 tokens, batch 32."""
    texts = long_texts(settings.count(2048, tiny=64))
    question = "share of the limit while training, MiniLM-L6, IMDB reviews up to 512 tokens, batch 32"
    return [_share(settings, "limit-long", question, texts, seconds=30, goal=0.6, max_length=512)]


def gpu_limit(settings: Settings) -> list[Answer]:
    """Share of the limit: BERT-base shape, pairs as long as MNLI's, batches of 32 and 256."""
    texts = paired_texts(settings.count(12_800, tiny=1024), settings.data)
    answers = []
    for batch_size, goal in ((32, 0.25), (256, 0.45)):
        question = f"share of the limit while training, BERT-base shape, MNLI lengths, batch {batch_size}"
        options = {"shape": "bert-base", "batch_size": batch_size, "seconds": 20, "goal": goal}
        answers.append(_share(settings, f"gpu-limit-{batch_size}", question, texts, **options))  # type: ignore[arg-type]
    return answers


def _share(
    settings: Settings,
    name: str,
    question: str,
    texts: Texts,
    *,
    seconds: float,
    goal: float,
    shape: str = "minilm",
    batch_size: int = 32,
    max_length: int = 128,
) -> Answer:
    task = Task(texts, settings.backbone(shape), batch_size=batch_size, max_length=max_length)
    _, config_path = task.write(settings)
    config = read_config(task.backbone)
    parameters = encoder_parameters(config)
    workers = (("ours.training", ours_spec(config_path)), ("peers.matrix", {"device": settings.device}))
    with working(settings.work, *workers) as (ours, matrix):
        facts = ours.facts
        tokens_per_batch = round(facts["num_tokens"] / facts["num_rows"] * batch_size)
        shapes = product_shapes(config, tokens_per_batch, square=LARGE_SQUARE[settings.device])
        if settings.tiny:
            shapes = [(64, 64, 64)]
        ours.tell(order=random_order(len(texts.examples) // batch_size * batch_size))
        ours.ask(do="run", steps=1 if settings.tiny else WARM_UP[settings.device])
        pace = ours.ask(do="run", steps=5)["seconds"] / 5
        budget = settings.budget(seconds)
        steps = choose_steps(pace, seconds=max(0.0, budget - 5 * MATRIX_SECONDS * len(shapes)))

        def turn() -> tuple[float, float, dict[str, float]]:
            limit = matrix.ask(do="run", shapes=shapes, seconds=0.01 if settings.tiny else MATRIX_SECONDS)
            work = ours.ask(do="run", steps=steps)
            useful = FLOPS_PER_PARAMETER_AND_TOKEN * parameters * work["tokens"] / work["seconds"]
            return useful / TERA, limit["best"] / TERA, limit["rates"]

        turns = repeat(turn, seconds=budget, at_least=2 if settings.tiny else 3)
        precision = {"textune": facts["precision"], "matrix products": matrix.facts["precision"]}
        memory = {"textune": ours.close()}
        matrix.close()
    comparison = compare([(useful, limit) for useful, limit, _ in turns])
    details = {
        **comparison.details(),
        "data": texts.name,
        "segment": {"steps": steps, "rows": steps * batch_size, "segments": len(turns)},
        "tokens_per_batch": tokens_per_batch,
        "encoder_parameters": parameters,
        "formula": "6 x encoder parameters x real tokens / seconds, over the best rate of the products below",
        "products_tflops": {key: spread_of([rates[key] / TERA for *_, rates in turns]) for key in turns[0][2]},
        "step_ms": significant(FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens_per_batch / comparison.ours / TERA * 1000),
        "step_ms_at_the_limit": significant(
            FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens_per_batch / comparison.peer / TERA * 1000
        ),
        "memory_mb": {key: {k: round(v) for k, v in last.items()} for key, last in memory.items()},
        "precision": precision,
        "header": facts["header"],
        "threads": facts["threads"],
    }
    return Answer(
        id=name,
        question=question,
        ours=comparison.ours,
        peer=comparison.peer,
        ratio=comparison.ratio,
        unit="TFLOP/s",
        peer_name=f"best measured {precision['matrix products']} matrix product",
        goal=goal,
        details=details,
    )
