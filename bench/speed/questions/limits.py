"""How near the machine's own limit: useful floating-point operations a second over the measured rate of matrix products."""

from __future__ import annotations

from bench.speed.data import paired_texts
from bench.speed.measure import compare, significant, spread_of
from bench.speed.questions.common import Settings, Task, ours_spec
from bench.speed.questions.race import Race, race, random_order
from bench.speed.rows import Answer
from bench.speed.shapes import encoder_parameters, read_config

TERA = 1e12
FLOPS_PER_PARAMETER_AND_TOKEN = 6
"""Two for the forward pass, four for the backward pass: one multiplication and one addition each."""
GPU_WARM_UP = 60
"""Optimizer steps in which a GPU's kernels are compiled; the rows are twice as many."""
GPU_WORK = "BERT-base shape, MNLI lengths"
GPU_BATCH = 256
"""Rows of a batch that keeps a GPU busy."""


def share_of_limit(name: str, question: str, result: Race, task: Task) -> Answer:
    """What our segments of a race did a second, over the best matrix product measured just before each of them."""
    ours = result.names[0]
    parameters = encoder_parameters(read_config(task.backbone))
    useful = [
        FLOPS_PER_PARAMETER_AND_TOKEN * parameters * segment[ours].tokens / segment[ours].seconds for segment in result.segments
    ]
    limits = [max(rates.values()) for rates in result.products]
    comparison = compare([(rate / TERA, limit / TERA) for rate, limit in zip(useful, limits, strict=True)])
    tokens_per_batch = round(result.tokens_per_row * task.batch_size)
    step_work = FLOPS_PER_PARAMETER_AND_TOKEN * parameters * tokens_per_batch / TERA
    details = {
        **result.details(comparison, task.texts),
        "tokens_per_batch": tokens_per_batch,
        "encoder_parameters": parameters,
        "formula": "6 x encoder parameters x real tokens / seconds, over the best rate of the products below",
        "products_tflops": {
            shape: spread_of([rates[shape] / TERA for rates in result.products]) for shape in result.products[0]
        },
        "step_ms": significant(step_work / comparison.ours * 1000),
        "step_ms_at_the_limit": significant(step_work / comparison.peer * 1000),
        "memory_mb": {},
    }
    return Answer(
        id=name,
        question=question,
        ours=comparison.ours,
        peer=comparison.peer,
        ratio=comparison.ratio,
        unit="TFLOP/s",
        peer_name="best measured matrix product",
        details=details,
    )


def gpu_limit(settings: Settings) -> list[Answer]:
    """Share of the limit: BERT-base shape, pairs as long as MNLI's, batch 256."""
    texts = paired_texts(settings.count(GPU_BATCH * 2 * GPU_WARM_UP, tiny=4 * GPU_BATCH), settings.data)
    task = Task(texts.first(len(texts.examples), multiple_of=GPU_BATCH), settings.backbone("bert-base"), GPU_BATCH)
    _, config = task.write(settings)
    result = race(
        settings,
        {"textune": ("ours.training", ours_spec(config))},
        block=1,
        warm_up=2 if settings.tiny else min(GPU_WARM_UP, len(task.texts.examples) // (2 * GPU_BATCH)),
        batch_size=GPU_BATCH,
        order=random_order(len(task.texts.examples)),
        limit_of=task.backbone,
    )
    question = f"share of the limit while training, {GPU_WORK}, batch {GPU_BATCH}"
    return [share_of_limit(f"gpu-limit-{GPU_BATCH}", question, result, task)]
