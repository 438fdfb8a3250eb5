"""Attention of one layer: the compiled kernel beside the best that PyTorch's own operators do, for rows of 8 to 512 tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from bench.speed.level import has_bf16
from bench.speed.measure import significant
from bench.speed.questions.common import Settings
from bench.speed.rows import Answer
from bench.speed.workers import Worker

LENGTHS = (8, 16, 32, 64, 128, 256, 512)
DROPOUTS = (0.0, 0.1)
TOKENS = 2048
"""In all rows together."""


@dataclass(frozen=True)
class AttentionTime:
    """Milliseconds of one layer's attention, forward and backward, by each way; one thread."""

    precision: str
    dropout: float
    length: int
    """Tokens of each row."""
    kernel: float
    products: float
    """Batched products with softmax between."""
    sdpa: float

    @property
    def ratio(self) -> float:
        """How many times as fast as the better of the other two ways the kernel is."""
        return min(self.products, self.sdpa) / self.kernel


def attention_times(
    settings: Settings,
    *,
    precisions: Sequence[str],
    dropouts: Sequence[float] = DROPOUTS,
    lengths: Sequence[int] = LENGTHS,
) -> list[AttentionTime]:
    """Every combination, for what is left of the question's time; Skip where there are no kernels."""
    combinations = [(p, d, length) for p in precisions for d in dropouts for length in lengths]
    with Worker("ours.attention", {}, work=settings.work) as worker:
        _ = worker.facts
        each = settings.left() / len(combinations)
        found = []
        for precision, dropout, length in combinations:
            tokens = 64 if settings.tiny else TOKENS
            command = {"precision": precision, "dropout": dropout, "length": length, "tokens": tokens, "seconds": each}
            times = {way: significant(ms) for way, ms in worker.ask(**command).items()}
            found.append(AttentionTime(precision, dropout, length, **times))
        worker.close()
    return found


def attention(settings: Settings) -> list[Answer]:
    """Attention of one layer (12 heads of 32), one thread, forward and backward: the kernel beside PyTorch's ways by length."""
    precision = "bf16" if has_bf16() else "fp32"
    times = attention_times(settings, precisions=[precision])
    return [_answer([time for time in times if time.dropout == dropout], dropout) for dropout in DROPOUTS]


def _answer(times: list[AttentionTime], dropout: float) -> Answer:
    """The length at which the kernel does worst stands for all: it must nowhere be slower."""
    worst = min(times, key=lambda time: time.ratio)
    with_dropout = f"dropout {dropout:g}" if dropout else "no dropout"
    return Answer(
        id="attention-dropout" if dropout else "attention",
        question=f"attention kernel, {with_dropout}, at its worst length of 8 to 512: {worst.length} tokens",
        ours=worst.kernel,
        peer=min(worst.products, worst.sdpa),
        ratio=worst.ratio,
        unit="ms",
        peer_name="the better of batched products and scaled_dot_product_attention; ratio: times as fast",
        details={
            "data": f"{TOKENS:,} random tokens, 12 heads of 32",
            "precision": worst.precision,
            "points": [asdict(time) for time in times],
            "threads": 1,
        },
    )
