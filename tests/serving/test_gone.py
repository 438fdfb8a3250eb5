"""Clients that hang up, stall, or find a model that is being replaced."""

from __future__ import annotations

import json
import shutil
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from kits.serving import client, listening, some_texts
from starlette.testclient import TestClient

from textune.prediction.load import load
from textune.prediction.predictor import Predictor
from textune.prediction.scorer import Scorer
from textune.serving.app import build_app
from textune.serving.engine import Engine
from textune.serving.models import Models
from textune.serving.settings import LoadOptions, Settings

PATIENCE = 300
"""Seconds that a test waits for what must come, on however busy a machine."""


def until(holds: Callable[[], bool], what: str) -> None:
    last = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < last, what
        time.sleep(0.02)


def connect(url: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=PATIENCE)


def test_a_client_that_hangs_up_leaves_the_queue(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """What it asked is not computed, and its tokens are free at once."""
    go, computed = threading.Event(), list[int]()
    real = Scorer.score_batches

    def wait(scorer: Scorer, store: Any, *arguments: Any, **options: Any) -> Any:
        computed.append(store.num_examples)
        assert go.wait(PATIENCE)
        return real(scorer, store, *arguments, **options)

    with listening({"topic": folders["topic"]}) as url:
        monkeypatch.setattr(Scorer, "score_batches", wait)  # a model that is opened scores a first text

        def queued() -> int:
            return int(httpx2.get(f"{url}/models", timeout=PATIENCE).json()[0]["queued_tokens"])

        def ask(texts: list[str]) -> socket.socket:
            body = json.dumps({"inputs": [[text] for text in texts]}).encode()
            head = (
                f"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
            )
            found = connect(url)
            found.sendall(head.encode() + b"\r\n\r\n" + body)
            return found

        with ask(some_texts(1)) as first:
            until(lambda: computed == [1], "the first was not computed")
            one = queued()
            with ask(some_texts(5)):
                until(lambda: queued() > one, "the second does not wait")
            with ask(some_texts(7)) as last:
                lengths = httpx2.get(f"{url}/metrics", timeout=PATIENCE).text
                until(lambda: 'refused_total{reason="gone"} 1' in httpx2.get(f"{url}/metrics").text, lengths)
                until(lambda: queued() > one, "the last does not wait")
                go.set()
                assert first.recv(15) == last.recv(15) == b"HTTP/1.1 200 OK"
        assert queued() == 0
    assert computed == [1, 7]


def test_a_stream_that_stalls_is_answered_and_told(folders: dict[str, Path]) -> None:
    with listening({"topic": folders["topic"]}, timeout=1.0) as url, connect(url) as asking:
        asking.sendall(b"POST /batch HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        asking.sendall(b'7\r\n"film"\n\r\n')
        said = b""
        while piece := asking.recv(4096):
            said += piece
    lines = [json.loads(line) for line in said.splitlines() if line.startswith(b"{")]
    assert len(lines) == 2 and lines[0]["predicted_label"]
    assert lines[1] == {"error": "Nothing more came within 1 seconds."}


def test_a_line_is_answered_before_the_next_one_comes(folders: dict[str, Path]) -> None:
    with listening({"topic": folders["topic"]}, timeout=120.0) as url, connect(url) as asking:
        asking.sendall(b"POST /batch HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n")
        said = b""
        for number in (1, 2):
            asking.sendall(b'7\r\n"film"\n\r\n')
            while said.count(b"predicted_label") < number:
                piece = asking.recv(4096)
                assert piece, said
                said += piece
        asking.sendall(b"0\r\n\r\n")
        while asking.recv(4096):
            pass


def test_lines_that_are_late_do_not_ask_again(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """One by one, each of them would wait as long as all of them did."""
    go, asked = threading.Event(), list[int]()
    real, answer = Scorer.score_batches, Engine.answer

    def wait(*arguments: Any, **options: Any) -> Any:
        assert go.wait(PATIENCE)
        return real(*arguments, **options)

    async def count(engine: Engine, encode: Any, sizes: Any) -> Any:
        asked.append(1)
        return await answer(engine, encode, sizes)

    with client({"topic": folders["topic"]}, timeout=0.3) as served:
        monkeypatch.setattr(Scorer, "score_batches", wait)  # a model that is opened scores a first text
        monkeypatch.setattr(Engine, "answer", count)
        said = served.post("/batch", content=b'"film"\n' * 5).text.splitlines()
        go.set()
    assert len(said) == 5 and all("within 0.3 seconds" in line for line in said) and len(asked) == 1


def test_a_folder_that_cannot_be_opened_is_said_once_and_tried_again(folders: dict[str, Path], tmp_path: Path) -> None:
    """Whatever is wrong with it; a thread is not left behind by any try."""
    run = tmp_path / "run"
    shutil.copytree(folders["topic"], run)
    notices: list[str] = []
    tried: list[Path] = []

    def opened(folder: Path, options: LoadOptions) -> Predictor:
        tried.append(folder)
        if 1 < len(tried) < 4:
            raise PermissionError("not now")
        return load(folder, device="cpu")

    settings = Settings(follow=0.02)
    models = Models({"run": run}, settings, LoadOptions(device="cpu"), open_model=opened, on_notice=notices.append)
    with TestClient(build_app(models, settings)) as served:
        before = threading.active_count()
        (run / "textune.json").touch()
        until(lambda: any("opened again" in notice for notice in notices), "it was not tried again")
        assert served.post("/predict", json={"inputs": "film"}).status_code == 200
        until(lambda: threading.active_count() <= before + 3, "threads were left behind")
    assert notices == ["run stays as it was: not now", "run was opened again"]
    assert len(tried) == 4
