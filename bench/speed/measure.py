"""Pure arithmetic of the method: which rows a segment holds, how long it is, and what pairs of measurements say.

Order of the rows. Trainer's length-grouped sampler sorts 50 batches at a time, so consecutive batches grow shorter and a few
of them are no fair sample. `deal` therefore deals the batches of such a block out (each batch as Trainer made it), so that any
few in a row hold every length; `shuffle_within` gives the other system the same rows, block by block, in random order.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from math import gcd
from time import perf_counter
from typing import Any, TypeVar

GOLDEN = 0.6180339887498949
MOST_STEPS = 50
"""Of a segment."""
MOST_PAIRS = 15

T = TypeVar("T")

Pair = tuple[float, float]
"""What ours and the peer measured in one pair of segments."""


@dataclass(frozen=True)
class Segment:
    """What one system did while the others waited."""

    rows: int
    tokens: int
    """Real tokens, padding left out."""
    seconds: float


# --- rows -------------------------------------------------------------------------------------------------------------


def spread(count: int) -> list[int]:
    """0 ... count - 1 in an order whose every stretch is spread over the whole range (steps near the golden ratio)."""
    if count < 3:
        return list(range(count))
    step = min((s for s in range(1, count) if gcd(s, count) == 1), key=lambda s: abs(s / count - GOLDEN))
    return [number * step % count for number in range(count)]


def deal(order: Sequence[int], *, batch_size: int, block: int) -> list[int]:
    """`order` with the batches of each block of `block` batches dealt out by `spread`; rows stay in their batches.

    A last batch that is not full is left out.
    """
    batches = [list(order[at : at + batch_size]) for at in range(0, len(order) - batch_size + 1, batch_size)]
    dealt: list[int] = []
    for at in range(0, len(batches), block):
        part = batches[at : at + block]
        for number in spread(len(part)):
            dealt += part[number]
    return dealt


def shuffle_within(order: Sequence[int], *, sizes: Sequence[int], seed: int) -> list[int]:
    """`order` with the rows of each block of `sizes` rows shuffled among themselves; the rest is one more block."""
    generator = random.Random(seed)
    shuffled: list[int] = []
    at = 0
    for size in [*sizes, len(order) - sum(sizes)]:
        part = list(order[at : at + size])
        generator.shuffle(part)
        shuffled += part
        at += size
    return shuffled


@dataclass(frozen=True)
class Order:
    """The rows of a run of segments: the peer's order and ours, the same rows block by block."""

    ours: list[int]
    peer: list[int]


def shared_order(peer_order: Sequence[int], *, batch_size: int, block: int, warm_up: int, batches: int, seed: int) -> Order:
    """Both orders: `warm_up` batches of the first block, then whole blocks of `block` batches, `batches` in all or a few more.

    Where the rows are through, the blocks begin again: each side wraps at the end of the same block. `block=1` means that the
    peer's order is random already: ours is the same, batch for batch.
    """
    dealt = deal(peer_order, batch_size=batch_size, block=block)
    first, size = warm_up * batch_size, block * batch_size
    # The rest of the first block is left out, so that segments of a whole block hold exactly one.
    blocks = [dealt[at : at + size] for at in range(size if block > 1 else first, len(dealt) - size + 1, size)]
    if not blocks:
        raise ValueError(f"{len(peer_order):,} rows are too few for {warm_up} batches and a block of {block} of {batch_size}")
    count = -(-(batches - warm_up) // block)
    peer = dealt[:first] + [row for part in islice(cycle(blocks), count) for row in part]
    return Order(peer if block == 1 else shuffle_within(peer, sizes=[first, *[size] * count], seed=seed), peer)


# --- how much ---------------------------------------------------------------------------------------------------------


def choose_steps(pair_seconds: float, *, seconds: float, block: int = 1, pairs: int = 5, most: int = MOST_STEPS) -> int:
    """Steps of a segment, so that `pairs` pairs fit into `seconds` when a pair of single steps takes `pair_seconds`.

    With blocks it is a divisor of `block`: the whole block if so many fit, but never a single step, whose batch has one length.
    """
    fitting = seconds / (pairs * pair_seconds)
    if block == 1:
        return max(1, min(most, int(fitting)))
    divisors = [size for size in range(2, block + 1) if block % size == 0]
    return max((size for size in divisors if size <= min(fitting, most)), default=divisors[0])


def repeat(measure: Callable[[], T], *, seconds: float, at_least: int = 3, at_most: int = MOST_PAIRS) -> list[T]:
    """Call `measure` until `seconds` are spent: while one more is expected to fit, within the two bounds."""
    results: list[T] = []
    started = perf_counter()
    while len(results) < at_most:
        spent = perf_counter() - started
        if len(results) >= at_least and spent + spent / len(results) > seconds:
            break
        results.append(measure())
    return results


# --- what it says -----------------------------------------------------------------------------------------------------


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    return {
        "median": significant(statistics.median(values)),
        "min": significant(min(values)),
        "max": significant(max(values)),
    }


@dataclass(frozen=True)
class Comparison:
    """Pairs of measurements and their ratio: the median of the ratios, not the ratio of the medians."""

    pairs: tuple[Pair, ...]

    @property
    def ours(self) -> float:
        """Median of ours."""
        return statistics.median(pair[0] for pair in self.pairs)

    @property
    def peer(self) -> float:
        """Median of the peer's."""
        return statistics.median(pair[1] for pair in self.pairs)

    @property
    def ratios(self) -> list[float]:
        """Ours / the peer's, pair by pair."""
        return [ours / peer for ours, peer in self.pairs]

    @property
    def ratio(self) -> float:
        """Median of the ratios."""
        return statistics.median(self.ratios)

    def details(self) -> dict[str, Any]:
        """Median, smallest and largest of both and of the ratio, and every pair."""
        return {
            "ours": spread_of([pair[0] for pair in self.pairs]),
            "peer": spread_of([pair[1] for pair in self.pairs]),
            "ratio": spread_of(self.ratios),
            "pairs": [[significant(value) for value in pair] for pair in self.pairs],
        }


def compare(pairs: Sequence[Pair]) -> Comparison:
    """A comparison of at least one pair."""
    if not pairs:
        raise ValueError("nothing was measured")
    return Comparison(tuple(pairs))


def row_rate(segment: Segment, tokens_per_row: float) -> float:
    """Rows a second, by the real tokens that were done: segments whose rows are a little longer count for more."""
    return segment.tokens / segment.seconds / tokens_per_row


def significant(value: float, digits: int = 4) -> float:
    """Rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")
