"""A server in a process of its own: token, signals, reload; and its command."""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx2
import pytest
from kits.cli import runner
from kits.languagefolders import saved_language_model
from kits.serving import TOPICS, client, running, save_model, some_texts
from starlette.testclient import TestClient

from textune.batches import RowStore
from textune.prediction import Scorer, Scores, load
from textune.serving import LoadOptions, Models, Settings, let_threads_sleep
from textune.serving.server import listen

ROOT = Path(__file__).parents[2]


def test_sigterm_answers_what_is_in_flight(folders: dict[str, Path]) -> None:
    texts = some_texts(250)
    answers: list[httpx2.Response] = []
    with running(folders["topic"], "--batch-tokens", "64", OMP_NUM_THREADS="1") as at:
        with httpx2.Client(timeout=60) as asking:
            body = {"inputs": [[text] for text in texts]}
            assert asking.get(f"{at.url}/health").json() == {"status": "ok"}
            assert asking.post(f"{at.url}/models/topic/predict", json=body).status_code == 200

        def ask() -> None:
            with contextlib.suppress(httpx2.TransportError):  # it came after the signal
                answers.append(httpx2.post(f"{at.url}/predict", json=body, timeout=60))

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        once = len(load(folders["topic"], device="cpu").encoder.encode(texts).ids)
        while httpx2.get(f"{at.url}/models", timeout=60).json()[0]["queued_tokens"] <= 2 * once:
            assert not answers, "all of them were answered before they were in flight together"
        assert at.stop(signal.SIGTERM) == 0
        for thread in threads:
            thread.join()
    expected = [prediction.label for prediction in load(folders["topic"], device="cpu").predict(texts)]
    assert len(answers) >= 3, "those that were in flight"
    for answer in answers:
        assert [row[0]["label"] for row in answer.json()] == expected


def test_connections_beyond_the_limit_are_refused_until_others_close(folders: dict[str, Path]) -> None:
    with running(folders["topic"], "--max-connections", "2") as at:
        address = ("127.0.0.1", int(at.url.rpartition(":")[2]))
        idle = [socket.create_connection(address)]
        try:
            patience = time.monotonic() + 30
            while httpx2.get(f"{at.url}/health", timeout=60).status_code != 200:  # the second of two
                assert time.monotonic() < patience
            idle.append(socket.create_connection(address))
            while httpx2.get(f"{at.url}/health", timeout=60).status_code != 503:
                assert time.monotonic() < patience
        finally:
            for one in idle:
                one.close()
        while httpx2.get(f"{at.url}/health", timeout=60).status_code != 200:
            assert time.monotonic() < patience + 30


@pytest.mark.slow
def test_what_the_end_of_the_drain_cuts_off_is_told_in_a_line(folders: dict[str, Path]) -> None:
    with running(folders["topic"], "--drain", "1") as at:
        head = b"POST /batch HTTP/1.1\r\nHost: here\r\nTransfer-Encoding: chunked\r\n\r\n"
        with socket.create_connection(("127.0.0.1", int(at.url.rpartition(":")[2]))) as client:
            client.sendall(head + b'0f\r\n{"text": "one"}\r\n')  # and its end never comes
            assert client.recv(15) == b"HTTP/1.1 200 OK"
            assert at.stop() == 0
        assert at.process.stderr is not None
        [line] = at.process.stderr.read().splitlines()
        assert "Cancel 1 running task(s), timeout graceful shutdown exceeded" in line


@pytest.mark.slow
def test_sighup_opens_the_models_again(folders: dict[str, Path], tmp_path: Path) -> None:
    """Without a lost request: a client asks all the while."""
    run = tmp_path / "run"
    shutil.copytree(folders["topic"], run / "best")
    other = save_model(tmp_path / "other", {"label": TOPICS}, step=7)
    body = {"inputs": some_texts(3)[2]}
    with running(run, "--token", "secret", OMP_NUM_THREADS="1") as at:
        headers = {"authorization": "Bearer secret"}
        statuses: set[int] = set()
        done = threading.Event()

        def ask() -> None:
            with httpx2.Client(timeout=60, headers=headers) as asking:
                while not done.is_set():
                    statuses.add(asking.post(f"{at.url}/predict", json=body).status_code)

        asking = threading.Thread(target=ask)
        asking.start()
        shutil.move(run / "best", run / "best.old")
        shutil.copytree(other, run / "best.new")
        shutil.move(run / "best.new", run / "best")
        at.process.send_signal(signal.SIGHUP)
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if httpx2.get(f"{at.url}/models/run", headers=headers).json()["step"] == 7:
                break
            time.sleep(0.1)
        else:
            pytest.fail("the model was not opened again")
        done.set()
        asking.join()
        assert statuses == {200}
        (run / "best" / "textune.json").write_text("{")
        refused = httpx2.post(f"{at.url}/models/run/reload", headers=headers, timeout=60)
        assert refused.status_code == 409 and "stays as it was" in refused.json()["error"]
        assert httpx2.post(f"{at.url}/predict", json=body, headers=headers).status_code == 200
        assert at.stop(signal.SIGINT) == 0


