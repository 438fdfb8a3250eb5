"""Streams of documents with metadata: rows whose text says their number, shards of them, a loader over these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kits.rendered import char_tokenizer
from kits.streams import write_shard
from textune.batches.assembler import Assembler
from textune.batches.batch import Batch
from textune.batches.plan import Plan
from textune.batches.streamed import StreamLoader
from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection, TrainSection
from textune.config.sources import DataSection, StreamSource
from textune.data.shards.blocks import ShardStream, open_shards
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.facts import DocumentFacts
from textune.metadata.maker import DocumentMaker

TYPES = ("html", "title", "url")
MAX_LENGTH = 48
SIZES = {"a.jsonl": 11, "b.parquet": 23, "c.jsonl.gz": 3, "d.jsonl": 0, "e.parquet": 1, "f.jsonl": 7}
"""Shards of uneven size and both versions of the records; 45 rows."""
TOTAL = sum(SIZES.values())
TOKENIZER = char_tokenizer()


def make_row(number: int) -> dict[str, Any]:
    """A document of version 1 with a url, mostly a title and some HTML; its text begins with its number."""
    text = f"#{number} " + "some text " * (1 + number % 9)
    metadata: list[dict[str, Any]] = [{"key": "url", "type": "global", "value": f"u.v/{number}"}]
    if number % 3:
        metadata.append({"key": "title", "type": "global", "value": f"T{number}"})
    if number % 4:
        span = {"char_start_idx": len(f"#{number} "), "char_end_idx": len(f"#{number} some")}
        metadata.append({"key": "html", "type": "local", "value": "b", **span})
    return {"text": text, "metadata": metadata}


def by_columns(row: dict[str, Any]) -> dict[str, Any]:
    """The same in version 2: a column for each type."""
    columns = {f"metadata_{name}": [one for one in row["metadata"] if one["key"] == name] for name in TYPES}
    return {"text": row["text"], **columns}


def write_documents(folder: Path, sizes: dict[str, int] = SIZES) -> list[str]:
    """Shards of numbered documents; parquet in version 2."""
    files, number = [], 0
    for name, num in sizes.items():
        rows = [make_row(n) for n in range(number, number + num)]
        number += num
        files.append(str(write_shard(folder / name, [by_columns(row) for row in rows] if "parquet" in name else rows)))
    return files


def open_documents(files: Sequence[str], **keys: Any) -> ShardStream:
    return open_shards(StreamSource(files=tuple(files), **keys))


def make_maker(
    stream: ShardStream,
    *,
    seed: int = 3,
    facts: DocumentFacts | None = None,
    on_bad_row: Any = "error",
    tokenizer: Any = TOKENIZER,
    max_length: int = MAX_LENGTH,
    metadata_loss: bool = False,
    chunks: Any = "document",
    **keys: Any,
) -> DocumentMaker:
    """`keys`: of the section `metadata`."""
    section = MetadataSection.model_validate({"types": TYPES, **keys})
    encoder = ChunkEncoder(tokenizer, TokensSection(max_length=max_length), section)
    return DocumentMaker(
        stream,
        DataSection(on_bad_row=on_bad_row, chunks=chunks),
        section,
        encoder.uncut() if chunks == "fixed" else encoder,
        seed=seed,
        facts=facts or DocumentFacts(),
        metadata_loss=metadata_loss,
    )


def make_loader(
    maker: DocumentMaker, *, state: Any = None, rank: int = 0, world: int = 1, seed: int = 3, **keys: Any
) -> StreamLoader:
    """`keys`: of the section `train`."""
    section = TrainSection(**{"batch_size": 7, "seed": seed, **keys})
    assembler = Assembler("packed", 0, rank=rank, world=world)
    return StreamLoader(maker, Plan.of(section, None), assembler, prefetch=section.prefetch, state=state)


def text_of(ids: Sequence[int]) -> str:
    """The characters that these tokens are."""
    return "".join(TOKENIZER.convert_ids_to_tokens(list(ids)))


def rows_of(batch: Batch) -> list[tuple[str, str]]:
    """The text of each row that this rank computes, and its mask."""
    rows = []
    for part in batch.micro_batches:
        ids, mask = part.tokens.columns["ids"].tolist(), part.tokens.columns["mask"].tolist()  # type: ignore[union-attr]
        at = 0
        lengths = iter(part.tokens.row_lengths.tolist())  # type: ignore[union-attr]
        for group in part.tokens.groups if part.counts else ():  # type: ignore[union-attr]
            for _ in range(group.rows):
                length = next(lengths)
                rows.append((text_of(ids[at : at + length]), "".join(map(str, mask[at : at + length]))))
                at += group.length
    return rows


def counted(batches: Sequence[Batch]) -> Counter[tuple[str, str]]:
    """How often each row is in some batches."""
    return Counter(row for batch in batches for row in rows_of(batch))
