"""`textune tag`: files of pages in, the same rows with text and metadata out, whatever stops it on the way."""

from __future__ import annotations

import gzip
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kits.cli import runner
from kits.records import listed, read
from kits.webpages import FILLER, OneProcess, pages, read_pages, write_pages

from textune.config.sources import FilesSource
from textune.data.reading.columnar import arrow_piece
from textune.data.reading.sources import read_source
from textune.errors import AGAIN, NO_ROOM
from textune.locks import held
from textune.metadata.taggers import shards
from textune.metadata.types import TYPES

pytest.importorskip("selectolax", reason="the extra `tag` is not installed")

ROOT = Path(__file__).parents[2]
_WEB = ROOT.parent / "shared" / "data" / "web" / "html_pages.jsonl.gz"
ADDED = {
    *("text", "html_head", "html_footer", "html_title"),
    *(f"metadata_{name}" for name in ("html", "url", "timestamp", "title", "paragraph")),
    *("metadata_generation_datasource", "metadata_generation_length_text", "metadata_generation_length_sentence"),
}


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The command line in a folder, with small parts that are tagged in this process."""
    monkeypatch.setattr(shards, "PART_BYTES", 3_000)
    monkeypatch.setattr(shards, "PART_ROWS", 4)
    monkeypatch.setattr(importlib.import_module("textune.pipeline.tag"), "Crew", OneProcess)
    return runner(capsys, monkeypatch, tmp_path)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_rows_keep_their_columns_and_order(call: Any, tmp_path: Path) -> None:
    rows = pages(40)
    write_pages(tmp_path / "in.jsonl.gz", rows)
    answer = call("tag", "--input", "in.jsonl.gz", "--output", "out.jsonl.gz", "--json")
    assert answer.code == 0, answer.err
    found = read_pages(tmp_path / "out.jsonl.gz")
    assert [{name: row[name] for name in rows[0]} for row in found] == rows
    for row in found:
        assert row.keys() >= ADDED
        assert row["text"] == f"{FILLER}{row['id']}.\n{FILLER}\né {row['id']}\n"
        assert row["metadata_title"] == [{"key": "title", "type": "global", "value": f"Page {row['id']}"}]
        assert row["html_error"] == 0 and row["html_error_comment"] == ""
    assert names(tmp_path) == ["in.jsonl.gz", "out.jsonl.gz"]
    told = json.loads(answer.out)
    assert (told["pages"], told["with_errors"], told["types"]["html"]["entries"]) == (40, 0, 3 * 40)
    assert told["outputs"] == ["out.jsonl.gz"]


@pytest.mark.parametrize("name", ["in.jsonl", "in.jsonl.gz", "in.jsonl.zst"])
def test_packed_and_plain_outputs_hold_the_same(call: Any, tmp_path: Path, name: str) -> None:
    data = "".join(json.dumps(row) + "\n" for row in pages(20)).encode()
    path = tmp_path / name
    with pa.output_stream(path, compression={".gz": "gzip", ".zst": "zstd"}.get(path.suffix)) as stream:
        stream.write(data)
    call("tag", "--input", name, "--output", "plain.jsonl")
    call("tag", "--input", name, "--output", "packed.jsonl.zst")
    call("tag", "--input", name, "--output", "packed.jsonl.gz")
    plain = (tmp_path / "plain.jsonl").read_bytes()
    assert len(plain.splitlines()) == 20
    assert gzip.decompress((tmp_path / "packed.jsonl.gz").read_bytes()) == plain
    with pa.input_stream(tmp_path / "packed.jsonl.zst", compression="zstd") as stream:
        assert stream.read() == plain


def test_parquet_keeps_its_types(call: Any, tmp_path: Path) -> None:
    table = pa.Table.from_pylist(pages(10)).append_column("day", pa.array(range(10), pa.date32()))
    pq.write_table(table, tmp_path / "in.parquet")
    assert call("tag", "--input", "in.parquet", "--output", "out.parquet").code == 0
    assert call("tag", "--input", "in.parquet", "--output", "out.jsonl").code == 0
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.select(table.column_names).equals(table)
    rows = read_pages(tmp_path / "out.jsonl")
    for name in ADDED | {"html_error", "html_error_comment"}:
        assert found.column(name).to_pylist() == [row[name] for row in rows], name
    assert rows[3]["day"] == "1970-01-04"
    assert not arrow_piece(found, "out.parquet").bad


def test_a_folder_of_outputs_is_continued(call: Any, tmp_path: Path) -> None:
    for number in range(3):
        write_pages(tmp_path / f"in-{number}.jsonl.gz", pages(5 + number))
    first = json.loads(call("tag", "--input", "in-[01].jsonl.gz", "--output", "out/", "--json").out)
    assert (first["pages"], first["kept"]) == (11, 0)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.gz")}
    words = ("tag", "--input", "in-[01].jsonl.gz", "--input", "in-2.jsonl.gz", "--output", "out")
    answer = json.loads(call(*words, "--json").out)
    assert (answer["pages"], answer["kept"]) == (18, 2)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert names(tmp_path / "out") == ["in-0.jsonl.gz", "in-1.jsonl.gz", "in-2.jsonl.gz", "tag.json"]
    assert "3 files complete before" in call(*words).out
    # What is told is in the order of the inputs, whichever were complete before.
    write_pages(tmp_path / "in-0.jsonl.gz", [{"html": None, "url": "http://a.b"}])
    (tmp_path / "out" / "in-0.jsonl.gz").unlink()
    write_pages(tmp_path / "in-1.jsonl.gz", [{"html": 7, "url": "http://a.b"}])
    (tmp_path / "out" / "in-1.jsonl.gz").unlink()
    call("tag", "--input", "in-1.jsonl.gz", "--output", "out")
    assert json.loads(call(*words, "--json").out)["types"]["html"]["first_error"].startswith("in-0.jsonl.gz, line 1")
    # Other settings, another input: what is there is not that.
    refused = call(*words, "--legacy")
    assert refused.code == 2 and "in-0.jsonl.gz already exists" in refused.err
    write_pages(tmp_path / "in-2.jsonl.gz", pages(4))
    assert "in-2.jsonl.gz already exists" in call(*words).err
    assert call(*words, "--force").code == 0
    assert len(read_pages(tmp_path / "out" / "in-2.jsonl.gz")) == 4


def test_what_is_done_is_not_done_again(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bad row stops the command; the same one, told to leave it out, goes on from there."""
    (tmp_path / "tagger_that_counts.py").write_text(
        "class Counting:\n    type = 'seen'\n    def tag(self, text, url):\n"
        "        with open('seen', 'a') as file:\n            file.write(url + '\\n')\n        return 'yes'\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    rows = pages(30)
    path = write_pages(tmp_path / "in.jsonl", rows)
    path.write_text(path.read_text() + "{broken\n" + json.dumps(rows[0]) + "\n")
    words = ("tag", "--input", "in.jsonl", "--output", "out.jsonl", "--own-tagger", "tagger_that_counts:Counting")
    refused = call(*words)
    assert refused.code == 2 and "in.jsonl, line 31" in refused.err
    assert names(tmp_path / "out.jsonl.parts") != [] and not (tmp_path / "out.jsonl").exists()
    answer = json.loads(call(*words, "--skip-bad-rows", "--json").out)
    assert (answer["pages"], answer["skipped"]) == (31, 1)
    assert answer["first_skipped"][0].startswith("in.jsonl, line 31: not JSON")
    assert [row["id"] for row in read_pages(tmp_path / "out.jsonl")] == [*range(30), 0]
    seen = Counter((tmp_path / "seen").read_text().splitlines())
    assert [seen[row["url"]] for row in rows[1:20]] == [1] * 19
    assert sum(seen.values()) <= 31 + 8  # the part of the bad row, twice
    assert {*names(tmp_path)} - {"__pycache__"} == {"in.jsonl", "out.jsonl", "seen", "tagger_that_counts.py"}


def test_parts_of_another_job_are_not_used(call: Any, tmp_path: Path) -> None:
    rows = pages(12)
    path = write_pages(tmp_path / "in.jsonl", rows)
    path.write_text(path.read_text() + "[]\n")
    words = ("tag", "--input", "in.jsonl", "--output", "out.jsonl")
    assert call(*words).code == 2
    (job,) = [path for path in (tmp_path / "out.jsonl.parts").iterdir() if path.is_dir()]
    assert call(*words, "--legacy").code == 2
    assert not job.exists()
    assert call(*words, "--skip-bad-rows").code == 0
    assert read_pages(tmp_path / "out.jsonl")[0]["metadata_generation_length_sentence"][-1]["value"] == "78"


def test_an_output_whose_parts_were_left_is_completed(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the output had its name: it is not taken for another one's."""
    write_pages(tmp_path / "in.jsonl.gz", pages(12))
    words = ("tag", "--input", "in.jsonl.gz", "--output", "out.jsonl.gz")
    with monkeypatch.context() as patched:
        patched.setattr("textune.metadata.taggers.partfiles.PartFiles.remove", lambda self: None)
        call(*words)
    whole, parts = (tmp_path / "out.jsonl.gz").read_bytes(), tmp_path / "out.jsonl.gz.parts"
    (job,) = [path.name for path in parts.iterdir() if path.is_dir()]
    for removed in ("nothing", "a part", "its counts", "all parts"):
        if removed == "all parts":
            (parts / job).mkdir(parents=True)
        if removed in {"a part", "its counts"}:
            next(parts.glob("*/00001.jsonl.gz" if removed == "a part" else "*/00001.json")).unlink()
        answer = call(*words)
        assert answer.code == 0, answer.err
        assert (tmp_path / "out.jsonl.gz").read_bytes() == whole
        assert names(tmp_path) == ["in.jsonl.gz", "out.jsonl.gz"]
        if removed in {"nothing", "a part"}:
            with monkeypatch.context() as patched:
                patched.setattr("textune.metadata.taggers.partfiles.PartFiles.remove", lambda self: None)
                call(*words, "--force")
    again = call(*words)
    assert again.code == 2 and "already exists" in again.err


@pytest.mark.parametrize("output", ["out.jsonl.gz", "out.parquet"])
def test_what_is_tagged_is_read_as_documents(call: Any, tmp_path: Path, output: str) -> None:
    """Strictly, with every type, by the reader of records."""
    (tmp_path / "names.csv").write_text("name,aliases,description\nTidi_Tadada,tidi tadada|tidi,a song\nE,é,\n")
    (tmp_path / "sites.csv").write_text("domain,description\nexample.org,This is a site for examples only\n")
    pq.write_table(pa.Table.from_pylist(pages(6)), tmp_path / "in.parquet")
    words = ("--gazetteer", "names.csv", "--descriptions", "sites.csv")
    assert call("tag", "--input", "in.parquet", "--output", output, *words).code == 0
    rows = read_source(FilesSource(files=(str(tmp_path / output),)))
    found = read(rows, list(TYPES))
    assert found.documents.texts[2] == f"{FILLER}2.\n{FILLER}\né 2\n"
    types = Counter(entry[0] for entry in listed(found.documents) if entry[2] == 2)
    assert set(types) == set(TYPES)
    assert types["html"] == 3 and types["entity"] == 13 and types["entity_paragraph"] == 3


@pytest.mark.skipif(not _WEB.is_file(), reason=f"the public web pages are not at {_WEB}")
def test_real_pages_are_read_as_documents(call: Any, tmp_path: Path) -> None:
    with gzip.open(_WEB, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file][::30]
    (tmp_path / "names.csv").write_text("name\nHamburg\nBerlin\nLondon\nTrump\nBiden\nUkraine\nEU\nCOVID\n")
    write_pages(tmp_path / "in.jsonl.gz", rows)
    assert call("tag", "--input", "in.jsonl.gz", "--output", "out.jsonl.gz", "--gazetteer", "names.csv").code == 0
    tagged = read(read_source(FilesSource(files=(str(tmp_path / "out.jsonl.gz"),))), list(TYPES))
    assert len(tagged.documents) == len(rows)
    assert Counter(entry[0] for entry in listed(tagged.documents))["html"] > 500


GOOD = json.dumps(pages(1)[0])


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("content", "options", "told"),
    [
        (b"", [], ["in.jsonl", "empty"]),
        (b"\n \n", [], ["in.jsonl", "no rows"]),
        (b"<html>\n", [], ["in.jsonl", "web page"]),
        (b"no json\n", [], ["in.jsonl, line 1", "not JSON"]),
        (f"{GOOD}\n[1]\n".encode(), [], ["in.jsonl, line 2", "not a JSON object"]),
        (f'{GOOD}\n{{"html": 1, "html": 2}}\n'.encode(), [], ["line 2", "'html' occurs twice"]),
        (GOOD.encode() + b'\n{"html": "\xff"}\n', [], ["line 2", "0xff"]),
        (f'{GOOD}\n{{"html": "", "url": "", "n": NaN}}\n'.encode(), [], ["line 2", "NaN"]),
        (("[" * 100_000).encode(), [], ["line 1"]),
        (b'{"page": "x", "url": ""}\n', [], ["'html'", "--html", "page, url"]),
        (b'{"html": "x", "uri": ""}\n', [], ["'url'", "--url", "html, uri"]),
        (f"{GOOD}\n".encode(), ["--html", "page"], ["'page'", "--html"]),
        (f"{GOOD}\n".encode(), ["--without", "html", "--without", "title"], ["'text'", "--text"]),
        (f"{GOOD}\n".encode(), ["--tagger", "titel"], ["titel", "title"]),
        (f"{GOOD}\n".encode(), ["--gazetteer", "absent.csv"], ["absent.csv"]),
        (f"{GOOD}\n".encode(), ["--own-tagger", "absent_module:A"], ["absent_module"]),
        (f"{GOOD}\n".encode(), ["--output", "absent/out.jsonl"], ["absent"]),
        (f"{GOOD}\n".encode(), ["--output", "in.jsonl"], ["the input itself"]),
        (f"{GOOD}\n".encode(), ["--output", "out.csv"], ["out.csv", "jsonl"]),
        (f"{GOOD}\n".encode(), ["--output", "out.parquet"], ["out.parquet", "jsonl"]),
        (f"{GOOD}\n".encode(), ["--output", "out.parquet.gz"], ["out.parquet.gz"]),
        (f"{GOOD}\n".encode(), ["--input", "absent.jsonl"], ["absent.jsonl"]),
        (f"{GOOD}\n".encode(), ["--input", "other/in.jsonl", "--output", "other"], ["two files", "in.jsonl"]),
        (f"{GOOD}\n".encode(), ["--input", "there.jsonl", "--output", "there.jsonl"], ["there.jsonl", "folder"]),
        (f"{GOOD}\n".encode(), ["--output", "there.jsonl"], ["there.jsonl already exists", "--force"]),
        (b"\x1f\x8b\x08 damaged", [], ["in.jsonl"]),
        (b"\xff\xfe{\0}\0", [], ["UTF-16"]),
    ],
)
def test_what_cannot_be_tagged_is_refused_with_its_place(
    call: Any, tmp_path: Path, content: bytes, options: list[str], told: list[str]
) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    (tmp_path / "other").mkdir()
    for other in ("there.jsonl", "other/in.jsonl"):
        (tmp_path / other).write_text(GOOD + "\n")
    output = [] if "--output" in options else ["--output", "out.jsonl"]
    answer = call("tag", "--input", "in.jsonl", *output, *options)
    assert answer.code == 2
    for words in told:
        assert words in answer.err
    assert (tmp_path / "there.jsonl").read_text() == GOOD + "\n"
    assert names(tmp_path) == ["in.jsonl", "other", "there.jsonl"]


def test_a_truncated_file_leaves_no_output(call: Any, tmp_path: Path) -> None:
    path = write_pages(tmp_path / "in.jsonl.gz", [row | {"noise": Random(row["id"]).random()} for row in pages(400)])
    path.write_bytes(path.read_bytes()[:-2000])
    answer = call("tag", "--input", "in.jsonl.gz", "--output", "out.jsonl.gz")
    assert answer.code == 2 and "truncated" in answer.err
    assert not (tmp_path / "out.jsonl.gz").exists()


def test_a_file_in_an_archive_into_a_folder(call: Any, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "crawl.zip", "w") as archive:
        archive.write(write_pages(tmp_path / "in.jsonl", pages(3)), "part/in.jsonl")
    assert call("tag", "--input", "crawl.zip!part/in.jsonl", "--output", "tagged/").code == 0
    assert len(read_pages(tmp_path / "tagged" / "in.jsonl")) == 3


def test_a_full_disk_is_told(call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_pages(tmp_path / "in.jsonl", pages(3))

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr("textune.metadata.taggers.worker.write_part", full)
    answer = call("tag", "--input", "in.jsonl", "--output", "out.jsonl")
    assert answer.code == NO_ROOM and os.strerror(28) in answer.err
    assert names(tmp_path) == ["in.jsonl"]


def test_a_disk_that_is_full_when_the_parts_are_put_together(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pages(tmp_path / "in.jsonl", pages(3))

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    with monkeypatch.context() as during:
        during.setattr("textune.metadata.taggers.partfiles.shutil.copyfileobj", full)
        answer = call("tag", "--input", "in.jsonl", "--output", "out.jsonl", "--json")
    told = json.loads(answer.out)
    why = told["error"]
    assert answer.code == NO_ROOM and (why["place"], why["reason"]) == (
        "out.jsonl",
        f"it cannot be written: {os.strerror(28)}",
    )
    assert names(tmp_path) == ["in.jsonl", "out.jsonl.parts"]
    assert call("tag", "--input", "in.jsonl", "--output", "out.jsonl").code == 0
    assert names(tmp_path) == ["in.jsonl", "out.jsonl"]


def test_pages_that_cannot_be_read_are_counted(call: Any, tmp_path: Path) -> None:
    bad: list[dict[str, Any]] = [{"html": None}, {"html": 7}, {}, {"html": "<frameset>"}, {"url": "http://[x"}]
    rows = [pages(1)[0] | change for change in bad[:2]]
    rows += [{"url": "u", "id": 2}, pages(1)[0] | bad[3], pages(1)[0] | bad[4]]
    write_pages(tmp_path / "in.jsonl", rows)
    answer = call("tag", "--input", "in.jsonl", "--output", "out.jsonl")
    assert answer.code == 0
    assert "html: in.jsonl, line 1: column 'html' holds null, not text" in answer.out
    found = read_pages(tmp_path / "out.jsonl")
    assert [row["html_error"] for row in found] == [1, 1, 1, 1, 0]
    assert [row["timestamp_error"] for row in found] == [0, 0, 0, 0, 1]
    told = json.loads(call("tag", "--input", "in.jsonl", "--output", "2.jsonl", "--json").out)
    assert (told["with_errors"], told["types"]["html"]["errors"], told["types"]["timestamp"]["errors"]) == (5, 4, 1)


def test_half_of_a_character_is_kept_elsewhere(call: Any, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"html": "\\ud800", "url": "u", "x": "\\udc00"}\n')
    assert call("tag", "--input", "in.jsonl", "--output", "out.jsonl").code == 0
    assert read_pages(tmp_path / "out.jsonl")[0]["x"] == "\udc00"


def test_tag_needs_no_torch(tmp_path: Path) -> None:
    write_pages(tmp_path / "in.jsonl", [])
    code = (
        "import sys\nfrom textune.cli import main\n"
        "try: main(['tag', '--input', 'in.jsonl', '--output', 'out.jsonl'])\n"
        "except SystemExit: pass\n"
        "print(*{'torch', 'transformers'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment(), check=True
    )
    assert done.stdout.split() == [] and "empty" in done.stderr


# --- several processes -----------------------------------------------------------------------------------------------

FATAL = """
import os, signal
class Fatal:
    type = "fatal"
    def tag(self, text, url):
        if url.endswith("-7"):
            os.kill(os.getpid(), signal.SIGKILL)
        return "alive"
"""


def environment(*folders: Path) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [ROOT, *folders])), "OMP_NUM_THREADS": "1"}


