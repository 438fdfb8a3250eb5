"""Shards on web servers, which need only Python; after `far.py`."""

from __future__ import annotations

import glob
import http.client
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from textune.data.shards.far import BROKEN, BUFFER_BYTES, TRIES, FarFile, cause, lost, wait_or_give_up
from textune.data.shards.shard import Shard, require_size
from textune.data.shards.urls import scrubbed, shown, web_address
from textune.errors import DataError
from textune.exitcodes import worth_a_retry

TIMEOUT_SECONDS = 60.0


def web_shard(url: str) -> Shard:
    """The shard at a URL; DataError where its server cannot be reached or does not tell its size."""
    name = shown(url)
    if glob.has_magic(urllib.parse.urlsplit(web_address(url).url).path):
        raise DataError(
            f"{name} is a pattern, but a web server does not list its files.",
            hint="Name every shard in data.train.files.",
        )
    for number in range(TRIES):
        try:
            # The first byte instead of HEAD, which signed URLs refuse.
            with _request(url, first=0, last=0) as response:
                size = _whole_size(response)
            break
        except BROKEN as error:
            wait_or_give_up(url, number, error)
    if size is None:
        raise DataError(f"The server of {name} does not report its size.", hint="Download the file and name the copy.")
    return Shard(url, name, size)


def _request(url: str, *, first: int, last: int | None = None) -> Any:
    """The answer to one request for bytes from `first` on.

    DataError if it is refused for good, one of `BROKEN` if another try may help.
    """
    address = web_address(url)
    headers = {
        "Range": f"bytes={first}-{'' if last is None else last}",
        "Accept-Encoding": "identity",
        "User-Agent": "textune",
    }
    request = urllib.request.Request(address.url, headers=headers)
    if address.authorization:  # not for a server that this one may redirect to
        request.add_unredirected_header("Authorization", address.authorization)
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # no byte there: the file is empty
            return error
        error.close()
        if not worth_a_retry(error.code):
            raise lost(url, error) from cause(url, error)
        raise
    except (http.client.InvalidURL, ValueError) as error:
        raise DataError(
            f"{shown(url)} is not a URL: {scrubbed(str(error), url)}.", hint="Check data.train.files."
        ) from cause(url, error)


def _whole_size(response: Any) -> int | None:
    """Bytes of the whole file, from the headers of an answer."""
    total = response.headers.get("Content-Range", "").rpartition("/")[2]
    if response.status in {206, 416}:
        return int(total) if total.isdigit() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


class WebFile(FarFile):
    """A file on a web server: each seek is one request."""

    def __init__(self, shard: Shard) -> None:
        super().__init__(shard)
        self._answer: Any = None
        self._answer_at = 0

    def _read_at(self, buffer: memoryview) -> int:
        if self._answer is None or self._answer_at != self._at:
            self._ask()
        num_read = int(self._answer.readinto(buffer))
        self._answer_at = self._at + num_read
        return num_read

    def _ask(self) -> None:
        self._hang_up()
        self._answer = _request(self._shard.location, first=self._at)
        require_size(self._shard, _whole_size(self._answer))
        if self._answer.status != 206:  # the whole file, from a server without range requests
            left = self._at
            while left:
                skipped = len(self._answer.read(min(left, BUFFER_BYTES)))
                if not skipped:
                    raise OSError("the connection ended before the file did")
                left -= skipped
        self._answer_at = self._at

    def _hang_up(self) -> None:
        if self._answer is not None:
            self._answer.close()
            self._answer = None
