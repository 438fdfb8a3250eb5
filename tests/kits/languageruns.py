"""Runs of tiny language models on a few dozen documents."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kits.languages import tiny_language_model
from kits.streams import write_shard

TOPICS = ("film", "life", "story", "plot", "scene", "comedy")


def make_document(number: int) -> dict[str, Any]:
    """A document of version 1, of a few words to some dozen; two of three have a title, three of four some HTML."""
    topic = TOPICS[number % len(TOPICS)]
    words = [f"n{number}", *("the", topic, "is", "very", "good", "and", "long")[: 3 + number % 5]] * (1 + number % 7)
    metadata: list[dict[str, Any]] = [{"key": "url", "type": "global", "value": f"{topic} {number}"}]
    if number % 3:
        metadata.append({"key": "title", "type": "global", "value": f"the {topic}"})
    if number % 4:
        start = len(words[0]) + 1
        span = {"char_start_idx": start, "char_end_idx": start + 3}
        metadata.append({"key": "html", "type": "local", "value": "b", **span})
    return {"text": " ".join(words), "metadata": metadata}


def write_documents(folder: Path, numbers: Sequence[int], name: str = "documents.jsonl") -> Path:
    return write_shard(folder / name, [make_document(number) for number in numbers])


CONFIG = """
[data.train]
kind = "files"
files = ["a.jsonl", "b.jsonl"]
[data.validation]
kind = "files"
files = "held.jsonl"
[task]
kind = "conditional_lm"
[metadata]
types = ["html", "title", "url"]
[tokens]
max_length = 48
cache = "cache"
[model]
pretrained = "model"
[train]
duration = "2 epochs"
batch_size = 8
precision = "fp32"
device = "cpu"
[train.optimizer]
lr = 3e-3
[evaluate]
bootstrap = 0
"""


AS_STREAM = ('kind = "files"\nfiles = [', 'kind = "stream"\nblock_rows = 9\nnum_rows = 40\nfiles = [')


def write_language_home(folder: Path, family: str = "gpt2", *, config: str = CONFIG, **keys: Any) -> Path:
    """A folder with a tiny language model, 40 documents in two files, 10 held-out ones, `config.toml`, and
    `stream.toml`, which reads the same files as a stream."""
    tiny_language_model(family, folder / "model", **keys)
    write_documents(folder, range(25), "a.jsonl")
    write_documents(folder, range(25, 40), "b.jsonl")
    write_documents(folder, range(100, 110), "held.jsonl")
    (folder / "config.toml").write_text(config, encoding="utf-8")
    (folder / "stream.toml").write_text(config.replace(*AS_STREAM), encoding="utf-8")
    return folder


def metrics_of(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
