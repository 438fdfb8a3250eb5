"""Pure arithmetic of the method: which rows a segment holds, how long it is, and what pairs of measurements say.

Order of the rows. Trainer's length-grouped sampler sorts 50 batches at a time, so consecutive batches grow shorter and
a few of them are no fair sample. `deal` therefore deals the batches of such a block out (each batch as Trainer made
it), so that any few in a row hold every length; `shared_order` gives the other system the same rows, block by block,
in random order.
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
MOST_STEPS, MOST_PAIRS = 50, 15
"""Per segment, and per row of the results."""

T = TypeVar("T")


def spread(count: int) -> list[int]:
    """0 ... count - 1 in an order whose every stretch is spread over the whole range (steps near the golden ratio)."""
    if count < 3:
        return list(range(count))
    step = min((s for s in range(1, count) if gcd(s, count) == 1), key=lambda s: abs(s / count - GOLDEN))
    return [number * step % count for number in range(count)]


def deal(order: Sequence[int], *, batch_size: int, block: int) -> list[int]:
    """`order` with the batches of each block of `block` batches dealt out by `spread`; rows of no full batch are left
    out."""
    batches = [list(order[at : at + batch_size]) for at in range(0, len(order) - batch_size + 1, batch_size)]
    parts = [batches[at : at + block] for at in range(0, len(batches), block)]
    return [row for part in parts for number in spread(len(part)) for row in part[number]]


def shared_order(
    peer_order: Sequence[int], *, batch_size: int, block: int, warm_up: int, batches: int, seed: int
) -> tuple[list[int], list[int]]:
    """Our order and the peer's: `warm_up` batches of the first block, then whole blocks of `block` batches, `batches`
    in all.

    After the last block the first one follows again, for both sides at the same place. `block=1` means that the peer's
    order is random already: ours is the same, batch for batch.
    """
    dealt = deal(peer_order, batch_size=batch_size, block=block)
    first, size = warm_up * batch_size, block * batch_size
    # The rest of the first block is left out, so that segments of a whole block hold exactly one.
    blocks = [dealt[at : at + size] for at in range(size if block > 1 else first, len(dealt) - size + 1, size)]
    if not blocks:
        raise ValueError(
            f"{len(peer_order):,} rows are too few for {warm_up} batches and a block of {block} of {batch_size}"
        )
    parts = [dealt[:first], *islice(cycle(blocks), -(-(batches - warm_up) // block))]
    generator = random.Random(seed)
    ours = [part if block == 1 else generator.sample(part, len(part)) for part in parts]
    return [row for part in ours for row in part], [row for part in parts for row in part]


def choose_steps(
    pair_seconds: float, *, seconds: float, block: int = 1, pairs: int = 5, most: int = MOST_STEPS
) -> int:
    """Steps of a segment, so that `pairs` pairs fit into `seconds` when a pair of single steps takes `pair_seconds`.

    With blocks it is a divisor of `block`: the whole block if so many fit, but never a single step, whose batch has
    one length.
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


@dataclass(frozen=True)
class Comparison:
    """Pairs of measurements, ours first; their ratio is the median of the ratios, not the ratio of the medians."""

    pairs: Sequence[tuple[float, float]]

    def __post_init__(self) -> None:
        if not self.pairs:
            raise ValueError("nothing was measured")

    def medians(self) -> tuple[float, float, float]:
        """Of ours, of the peer's, and of ours / the peer's pair by pair."""
        ours, peer = zip(*self.pairs, strict=True)
        return statistics.median(ours), statistics.median(peer), statistics.median(a / b for a, b in self.pairs)

    def details(self) -> dict[str, Any]:
        """Median, smallest and largest of both and of the ratio, and every pair."""
        ours, peer = zip(*self.pairs, strict=True)
        spreads = {
            "ours": spread_of(ours),
            "peer": spread_of(peer),
            "ratio": spread_of([a / b for a, b in self.pairs]),
        }
        return {**spreads, "pairs": [[significant(value) for value in pair] for pair in self.pairs]}


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Median, smallest and largest."""
    named = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {name: significant(value) for name, value in named.items()}


def significant(value: float, digits: int = 4) -> float:
    """Rounded to so many significant digits."""
    return float(f"{value:.{digits}g}")
