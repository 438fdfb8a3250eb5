"""Finding and reading shards: here, on a web server, in a store; every format from every position; what is wrong with
them."""

import base64
import gzip
import io
import json
import sys
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.utils import infer_storage_options
from kits.errors import refused
from kits.streams import make_rows, open_rows, read_bytes, web_server, write_shard

from textune.config.sources import Columns
from textune.data.reading.files import short_names
from textune.data.shards import far
from textune.data.shards import reader as shards
from textune.data.shards.blocks import BlockReader, Cursor
from textune.data.shards.reader import BEGINNING, open_reader, shard_format
from textune.data.shards.remote import find_shards, open_shard
from textune.errors import DataError

WANTED = frozenset({"text", "label"})


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(far, "RETRY_SECONDS", 0.0)


def all_rows(location: str, chunk: int = 4) -> list[Any]:
    """The labels of a shard, read in pieces and, from every position, to its end."""
    (shard,) = find_shards([location])
    kind = shard_format(shard, "auto")
    reader = open_reader(shard, kind, BEGINNING, wanted=WANTED)
    labels, positions = [], [reader.position]
    while True:
        piece, taken = reader.read(chunk)
        labels += piece.table["label"].to_pylist() if taken else []
        positions.append(reader.position)
        if taken < chunk:
            break
    reader.close()
    for position in positions:
        again = open_reader(shard, kind, position, wanted=WANTED)
        piece, taken = again.read(1000)
        again.close()
        assert (piece.table["label"].to_pylist() if taken else []) == labels[len(labels) - taken :]
        assert taken == len(labels) - position.number
    return labels


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst", "a.parquet", "a.ndjson"])
def test_every_format_from_every_position(tmp_path: Path, name: str) -> None:
    path = write_shard(tmp_path / name, make_rows(0, 22))
    assert all_rows(str(path)) == list(range(22))
    assert all_rows(path.as_uri()) == list(range(22))


def test_lines_of_every_kind_and_their_places(tmp_path: Path) -> None:
    text = '\ufeff{"text": "é", "label": 1}\r\n\n  \n{"text": "b", "label": 2}\n{"text": "c", "label": 3}'
    (tmp_path / "a.jsonl").write_bytes(text.encode())
    (tmp_path / "a b%.jsonl").write_bytes(text.encode() + b'\n{"text": "\xff"}\nnull\n')
    (shard,) = find_shards([str(tmp_path / "a.jsonl")])
    reader = open_reader(shard, "jsonl", BEGINNING, wanted=WANTED)
    (one, _), (two, _), (end, none) = reader.read(1), reader.read(5), reader.read(1)
    reader.close()
    assert (one.table["text"].to_pylist(), one.places[0]) == (["é"], "a.jsonl, line 1")
    assert [two.places[0], two.places[1]] == ["a.jsonl, line 4", "a.jsonl, line 5"]
    assert (end.table.num_rows, none) == (0, 0)
    (shard,) = find_shards([(tmp_path / "a b%.jsonl").as_uri()])
    reader = open_reader(shard, "jsonl", BEGINNING, wanted=WANTED)
    piece, taken = reader.read(10)
    reader.close()
    assert taken == 5
    assert [row.place for row in piece.bad] == ["a b%.jsonl, line 6", "a b%.jsonl, line 7"]
    assert f"byte 0xff at offset {len(text.encode()) + 11}" in piece.bad[0].reason


def test_shards_are_found_in_order_and_once(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "c.jsonl"):
        write_shard(tmp_path / name, make_rows(0, 1))
    found = find_shards([str(tmp_path / "c.jsonl"), str(tmp_path / "*.jsonl"), (tmp_path / "a.jsonl").as_uri()])
    assert [shard.name for shard in found] == ["c.jsonl", "a.jsonl", "b.jsonl"]
    stream = open_rows([str(tmp_path / "*.jsonl")])
    assert stream.name == "a.jsonl and 2 more shards"
    same = open_rows([str(tmp_path / "a.jsonl"), str(tmp_path / "[bc].jsonl")])
    assert stream.fingerprint == same.fingerprint
    write_shard(tmp_path / "b.jsonl", make_rows(0, 2))
    assert open_rows([str(tmp_path / "*.jsonl")]).fingerprint != stream.fingerprint


