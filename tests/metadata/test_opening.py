"""What a run on documents begins with: counts of types, the number of documents, an estimate; kept when it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from kits.documentstreams import MAX_LENGTH, TOKENIZER, TOTAL, TYPES, make_loader, make_row, write_documents
from kits.errors import refused
from kits.streams import take

import textune.metadata.opening as opening
from textune.config.documents import AllTypes, MetadataSection
from textune.config.schema import TokensSection, TrainSection
from textune.config.sources import Absent, DataSection, FilesSource, GivenSource, SplitOff, StreamSource
from textune.errors import DataError
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.opening import DocumentRun, mean_probability, open_documents
from textune.metadata.sampling import TypeCounts

COUNTS = TypeCounts(
    TOTAL,
    {
        "html": sum(number % 4 > 0 for number in range(TOTAL)),
        "title": sum(number % 3 > 0 for number in range(TOTAL)),
        "url": TOTAL,
    },
)
UNIFORM = {"kind": "uniform"}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return write_documents(tmp_path_factory.mktemp("shards"))


def run_of(train: Any, *, given: Any = None, duration: str = "2 epochs", **sampling: Any) -> DocumentRun:
    data = DataSection(train=train, validation=Absent())
    section = MetadataSection.model_validate({"types": TYPES, "sampling": {"kind": "all"} | sampling})
    encoder = ChunkEncoder(TOKENIZER, TokensSection(max_length=MAX_LENGTH), section)
    settings = TrainSection.model_validate({"duration": duration, "batch_size": 7, "seed": 3})
    return DocumentRun(open_documents(data, given or {}).train, data, section, encoder, settings)


def stream_of(files: list[str], **keys: Any) -> StreamSource:
    return StreamSource(files=tuple(files), **keys)


def test_types_are_counted_once_and_kept(files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_of(stream_of(files), duration="50 steps", **UNIFORM)
    maker = run.maker()
    assert maker.facts.counts == COUNTS and maker.facts.num_documents is None
    loader = make_loader(maker)
    take(loader, 3)
    state = json.loads(json.dumps(loader.state_dict()))
    monkeypatch.setattr(opening, "count_types", None)  # nothing is counted anew
    again = run.maker(state=state)
    assert again.facts == maker.facts
    assert take(make_loader(again, state=state), 1)[0].step == 3


def test_of_a_stream_some_rows_are_counted_and_of_files_all(files: list[str], tmp_path: Path) -> None:
    some = run_of(stream_of(files), duration="9 steps", count_rows=10, **UNIFORM).maker().facts.counts
    assert some is not None and 10 <= some.documents < TOTAL
    jsonl = tuple(name for name in files if "parquet" not in name and "d.jsonl" not in name)
    num_rows = 11 + 3 + 7
    whole = run_of(FilesSource(files=jsonl), count_rows=2, **UNIFORM).maker()
    assert whole.facts.counts is not None and whole.facts.counts.documents == num_rows
    assert whole.source.section.num_rows == num_rows
    given = run_of(GivenSource(name="rows"), given={"rows": [make_row(n) for n in range(TOTAL)]}, **UNIFORM)
    assert given.maker().facts.counts == COUNTS
    declared = run_of(stream_of(files), duration="9 steps", weights={"url": 1.0}, **UNIFORM).maker()
    assert declared.state == {}


def test_a_curriculum_knows_the_number_of_documents(files: list[str]) -> None:
    """From epochs exactly; from steps by the chunks that the documents of a sample become."""
    curriculum = [[0, 1.0], [0.5, 0.0]]
    in_epochs = run_of(stream_of(files, num_rows=TOTAL), duration="2.5 epochs", curriculum=curriculum)
    assert in_epochs.maker().facts.num_documents == round(2.5 * TOTAL)
    in_steps = run_of(stream_of(files), duration="100 steps", curriculum=curriculum)
    estimate = in_steps.sample().estimate
    assert estimate.documents == TOTAL and estimate.chunks > TOTAL
    maker = in_steps.maker()
    assert maker.facts.num_documents == round(700 * TOTAL / estimate.chunks)
    batches = take(make_loader(maker, prefetch=0), 100)
    masked = [sum(int(part.tokens.columns["mask"].sum()) for part in batch.micro_batches) for batch in batches]  # type: ignore[union-attr]
    assert all(masked[:40]) and not any(masked[70:]), "plain text from about the middle of the run on"


def test_the_average_probability_of_a_run() -> None:
    assert mean_probability(AllTypes(probability=0.3)) == 0.3
    assert mean_probability(AllTypes(curriculum=((0, 1.0), (0.9, 0.0)))) == 0.9
    assert mean_probability(AllTypes(probability=0.5, curriculum=((0.5, 1.0),))) == 0.75


def test_an_estimate_of_all_documents_is_what_an_epoch_has(files: list[str]) -> None:
    run = run_of(stream_of(files, num_rows=TOTAL, block_rows=8), probability=0.5)
    estimate = run.sample().estimate
    loader = make_loader(run.maker(), batch_size=1, prefetch=0)
    num_rows, num_tokens = 0, 0
    for batch in take(loader, estimate.chunks):
        num_rows, num_tokens = num_rows + batch.num_rows, num_tokens + batch.num_tokens
    assert (estimate.chunks_per_epoch, estimate.tokens_per_epoch) == (num_rows, num_tokens)
    assert loader.state_dict()["cursor"]["epoch"] == 1


def test_shares_of_the_training_rows_are_not_trained_on() -> None:
    """And a row is drawn the same whether others are set aside or not."""
    rows = {"rows": [make_row(number) for number in range(40)]}
    source = GivenSource(name="rows")
    data = DataSection(train=source, validation=SplitOff(count=7), test=SplitOff(ratio=0.25))
    opened = open_documents(data, rows)
    assert {name: len(share) for name, share in opened.shares.items()} == {"test": 10, "validation": 7}
    assert opened.train.section.num_rows == 23
    numbers = [
        {int(text.split()[0][1:]) for text in found.table.column("text").to_pylist()}
        for found in (opened.train.shards[0].rows, *opened.shares.values())
        if found is not None
    ]
    assert sorted(number for some in numbers for number in some) == list(range(40))
    whole = open_documents(DataSection(train=source, validation=Absent()), rows)
    assert whole.shares == {} and whole.train.shards[0].fingerprint == opened.train.shards[0].fingerprint
    with refused(DataError):
        open_documents(DataSection(train=source, validation=SplitOff(count=40)), rows)


def test_epochs_of_documents_are_steps_of_their_chunks(files: list[str]) -> None:
    """Known from a sample, and kept: the plan of a run that goes on is the same."""
    run = run_of(stream_of(files, num_rows=TOTAL), duration="2 epochs", probability=0.7)
    maker = run.maker()
    num_chunks = run.sample().estimate.chunks
    assert maker.state == {"chunks_per_epoch": num_chunks}
    assert run.plan(maker).total_steps == 2 * -(-num_chunks // 7)
    again = run.maker(state={"maker": dict(maker.state)})
    assert run.plan(again) == run.plan(maker)
    in_steps = run_of(stream_of(files), duration="9 steps")
    assert in_steps.plan(in_steps.maker()).total_steps == 9


def test_a_run_that_goes_on_for_longer_keeps_the_documents_it_began_with(files: list[str]) -> None:
    """The curriculum does not stretch: what was rendered so far was by shares of the first duration."""
    curriculum = {"curriculum": [[0, 1.0], [0.5, 0.0]]}
    began = run_of(stream_of(files, num_rows=TOTAL), duration="2 epochs", **curriculum)
    state = {"maker": dict(began.maker().state)}
    longer = run_of(stream_of(files, num_rows=TOTAL), duration="4 epochs", **curriculum)
    maker = longer.maker(state=state)
    assert maker.facts == began.maker().facts and maker.facts.num_documents == 2 * TOTAL
    assert longer.plan(maker).total_steps == 2 * began.plan(maker).total_steps
