"""Texts that are nearly the same: MinHash signatures of their character shingles, compared where these collide.

normalised texts --shingles--> sets of numbers --MinHash, LSH (datasketch)--> candidates --Jaccard index--> pairs

What is returned was measured on the shingles themselves; what LSH overlooks is missing: few of the pairs close to the
threshold, hardly any of closer ones.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import NamedTuple

import numpy as np

from textune.data.columns import Examples
from textune.data.inspect.duplicates import joined_blocks, normalised
from textune.errors import ConfigError

SHINGLE = 5
"""Characters of a shingle; a text that is shorter has none."""
THRESHOLD = 0.8
"""Jaccard index of the shingles from which two texts are nearly the same."""
MAX_ALIKE = 50
"""Earlier texts that one is compared with: of a thousand texts from one form, each is near to some of them."""
_PERMUTATIONS = 128
_BUCKETS = 0.6
"""The threshold that the buckets of LSH are for: below that of the pairs, so that few of these are missed."""


class NearPairs(NamedTuple):
    """P pairs of texts."""

    pairs_P2: np.ndarray
    """int64 [P, 2] positions, the earlier one first; in order."""
    similarity_P: np.ndarray
    """float64 [P] Jaccard index of their shingles."""


def require_datasketch() -> None:
    """ConfigError where the library is not installed."""
    try:
        import_module("datasketch")
    except ImportError:
        raise ConfigError(
            "texts that are nearly the same are found with datasketch, which is not installed.",
            hint='Run `pip install "textune[doctor]"`.',
            key="datasketch",
            reason="datasketch is not installed",
        ) from None


def near_pairs(texts: Sequence[str], *, threshold: float = THRESHOLD) -> NearPairs:
    """All pairs of these texts, which are normalised and all different, that are nearly the same."""
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=min(_BUCKETS, threshold), num_perm=_PERMUTATIONS)
    found: list[tuple[int, int, float]] = []
    for position, text in enumerate(texts):
        shingles = shingles_of(text)
        if not shingles:
            continue
        signature = MinHash(num_perm=_PERMUTATIONS, hashfunc=int)
        signature.update_batch(sorted(shingles))
        for earlier in sorted(index.query(signature))[:MAX_ALIKE]:
            similarity = jaccard(shingles_of(texts[earlier]), shingles)
            if similarity >= threshold:
                found.append((earlier, position, similarity))
        index.insert(position, signature, check_duplication=False)
    found.sort()
    pairs = np.array([pair[:2] for pair in found], np.int64).reshape(-1, 2)
    return NearPairs(pairs, np.array([pair[2] for pair in found], np.float64))


def plain_texts(examples: Examples) -> Iterator[str]:
    """The text of each example up to case, spacing and punctuation; both texts of a pair in one."""
    for block in joined_blocks(examples):
        yield from normalised(block).to_pylist()


def shingles_of(text: str) -> set[int]:
    """A number for each run of `SHINGLE` characters; the same in every process."""
    return {
        zlib.crc32(text[start : start + SHINGLE].encode("utf-8", "surrogatepass"))
        for start in range(len(text) - SHINGLE + 1)
    }


def jaccard(one: set[int], other: set[int]) -> float:
    """The share of the shingles of both that they have in common."""
    return len(one & other) / len(one | other)
