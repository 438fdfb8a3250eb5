"""Documents rendered and tokenised, beside the tokens of their bare texts."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from bench.rows import Row, compared
from bench.speed.measure import Comparison, repeat
from bench.speed.texts import long_texts
from bench.speed.work import Settings
from bench.worker import Json, Worker, run_module

_FIELDS = ["url", "timestamp", "title"]
_PAGE = ["html", *_FIELDS]
TYPES = {"render": _FIELDS, "render-html": _PAGE, "render-attributes": _PAGE}
KINDS = {
    "render": "documents with url, timestamp and title to rows of 1,024 tokens",
    "render-html": "web pages with all of their tags inline, with class and id, to rows of 1,024 tokens",
    "render-attributes": "the same with all attributes of the tags",
}
ATTRIBUTES = {"render": None, "render-html": ["class", "id"], "render-attributes": None}
"""Attributes that are kept: those that the original system's configuration keeps, or all."""
WORDS_IN_A_TAG = 30
"""Of a review that stands for a page."""


def render(settings: Settings) -> list[Row]:
    """Characters of text a second; both sides have one byte-level tokenizer, trained on these texts, and documents
    that are read already. What one of them remembers of earlier documents is forgotten before each turn."""
    rows = []
    for number, name in enumerate(TYPES):
        source, path = _documents(settings, name)
        tokenizer = _tokenizer(path, settings.work / f"{name}-tokenizer.json", 400 if settings.tiny else 32_000)
        spec = {"documents": str(path), "tokenizer": str(tokenizer), "types": TYPES[name], "max_length": 1024}
        spec["attributes"] = ATTRIBUTES[name]
        with Worker("bench.sides.rendering:rendered", spec) as ours, Worker("bench.sides.tokens:tokens", spec) as peer:

            def pair(sides: tuple[Worker, Worker] = (ours, peer)) -> tuple[float, float]:
                first, second = (_rate(side) for side in sides)
                return first, second

            pair()
            rates = repeat(pair, seconds=settings.left() / (len(TYPES) - number), at_least=settings.pairs)
            facts = {key: ours.facts[key] for key in ("threads", "documents", "characters")}
            tokens = {"tokens": ours.ask()["tokens"], "tokens_of_texts": peer.ask()["tokens"]}
        details = {"data": source, **facts, **tokens}
        peer_name = "their bare texts tokenised"
        rows.append(compared(name, KINDS[name], Comparison(rates), details, unit="characters/s", peer=peer_name))
    return rows


def _rate(side: Worker) -> float:
    side.ask(do="forget")
    return float(side.facts["characters"] / side.ask()["seconds"])


def _documents(settings: Settings, name: str) -> tuple[str, Path]:
    """What they are, and a file of them in the form that `[metadata]` reads."""
    path = settings.work / f"{name}.jsonl"
    web = settings.data / "web" if settings.data and not settings.tiny else settings.work / "none"
    documents, pages = web / "c4_sample_1000.jsonl", web / "html_pages.jsonl.gz"
    if name == "render" and documents.is_file():
        with documents.open(encoding="utf-8") as file:
            _write(path, (_with_fields(json.loads(line)) for line in file))
        return "1,000 documents of C4, each with its first words as title", path
    if name != "render" and pages.is_file() and importlib.util.find_spec("selectolax"):
        run_module("textune", "tag", "--input", str(pages), "--output", str(path), "--force")
        return "258 news pages", path
    texts = [example[0] for example in long_texts(settings.count(1_000, tiny=20)).examples]
    rows: list[Json] = [{"text": text, "url": "https://example.org/a/b", "timestamp": "2020-01-02"} for text in texts]
    _write(path, (_with_tags(_with_fields(row)) if name != "render" else _with_fields(row) for row in rows))
    return "IMDB reviews with made-up metadata", path


def tagged_documents(settings: Settings, path: Path) -> str:
    """Write documents of C4's lengths with url, timestamp, title and some tags; what they are."""
    source = settings.data / "web" / "c4_sample_1000.jsonl" if settings.data and not settings.tiny else None
    if source is not None and source.is_file():
        rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    else:
        texts = [example[0] for example in long_texts(settings.count(1_000, tiny=20)).examples]
        rows = [{"text": text, "url": "https://example.org/a/b", "timestamp": "2020-01-02"} for text in texts]
    _write(path, (_with_tags(_with_fields(row)) for row in rows))
    what = "documents of C4" if source is not None and source.is_file() else "IMDB reviews with made-up metadata"
    return f"{len(rows):,} {what}, every thirtieth word in a tag"


def _with_fields(row: Json) -> Json:
    values = {"url": row["url"], "timestamp": row["timestamp"], "title": row["text"][:60]}
    return {"text": row["text"]} | {
        f"metadata_{name}": [{"type": "global", "value": value}] for name, value in values.items()
    }


def _with_tags(row: Json) -> Json:
    """With every thirtieth word in a tag."""
    tags, at = [], 0
    for number, word in enumerate(row["text"].split(" ")):
        if word and number % WORDS_IN_A_TAG == 0:
            attributes = {"attrs": ["class"], "values": [f"level-{number % 7}"]}
            span = {"char_start_idx": at, "char_end_idx": at + len(word)}
            tags.append({"type": "local", "value": "b", "html_attrs": attributes, **span})
        at += len(word) + 1
    return row | {"metadata_html": tags}


def _write(path: Path, rows: Iterable[Json]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, allow_nan=False) + "\n" for row in rows)


def _tokenizer(documents: Path, path: Path, size: int) -> Path:
    with documents.open(encoding="utf-8") as file:
        return byte_level_tokenizer((json.loads(line)["text"] for line in file), path, size)


def byte_level_tokenizer(texts: Iterable[str], path: Path, size: int) -> Path:
    """Write a tokenizer of so many tokens, trained on these texts."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=size, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    backend.train_from_iterator(texts, trainer)
    backend.save(str(path))
    return path
