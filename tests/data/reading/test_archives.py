"""Files inside zip archives: found by name or by their folder's, read in place, refused where something is wrong."""

from __future__ import annotations

import stat
import struct
import warnings
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kits.errors import refused

from textune.config.sources import FilesSource
from textune.data.reading import archives
from textune.data.reading.archives import size_of
from textune.data.reading.files import find_files, raw_blocks
from textune.data.reading.sources import read_source
from textune.errors import DataError

ROWS = "sentence\tlabel\na fine film\t1\na dull one\t0\n"


def pack(path: Path, files: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def test_a_named_file_of_an_archive_is_read_like_one_on_disk(tmp_path: Path) -> None:
    archive = pack(tmp_path / "SST-2.zip", {"SST-2/": "", "SST-2/train.tsv": ROWS, "SST-2/dev.tsv": "x"})
    (tmp_path / "train.tsv").write_text(ROWS, encoding="utf-8")
    inside = read_source(FilesSource(files=(f"{archive}!SST-2/train.tsv",)))
    outside = read_source(FilesSource(files=(str(tmp_path / "train.tsv"),)))
    assert inside.table == outside.table and inside.fingerprint == outside.fingerprint
    assert inside.place(1) == outside.place(1) == "train.tsv, line 3"
    assert size_of(Path(f"{archive}!SST-2/train.tsv")) == len(ROWS)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["SST-2.zip", "train.tsv"]


def test_a_file_whose_folder_is_absent_is_found_in_the_archive_of_that_name(tmp_path: Path) -> None:
    pack(tmp_path / "SST-2.zip", {"SST-2/train.tsv": ROWS, "SST-2/original/more.tsv": ROWS})
    assert len(read_source(FilesSource(files=(str(tmp_path / "SST-2/train.tsv"),)))) == 2
    assert len(read_source(FilesSource(files=(str(tmp_path / "SST-2/original/more.tsv"),)))) == 2
    (tmp_path / "SST-2").mkdir()
    with refused(DataError):  # the folder is there now, and it is what the path means
        find_files([str(tmp_path / "SST-2/train.tsv")])


def test_other_formats_inside_an_archive(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": [1]}), tmp_path / "rows.parquet")
    content = (tmp_path / "rows.parquet").read_bytes()
    archive = pack(tmp_path / "x.zip", {"r.parquet": content, "r.jsonl": '{"text": "a", "label": 1}\n'})
    assert read_source(FilesSource(files=(f"{archive}!r.parquet",))).table.to_pylist() == [{"text": "a", "label": 1}]
    assert read_source(FilesSource(files=(f"{archive}!r.jsonl",))).table.to_pylist() == [{"text": "a", "label": 1}]


def test_a_name_with_an_exclamation_mark_is_a_file_if_there_is_one(tmp_path: Path) -> None:
    (tmp_path / "odd.zip!rows.tsv").write_text(ROWS, encoding="utf-8")
    assert len(read_source(FilesSource(files=(str(tmp_path / "odd.zip!rows.tsv"),)))) == 2


def test_an_archive_without_the_file_names_what_it_has(tmp_path: Path) -> None:
    archive = pack(tmp_path / "SST-2.zip", {"SST-2/trian.tsv": ROWS, "readme.md": "x"})
    for path in (f"{archive}!SST-2/train.tsv", str(tmp_path / "SST-2/train.tsv")):
        with pytest.raises(DataError) as caught:
            find_files([path])
        assert (caught.value.value, caught.value.place) == ("SST-2/train.tsv", "SST-2.zip")
        assert '"SST-2.zip!SST-2/trian.tsv"' in caught.value.hint and "readme.md" in caught.value.hint
    with refused(DataError, value=str(tmp_path / "no.zip")):
        find_files([f"{tmp_path}/no.zip!a.tsv"])


def test_an_archive_named_alone_says_how_to_name_a_file_in_it(tmp_path: Path) -> None:
    archive = pack(tmp_path / "SST-2.zip", {"SST-2/train.tsv": ROWS})
    with pytest.raises(DataError) as caught:
        read_source(FilesSource(files=(str(archive),)))
    assert "is a zip archive" in caught.value.reason and "SST-2.zip!" in caught.value.hint


def test_members_that_are_not_read(tmp_path: Path) -> None:
    with warnings.catch_warnings(), zipfile.ZipFile(tmp_path / "odd.zip", "w") as archive:
        warnings.simplefilter("ignore", UserWarning)  # zipfile warns of the second file of a name
        archive.writestr("twice.tsv", ROWS)
        archive.writestr("twice.tsv", ROWS)
        link = zipfile.ZipInfo("link.tsv")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("bz.tsv", ROWS, zipfile.ZIP_BZIP2)
    for name in ("twice.tsv", "link.tsv", "bz.tsv"):
        with refused(DataError, value=name, place="odd.zip"):
            archives.located(Path(f"{tmp_path}/odd.zip!{name}"))


def test_a_name_that_leads_out_of_the_archive_reaches_nothing(tmp_path: Path) -> None:
    (tmp_path / "secret.tsv").write_text(ROWS, encoding="utf-8")
    (tmp_path / "in").mkdir()
    other = "sentence\tlabel\nfrom the archive\t1\n"
    archive = pack(tmp_path / "in" / "a.zip", {"b.tsv": ROWS, "../secret.tsv": other})
    found = read_source(FilesSource(files=(f"{archive}!../secret.tsv",)))
    assert found.table.column("sentence").to_pylist() == ["from the archive"]
    with refused(DataError, reason="does not hold"):
        find_files([f"{archive}!../../secret.tsv"])
    assert sorted(path.name for path in tmp_path.rglob("*.tsv")) == ["secret.tsv"]


def test_an_encrypted_file_is_refused(tmp_path: Path) -> None:
    archive = pack(tmp_path / "x.zip", {"rows.tsv": ROWS})
    content = bytearray(archive.read_bytes())
    at = content.index(b"PK\x01\x02")  # the entry of the directory, where bit 0 of the flags says so
    struct.pack_into("<H", content, at + 8, struct.unpack_from("<H", content, at + 8)[0] | 1)
    archive.write_bytes(content)
    with refused(DataError, value="rows.tsv", reason="encrypted"):
        find_files([f"{archive}!rows.tsv"])


def test_what_unpacks_to_far_more_than_text_can_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = ROWS + "".join(f"film {number} of {number**3}\t1\n" for number in range(20_000))
    archive = pack(tmp_path / "x.zip", {"bomb.tsv": b"\0" * 1_000_000, "rows.tsv": usual})
    find_files([f"{archive}!bomb.tsv"])  # small enough to do no harm
    monkeypatch.setattr(archives, "_LARGE", 100_000)
    find_files([f"{archive}!rows.tsv"])
    with refused(DataError, value="bomb.tsv", reason="unpacks to"):
        find_files([f"{archive}!bomb.tsv"])


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    whole = pack(tmp_path / "x.zip", {"rows.tsv": ROWS * 100}, zipfile.ZIP_STORED).read_bytes()
    (tmp_path / "short.zip").write_bytes(whole[: len(whole) // 2])
    with refused(DataError, place="short.zip"):
        find_files([f"{tmp_path}/short.zip!rows.tsv"])
    changed = bytearray(whole)
    changed[200] ^= 1
    (tmp_path / "changed.zip").write_bytes(changed)
    with refused(DataError, place="changed.zip!rows.tsv"):
        list(raw_blocks(Path(f"{tmp_path}/changed.zip!rows.tsv")))
    deflated = bytearray(pack(tmp_path / "d.zip", {"rows.tsv": ROWS * 100}).read_bytes())
    deflated[45:60] = b"\xff" * 15
    (tmp_path / "d.zip").write_bytes(deflated)
    with refused(DataError, place="d.zip!rows.tsv"):
        list(raw_blocks(Path(f"{tmp_path}/d.zip!rows.tsv")))
