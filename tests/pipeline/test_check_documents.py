"""`textune check` of documents with metadata: what they hold, what of it cannot be rendered, and where."""

import json
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner
from kits.errors import refused
from kits.records import Row, write
from kits.rendered import char_tokenizer
from kits.streams import write_shard

import textune
from textune.errors import ConfigError, DataError
from textune.metadata.chunks.counts import ChunkCounts
from textune.metadata.opening import DocumentEstimate
from textune.pipeline.documents import DocumentsCheck
from textune.pipeline.sharing import STAGE
from textune.run.tracking.tracker import SilentTracker

URL = {"key": "url", "type": "global", "value": "http://a.b/c"}
DATE = {"key": "timestamp", "type": "global", "value": "2018-12-10"}
TITLE = {"key": "title", "type": "global", "value": "T"}


def tag(start: int, end: int, name: str = "b") -> Row:
    return {"key": "html", "type": "local", "value": name, "char_start_idx": start, "char_end_idx": end}


TRAIN: list[Row] = [
    {"text": "some text", "metadata": [URL, DATE, tag(0, 4), tag(5, 9, "body")]},
    {"text": "more text", "metadata": [URL, TITLE]},
    {"text": "", "metadata": []},
]
HELD_OUT: list[Row] = [
    {"text": "fine", "metadata": [URL]},
    {"text": "short", "metadata": [tag(3, 9), tag(0, 5), URL]},
    {"text": "shorter", "metadata": [tag(7, 8), DATE | {"value": "soon"}]},
]


@pytest.fixture
def tree(tmp_path: Path) -> dict[str, Any]:
    return {
        "data": {
            "train": {"files": str(write(tmp_path / "train.jsonl", TRAIN))},
            "evaluations": {"news": {"files": str(write(tmp_path / "news.parquet", HELD_OUT))}},
        },
        "metadata": {"types": ["html", "timestamp", "url"], "html": {"drop": "body"}},
    }


def checked(tree: dict[str, Any], *overrides: str, **more: Any) -> DocumentsCheck:
    result = textune.check(tree, overrides=overrides, **more)
    assert isinstance(result, DocumentsCheck)
    return result


def test_each_set_is_counted_by_type(tree: dict[str, Any]) -> None:
    result = checked(tree)
    assert [one.name for one in result.sets] == ["train", "news"]
    assert result.to_dict()["numbers"]["train"] == {  # type: ignore[call-overload, index]
        "source": "train.jsonl",
        "documents": 3,
        "characters": 18,
        "types": {
            "html": {"documents": 1, "entries": 2},
            "timestamp": {"documents": 1, "entries": 1},
            "url": {"documents": 2, "entries": 2},
        },
        "not_named": {"title": 1},
        "passed_over": {},
        "bad": {},
        "not_rendered": {"metadata.html leaves the tag out": 1},
        "without_text": 1,
        "skipped": 0,
    }
    assert result.words["train"] == "3 documents of train.jsonl, 18 characters"
    json.dumps(result.to_dict(), allow_nan=False)


def test_metadata_in_both_versions_of_the_records_is_no_silent_loss(tree: dict[str, Any], tmp_path: Path) -> None:
    twice = [
        {"text": "a", "metadata": [URL], "metadata_html": [tag(0, 1)], "metadata_title": []},
        {"text": "b", "metadata": [], "metadata_html": [tag(0, 1)], "metadata_title": [TITLE]},
        {"text": "c", "metadata": None, "metadata_html": [tag(0, 1)], "metadata_title": [TITLE]},
    ]
    write(tmp_path / "train.jsonl", twice)
    result = checked(tree | {"data": {"train": tree["data"]["train"]}})
    assert result.sets[0].passed_over == {"metadata_html": 2, "metadata_title": 1}
    assert result.sets[0].not_named == {"title": 1}
    (found,) = [finding for finding in result.findings if finding.code == "metadata-twice"]
    assert (found.level, found.count) == ("warning", 2)
    assert "metadata_html (2)" in found.message and "metadata_title (1)" in found.message


