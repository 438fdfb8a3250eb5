"""Which types are rendered: the shares that the configuration says, by chi-square; one draw for one (seed, epoch,
row)."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.stats import chisquare

from textune.config.documents import AllTypes, IndependentTypes, Sampled, UniformTypes
from textune.draws import bits_of, fractions_of
from textune.metadata.documents import NO_POSITION, Documents, Entries
from textune.metadata.sampling import Sampler, TypeCounts

NUM = 40_000
UNLIKELY = 1e-3
"""Seeds are fixed, so that a test which passes once passes always; shares that are wrong by 2 % fail it."""


def documents(types: Sequence[str], has_DT: np.ndarray, *, shard: int = 7, first: int = 0) -> Documents:
    """Texts with one entry of each type that they have."""
    document, kind = np.nonzero(has_DT)
    none = np.full(len(document), NO_POSITION, np.int64)
    entries = Entries(
        document, kind.astype(np.int16), ["x"] * len(document), none, none, none, none, [()] * len(document)
    )
    num = len(has_DT)
    return Documents(tuple(types), ["text"] * num, first + np.arange(num), np.full(num, shard, np.uint64), entries)


def full(*types: str, num: int = NUM, **keys: Any) -> Documents:
    """Documents that have all types."""
    return documents(types, np.ones((num, len(types)), bool), **keys)


def sets(found: Documents, keep_DT: np.ndarray) -> Counter[frozenset[str]]:
    """How many documents are rendered with which types."""
    return Counter(frozenset(np.array(found.types)[keep].tolist()) for keep in keep_DT)


def require_shares(found: Counter[frozenset[str]], wanted: dict[str, float]) -> None:
    """Chi-square; `wanted`: by the types, separated by spaces."""
    shares = {frozenset(names.split()): share for names, share in wanted.items() if share}
    assert found.keys() <= shares.keys()
    total = sum(found.values())
    observed, expected = [found[names] for names in shares], [share * total for share in shares.values()]
    assert len(shares) == 1 or chisquare(observed, expected).pvalue > UNLIKELY, (observed, expected)


# --- the shares -----------------------------------------------------------------------------------------------------


def test_a_uniform_number_of_types_by_weight() -> None:
    """The example of the specification: weights 3 and 1."""
    sampler = Sampler(UniformTypes(weights={"title": 3, "url": 1}), seed=1)
    found = full("title", "url")
    require_shares(sets(found, sampler.keep(found, epoch=0)), {"title url": 0.5, "title": 0.375, "url": 0.125, "": 0})


def test_three_types_without_replacement() -> None:
    weights = {"a": 4.0, "b": 2.0, "c": 1.0}
    wanted: Counter[str] = Counter({"a b c": 1 / 3})
    for name, weight in weights.items():
        wanted[name] += weight / 7 / 3
        for other, its in weights.items():
            if other != name:
                wanted[" ".join(sorted((name, other)))] += weight / 7 * its / (7 - weight) / 3
    sampler = Sampler(UniformTypes(weights=weights), seed=2)
    found = full("c", "a", "b")
    require_shares(sets(found, sampler.keep(found, epoch=3)), wanted)


def test_only_types_that_a_document_has_are_candidates_and_those_without_weight_are_kept() -> None:
    sampler = Sampler(UniformTypes(weights={"a": 1, "b": 1, "c": 1}), seed=3)
    found = documents(("a", "b", "c", "d"), np.tile([[True, False, True, True]], (NUM, 1)))
    require_shares(sets(found, sampler.keep(found, epoch=0)), {"a c d": 0.5, "a d": 0.25, "c d": 0.25})
    alone = documents(("a", "b"), np.tile([[True, False]], (50, 1)))
    assert sampler.keep(alone, epoch=0)[:, 0].all()


def test_weights_of_counts() -> None:
    """100 documents, 25 with a title and all with a url: weights 4 and 1."""
    counts = TypeCounts(100, {"title": 25, "url": 100, "rare": 0})
    assert counts.weights == {"title": 4, "url": 1, "rare": 100}
    sampler = Sampler(UniformTypes(), seed=4, counts=counts)
    found = full("title", "url")
    require_shares(sets(found, sampler.keep(found, epoch=0)), {"title url": 0.5, "title": 0.4, "url": 0.1})


def test_each_type_by_itself() -> None:
    sampler = Sampler(IndependentTypes(rates={"a": 0.2, "b": 1, "c": 0}, rate=0.7), seed=5)
    found = full("a", "b", "c", "d")
    shares = {"a b d": 0.14, "a b": 0.06, "b d": 0.56, "b": 0.24}
    require_shares(sets(found, sampler.keep(found, epoch=0)), shares)


def test_all_types_are_those_that_a_document_has() -> None:
    has_DT = np.array(list(product([True, False], repeat=3)))
    found = documents(("a", "b", "html"), has_DT)
    assert (Sampler(AllTypes(), seed=0).keep(found, epoch=0) == has_DT).all()


@pytest.mark.parametrize("probability", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("section", [AllTypes, IndependentTypes, UniformTypes])
def test_one_draw_decides_whether_a_document_has_any_metadata(section: Any, probability: float) -> None:
    keys: dict[str, Any] = {"weights": {"a": 1, "b": 1}} if section is UniformTypes else {}
    keys |= {"rates": {"a": 1, "b": 1}} if section is IndependentTypes else {}
    sampler = Sampler(section(probability=probability, **keys), seed=6)
    found = full("a", "b")
    any_D = sampler.keep(found, epoch=0).any(axis=1)
    require_shares(
        Counter(frozenset({"any"} if one else ()) for one in any_D), {"any": probability, "": 1 - probability}
    )
    if section is AllTypes:
        assert (sampler.keep(found, epoch=0) == any_D[:, None]).all()


@pytest.mark.parametrize("rate", [0.0, 0.25, 1.0])
@pytest.mark.parametrize(
    "section",
    [AllTypes, IndependentTypes, lambda **keys: UniformTypes(weights={"html": 5, "url": 1, "title": 2}, **keys)],
)
def test_the_html_rate_is_the_probability_of_html(section: Any, rate: float) -> None:
    """Whatever else is drawn, and never at 0; what else is drawn does not depend on it."""
    sampler = Sampler(section(html_rate=rate), seed=7)
    found = full("html", "url", "title")
    keep_DT = sampler.keep(found, epoch=0)
    require_shares(Counter(frozenset({"html"} if one else ()) for one in keep_DT[:, 0]), {"html": rate, "": 1 - rate})
    other = Sampler(section(html_rate=0.6), seed=7).keep(found, epoch=0)
    assert (other[:, 1:] == keep_DT[:, 1:]).all()
    assert not Sampler(section(html_rate=0), seed=7).keep(full("html"), epoch=0).any()
    without = documents(("html", "url"), np.tile([[False, True]], (100, 1)))
    assert not sampler.keep(without, epoch=0)[:, 0].any()


def test_html_is_drawn_by_itself_from_the_others() -> None:
    sampler = Sampler(UniformTypes(weights={"html": 9, "url": 1, "title": 1}, html_rate=0.5), seed=8)
    found = full("html", "url", "title")
    shares = {"url title": 0.25, "url": 0.125, "title": 0.125}
    shares |= {f"html {names}": share for names, share in shares.items()}
    require_shares(sets(found, sampler.keep(found, epoch=0)), shares)


def test_a_curriculum_changes_the_probability_along_the_run() -> None:
    sampler = Sampler(AllTypes(curriculum=((0, 1.0), (0.5, 0.25), (0.9, 0.0))), seed=9, num_documents=2 * NUM)
    numbers = np.array([0, NUM - 1, NUM, int(1.8 * NUM) - 1, int(1.8 * NUM), 2 * NUM, 9 * NUM])
    assert sampler.probabilities(numbers).tolist() == [1, 1, 0.25, 0.25, 0, 0, 0]
    found = full("a")
    first, second = (sampler.keep(found, epoch=epoch, before=epoch * NUM)[:, 0] for epoch in (0, 1))
    assert first.all() and not second[int(0.8 * NUM) :].any()
    middle = second[: int(0.8 * NUM)]
    require_shares(Counter(frozenset({"a"} if one else ()) for one in middle), {"a": 0.25, "": 0.75})
    late = Sampler(AllTypes(probability=0.5, curriculum=((0.9, 0.0),)), seed=9, num_documents=100)
    assert late.probabilities(np.array([0, 89, 90])).tolist() == [0.5, 0.5, 0]


# --- one draw for one (seed, epoch, row) ----------------------------------------------------------------------------

SECTIONS: dict[str, Sampled] = {
    "all": AllTypes(probability=0.5),
    "uniform": UniformTypes(weights={"html": 1, "title": 3, "url": 2}, probability=0.9, html_rate=0.4),
    "counted": UniformTypes(html_rate=None),
    "independent": IndependentTypes(rates={"html": 0.3}, rate=0.6, probability=0.8),
}
COUNTS = TypeCounts(90, {"html": 30, "title": 80, "url": 90})


def sampler_of(kind: str, seed: int = 11) -> Sampler:
    return Sampler(SECTIONS[kind], seed, COUNTS)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", SECTIONS)
def test_a_draw_depends_on_its_document_alone(kind: str) -> None:
    """Neither on the other documents of its block, nor on the order of the types, nor on types that others have."""
    sampler, types = sampler_of(kind), ("html", "title", "url")
    has_DT = np.random.default_rng(0).random((300, 3)) < 0.8
    whole = sampler.keep(documents(types, has_DT), epoch=2)
    for start, stop in ((0, 1), (7, 30), (299, 300), (150, 300)):
        part = documents(types, has_DT[start:stop], first=start)
        assert (sampler.keep(part, epoch=2) == whole[start:stop]).all()
    turned = documents(types[::-1], has_DT[:, ::-1])
    assert (sampler.keep(turned, epoch=2) == whole[:, ::-1]).all()


@pytest.mark.parametrize("kind", SECTIONS)
def test_seed_epoch_shard_and_row_each_give_other_draws(kind: str) -> None:
    types = ("html", "title", "url")
    draws = []
    for seed, epoch, shard, first in ((11, 0, 7, 0), (12, 0, 7, 0), (11, 1, 7, 0), (11, 0, 8, 0), (11, 0, 7, 9999)):
        found = full(*types, num=2000, shard=shard, first=first)
        keep_DT = sampler_of(kind, seed).keep(found, epoch=epoch)
        draws.append((keep_DT - keep_DT.mean(axis=0)).ravel())
    for index, one in enumerate(draws):
        for other in draws[:index]:
            assert abs(np.corrcoef(one, other)[0, 1]) < 0.06


def slow_bits(*words: int) -> int:
    """SplitMix64's finalizer with Python's whole numbers."""
    bits = 0
    for word in words:
        bits = ((bits ^ word) + 0x9E3779B97F4A7C15) % 2**64
        bits = (bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
        bits = (bits ^ (bits >> 27)) * 0x94D049BB133111EB % 2**64
        bits ^= bits >> 31
    return bits


def slow_keep(sampler: Sampler, found: Documents, has: dict[str, bool], epoch: int, index: int) -> set[str]:
    """The types of one document that are rendered, drawn one after the other."""

    def bits(purpose: str) -> int:
        number = int.from_bytes(hashlib.blake2b(purpose.encode(), digest_size=8).digest(), "little")
        return slow_bits(slow_bits_of_row, number)

    def fraction(purpose: str) -> float:
        return (bits(purpose) >> 11) / 2**53

    # The row's own number comes first, and is mixed once more with each purpose.
    slow_bits_of_row = slow_bits(sampler.seed, epoch, int(found.shard[index]), int(found.row[index]))
    section = sampler.section
    if fraction("any") >= section.probability:
        return set()
    kept = {name for name, is_there in has.items() if is_there}
    drawn = sorted(kept)
    if section.html_rate is not None and "html" in kept:
        drawn.remove("html")
        if fraction("html") >= section.html_rate:
            kept.remove("html")
    if isinstance(section, IndependentTypes):
        kept -= {name for name in drawn if fraction(f"type {name}") >= section.rates.get(name, section.rate)}
    if isinstance(section, UniformTypes):
        left = {name: sampler.weights[name] for name in drawn if name in sampler.weights}
        kept -= left.keys()
        for number in range(1 + bits("number") % len(left) if left else 0):
            target, total = fraction(f"pick {number}") * sum(left.values()), 0.0
            for name in sorted(left):
                total += left[name]
                if total > target:
                    break
            kept.add(name)
            del left[name]
    return kept


@pytest.mark.parametrize("kind", SECTIONS)
def test_arrays_draw_what_a_loop_over_documents_draws(kind: str) -> None:
    sampler, types = sampler_of(kind), ("url", "html", "title", "unweighted")
    has_DT = np.random.default_rng(1).random((3000, 4)) < 0.7
    found = documents(types, has_DT, shard=2**64 - 3, first=5)
    keep_DT = sampler.keep(found, epoch=4)
    for index, (has_T, keep_T) in enumerate(zip(has_DT.tolist(), keep_DT, strict=True)):
        kept = slow_keep(sampler, found, dict(zip(types, has_T, strict=True)), 4, index)
        assert set(np.array(types)[keep_T].tolist()) == kept, index


def test_the_bits_are_those_of_every_version() -> None:
    """What a run draws must not change when it is continued."""
    assert bits_of(0).tolist() == [0xE220A8397B1DCDAF]
    assert bits_of(1, 2, 3).tolist() == [slow_bits(1, 2, 3)] == [15020427595393229491]
    rows = np.arange(5)
    assert bits_of(9, rows).tolist() == [slow_bits(9, row) for row in range(5)]
    assert bits_of(2**64 - 1, rows).tolist() == [slow_bits(2**64 - 1, row) for row in range(5)]
    many = fractions_of(3, np.arange(100_000))
    assert many.min() >= 0 and many.max() < 1
    assert chisquare(np.histogram(many, bins=64, range=(0, 1))[0]).pvalue > UNLIKELY
