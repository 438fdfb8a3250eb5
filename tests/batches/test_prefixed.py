"""Rows put together of pieces: the tokens of the whole row written out, whichever fields it has."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kits.backbones import tiny_backbone
from kits.batches import loader_of
from kits.rows import rows_of
from kits.streams import signature
from transformers import AutoTokenizer

from textune.batches.encode import RowTexts, make_row_store, open_row_store
from textune.batches.plan import Plan
from textune.batches.prefixed import PrefixedStore
from textune.batches.rows import TokenRows
from textune.batches.store import RowStore
from textune.batches.tokens import TextEncoder, _longest_first
from textune.config.schema import TokensSection, TrainSection
from textune.config.sources import MetadataPrefix
from textune.data.fields import select_fields
from textune.data.labels.map import LABEL
from textune.draws import fractions_of
from textune.errors import ConfigError, DataError

PREFIX = MetadataPrefix(columns=("source", "date"))
WORDS = ["the", "film", "good", "very", "unheard", "zzz", "Ünï", "42", "x|y", "a", "b-c", "\n", "  ", "!", "|||", ":"]
texts_strategy = st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join)
values_strategy = st.one_of(st.none(), st.lists(st.sampled_from(WORDS), max_size=3).map(" ".join))
FAMILIES = ["bert", "roberta", "gpt2", "xlm-roberta", "llama", "albert", "deberta-v2", "t5", "qwen2", "xlnet"]


@pytest.fixture(scope="module", params=FAMILIES)
def tokenizer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone(request.param, tmp_path_factory.mktemp(request.param)))


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(tiny_backbone("bert", tmp_path_factory.mktemp("one")))


def fields_of(
    values: Sequence[tuple[str | None, ...]], prefix: MetadataPrefix = PREFIX
) -> tuple[pa.ChunkedArray, ...]:
    table = {name: pa.array([row[i] for row in values], pa.string()) for i, name in enumerate(prefix.columns)}
    return select_fields(rows_of(table), prefix)


def written(row: tuple[str | None, ...], text: str, prefix: MetadataPrefix = PREFIX) -> str:
    """The documented string of a row."""
    stripped = [(name, value.strip()) for name, value in zip(prefix.columns, row, strict=True) if value]
    fields = [f"{name}{prefix.key_value_separator}{value}" for name, value in stripped if value]
    separator = prefix.prefix_separator
    return f"{prefix.separator.join(fields)}{separator if fields else separator.lstrip()} {text}"


def store_of(
    tokenizer: Any,
    texts: list[str],
    values: Sequence[tuple[str | None, ...]],
    pairs: list[str] | None = None,
    prefix: MetadataPrefix = PREFIX,
    **tokens: Any,
) -> PrefixedStore:
    encoder = TextEncoder(tokenizer, TokensSection(**{"max_length": 4096, **tokens}), prefix=prefix)
    store = make_row_store(RowTexts.given(texts, pairs, "row {}".format, fields_of(values, prefix)), encoder)
    assert isinstance(store, PrefixedStore)
    return store


def rows_in(store: RowStore, column: str = "ids") -> list[list[int]]:
    whole = store.whole()
    return [whole.columns[column][whole.offsets[i] : whole.offsets[i + 1]].tolist() for i in range(len(whole))]


some_rows = st.lists(
    st.tuples(texts_strategy, texts_strategy, values_strategy, values_strategy), min_size=1, max_size=6
)
quick = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)


@pytest.mark.every_day(2)
@given(some_rows)
@quick
def test_pieces_give_the_tokens_of_the_written_row(tokenizer: Any, rows: list[Any]) -> None:
    """In plain transformers, of single texts and of pairs, with token types."""
    texts, seconds = [row[0] for row in rows], [row[1] for row in rows]
    values = [row[2:] for row in rows]
    strings = [written(row, text) for row, text in zip(values, texts, strict=True)]
    store = store_of(tokenizer, texts, values)
    wanted = tokenizer(strings)
    assert rows_in(store) == wanted["input_ids"]
    assert store.lengths.tolist() == store.raw_lengths.tolist() == [len(row) for row in wanted["input_ids"]]
    pairs = store_of(tokenizer, texts, values, seconds)
    separator = TextEncoder(tokenizer, TokensSection()).separator.text
    wanted = tokenizer(strings, [separator + text for text in seconds])
    assert rows_in(pairs) == wanted["input_ids"]
    if "types" in pairs.joints.columns:
        assert rows_in(pairs, "types") == wanted["token_type_ids"]


def slow_row(
    tokenizer: Any, encoder: TextEncoder, row: tuple[str | None, ...], text: str, second: str | None
) -> list[int]:
    """One row by hand: the written prefix, the text cut to what room is left, the special tokens around them."""
    section, pair = encoder.section, second is not None

    def plain(string: str) -> list[int]:
        return list(encoder.backend.encode(string, add_special_tokens=False).ids)

    prefix = plain(written(row, "").rstrip(" "))
    first = plain(written(row, text))[len(prefix) :]
    contents = [first] if second is None else [first, plain(encoder.separator.text + second)]
    room = section.longest - tokenizer.num_special_tokens_to_add(pair) - len(prefix)
    keeps = [min(len(first), room)] if not pair else [*_longest_first(len(first), len(contents[1]), room)]
    kept = []
    for content, keep, always in zip(contents, keeps, (0, encoder.separator.num_tokens), strict=False):
        tail = {"head": 0, "tail": keep - always, "head_tail": (keep - always) // 2}[section.truncate]
        kept.append(content[: keep - tail] + content[len(content) - tail :])
    kept[0] = prefix + kept[0]
    return with_special(tokenizer, kept)


def with_special(tokenizer: Any, contents: list[list[int]]) -> list[int]:
    """The contents between the special tokens that the tokenizer puts around any others."""
    sample = (
        tokenizer.backend_tokenizer.encode("a", "b") if len(contents) > 1 else tokenizer.backend_tokenizer.encode("a")
    )
    row: list[int] = []
    done: set[int] = set()
    for token, which in zip(sample.ids, sample.sequence_ids, strict=True):
        if which is None:
            row.append(token)
        elif which not in done:
            done.add(which)
            row += contents[which]
    return row


@pytest.mark.every_day(2)
@given(some_rows, st.sampled_from(["head", "tail", "head_tail"]), st.integers(48, 90))
@quick
def test_a_text_is_shortened_and_a_prefix_is_not(tokenizer: Any, rows: list[Any], truncate: str, longest: int) -> None:
    texts = [(row[0] + " ") * 3 for row in rows]
    seconds, values = [row[1] * 2 for row in rows], [(row[2], None) for row in rows]
    for pairs in (None, seconds):
        store = store_of(tokenizer, texts, values, pairs, max_length=longest, truncate=truncate)
        encoder = TextEncoder(tokenizer, TokensSection(max_length=longest, truncate=truncate), prefix=PREFIX)
        wanted = [
            slow_row(tokenizer, encoder, value, text, None if pairs is None else pairs[index])
            for index, (value, text) in enumerate(zip(values, texts, strict=True))
        ]
        assert rows_in(store) == wanted
        assert store.lengths.tolist() == [len(row) for row in wanted]
        assert max(store.lengths) <= longest


DROPPING = PREFIX.model_copy(update={"dropout": {"source": 0.5, "date": 0.25}})
MANY = [(f"s{number % 3}", None if number % 5 == 0 else str(2000 + number % 7)) for number in range(400)]
TEXTS = [" ".join(["good film", "the very", "zzz"][: 1 + number % 3]) for number in range(400)]


def test_what_training_drops_follows_from_seed_epoch_and_row(bert: Any) -> None:
    store = store_of(bert, TEXTS, MANY, prefix=DROPPING)
    full = store.present
    for seed, epoch in ((0, 0), (0, 1), (3, 1)):
        drawn = store.in_epoch(seed, epoch)
        kept = drawn.present
        uniform = np.array([[fractions_of(seed, epoch, row, k)[0] for k in range(2)] for row in range(400)])
        assert np.array_equal(kept, full & (uniform >= [0.5, 0.25]))
        assert not kept[~full].any()
        # the rows are those of fields that are really missing, whichever rows are read together
        left = [
            tuple(v if k else None for v, k in zip(row, keep, strict=True))
            for row, keep in zip(MANY, kept, strict=True)
        ]
        wanted = rows_in(store_of(bert, TEXTS, left, prefix=DROPPING))
        assert rows_in(drawn) == wanted and drawn.lengths.tolist() == [len(row) for row in wanted]
        few, places = drawn.read(np.array([7, 3, 399, 3]))
        assert [few.ids[few.offsets[i] : few.offsets[i + 1]].tolist() for i in places] == [
            wanted[i] for i in (7, 3, 399, 3)
        ]
    shares = np.mean([store.in_epoch(1, epoch).present[full[:, 1]].mean(axis=0) for epoch in range(20)], axis=0)
    assert np.allclose(shares, [0.5, 0.75], atol=5 * 0.5 / (20 * 320) ** 0.5)
    assert not np.array_equal(store.in_epoch(0, 0).present, store.in_epoch(0, 1).present)


def test_without_dropout_every_epoch_has_the_same_rows(bert: Any) -> None:
    store = store_of(bert, TEXTS, MANY)
    assert store.in_epoch(0, 5) is store
    some = PREFIX.model_copy(update={"dropout": {"date": 0.0}})
    assert store_of(bert, TEXTS, MANY, prefix=some).in_epoch(0, 5).drawn is None


def test_a_column_can_be_left_out(bert: Any) -> None:
    store = store_of(bert, TEXTS, MANY)
    without = [(source, None) for source, _ in MANY]
    assert rows_in(store.without("date")) == rows_in(store_of(bert, TEXTS, without))


def test_equal_fields_are_tokenised_once(bert: Any) -> None:
    store = store_of(bert, TEXTS, MANY)
    assert [len(field.first) for field in store.fields] == [3, 7]


def test_pieces_are_kept_in_the_cache(bert: Any, tmp_path: Path) -> None:
    section = TokensSection(max_length=40, cache=str(tmp_path))
    rows = RowTexts.given(TEXTS, None, str, fields_of(MANY))
    encoder = TextEncoder(bert, section, prefix=PREFIX)
    first = open_row_store(rows, encoder, section)
    kept = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/ids.bin")}
    again = open_row_store(rows, TextEncoder(bert, section, prefix=DROPPING), section)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/ids.bin")} == kept
    assert rows_in(first) == rows_in(again) == rows_in(make_row_store(rows, encoder))


def test_a_prefix_without_room_names_row_and_field(bert: Any) -> None:
    values = [("a", "b"), ("a very very very very very very very very very very film", "one")]
    with pytest.raises(DataError) as caught:
        store_of(bert, ["good", "bad"], values, max_length=20)
    error = caught.value
    assert (error.key, error.place) == ("data.metadata.columns", "row 1")
    assert error.value == f"source: {values[1][0]}" and "no room" in error.reason


def test_a_length_without_room_for_any_text_is_refused(bert: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        store_of(bert, ["good"], [(None, None)], max_length=5)
    assert (caught.value.key, caught.value.value) == ("tokens.max_length", 5)


def test_rows_that_are_too_long_with_their_prefix_can_be_refused(bert: Any) -> None:
    with pytest.raises(DataError) as caught:
        store_of(bert, ["good", "good film " * 20], [("a", "b"), ("a", "b")], max_length=32, truncate="error")
    assert (caught.value.key, caught.value.place) == ("tokens.max_length", "row 1")


def steps_of(loader: Any, num: int) -> list[Any]:
    batches = iter(loader)
    found = [signature(batch) for batch in itertools.islice(batches, num)]
    batches.close()
    return found


def by_row(loader: Any, num: int) -> dict[tuple[int, int], list[int]]:
    """The tokens of each row in each of so many steps: what a step is, however it is cut and shared."""
    found: dict[tuple[int, int], list[int]] = {}
    batches = iter(loader)
    for batch in itertools.islice(batches, num):
        for part in batch.micro_batches:
            ends = np.cumsum([group.rows * group.length for group in part.tokens.groups])
            assert ends[-1] == len(part.tokens.ids_T)
            at = 0
            lengths = iter(part.tokens.row_lengths.tolist())
            targets = iter(part.targets[LABEL].tolist())
            for group in part.tokens.groups:
                for _ in range(group.rows):
                    ids = part.tokens.ids_T[at : at + next(lengths)].tolist()
                    target = int(next(targets))
                    if part.counts:
                        assert (batch.step, target) not in found
                        found[batch.step, target] = ids
                    at += group.length
    batches.close()
    return found


SECTION = TrainSection(batch_size=32, seed=4)


def dropping_rows(tokenizer: Any) -> TokenRows:
    store = store_of(tokenizer, TEXTS, MANY, prefix=DROPPING)
    return TokenRows(store, np.arange(10, 400, 3), {LABEL: np.arange(400)}, None)


@pytest.mark.parametrize("order", ["shuffle", "bucket", "sequential"])
def test_a_loader_continues_anywhere_with_the_same_draws(bert: Any, order: Any) -> None:
    rows, section = dropping_rows(bert), SECTION.model_copy(update={"order": order})
    steps = steps_of(loader_of(rows, section), 10)
    assert steps[0] != steps[5], "the second epoch draws anew"
    for prefetch in (0, 3):
        ahead = section.model_copy(update={"prefetch": prefetch})
        assert steps_of(loader_of(rows, ahead), 10) == steps
    for done in range(1, 10):
        loader = loader_of(rows, section)
        steps_of(loader, done)
        assert steps_of(loader_of(rows, section, state=loader.state_dict()), 10 - done) == steps[done:]


def test_ranks_and_budgets_share_the_rows_of_one_process(bert: Any) -> None:
    rows = dropping_rows(bert)
    alone = by_row(loader_of(rows, SECTION), 10)
    plan = Plan.of(SECTION, len(rows))
    for (step, target), ids in alone.items():
        drawn = rows.store.in_epoch(SECTION.seed, plan.place_of(step)[0])
        one, places = drawn.read(np.array([target]))
        assert one.ids[one.offsets[places[0]] :].tolist() == ids
    assert by_row(loader_of(rows, SECTION, max_tokens=64), 10) == alone
    for world in (2, 4):
        shares = [by_row(loader_of(rows, SECTION, rank=rank, world=world), 10) for rank in range(world)]
        assert sum(map(len, shares)) == len(alone)
        assert {key: ids for share in shares for key, ids in share.items()} == alone


def test_a_lower_budget_cuts_the_rows_that_were_drawn(bert: Any) -> None:
    rows = dropping_rows(bert)
    expected = by_row(loader_of(rows, SECTION), 7)
    loader = loader_of(rows, SECTION)
    batches = iter(loader)
    for _ in range(6):
        last = next(batches)
    again = loader.lower_budget(last, 50)
    batches.close()
    assert len(again.micro_batches) > 1
    tokens = sorted(len(ids) for (step, _), ids in expected.items() if step == 5)
    assert sorted(int(n) for part in again.micro_batches for n in part.tokens.row_lengths) == tokens


def test_weighted_rows_draw_like_others(bert: Any) -> None:
    rows = dropping_rows(bert)
    weighted = TokenRows(rows.store, rows.examples[:3], rows.example_targets, np.ones(400, np.float32))
    section = SECTION.model_copy(update={"order": "weighted", "batch_size": 3})
    batches = iter(loader_of(weighted, section))
    for batch in itertools.islice(batches, 8):
        lengths = weighted.in_epoch(SECTION.seed, batch.step).lengths  # an epoch is one step here
        assert sorted(batch.micro_batches[0].tokens.row_lengths.tolist()) == sorted(lengths[batch.chosen].tolist())
    batches.close()
