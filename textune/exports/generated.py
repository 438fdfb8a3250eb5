"""Rows to ask an export where a model has no probe: random tokens, of every length from one to the longest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from pydantic import JsonValue

from textune.data import text_columns
from textune.prediction import Predictor, Probe, Scorer

MAX_LENGTHS = 48
"""Lengths that are asked: all of them where there are no more, else every short one and fewer and fewer long ones."""
SEED = 17


def generated_probe(scorer: Scorer, *, of_texts: bool) -> Probe:
    """Rows with the scores of `scorer`, always the same ones for a model; `of_texts`: as texts, not as tokens."""
    draw, words = np.random.default_rng(SEED), _words(scorer)
    contents = [draw.choice(words, length) for length in _lengths(scorer.card.max_length)]
    if of_texts:
        asked = Probe(tuple(_cells(scorer, content) for content in contents), {}, is_kept=False)
    else:
        framed = tuple(_framed(scorer, content) for content in contents)
        asked = Probe(tuple({} for _ in framed), {}, framed, is_kept=False)
    return asked.scored_by(scorer)


def _lengths(longest: int) -> list[int]:
    if longest <= MAX_LENGTHS:
        return list(range(1, longest + 1))
    every = np.arange(1, MAX_LENGTHS // 3 + 1)
    rest = np.geomspace(1, longest, MAX_LENGTHS - len(every)).round().astype(np.int64)
    return [int(length) for length in np.union1d(every, rest)]


def _words(scorer: Scorer) -> np.ndarray:
    """int64 ids of all tokens that texts are made of."""
    tokenizer = scorer.tokenizer
    special = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return np.setdiff1d(np.arange(tokenizer.vocab_size), np.array(sorted(special), dtype=np.int64))


def _framed(scorer: Scorer, content: np.ndarray) -> Mapping[str, Sequence[int]]:
    """A row of tokens as the tokenizer begins and ends it, cut to the longest row; of a model of pairs with a second
    text from the middle on."""
    card, backend = scorer.card, scorer.tokenizer.backend_tokenizer
    is_pair = card.columns.text_pair is not None
    frame = backend.encode("a", "a" if is_pair else None)
    room = card.max_length - sum(frame.special_tokens_mask)
    content = content[: max(room, 1)]
    texts = np.array_split(content, 2) if is_pair else [content]
    ids: list[int] = []
    types: list[int] = []
    placed: set[int] = set()
    for token, kind, special, which in zip(
        frame.ids, frame.type_ids, frame.special_tokens_mask, frame.sequence_ids, strict=True
    ):
        text = 0 if which is None else which
        if not special and text in placed:
            continue
        put = [token] if special else texts[text].tolist()
        placed |= set() if special else {text}
        ids += put
        types += [kind] * len(put)
    if not placed:  # "a" is no token of this tokenizer
        ids, types = content.tolist(), [0] * len(content)
    row: dict[str, Sequence[int]] = {"ids": ids}
    if card.is_language_model:
        row["mask"] = [0] * len(ids)
    elif "types" in Predictor(scorer).encoder.columns(pair=is_pair):
        row["types"] = types
    return row


def _cells(scorer: Scorer, content: np.ndarray) -> Mapping[str, JsonValue]:
    """A row of texts in the columns that the model reads, these tokens spread over them."""
    names, prefix = text_columns(scorer.card.columns), scorer.card.metadata
    cells: dict[str, JsonValue] = {} if prefix is None else dict.fromkeys(prefix.columns)
    parts = np.array_split(content, len(names))
    return cells | {name: scorer.tokenizer.decode(part) for name, part in zip(names, parts, strict=True)}
