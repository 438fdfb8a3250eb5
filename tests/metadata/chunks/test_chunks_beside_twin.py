"""Chunks beside their slow twin, on random documents, and what is true of all chunks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kits.backbones import tiny_tokenizer
from kits.documents import Entry, documents_of
from kits.rendered import char_tokenizer, rows_of
from metadata.chunks.slowchunks import SlowChunks

from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.documents import Rendered
from textune.metadata.rendering.render import render

TYPES = ("html", "url", "entity", "title", "entity_paragraph")
WORDS = (
    "the",
    "film",
    "was good",
    "a",
    "plot",
    "of",
    "naïve",
    "日本語",
    "🙂🙂",
    "x",
    "42",
    "fi-nal",
    "(sic)",
    "\n",
    "  ",
    "e\u0301",
)
TAGS = ("p", "b", "div", "td")


def random_document(rng: np.random.Generator) -> tuple[str, list[Entry]]:
    """A text of up to 40 words with up to 8 entries."""
    separators = rng.choice(["", " ", ". ", "\n"], size=40, p=[0.1, 0.7, 0.1, 0.1])
    words = rng.choice(WORDS, size=rng.integers(0, 40))
    text = "".join(word + separator for word, separator in zip(words, separators[: len(words)], strict=True))
    entries = []
    for name in ("url", "title"):
        if rng.random() < 0.6:
            entries.append(Entry(name, " ".join(rng.choice(WORDS, size=rng.integers(1, 9)))))
    for _ in range(rng.integers(0, 8) if text else 0):
        start, end = sorted(rng.integers(0, len(text) + 1, size=2).tolist())
        kind = str(rng.choice(["html", "html", "entity", "entity_paragraph"]))
        attributes = (("class", " ".join(rng.choice(WORDS, size=3))),) if rng.random() < 0.2 else ()
        value = str(rng.choice(TAGS)) if kind == "html" else "Some_Name"
        entries.append(Entry(kind, value, start, end, attributes=attributes if kind == "html" else ()))
    return text, entries


def random_section(rng: np.random.Generator, **keys: Any) -> MetadataSection:
    types = tuple(rng.permutation(TYPES).tolist())
    wraps = {"html": ("<H>", "</H>"), "entity_paragraph": ("<E> ", " </E> ")} if rng.random() < 0.4 else {}
    options = {
        "types": types,
        "types_in_prefix": bool(rng.random() < 0.3),
        "wraps": wraps,
        "reopen_tags": bool(rng.random() < 0.5) and keys.get("compat") != "bsmetadata",
        "score_inline": bool(rng.random() < 0.2),
        "min_tokens": 1 if rng.random() < 0.8 else 5,
        "priority": types[:2] if rng.random() < 0.3 else (),
        "on_bad_metadata": "report",
        "begin_token": "never",
        "end_token": "never",
    }
    return MetadataSection.model_validate(options | keys)


def random_rendered(rng: np.random.Generator, section: MetadataSection, number: int) -> Rendered:
    return render(documents_of(section.types, *(random_document(rng) for _ in range(number))), section)


TOKENIZERS = {
    "characters": lambda: char_tokenizer("".join(dict.fromkeys("".join(WORDS) + "".join(map(chr, range(32, 127)))))),
    "byte-level": lambda: tiny_tokenizer("gpt2"),
    "wordpiece": lambda: tiny_tokenizer("bert"),
    "unigram of words": lambda: tiny_tokenizer("t5"),
}


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(
    "keys",
    [
        {"compat": "none"},
        {"compat": "bsmetadata"},
        {"position": "suffix"},
        {"position": "suffix", "prefix_share": 0.9},
    ],
    ids=["prefix", "bsmetadata", "suffix", "long suffix"],
)
def test_random_documents_beside_the_twin(kind: str, keys: dict[str, Any]) -> None:
    tokenizer = TOKENIZERS[kind]()
    for seed in range(60):
        rng = np.random.default_rng(seed)
        section = random_section(rng, **keys)
        compat = section.compat
        max_length = int(rng.choice([8, 12, 24, 60, 300]))
        with_end = compat == "none" and rng.random() < 0.2
        if with_end:
            section = section.model_copy(update={"end_token": "always"})
        rendered = random_rendered(rng, section, 4)
        end_id = tokenizer.eos_token_id if tokenizer.eos_token_id is not None else tokenizer.sep_token_id
        twin = SlowChunks(tokenizer, max_length, section, end_id if with_end else None)
        chunks = ChunkEncoder(tokenizer, TokensSection(max_length=max_length), section).encode(rendered)
        expected = [twin.encode(rendered, document) for document in range(4)]
        assert chunks.documents.tolist() == [number for number, rows in enumerate(expected) if rows]
        assert chunks.store.example.tolist() == [
            number for number, rows in enumerate(rows for rows in expected if rows) for _ in rows
        ]
        flat = [row for rows in expected for row in rows]
        assert rows_of(chunks) == [(row.ids, row.mask) for row in flat], (kind, seed)
        assert chunks.start.tolist() == [row.start for row in flat], (kind, seed)
        assert chunks.end.tolist() == [row.end for row in flat], (kind, seed)
        assert (chunks.store.lengths <= max_length).all()