def test_shards_of_one_name_are_told_apart(tmp_path: Path) -> None:
    """By their folders, as far up as needed and no farther: the data may be moved as a whole."""
    for home, sizes in (("home", (1, 2, 3)), ("moved", (1, 2, 3)), ("other", (2, 1, 3))):
        for folder, num in zip(("a/x", "b/x", "b/y"), sizes, strict=True):
            (tmp_path / home / folder).mkdir(parents=True)
            write_shard(tmp_path / home / folder / "s.jsonl", make_rows(0, num))
    names, fingerprints = set(), []
    for home in ("home", "moved", "other"):
        stream = open_rows([str(tmp_path / home / "**" / "*.jsonl")])
        names.add(tuple(shard.name for shard in stream.source.shards))
        fingerprints.append(stream.fingerprint)
    assert names == {("a/x/s.jsonl", "b/x/s.jsonl", "y/s.jsonl")}
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    swapped = open_rows([str(tmp_path / "home" / folder / "s.jsonl") for folder in ("b/x", "a/x", "b/y")])
    assert swapped.fingerprint != fingerprints[0]
    assert short_names([Path("s"), Path("a/s"), Path("t"), Path("t")]) == ["s", "a/s", "t", "t"]


# --- web servers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranges", [True, False])
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.parquet"])
def test_a_web_server_is_as_good_as_a_file(tmp_path: Path, name: str, ranges: bool) -> None:
    write_shard(tmp_path / name, make_rows(0, 22))
    with web_server(tmp_path, ranges=ranges) as server:
        assert all_rows(f"{server.url}/{name}?key=secret") == list(range(22))
        (shard,) = find_shards([f"{server.url}/{name}?key=secret"])
        assert "secret" not in shard.name and shard.size == (tmp_path / name).stat().st_size


