"""textune's way from documents with their metadata to rows of tokens."""

from __future__ import annotations

import os

from transformers import PreTrainedTokenizerFast

from bench.worker import Channel, Json
from textune.config.documents import HtmlRules, MetadataSection
from textune.config.schema import TokensSection
from textune.config.sources import Columns, FilesSource
from textune.data.reading.sources import read_source
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.records.read import read_documents
from textune.metadata.rendering.render import render


def rendered(channel: Channel, spec: Json) -> None:
    """Documents in memory to chunks."""
    attributes = None if spec["attributes"] is None else tuple(spec["attributes"])
    rules = HtmlRules(attributes=attributes)
    section = MetadataSection(types=tuple(spec["types"]), html=rules)
    rows = read_source(FilesSource(files=(spec["documents"],)), on_bad_row="error")
    documents = read_documents(rows, Columns(text="text"), section).documents
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=spec["tokenizer"], eos_token="<end>")

    def forgetful() -> ChunkEncoder:
        return ChunkEncoder(tokenizer, TokensSection(max_length=spec["max_length"]), section)

    encoder = forgetful()
    channel.reply(threads=os.cpu_count(), documents=len(documents), characters=sum(map(len, documents.texts)))

    def answer(command: Json) -> Json:
        nonlocal encoder
        if command.get("do") == "forget":
            encoder = forgetful()
            return {}
        return {"tokens": int(encoder.encode(render(documents, section)).store.offsets[-1])}

    channel.serve(answer)