def test_a_page_that_ends_its_process_is_an_error_of_that_page(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By several processes as by none: the same rows but for that page."""
    (tmp_path / "tagger_that_kills.py").write_text(FATAL)
    monkeypatch.syspath_prepend(str(tmp_path))
    path = write_pages(tmp_path / "in.jsonl.gz", pages(20))
    call("tag", "--input", path.name, "--output", "expected.jsonl.gz")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(shards, "PART_BYTES", 3_000)
    words = ("--output", "out.jsonl.gz", "--own-tagger", "tagger_that_kills:Fatal", "--workers", "2", "--json")
    told = json.loads(call("tag", "--input", path.name, *words).out)
    assert told["types"]["fatal"]["errors"] == 1 and told["with_errors"] == 1
    expected, found = read_pages(tmp_path / "expected.jsonl.gz"), read_pages(tmp_path / "out.jsonl.gz")
    comments = {row["id"]: row["fatal_error_comment"] for row in found if row["fatal_error"]}
    assert comments == {7: "the process that tagged it was ended by SIGKILL"}
    assert [{name: row[name] for name in expected[0]} for row in found] == expected
    assert names(tmp_path)[-3:] == ["in.jsonl.gz", "out.jsonl.gz", "tagger_that_kills.py"]


def start(tmp_path: Path, *words: str) -> subprocess.Popen[bytes]:
    code = (
        "import sys\nfrom textune.metadata.taggers import shards\nshards.PART_BYTES = 20_000\n"
        "from textune.cli import main\nif __name__ == '__main__': main(sys.argv[1:])"
    )
    (tmp_path / "small_parts.py").write_text(code)
    return subprocess.Popen(
        [sys.executable, "small_parts.py", "tag", *words], cwd=tmp_path, env=environment(), stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("whole_group", [False, True], ids=["the command", "with its workers"])
def test_killed_at_random_moments_each_page_is_there_once(tmp_path: Path, whole_group: bool) -> None:
    draw = Random(5)
    rows = pages(6_000)
    write_pages(tmp_path / "in.jsonl.gz", rows)
    words = ("--input", "in.jsonl.gz", "--workers", "2", "--output")
    started = time.monotonic()
    with start(tmp_path, *words, "expected.jsonl.gz") as process:
        assert process.wait() == 0
    seconds = time.monotonic() - started
    for attempt in range(200):
        if (tmp_path / "out.jsonl.gz").exists() and not (tmp_path / "out.jsonl.gz.parts").exists():
            break  # killed when it had nothing left to do
        process = start(tmp_path, *words, "out.jsonl.gz")
        try:
            _, said = process.communicate(timeout=draw.uniform(0.2, 1.0) * seconds if attempt < 15 else None)
            assert process.returncode == 0, said
        except subprocess.TimeoutExpired:
            if whole_group:
                os.killpg(process.pid, signal.SIGKILL)
            process.kill()
            process.communicate()
    assert (tmp_path / "out.jsonl.gz").read_bytes() == (tmp_path / "expected.jsonl.gz").read_bytes()
    assert [row["id"] for row in read_pages(tmp_path / "out.jsonl.gz")] == list(range(6_000))
    assert names(tmp_path) == ["expected.jsonl.gz", "in.jsonl.gz", "out.jsonl.gz", "small_parts.py"]


def test_two_processes_do_not_write_one_output(call: Any, tmp_path: Path) -> None:
    write_pages(tmp_path / "in.jsonl", pages(3))
    (tmp_path / "out.jsonl.parts").mkdir()
    with held(tmp_path / "out.jsonl.parts" / "lock"):
        answer = call("tag", "--input", "in.jsonl", "--output", "out.jsonl")
    assert answer.code == AGAIN and f"process {os.getpid()}" in answer.err
    assert names(tmp_path / "out.jsonl.parts") == ["lock"]
    # Killed before it had begun: that is nothing to go on with, and what is there is not replaced.
    (tmp_path / "out.jsonl").write_text("mine")
    answer = call("tag", "--input", "in.jsonl", "--output", "out.jsonl")
    assert answer.code == 2 and "out.jsonl already exists" in answer.err
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    assert call("tag", "--input", "in.jsonl", "--output", "out.jsonl", "--force").code == 0
    assert names(tmp_path) == ["in.jsonl", "out.jsonl"]


def test_a_folder_of_outputs_and_one_of_them_are_not_written_at_once(call: Any, tmp_path: Path) -> None:
    for number in range(3):
        write_pages(tmp_path / f"in-{number}.jsonl", pages(3))
    parts = tmp_path / "out" / "in-1.jsonl.parts"
    parts.mkdir(parents=True)
    with held(parts / "lock"):
        answer = call("tag", "--input", "in-?.jsonl", "--output", "out")
        assert answer.code == AGAIN and "in-1.jsonl (process" in answer.err
        assert names(parts) == ["lock"]
    told = json.loads(call("tag", "--input", "in-?.jsonl", "--output", "out", "--json").out)
    assert told["kept"] >= 1 and told["pages"] == 9
    assert names(tmp_path / "out") == ["in-0.jsonl", "in-1.jsonl", "in-2.jsonl", "tag.json"]


def test_an_output_that_another_process_has_just_written_is_not_replaced(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was not there when the command began."""
    write_pages(tmp_path / "in.jsonl", pages(3))

    class Late(OneProcess):
        def __enter__(self) -> OneProcess:
            (tmp_path / "out.jsonl").write_text("theirs")
            return self

    monkeypatch.setattr(importlib.import_module("textune.pipeline.tag"), "Crew", Late)
    answer = call("tag", "--input", "in.jsonl", "--output", "out.jsonl")
    assert answer.code == 2 and "out.jsonl already exists" in answer.err
    assert (tmp_path / "out.jsonl").read_text() == "theirs" and names(tmp_path) == ["in.jsonl", "out.jsonl"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(num: int) -> int:
        """Kilobytes of the largest process."""
        with gzip.open(tmp_path / f"{num}.jsonl.gz", "wt", compresslevel=1) as file:
            for row in pages(1_000) * (num // 1_000):
                file.write(json.dumps(row) + "\n")
        code = (
            "import subprocess, sys, resource\n"
            f"words = 'tag --input {num}.jsonl.gz --output {num}.out.jsonl.gz --workers 2 --quiet'.split()\n"
            "subprocess.run([sys.executable, '-m', 'textune', *words], check=True, stdout=subprocess.DEVNULL)\n"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment(), capture_output=True, check=True
        )
        return int(done.stdout)

    small, large = peak(50_000), peak(150_000)
    assert large < 1.15 * small, (small, large)