def test_a_position_is_asked_for_and_not_read_up_to(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.jsonl", make_rows(0, 200))
    with web_server(tmp_path) as server:
        (shard,) = find_shards([f"{server.url}/a.jsonl"])
        offset = len(b"".join(path.read_bytes().splitlines(keepends=True)[:150]))
        reader = open_reader(shard, "jsonl", shards.Position(offset, 150), wanted=WANTED)
        piece, _ = reader.read(2)
        reader.close()
        assert piece.table["label"].to_pylist() == [150, 151]
        assert piece.places[0] == f"{server.url}/a.jsonl, line 151"
        assert server.requests[-1] == ("/a.jsonl", f"bytes={offset}-")


def test_broken_connections_are_made_again(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    (tmp_path / "a.jsonl").write_bytes(data)
    for ranges in (True, False):
        with web_server(tmp_path, ranges=ranges) as server:
            (shard,) = find_shards([f"{server.url}/a.jsonl"])
            server.cuts = 3 if ranges else 0
            server.refusals = [503, 429]
            assert read_bytes(open_shard(shard)) == data
    with web_server(tmp_path) as server:
        (shard,) = find_shards([f"{server.url}/a.jsonl"])
        server.refusals = [503] * 50
        with pytest.raises(DataError, match=r"a\.jsonl cannot be read: the server answers 503"):
            read_bytes(open_shard(shard))
        assert len(server.requests) == 1 + far.TRIES
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read: .*refused"):
        read_bytes(open_shard(shard))


def test_a_file_on_the_web_is_sought_in_as_any_other(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"0123456789" * 10)
    (tmp_path / "empty.jsonl").write_bytes(b"")
    with web_server(tmp_path) as server:
        shard, empty = find_shards([f"{server.url}/a.jsonl", f"{server.url}/empty.jsonl"])
        with open_shard(shard) as file:
            assert (file.seek(-5, io.SEEK_END), file.read()) == (95, b"56789")
            assert (file.seek(42), file.read(3), file.tell()) == (42, b"234", 45)
            assert (file.seek(500), file.read(1)) == (500, b"")
        assert (empty.size, read_bytes(open_shard(empty))) == (0, b"")


def test_a_file_that_changes_on_the_web_is_noticed(tmp_path: Path) -> None:
    write_shard(tmp_path / "a.jsonl", make_rows(0, 5))
    with web_server(tmp_path) as server:
        (shard,) = find_shards([f"{server.url}/a.jsonl"])
        write_shard(tmp_path / "a.jsonl", make_rows(0, 6))
        with pytest.raises(DataError, match=r"a\.jsonl changed while the run was reading it"):
            read_bytes(open_shard(shard))


def test_a_damaged_file_on_the_web_is_named(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.parquet", make_rows(0, 50))
    path.write_bytes(path.read_bytes()[:-20])
    with web_server(tmp_path) as server, pytest.raises(DataError, match=r"a\.parquet is not a whole parquet file"):
        all_rows(f"{server.url}/a.parquet")


def test_secrets_of_a_url_are_sent_and_never_shown(tmp_path: Path) -> None:
    data = write_shard(tmp_path / "a.jsonl", make_rows(0, 9)).read_bytes()
    with web_server(tmp_path) as server:
        place = server.url.removeprefix("http://")
        url = f"http://me:S3CRET@{place}/a.jsonl?sig=HUSH"
        (shard,) = find_shards([url])
        assert read_bytes(open_shard(shard)) == data
        assert set(server.logins) == {"Basic " + base64.b64encode(b"me:S3CRET").decode()}
        assert shard.name == f"{server.url}/a.jsonl" and "S3CRET" not in repr(shard) and "HUSH" not in repr(shard)
        rotated = open_rows([f"http://me:OTHER@{place}/a.jsonl?sig=OTHER"])
        assert rotated.fingerprint == open_rows([url]).fingerprint == open_rows([f"{server.url}/a.jsonl"]).fingerprint
        server.refusals = [403]
        with pytest.raises(DataError) as refused:
            find_shards([url])
    with pytest.raises(DataError) as unreachable:
        find_shards([url])
    with pytest.raises(DataError) as odd:
        find_shards([url.replace("/a.jsonl", "/a b.jsonl")])
    for caught, words in ((refused, "answers 403"), (unreachable, "refused"), (odd, "a blank is written %20")):
        said = "".join(traceback.format_exception(caught.value)) if caught is not odd else str(caught.value)
        assert words in said.replace("A blank", "a blank") and "S3CRET" not in str(caught.value) and "HUSH" not in said


def test_a_connection_that_always_breaks_is_tried_so_many_times(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(bytes(1000))
    with web_server(tmp_path, ranges=False) as server:
        (shard,) = find_shards([f"{server.url}/a.jsonl"])
        server.cuts = 1000
        with open_shard(shard) as file, pytest.raises(DataError, match="the connection ended before the file did"):
            file.seek(900)
            file.read()
        assert len(server.requests) == 1 + far.TRIES


# --- stores ----------------------------------------------------------------------------------------------------------


def test_a_store_of_fsspec(tmp_path: Path) -> None:
    store = fsspec.filesystem("memory")
    try:
        for name in ("one.jsonl.gz", "two.parquet"):
            store.pipe(f"/shards/{name}", write_shard(tmp_path / name, make_rows(0, 9)).read_bytes())
            assert all_rows(f"memory://shards/{name}") == list(range(9))
        found = find_shards(["memory://shards/*.*"])
        assert [shard.name for shard in found] == ["memory://shards/one.jsonl.gz", "memory://shards/two.parquet"]
        for pattern, words in (("memory://shards/*.csv", "No file matches"), ("memory://shards", "is not a file")):
            with pytest.raises(DataError, match=words):
                find_shards([pattern])
        with pytest.raises(DataError, match=r"memory://shards/three\.jsonl cannot be read"):
            find_shards(["memory://shards/three.jsonl"])
        (shard,) = find_shards(["memory://shards/two.parquet"])
        store.rm("/shards/two.parquet")
        with pytest.raises(DataError, match=r"two\.parquet cannot be read"):
            open_shard(shard)
        store.pipe("/shards/two.parquet", b"short")
        with pytest.raises(DataError, match=r"two\.parquet changed"):
            open_shard(shard)
    finally:
        store.rm("/shards", recursive=True)


class FlakyFile(io.BytesIO):
    """Breaks after two bytes, as often as `breaks` says."""

    breaks: ClassVar[list[Exception]] = []

    def read(self, size: int | None = -1, /) -> bytes:
        if self.breaks and self.tell():
            raise self.breaks.pop()
        return super().read(2 if self.breaks else size)


class FlakyStore(MemoryFileSystem):
    """Needs a host and a password as ftp does, forgets them in the names it gives, and breaks as often as `breaks`
    says."""

    protocol = "flaky"
    cachable = False
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    breaks: ClassVar[list[Exception]] = []

    def __init__(self, host: str, password: str = "", **keys: Any) -> None:
        super().__init__(**keys)
        if password == "wrong":
            raise RuntimeError(f"{host} refuses {password}; sent to flaky://me:{password}@{host}/?sig=HUSH")

    @classmethod
    def _strip_protocol(cls, path: str) -> Any:
        return str(infer_storage_options(path)["path"]).rstrip("/")

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        found = infer_storage_options(path)
        return {key: found[key] for key in ("host", "password") if key in found}

    def _open(self, path: str, *args: Any, **keys: Any) -> Any:
        if self.breaks and "r" in (args[0] if args else keys.get("mode", "rb")):
            raise self.breaks.pop()
        file = super()._open(path, *args, **keys)
        return FlakyFile(file.getvalue()) if file.getvalue() else file


@pytest.fixture
def flaky() -> Iterator[FlakyStore]:
    fsspec.register_implementation("flaky", FlakyStore, clobber=True)
    FlakyStore.breaks.clear()
    yield FlakyStore("h")
    FlakyStore.store.clear()


def test_matches_in_a_store_with_a_host_are_opened_again(flaky: FlakyStore) -> None:
    for name in ("one", "two"):
        flaky.pipe(f"/d/{name}.jsonl", name.encode())
    found = find_shards(["flaky://me:S3CRET@h/d/*.jsonl"])
    assert [shard.name for shard in found] == ["flaky://h/d/one.jsonl", "flaky://h/d/two.jsonl"]
    assert [read_bytes(open_shard(shard)) for shard in found] == [b"one", b"two"]
    assert find_shards(["flaky://me:S3CRET@h/d/one.jsonl", "flaky://me:S3CRET@h/d/*.jsonl"]) == found
    with pytest.raises(
        DataError, match=r"^flaky://h/d cannot be read: h refuses \.\.\.; sent to flaky://h/"
    ) as caught:
        find_shards(["flaky://me:wrong@h/d?sig=HUSH"])
    assert "wrong" not in str(caught.value) and "HUSH" not in str(caught.value)


def test_connections_to_a_store_are_made_again(flaky: FlakyStore) -> None:
    flaky.pipe("/a.jsonl", b"0123456789")
    (shard,) = find_shards(["flaky://h/a.jsonl"])
    FlakyStore.breaks += [RuntimeError("reset"), OSError("reset")]
    assert read_bytes(open_shard(shard)) == b"0123456789"
    FlakyFile.breaks += [RuntimeError("reset"), TimeoutError("late")]
    assert read_bytes(open_shard(shard)) == b"0123456789"
    assert not FlakyStore.breaks and not FlakyFile.breaks
    FlakyStore.breaks += [OSError("reset")] * 50
    with pytest.raises(DataError, match=r"flaky://h/a\.jsonl cannot be read: reset"):
        open_shard(shard)
    assert len(FlakyStore.breaks) == 50 - far.TRIES
    FlakyStore.breaks += [PermissionError("no")]
    with pytest.raises(DataError, match=r"a\.jsonl cannot be read: no"):
        open_shard(shard)
    assert len(FlakyStore.breaks) == 50 - far.TRIES


# --- what is wrong, in a sentence ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("nowhere/*.jsonl", r"No file matches the pattern 'nowhere/\*\.jsonl'"),
        ("gone.jsonl", r"File not found: gone\.jsonl"),
        ("file://elsewhere/a.jsonl", "names the host 'elsewhere'"),
        ("nonsense://a.jsonl", "nonsense://a.jsonl: Protocol not known: nonsense.*Common protocols are https, s3"),
        ("https://example.org/part-*.jsonl", "a web server does not list its files"),
        ("http://", "cannot be read|is not a URL"),
        ("http://[::1/a.jsonl", "cannot be read|is not a URL|is a pattern"),
    ],
)
def test_shards_that_are_not_there(location: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=words):
        find_shards([location])


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> Any:
        raise ImportError(name)

    # `fsspec.registry` is a dictionary in the package, too.
    registry = sys.modules["fsspec.registry"]
    monkeypatch.setattr(registry, "_import_class", refuse)
    monkeypatch.setattr(registry, "registry", {})
    with pytest.raises(DataError, match="s3:// needs a package that is not installed: Install s3fs to access S3"):
        find_shards(["s3://bucket/a.jsonl"])


def test_no_files_and_wrong_answers(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.train\.files is empty"):
        find_shards([])
    with (
        web_server(tmp_path) as server,
        pytest.raises(DataError, match=r"gone\.jsonl cannot be read: the server answers 404"),
    ):
        find_shards([f"{server.url}/gone.jsonl"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.csv", b"text,label\n", "a.csv is a csv file; a stream is read from jsonl or parquet"),
        ("a.data", b"", "a.data has a name that does not show its format"),
        ("a.parquet.gz", b"", "packed parquet cannot be read in parts"),
        ("a.parquet", b"PAR1 and no more", "a.parquet is not a whole parquet file"),
        ("a.jsonl", b"PAR1....", "is a parquet file"),
        ("a.jsonl", b"\x1f\x8b....", "is packed with gzip. Give it a name that ends in .gz"),
        ("a.jsonl", '{"text": "a"}'.encode("utf-16"), "UTF-16"),
        ("a.jsonl", b'{"text": "a", "label": 1}\n{broken\n', "a.jsonl, line 2: not JSON"),
        ("a.jsonl", b'["text", 1]\n', r"a.jsonl, line 1: .* is an object, not|a.jsonl, line 1"),
        (
            "a.jsonl",
            b'{"txt": "a", "label": 1}\n',
            r"a.jsonl has no column 'text'; columns found: 'txt', 'label'.*'txt'",
        ),
        (
            "a.jsonl",
            b'{"text": "a", "lable": 1}\n',
            r"no column 'label'.*Did you mean 'lable'\? Set data.columns.label",
        ),
        (
            "a.jsonl.gz",
            gzip.compress(b'{"text": "a", "label": 1}\n' * 9)[:-12],
            "a.jsonl.gz cannot be unpacked: it is truncated",
        ),
        ("a.jsonl.gz", b"no gzip at all", "a.jsonl.gz cannot be unpacked"),
        ("a.jsonl", b'{"text": "a", "label": 1, "text": 2}\n', "the key 'text' occurs twice"),
    ],
)
def test_bad_shards(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_rows([str(tmp_path / name)]).sample()


def test_a_truncated_parquet_file_and_a_missing_column(tmp_path: Path) -> None:
    path = write_shard(tmp_path / "a.parquet", make_rows(0, 50))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a\.parquet is not a whole parquet file"):
        open_rows([str(path)]).sample()
    damaged = bytearray(whole)
    damaged[4:600] = bytes(596)
    path.write_bytes(damaged)
    with pytest.raises(DataError, match=r"a\.parquet is not a whole parquet file"):
        open_rows([str(path)]).sample()
    path.write_bytes(whole)
    with pytest.raises(
        DataError, match=r"a\.parquet has no column 'body'; columns found: 'text', 'label'.*data\.columns\.text"
    ):
        open_rows([str(path)], columns=Columns(text="body")).sample()
    with pytest.raises(DataError, match=r"no column 'body'.*data\.columns\.template"):
        open_rows([str(path)], columns=Columns(template="{body}")).sample()
    with pytest.raises(DataError, match=r"no column 'w'.*data\.columns\.weight"):
        open_rows([str(path)], columns=Columns(weight="w")).sample()


def test_a_line_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "MAX_LINE_BYTES", 1000)
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "x" * 990, "label": 1}))
    with pytest.raises(DataError, match=r"a\.jsonl, line 1 has more than 1,000 bytes"):
        open_rows([str(tmp_path / "a.jsonl")]).sample()


