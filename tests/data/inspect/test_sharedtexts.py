"""Held-out texts met among training rows, beside a loop over all pairs."""

from __future__ import annotations

import random
import re

import pyarrow as pa
import pytest
from kits.records import given_rows

from textune.data.inspect.sharedtexts import HeldOutTexts


def column(texts: list[str]) -> pa.ChunkedArray:
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def plain(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text.lower()).strip()


@pytest.mark.parametrize("seed", range(5))
def test_every_shared_text_is_found_with_the_first_training_row_that_has_it(seed: int) -> None:
    chance = random.Random(seed)
    words = ["one", "Two", "three!", "FOUR", ",", "five\n", " "]

    def texts(num: int) -> list[str]:
        return [" ".join(chance.choices(words, k=chance.randrange(3))) for _ in range(num)]

    held_out, other, train = texts(30), texts(20), texts(40)
    seen = HeldOutTexts({"validation": column(held_out), "news": column(other), "none": column([])})
    for first in range(0, len(train), 7):
        part = train[first : first + 7]
        numbered = given_rows([{"text": text, "n": first + number} for number, text in enumerate(part)])
        seen.meet(column(part), numbered)
    assert seen.shared("none") == []
    for name, rows in (("validation", held_out), ("news", other)):
        wanted = []
        for number, text in enumerate(rows):
            first = next((n for n, one in enumerate(train) if plain(one) == plain(text) != ""), None)
            if first is not None:
                wanted.append((number, f"row {first % 7 + 1}"))
        assert [(one.row, one.train_place.split(", ")[-1]) for one in seen.shared(name)] == wanted
        assert wanted or seed