def test_a_model_whose_files_changed_is_opened_again(folders: dict[str, Path], tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(folders["topic"], run / "best")
    later = save_model(tmp_path / "later", {"label": TOPICS}, step=9)
    with client({"run": run}, follow=0.05) as served:
        assert served.get("/models/run").json()["step"] is None
        shutil.move(run / "best", run / "best.old")
        shutil.move(later, run / "best")
        until = time.monotonic() + 60
        while served.get("/models/run").json()["step"] != 9:
            assert time.monotonic() < until, "it was not opened again"
        assert served.post("/predict", json={"inputs": "a"}).status_code == 200


@pytest.fixture
def guarded_client(folders: dict[str, Path]) -> Any:
    with client({"topic": folders["topic"]}, token="secret") as found:
        yield found


def test_every_address_asks_for_the_token(guarded_client: TestClient) -> None:
    document = guarded_client.app.openapi()  # type: ignore[attr-defined]
    for path, methods in document["paths"].items():
        for method in methods:
            answer = guarded_client.request(method.upper(), path.replace("{model}", "topic"), json={"inputs": "a"})
            if (method, path) in {("get", "/health"), ("get", "/")}:  # the page asks for the token itself
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401, (method, path)
                assert answer.headers["www-authenticate"] == "Bearer"
    for given in ("secret", "Bearer secre", "Bearer secret2", "Basic secret", "bearer é"):
        answer = guarded_client.post("/predict", json={"inputs": "a"}, headers={"authorization": given.encode()})
        assert answer.status_code == 401, given
    answer = guarded_client.post("/predict", json={"inputs": "a"}, headers={"authorization": "Bearer secret"})
    assert answer.status_code == 200


def test_a_reload_needs_the_token(folders: dict[str, Path], guarded_client: TestClient) -> None:
    headers = {"authorization": "Bearer secret"}
    assert guarded_client.post("/models/topic/reload", headers=headers).json()["name"] == "topic"
    assert guarded_client.post("/models/nothing/reload", headers=headers).status_code == 404
    with client({"topic": folders["topic"]}) as unguarded:
        assert unguarded.post("/models/topic/reload").status_code == 403


def test_models_say_what_they_are(folders: dict[str, Path]) -> None:
    with client({name: folders[name] for name in ("both", "fields", "pairs")}) as served:
        both, fields, pairs = served.get("/models").json()
    assert both["labels"] == ["tone/neg", "tone/pos", "topic/red", "topic/green", "topic/blue"]
    assert fields["fields"] == ["source"] and not fields["takes_pairs"] and pairs["takes_pairs"]


def test_addresses_that_are_not_there(folders: dict[str, Path]) -> None:
    with client({"topic": folders["topic"]}) as served:
        assert served.get("/nothing").status_code == 404 and "/docs" in served.get("/nothing").json()["error"]
        assert served.get("/predict").status_code == 405


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "does not exist"),
        (["a=x", "a=y"], "two models have the name 'a'"),
        (["a b=x"], "cannot name a model"),
        (["x", "--token", "a", "--token-file", "b"], "two ways"),
        (["x", "--token-file", "missing"], "cannot be read"),
        (["x", "--token", ""], "the token is empty"),
        (["x", "--timeout", "0"], "--timeout"),
        (["x", "--timeout", "nan"], "--timeout"),
    ],
    ids=["folder", "twice", "name", "tokens", "file", "empty", "zero", "nan"],
)
def test_commands_that_cannot_be(
    words: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    done = runner(capsys, monkeypatch, tmp_path)("serve", *words)
    assert done.code == 2 and said in done.err


def test_a_port_that_is_taken(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = runner(capsys, monkeypatch, tmp_path)("serve", str(folders["topic"]), "--port", str(port))
    assert done.code == 75 and "cannot listen" in done.err and "--port" in done.err


def test_an_answer_does_not_wait_for_the_clients_acknowledgement() -> None:
    """Head and body of an answer are two packets; with Nagle's algorithm the second would wait for 40 ms."""

    async def no_delay() -> int:
        accepted = asyncio.Queue[int]()

        async def accept(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            at = writer.get_extra_info("socket")
            accepted.put_nowait(at.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
            writer.close()
            await writer.wait_closed()

        with contextlib.closing(listen(Settings(port=0))) as listening:
            server = await asyncio.start_server(accept, sock=listening)
            _, writer = await asyncio.open_connection(*listening.getsockname())
            found = await accepted.get()
            writer.close()
            await writer.wait_closed()
            server.close()
            await server.wait_closed()
        return found

    assert asyncio.run(no_delay())


def test_a_language_model_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = saved_language_model(tmp_path / "language")
    done = runner(capsys, monkeypatch, tmp_path)("serve", str(folder))
    assert done.code == 2 and "language model" in done.err


@pytest.mark.slow
def test_threads_of_a_batch_sleep_while_they_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As OpenMP itself says when it is loaded; a choice of the user stays."""
    monkeypatch.setenv("OMP_DISPLAY_ENV", "true")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    command = [sys.executable, "-m", "textune", "serve", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False)
    assert "OMP_WAIT_POLICY = 'PASSIVE'" in done.stderr
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    let_threads_sleep()
    assert os.environ["OMP_WAIT_POLICY"] == "ACTIVE"


def test_the_first_request_finds_everything_made(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model scores a text before it is served; one that cannot is served all the same, and says so."""
    counted: list[int] = []
    score = Scorer.score_store

    def counting(self: Scorer, store: RowStore) -> Scores:
        counted.append(store.num_examples)
        if len(counted) > 1:
            raise ValueError("not this one")
        return score(self, store)

    monkeypatch.setattr(Scorer, "score_store", counting)
    said: list[str] = []
    chosen = {"first": folders["topic"], "second": folders["topic"]}
    models = Models(chosen, Settings(), LoadOptions(device="cpu"), on_notice=said.append)
    asyncio.run(models.close())
    assert counted == [1, 1] and [one.name for one in models] == ["first", "second"]
    assert [sentence for sentence in said if "first text" in sentence] == [
        "second could not score a first text: not this one"
    ]