def test_a_key_that_later_rows_leave_out_is_empty_text(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1.0}, {"text": "b", "label": 2.0}, {"label": 3.0}, {"label": 4.0}]
    stream = open_rows([str(write_shard(tmp_path / "a.jsonl", rows))], block_rows=2)

    with closing(BlockReader(stream.source, stream.needed, seed=0, shuffles=False)) as reader:
        cursor = reader.read(Cursor()).after
        assert stream.labelled(reader.read(cursor)).examples.text.to_pylist() == ["", ""]


def test_shards_are_left_out_by_name_or_pattern(tmp_path: Path) -> None:
    files = [str(write_shard(tmp_path / name, make_rows(0, 2))) for name in ("a.jsonl", "b.jsonl", "c.parquet")]
    kept = find_shards([*files[:2], (tmp_path / "c.parquet").as_uri()], ["b.*"])
    assert kept == find_shards([files[0], files[2]])
    assert [shard.name for shard in find_shards(files, ["*.jsonl"])] == ["c.parquet"]
    with refused(DataError, key="data.train.exclude", value="d.jsonl", reason="it names no file"):
        find_shards(files, ["b.*", "d.jsonl"])
    with refused(DataError, key="data.train.exclude", value="*", reason="no file is left"):
        find_shards(files, ["*"])


