"""Texts that are nearly the same: compared with every pair of them."""

from __future__ import annotations

import itertools
import random

import pytest
from kits.rows import examples_of

from textune.data.inspect.near import SHINGLE, jaccard, near_pairs, plain_texts, shingles_of


def texts(num: int, seed: int) -> list[str]:
    """Random sentences, and some of them with a word changed or added."""
    generator = random.Random(seed)
    words = ["".join(generator.choices("abcdefghij", k=generator.randint(2, 9))) for _ in range(300)]
    found = [" ".join(generator.choices(words, k=generator.randint(8, 30))) for _ in range(num)]
    for text in found[: num // 2]:
        own = text.split()
        own[generator.randrange(len(own))] = generator.choice(words)
        found += [" ".join(own), f"{text} {generator.choice(words)}"]
    return list(dict.fromkeys(found))


def test_the_pairs_are_those_of_a_loop() -> None:
    """None that is not, and hardly one is missed."""
    some = texts(60, 1)
    slow = {
        (one, other): jaccard(shingles_of(some[one]), shingles_of(some[other]))
        for one, other in itertools.combinations(range(len(some)), 2)
    }
    near = {pair: similarity for pair, similarity in slow.items() if similarity >= 0.8}
    found = near_pairs(some)
    pairs = [(int(one), int(other)) for one, other in found.pairs_P2]
    assert pairs == sorted(set(pairs)) and set(pairs) <= set(near)
    assert found.similarity_P.tolist() == [near[pair] for pair in pairs]
    assert len(near) > 30 and len(pairs) >= 0.9 * len(near)


def test_what_texts_have_in_common() -> None:
    assert jaccard(shingles_of("abcdef"), shingles_of("abcdefg")) == pytest.approx(2 / 3)
    assert not shingles_of("a" * (SHINGLE - 1)) and len(near_pairs(["ab", "abc"]).pairs_P2) == 0
    assert len(near_pairs([]).similarity_P) == 0


def test_texts_are_compared_without_case_and_punctuation() -> None:
    assert list(plain_texts(examples_of(["a", "b"], texts=["A  fine, film!", "..."]))) == ["a fine film", ""]