@pytest.mark.parametrize("key", ["wraps", "type_tokens"])
def test_a_type_about_the_whole_text_has_no_tags(tree: dict[str, Any], key: str) -> None:
    tree["metadata"] |= {"types_in_prefix": True, key: {"url": ["<", ">"] if key == "wraps" else "U"}}
    with refused(ConfigError, key=f"metadata.{key}", value="url"):
        checked(tree)
    assert checked(tree, "metadata.compat=bsmetadata")


def test_metadata_that_cannot_be_rendered_is_an_error_with_its_rows(tree: dict[str, Any]) -> None:
    result = checked(tree)
    assert not result.ok
    errors = {finding.code: finding for finding in result.findings if finding.level == "error"}
    assert set(errors) == {"metadata-span", "metadata-value"}
    assert errors["metadata-span"].count == 2
    assert [example.split(": ")[:2] for example in errors["metadata-span"].examples] == [
        ["news.parquet, row 2", "metadata[0].char_end_idx = 9"],
        ["news.parquet, row 3", "metadata[0].char_end_idx = 8"],
    ]
    assert errors["metadata-value"].examples[0].startswith("news.parquet, row 3: metadata[1].value = 'soon'")


def test_or_a_warning_where_it_is_to_be_left_out(tree: dict[str, Any]) -> None:
    result = checked(tree, "metadata.on_bad_metadata=report")
    assert result.ok
    codes = {(finding.level, finding.code) for finding in result.findings}
    assert codes == {
        ("warning", "metadata-span"),
        ("warning", "metadata-value"),
        ("warning", "metadata-absent"),
        ("warning", "empty-text"),
        ("note", "metadata-left-out"),
        ("note", "metadata-not-named"),
    }


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("htlm", "html"),
        ("length", "generation_length_text or generation_length_sentence"),
        ("titel", "title"),
        ("metadata_url", "url"),
    ],
)
def test_a_type_that_nobody_knows_is_misspelt(tree: dict[str, Any], name: str, hint: str) -> None:
    tree["metadata"]["types"] = ["html", name]
    with pytest.raises(ConfigError) as caught:
        checked(tree)
    assert (caught.value.key, caught.value.value) == ("metadata.types", name)
    assert hint in caught.value.hint


def test_a_type_of_the_users_own_is_known_by_its_column_or_key(tree: dict[str, Any], tmp_path: Path) -> None:
    mood = {"type": "global", "value": "good"}
    tree["metadata"]["types"] = ["url", "mood"]
    del tree["data"]["evaluations"]
    with refused(ConfigError, key="metadata.types", value="mood"):
        checked(tree)
    for rows in ([{"text": "x", "metadata_mood": [mood]}], [{"text": "x", "metadata": [mood | {"key": "mood"}]}]):
        tree["data"]["train"]["files"] = str(write(tmp_path / "own.jsonl", [{"text": "y"}, *rows]))
        assert checked(tree).sets[0].documents_with == {"url": 0, "mood": 1}


def test_of_a_stream_the_first_block_is_read(tree: dict[str, Any], tmp_path: Path) -> None:
    second = [{"text": "some text", "metadata_url": [URL], "metadata_title": [TITLE]}] * 8
    files = [
        str(write_shard(tmp_path / name, rows)) for name, rows in (("a.jsonl.gz", TRAIN * 9), ("b.parquet", second))
    ]
    tree["data"] = {
        "train": {"kind": "stream", "files": files, "block_rows": 20, "interleave": 2},
        "validation": {"kind": "none"},
    }
    [train] = checked(tree).sets
    assert train.documents == 18
    assert (train.documents_with["url"], train.not_named["title"]) == (6 + 1 + 8, 3 + 8)
    assert "a.jsonl.gz" in train.source


def test_rows_in_memory(tree: dict[str, Any]) -> None:
    tree["data"] = {"train": {"kind": "given", "name": "pages"}}
    [train] = checked(tree, rows={"pages": TRAIN}).sets
    assert (train.source, train.documents) == ("pages", 3)


