"""1,000 documents of the web through every way of sampling; from `shared/data` beside the repository."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection, TrainSection
from textune.config.sources import Absent, DataSection, GivenSource
from textune.data.shards.blocks import BlockReader, Cursor
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.maker import DocumentMaker
from textune.metadata.opening import DocumentRun, open_documents

_FILE = Path(__file__).parents[2].parent / "shared" / "data" / "web" / "c4_sample_1000.jsonl"
pytestmark = pytest.mark.skipif(not _FILE.is_file(), reason=f"the documents of the web are not in {_FILE}")

TYPES = ("html", "timestamp", "title", "url")
SAMPLINGS: dict[str, dict[str, Any]] = {
    "all": {"kind": "all"},
    "half": {"kind": "all", "probability": 0.5},
    "uniform": {"kind": "uniform", "probability": 0.8, "html_rate": 0.25},
    "independent": {"kind": "independent", "rate": 0.5, "rates": {"url": 1.0}},
    "curriculum": {"kind": "all", "curriculum": [[0, 1.0], [0.5, 0.0]]},
}
LENGTH = 300


def documents() -> list[dict[str, Any]]:
    """With the first sentence as a title, and every second paragraph of the text in tags."""
    found = []
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        text = row["text"]
        entries = [{"key": key, "type": "global", "value": row[key]} for key in ("url", "timestamp")]
        entries.append({"key": "title", "type": "global", "value": text.partition(".")[0][:80]})
        at = 0
        for number, part in enumerate(text.split("\n")):
            span = {"char_start_idx": at, "char_end_idx": at + len(part)}
            entries += [{"key": "html", "type": "local", "value": "p", **span}] if number % 2 == 0 else []
            at += len(part) + 1
        found.append({"text": text, "metadata": entries})
    return found


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    return documents()


@pytest.fixture(scope="module")
def tokenizer(rows: list[dict[str, Any]]) -> Any:
    """Of bytes, so that every text comes back from its tokens."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2000, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator((row["text"] for row in rows[:100]), trainer)
    return transformers.PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


def epoch_of(maker: DocumentMaker, epoch: int, before: Cursor) -> tuple[list[tuple[np.ndarray, np.ndarray]], Cursor]:
    """Ids and mask of each row of an epoch."""
    found, cursor = [], before
    with closing(BlockReader(maker.source, maker.needed, seed=0, shuffles=False)) as reader:
        while cursor.epoch == epoch:
            made = maker.make(reader.read(cursor))
            store, cursor = made.rows.store, made.after
            for row in made.rows.examples:
                part = slice(store.offsets[row], store.offsets[row + 1])
                found.append((store.ids[part], store.columns["mask"][part]))
    return found, cursor


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", SAMPLINGS)
def test_every_text_comes_back_from_its_rows(rows: list[dict[str, Any]], tokenizer: Any, kind: str) -> None:
    section = MetadataSection.model_validate({"types": TYPES, "sampling": SAMPLINGS[kind]})
    data = DataSection(train=GivenSource(name="rows"), validation=Absent())
    encoder = ChunkEncoder(tokenizer, TokensSection(max_length=LENGTH), section)
    train = TrainSection.model_validate({"duration": "2 epochs"})
    maker = DocumentRun(open_documents(data, {"rows": rows}).train, data, section, encoder, train).maker()
    cursor = Cursor()
    num_with: list[int] = []
    num_epochs = 2 if kind == "curriculum" else 1
    for epoch in range(num_epochs):
        made, cursor = epoch_of(maker, epoch, cursor)
        assert max(len(ids) for ids, _ in made) <= LENGTH
        text = tokenizer.backend_tokenizer.decode(np.concatenate([ids[mask == 0] for ids, mask in made]).tolist())
        assert text.replace(" ", "") == "".join(row["text"] for row in rows).replace(" ", "")
        num_with.append(sum(mask[:1].sum() == 1 for _, mask in made))
    assert cursor.read == 1000 * num_epochs and cursor.short == 0
    if kind == "curriculum":
        assert num_with[0] > 0 == num_with[1]
    else:
        assert num_with[0] > 0