def test_shards_of_servers_and_stores_are_left_out_without_their_secrets(tmp_path: Path) -> None:
    for name in ("a.jsonl", "b.jsonl"):
        write_shard(tmp_path / name, make_rows(0, 2))
    with web_server(tmp_path) as server:
        urls = [f"{server.url}/{name}?key=S3CRET" for name in ("a.jsonl", "b.jsonl")]
        for pattern in (urls[1], f"{server.url}/b.jsonl", "b.jsonl", "b*"):
            assert find_shards(urls, [pattern]) == find_shards(urls[:1])
        with pytest.raises(DataError) as caught:
            find_shards(urls, [f"{server.url}/c.jsonl?key=S3CRET"])
        assert "S3CRET" not in str(vars(caught.value)) and "c.jsonl" in caught.value.message
    store = MemoryFileSystem()
    for name in ("one.jsonl", "two.jsonl"):
        store.pipe(f"/leftout/{name}", b'{"text": "x"}\n')
    kept = find_shards(["memory://leftout/*.jsonl"], ["leftout/two.jsonl"])
    assert [shard.name for shard in kept] == ["memory://leftout/one.jsonl"]


def test_a_stream_without_some_shards_is_the_stream_of_the_others(tmp_path: Path) -> None:
    files = [str(write_shard(tmp_path / f"{name}.jsonl", make_rows(0, 2))) for name in "abc"]
    whole = open_rows([files[0], files[2]]).source
    less = open_rows([str(tmp_path / "*.jsonl")], exclude=("b.jsonl",)).source
    assert less.fingerprint == whole.fingerprint and less.shards == whole.shards


def test_rows_with_none_of_the_keys_are_rows(tmp_path: Path) -> None:
    rows = [{"text": "a", "label": 1.0}, {"other": "b"}, {"other": "c"}]
    stream = open_rows([str(write_shard(tmp_path / "a.jsonl", rows))], block_rows=1, on_bad_row="skip")
    with closing(BlockReader(stream.source, stream.needed, seed=0, shuffles=False)) as reader:
        cursor = reader.read(Cursor()).after
        (skipped,) = stream.labelled(reader.read(cursor)).examples.skipped
    assert skipped.place == "a.jsonl, line 2"
    path = write_shard(tmp_path / "b.jsonl", rows[1:])
    with pytest.raises(DataError, match=r"b\.jsonl has no column 'label'.*'other'"):
        open_rows([str(path)]).sample()
