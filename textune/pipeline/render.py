"""Shows what a language model will read of documents: their chunks, what of these is metadata, and what is masked.
Trains nothing and loads no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np

from textune.config import (
    ConditionalLmTask,
    Config,
    Experiment,
    MetadataSection,
    Overrides,
    SetAside,
    SetsByType,
    load_config,
    require_renderable,
    set_by_type,
)
from textune.data import BlockReader, Cursor, GivenRows, key_of
from textune.errors import ConfigError
from textune.metadata import (
    TYPES,
    BadEntries,
    ChunkCounts,
    ChunkEncoder,
    DocumentRun,
    MadeChunks,
    open_documents,
    read_document_rows,
    read_documents,
    require_inline_types,
    sets_of,
    with_types,
)
from textune.metadata import render as as_text
from textune.model import load_tokenizer
from textune.pipeline.heard import heard
from textune.pipeline.shown import ShownDocument, shown_chunks
from textune.run import SilentTracker, Tracker
from textune.wording import count, listing, nearest

if TYPE_CHECKING:
    from pydantic import JsonValue

TRAIN = "train"


@dataclass(frozen=True)
class RenderedRows:
    """The first documents of a set."""

    set: str
    epoch: int | None
    """Of the draws; None for a held-out set, which nothing is drawn for."""
    documents: tuple[ShownDocument, ...]
    notices: tuple[str, ...] = ()
    """What is left out of them."""

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "set": self.set,
            "epoch": self.epoch,
            "documents": [document.to_dict() for document in self.documents],
            "notices": list(self.notices),
        }


@heard
def render(
    config: Config | None = None,
    *,
    num_rows: int = 20,
    part: str = TRAIN,
    epoch: int = 0,
    overrides: Overrides = (),
    unset: Iterable[str] = (),
    rows: GivenRows | None = None,
    tracker: Tracker | None = None,
) -> RenderedRows:
    """The first documents of a set, in the order of its files, as a model will read them.

    `part`: `train`, for which types are drawn as in that epoch of training (of a curriculum, as if rows were read in
    the order of the files), or a held-out set. `rows`: rows in memory by name, for sources of `kind = "given"`.
    Raises TextuneError for a configuration, rows, metadata or a tokenizer that cannot be used.
    """
    loaded = load_config(config, overrides, unset)
    for note in loaded.notes:
        (tracker or SilentTracker()).notice(note)
    experiment, given = loaded.experiment, rows or MappingProxyType({})
    section = require_renderable(experiment)
    require_inline_types(section)
    name = _set_of(experiment, part)
    if epoch and name != TRAIN:
        raise ConfigError(
            f"--epoch {epoch}: nothing is drawn for {part}, so all epochs read it alike.",
            hint="Leave out --epoch, or show the training rows.",
            key="epoch",
            value=epoch,
            reason="nothing is drawn for a held-out set",
        )
    writer = _Writer(experiment, section, num_rows)
    if name == TRAIN:
        writer.write_training(epoch, given)
    else:
        writer.write_held_out(part, name, given)
    return RenderedRows(part, epoch if name == TRAIN else None, tuple(writer.documents), tuple(writer.notices()))


def _set_of(experiment: Experiment, part: str) -> str:
    """The name of the rows that a set is made of. ConfigError for a set that is not there."""
    data = experiment.data
    known = {TRAIN: TRAIN}
    for name, source in data.held_out.items():
        if isinstance(source, SetsByType):
            sets = [name, *(set_by_type(name, type_) for type_ in source.by_type)]
            known |= dict.fromkeys([*sets, *([set_by_type(name)] if source.by_type else [])], name)
    if part in known:
        return known[part]
    close = nearest(part, known)
    raise ConfigError(
        f"--set {part}: there is no such set.",
        hint=f"Did you mean {close}?" if close else f"Possible here: {listing(known, 8)}.",
        key="set",
        value=part,
        reason="there is no such set",
    )


class _Writer:
    """Collects documents as they are read, with what is left out of them."""

    def __init__(self, experiment: Experiment, section: MetadataSection, num_rows: int) -> None:
        """`num_rows`: most documents. ConfigError where no tokenizer is named."""
        if not (experiment.model.tokenizer or experiment.model.pretrained):
            raise ConfigError(
                "model.tokenizer is not set: what a model reads depends on its tokens.",
                hint='Name a folder or hub name, such as model.tokenizer = "openai-community/gpt2".',
                key="model.tokenizer",
                reason="it is not set",
            )
        self._experiment = experiment
        self._section = section
        self._num_rows = num_rows
        self._expected = section.types
        self._tokenizer = load_tokenizer(experiment.model)
        self._encoder = ChunkEncoder(self._tokenizer, experiment.tokens, section)
        whole = section.model_copy(update={"score_inline": False})
        self._marking = ChunkEncoder(self._tokenizer, experiment.tokens, whole) if section.score_inline else None
        task = experiment.task
        self._scores_metadata = isinstance(task, ConditionalLmTask) and task.metadata_loss
        self._notes: list[str] = []
        self.documents: list[ShownDocument] = []
        self._bad = BadEntries()
        self._counts: list[ChunkCounts] = []

    def write_training(self, epoch: int, given: GivenRows) -> None:
        """The first training rows, as in an epoch of training."""
        data = self._experiment.data
        if data.chunks == "fixed":
            self._marking = None if self._marking is None else self._marking.uncut()
            self._notes.append(
                'data.chunks = "fixed": in training, documents stand one after the other in rows of'
                f" {self._encoder.max_length:,} tokens, which are cut wherever they are full"
            )
        source = open_documents(data, given).train
        maker = DocumentRun(source, data, self._section, self._encoder, self._experiment.train).maker()
        first = replace(source, section=source.section.model_copy(update={"block_rows": self._num_rows}))
        before = epoch * (source.section.num_rows or 0)
        cursor = Cursor(epoch)
        with closing(BlockReader(first, maker.needed, seed=0, shuffles=False)) as reader:
            while cursor.epoch == epoch and len(self.documents) < self._num_rows:
                block = reader.read(cursor)
                cursor = block.after
                for rows in maker.rows_of(block):
                    made = maker.chunks_of(rows, epoch=epoch, before=before + len(self.documents))
                    places = [rows.place(number) for number in range(len(rows))]
                    self._write(made, places, scores_metadata=self._scores_metadata)

    def write_held_out(self, part: str, name: str, given: GivenRows) -> None:
        """The first rows of a held-out set, with all their metadata."""
        data = self._experiment.data
        source = data.held_out[name]
        assert isinstance(source, SetsByType)
        if isinstance(source, SetAside):
            rows = open_documents(data, given).shares[name]
        else:
            rows = read_document_rows(source, data.on_bad_row, given, key=key_of(name))
        read = read_documents(rows, data.columns, self._section)
        found = next(one for one in sets_of(name, source, rows, read.documents, key=key_of(name)) if one.name == part)
        documents = with_types(found.documents, np.arange(min(self._num_rows, len(found))), self._section.types)
        chunks = self._encoder.encode(as_text(documents, self._section), found.places.__getitem__)
        made = MadeChunks(chunks, replace(read, documents=documents), documents.has_type)
        self._write(made, found.places)
        if part != name:  # by type: without the others
            self._expected = ()

    def _write(self, made: MadeChunks, places: Sequence[str], *, scores_metadata: bool = False) -> None:
        """`scores_metadata`: whether tokens of metadata are predicted, too."""
        documents, chunks = made.documents, made.chunks
        is_metadata = chunks.store.columns["mask"] > 0
        if self._marking is not None:  # the same tokens, where masks leave no metadata out
            is_metadata = self._marking.encode(as_text(documents, self._section, made.keep)).store.columns["mask"] > 0
        is_masked = (chunks.store.columns["mask"] > 0) & (not scores_metadata)
        shown = shown_chunks(chunks, is_metadata, is_masked, len(documents), self._tokenizer)
        has_DT = documents.has_type
        for number in range(min(self._num_rows - len(self.documents), len(documents))):
            types, undrawn = (
                tuple(name for name, is_one in zip(documents.types, one_T.tolist(), strict=True) if is_one)
                for one_T in (made.keep[number], has_DT[number] & ~made.keep[number])
            )
            self.documents.append(ShownDocument(places[number], types, undrawn, shown[number]))
        self._bad.extend(made.bad)
        self._counts.append(chunks.counts)

    def notices(self) -> Iterator[str]:
        """What is left out of these documents."""
        if self._bad.left_out:
            yield self._bad.left_out
        without = sum(not document.chunks for document in self.documents)
        if without:
            limit = self._section.min_tokens
            yield f"{count(without, 'document')} left out, with fewer than {count(limit, 'token')} of text"
        yield from ChunkCounts.sum(self._counts).words.values()
        yield from self._notes
        known = {name for one in self.documents for name in (*one.types, *one.undrawn)}
        if absent := [name for name in self._expected if name not in known]:
            yield f"none of {count(len(self.documents), 'document')} has {listing(absent)}"
        for name in absent:
            if name not in TYPES and (close := nearest(name, TYPES)):
                yield f"{name} is no type that textune knows: did you mean {close}?"
