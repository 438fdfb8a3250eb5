"""Shards of a stream for tests, a loader over them, and a web server with the manners of real ones."""

from __future__ import annotations

import gzip
import http.server
import io
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from textune.batches.assembler import Assembler
from textune.batches.batch import Batch
from textune.batches.maker import TextMaker
from textune.batches.plan import Plan
from textune.batches.streamed import StreamLoader
from textune.batches.tokens import TextEncoder
from textune.config.schema import TokensSection, TrainSection
from textune.config.sources import Columns, Labels, StreamSource
from textune.data.labels.map import LABEL, REGRESSION, LabelMap
from textune.data.shards.labelled import RowStream, open_stream

SIZES = {"a.jsonl": 11, "b.parquet": 23, "c.jsonl.gz": 3, "d.jsonl.zst": 14, "e.parquet": 1, "f.jsonl": 7}
"""Shards of uneven size and every format; 59 rows."""
WORDS = ["the", "film", "is", "good", "bad", "very", "dull", "a", "one", "great"]


def make_rows(start: int, num: int) -> list[dict[str, Any]]:
    """Rows whose label is their number in the whole stream: it tells one from all others."""
    return [
        {"text": " ".join(WORDS[(number + k) % 10] for k in range(1 + number % 9)), "label": float(number)}
        for number in range(start, start + num)
    ]


def write_shard(path: Path, rows: Sequence[Mapping[str, Any]], *, row_group_size: int = 5) -> Path:
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=row_group_size)
        return path
    data = "".join(json.dumps(row) + "\n" for row in rows).encode()
    data = {".gz": gzip.compress, ".zst": zstandard.compress}.get(path.suffix, bytes)(data)
    path.write_bytes(data)
    return path


def write_shards(folder: Path, sizes: Mapping[str, int] = SIZES) -> list[str]:
    start, files = 0, []
    for name, num in sizes.items():
        files.append(str(write_shard(folder / name, make_rows(start, num))))
        start += num
    return files


def open_rows(
    files: Sequence[str],
    *,
    columns: Columns | None = None,
    labels: Labels | None = None,
    label_map: LabelMap = REGRESSION,
    on_bad_row: Any = "error",
    **keys: Any,
) -> RowStream:
    section = StreamSource(files=tuple(files), **keys)
    stream = open_stream(section, columns or Columns(), labels or Labels(), on_bad_row=on_bad_row)
    return RowStream(**{**vars(stream), "label_maps": {LABEL: label_map}})


def make_loader(
    stream: RowStream, tokenizer: Any, *, state: Any = None, drop_longer: int | None = None, **keys: Any
) -> Any:
    section = TrainSection(**{"batch_size": 7, "seed": 3, **keys})
    encoder = TextEncoder(tokenizer, TokensSection(max_length=16, drop_longer=drop_longer))
    return StreamLoader(
        TextMaker(stream, encoder),
        Plan.of(section, None),
        Assembler("packed", 0),
        prefetch=section.prefetch,
        max_tokens=None if section.max_tokens == "auto" else section.max_tokens,
        state=state,
    )


def numbers(batch: Batch) -> list[int]:
    """The rows of a batch that this rank computes, by their numbers in the stream."""
    return [int(target) for part in batch.micro_batches if part.counts for target in part.targets[LABEL].tolist()]


def signature(batch: Batch) -> Any:
    """All that a step sees of a batch."""
    parts = [
        (p.tokens.ids_T.tolist(), p.targets[LABEL].tolist(), None if p.weights is None else p.weights.tolist())
        for p in batch.micro_batches
    ]
    return batch.step, batch.num_tokens, parts


def take(loader: Any, num: int) -> list[Batch]:
    batches = iter(loader)
    try:
        return list(islice(batches, num))
    finally:
        batches.close()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Serves a folder: parts of files where `server.ranges`, and broken connections as long as `server.cuts` lasts."""

    server: Any

    def do_GET(self) -> None:
        self.server.requests.append((self.path, self.headers["Range"]))
        self.server.logins.append(self.headers["Authorization"])
        path = self.server.folder / self.path.partition("?")[0].lstrip("/")
        if self.server.refusals:
            self.send_error(self.server.refusals.pop())
            return
        if not path.is_file():
            self.send_error(404)
            return
        data, start, stop = path.read_bytes(), 0, None
        asked = self.headers["Range"] if self.server.ranges else None
        if asked:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, stop = int(first), int(last) + 1 if last else None
            if start >= len(data):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(data)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
        body = data[start:stop]
        self.send_response(206 if asked else 200)
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{start + len(body) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.cuts and len(body) > 1:
            self.server.cuts -= 1
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        pass


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up in the middle is none of ours."""


@contextmanager
def web_server(folder: Path, *, ranges: bool = True) -> Iterator[Any]:
    """A server of the files in a folder; `server.url` is its address."""
    server: Any = _Server(("127.0.0.1", 0), _Handler)
    server.folder, server.ranges, server.cuts, server.refusals = folder, ranges, 0, []
    server.requests, server.logins = [], []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def read_bytes(file: io.BufferedReader) -> bytes:
    with file:
        return file.read()