def test_rows_that_cannot_be_read_are_left_out_by_the_same_key_as_everywhere(
    tree: dict[str, Any], tmp_path: Path
) -> None:
    del tree["data"]["evaluations"]
    with (tmp_path / "train.jsonl").open("a") as file:
        file.write('{"text": \n')
    with refused(DataError, place="train.jsonl, line 4"):
        checked(tree)
    result = checked(tree, "data.on_bad_row=skip")
    assert [finding.count for finding in result.findings if finding.code == "rows-skipped"] == [1]


def test_the_command_line(
    tree: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner(capsys, monkeypatch, tmp_path)
    config = tmp_path / "config.toml"
    config.write_text(
        '[data.train]\nfiles = "train.jsonl"\n[data.evaluations.news]\nfiles = "news.parquet"\n'
        '[metadata]\ntypes = ["html", "timestamp", "url"]\n'
    )
    answer = run("check", "config.toml")
    assert answer.code == 2
    assert "news.parquet, row 2: metadata[0].char_end_idx = 9" in answer.out and "not ready" in answer.out
    answer = run("check", "config.toml", "metadata.on_bad_metadata=report")
    assert answer.code == 0 and "html in 1 (33%)" in answer.out
    answer = run("check", "config.toml", "--json", "metadata.on_bad_metadata=report")
    assert (answer.code, json.loads(answer.out)["numbers"]["news"]["bad"]) == (0, {"span": 2, "value": 1})


def test_slices_of_a_large_source_are_counted_together(tree: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = checked(tree).to_dict()
    monkeypatch.setattr("textune.pipeline.documents.SAMPLE_ROWS", 1)
    assert checked(tree).to_dict() == whole


def test_chunks_and_tokens_of_an_epoch_are_estimated(tree: dict[str, Any], tmp_path: Path) -> None:
    """Only where a tokenizer is named; of files, all documents are counted if there are few."""
    assert checked(tree).estimate is None
    assert "model.tokenizer" in checked(tree).words["chunks"]
    char_tokenizer().save_pretrained(tmp_path / "tokenizer")
    named = {"model.tokenizer": str(tmp_path / "tokenizer"), "tokens.max_length": 200, "data.validation.kind": "none"}
    result = textune.check(tree, overrides=named)
    assert isinstance(result, DocumentsCheck) and result.estimate is not None
    prefixes = ["Year: 2018 | Month: December | url: http://a.b/c |||", "url: http://a.b/c |||"]
    num_prefixes, num_texts = sum(map(len, prefixes)), len(" <b>some</b> text") + len(" more text")
    assert result.estimate == DocumentEstimate(
        documents=3,
        short=1,
        chunks=2,
        tokens=num_prefixes + num_texts,
        metadata_tokens=num_prefixes + len(" <b></b>"),
        counts=ChunkCounts(empty=1),
        num_rows=3,
    )
    num_tokens = num_prefixes + num_texts
    words = f"an epoch of 3 documents has 2 chunks of {num_tokens} tokens, 81% of them metadata"
    assert result.words["chunks"] == words
    without = textune.check(tree, overrides=named | {"metadata.sampling.probability": 0.0})
    assert isinstance(without, DocumentsCheck) and without.estimate is not None
    assert (without.estimate.metadata_tokens, without.estimate.tokens) == (0, len("some text" + "more text"))
    shard = write_shard(tmp_path / "many.jsonl", TRAIN * 100)
    stream = {"kind": "stream", "files": str(shard), "num_rows": 3000, "block_rows": 30}
    larger = tree | {"data": {"train": stream, "validation": {"kind": "none"}}}
    sampled = textune.check(larger, overrides=named)
    assert isinstance(sampled, DocumentsCheck) and sampled.estimate is not None
    assert (sampled.estimate.chunks_per_epoch, sampled.estimate.tokens_per_epoch) == (2000, 1000 * num_tokens)
    assert "about 2,000 chunks" in sampled.words["chunks"] and "300 documents" in sampled.words["chunks"]
    json.dumps(sampled.to_dict(), allow_nan=False)


def overridden(tree: dict[str, Any], keys: dict[str, Any]) -> DocumentsCheck:
    result = textune.check(tree, overrides=keys)
    assert isinstance(result, DocumentsCheck)
    return result


def test_long_prefixes_are_counted_by_field(tree: dict[str, Any], tmp_path: Path) -> None:
    """And documents that would go without a prefix are an error where bad metadata is one."""
    char_tokenizer().save_pretrained(tmp_path / "tokenizer")
    keys = {"model.tokenizer": str(tmp_path / "tokenizer"), "data.validation.kind": "none"}
    whole = overridden(tree, keys | {"tokens.max_length": 200})
    assert whole.words["fields"].startswith("none of 2 documents")
    some = overridden(tree, keys | {"tokens.max_length": 60})
    assert some.words["fields"].startswith("1 of 2 documents (50.0%)") and "timestamp of 1" in some.words["fields"]
    assert some.to_dict()["estimate"]["trimmed"] == 1  # type: ignore[index, call-overload]
    assert {one.code for one in some.findings} == {one.code for one in whole.findings}
    for on_bad, level in (("error", "error"), ("report", "warning")):
        none = overridden(tree, keys | {"tokens.max_length": 20, "metadata.on_bad_metadata": on_bad})
        found = [finding for finding in none.findings if finding.code == "prefix-without-room"]
        assert [(finding.level, finding.count) for finding in found] == [(level, 2), (level, 2)]


def test_documents_whose_prefix_leaves_no_room_are_named_in_every_set(tree: dict[str, Any], tmp_path: Path) -> None:
    """Sets by type have prefixes of their own, and what has no chunk needs none."""
    char_tokenizer().save_pretrained(tmp_path / "tokenizer")
    long = URL | {"value": "http://a.b/" + "c" * 90}
    held_out = [
        {"text": "fine", "metadata": [URL]},
        {"text": "no room for the url", "metadata": [long, DATE]},
        {"text": "", "metadata": [long]},
        {"text": "none at all", "metadata": [long]},
    ]
    tree["data"]["evaluations"] = {
        "news": {"files": str(write(tmp_path / "held.jsonl", held_out)), "by_type": ["timestamp", "url"]},
        "rest": {"kind": "split", "count": 1},
    }
    keys = {"model.tokenizer": str(tmp_path / "tokenizer"), "data.validation.kind": "none"}
    keys |= {"tokens.max_length": 90, "metadata.on_bad_metadata": "report", "metadata.types": ["timestamp", "url"]}
    keys |= {"data.train.take": 2}
    result = overridden(tree, keys)
    found = {one.message.partition(":")[0]: one for one in result.findings if one.code == "prefix-without-room"}
    assert {name: one.count for name, one in found.items()} == {"news": 1, "news-url": 2}
    assert found["news"].examples[0].startswith("held.jsonl, line 4: the longest field is url")
    assert [one.split(":")[0] for one in found["news-url"].examples] == ["held.jsonl, line 2", "held.jsonl, line 4"]
    sets = {one.name: (one.documents, one.counts.trimmed, one.counts.bare) for one in result.held_out_prefixes}
    by_type = {"news-timestamp": (1, 0, 0), "news-url": (4, 2, 2), "news-no-metadata": (4, 0, 0)}
    assert sets == {"news": (4, 2, 1), "rest": (1, 0, 0), **by_type}
    assert "url of 2" in result.words["news fields"] and "rest fields" not in result.words
    assert result.to_dict()["held_out_prefixes"]["news"]["trimmed"] == 2  # type: ignore[index, call-overload]
    (train,) = [
        one for one in overridden(tree, keys | {"tokens.max_length": 20}).findings if "train: no" in one.message
    ]
    assert train.examples[0].startswith("train.jsonl, line 1: the longest field is timestamp, with 28 characters")


def test_documents_without_any_chunk_are_refused(tree: dict[str, Any], tmp_path: Path) -> None:
    char_tokenizer().save_pretrained(tmp_path / "tokenizer")
    keys = {"model.tokenizer": str(tmp_path / "tokenizer"), "data.validation.kind": "none"}
    result = overridden(tree, keys | {"metadata.min_tokens": 1000})
    assert [(one.level, one.count) for one in result.findings if one.code == "no-chunks"] == [("error", 3)]
    assert result.words["chunks"] and "fields" not in result.words
    assert not [one for one in overridden(tree, keys).findings if one.code == "no-chunks"]


# --- training documents among held-out ones --------------------------------------------------------------------------


def overlapping(tmp_path: Path, *, streamed: bool) -> dict[str, Any]:
    train = [{"text": f"Text number {n}.", "metadata": [URL]} for n in range(30)]
    held_out = [{"text": text, "metadata": [URL]} for text in ("other", "TEXT number 17", "", "text, number  3!", "x")]
    files = [
        str(write_shard(tmp_path / f"{name}.jsonl", rows)) for name, rows in (("a", train[:10]), ("b", train[10:]))
    ]
    return {
        "data": {
            "train": {"kind": "stream" if streamed else "files", "files": files},
            "validation": {"kind": "files", "files": str(write(tmp_path / "held.jsonl", held_out))},
        },
        "metadata": {"types": ["url"]},
        "train": {"duration": "5 steps"},
    }


@pytest.mark.parametrize("streamed", [False, True])
def test_training_documents_among_held_out_ones_are_refused(tmp_path: Path, streamed: bool) -> None:
    tree = overlapping(tmp_path, streamed=streamed)
    result = checked(tree)
    (found,) = (finding for finding in result.findings if finding.code == "leak-normalised")
    assert not result.ok and found.count == 2 and "2 documents of 5" in found.message
    places = [example.split(": ")[0] for example in found.examples]
    assert places == ["held.jsonl, line 2, also b.jsonl, line 8", "held.jsonl, line 4, also a.jsonl, line 4"]
    assert checked(tree, "data.on_shared_text=unchecked").ok
    reported = checked(tree, "data.on_shared_text=report")
    assert reported.ok and "leak-normalised" in [finding.code for finding in reported.findings]
    left = checked(tree, 'data.train.exclude=["b.jsonl"]')
    assert [finding.count for finding in left.findings if finding.code == "leak-normalised"] == [1]


@pytest.mark.parametrize(("num_rows", "last"), [(None, (30, 0)), (30, (30, 30)), (40, (40, 40))])
def test_reading_all_shards_is_shown(tmp_path: Path, num_rows: int | None, last: tuple[int, int]) -> None:
    """Also where nobody has said how many rows they have, or not the right number."""
    seen: list[tuple[int, int]] = []

    class Watching(SilentTracker):
        def progress(self, stage: str, done: int, total: int) -> None:
            if stage == STAGE:
                seen.append((done, total))

    tree = overlapping(tmp_path, streamed=True)
    tree["data"]["train"] |= {"block_rows": 8} | ({} if num_rows is None else {"num_rows": num_rows})
    checked(tree, tracker=Watching())
    assert seen[-1] == last and [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_set_by_type_without_a_document_is_an_error(tree: dict[str, Any]) -> None:
    tree["data"]["evaluations"]["news"] |= {"by_type": ["url", "html"]}
    tree["data"]["evaluations"]["news"]["files"] = str(
        write(Path(tree["data"]["train"]["files"]).parent / "urls.jsonl", [{"text": "t", "metadata": [URL]}])
    )
    (found,) = (finding for finding in checked(tree).findings if finding.code == "set-without-rows")
    assert found.level == "error" and "data.evaluations.news.by_type names html" in found.message


def test_a_column_of_another_name_is_no_metadata(tree: dict[str, Any], tmp_path: Path) -> None:
    rows = [
        {"text": "one", "url": "a.b/c"},
        {"text": "two", "url": "a.b/c", "metadata_url": [{"type": "global", "value": "a.b/c"}]},
    ]
    tree["data"] = {"train": {"files": str(write(tmp_path / "corpus.jsonl", rows))}, "validation": {"kind": "none"}}
    (train,) = checked(tree).sets
    assert train.documents == 2 and train.documents_with["url"] == 1


@pytest.mark.parametrize("name", ["train", "evaluations.news"])
def test_a_file_that_is_not_left_out_is_named_with_its_set(tree: dict[str, Any], name: str) -> None:
    with refused(DataError, key=f"data.{name}.exclude", value="other.jsonl", reason="it names no file"):
        checked(tree, f"data.{name}.exclude=other.jsonl")
