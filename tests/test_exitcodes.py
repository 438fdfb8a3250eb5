"""Exit codes: which of them say "try again", and that every kind of failure gets the right one."""

import errno
import http.client
import json
import re
import socket
import subprocess
import sys
import urllib.error
from email.message import Message
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner
from kits import trained
from kits.cli import runner

import textune.pipeline
from textune.cli import commands
from textune.errors import (
    AGAIN,
    FAULT,
    MEND,
    NO_MEMORY,
    NO_ROOM,
    ConfigError,
    DataError,
    ModelError,
    Preempted,
    RanksError,
    RunError,
    TextuneError,
)
from textune.exitcodes import FIRST_AGAIN, TABLE, code_of_error
from textune.locks import Held, Removed, held
from textune.run.folder import RunFolder

PAGE = Path(__file__).parents[1] / "docs" / "scripts.md"
home = trained.home
"""The fixture of a folder in which a config can be trained."""


def http_error(status: int) -> urllib.error.HTTPError:
    return urllib.error.HTTPError("http://host", status, "said", Message(), None)


def caused_by(cause: Exception, *, hidden: bool = False) -> TextuneError:
    try:
        try:
            raise cause
        except Exception as error:
            raise RunError("it failed.") from (None if hidden else error)
    except RunError as error:
        return error


class Unreachable(requests.exceptions.ConnectionError):
    """As another package derives its own."""


@pytest.mark.parametrize(
    ("cause", "code"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), NO_ROOM),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), NO_ROOM),
        (MemoryError(), NO_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), NO_MEMORY),
        (Held("process 7"), AGAIN),
        (Removed("it has just ended"), AGAIN),
        (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), AGAIN),
        (socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"), AGAIN),
        (socket.gaierror(socket.EAI_NONAME, "Name or service not known"), MEND),
        (urllib.error.URLError(socket.gaierror(socket.EAI_NONAME, "Name or service not known")), MEND),
        (TimeoutError(), AGAIN),
        (OSError(errno.EADDRINUSE, "Address already in use"), AGAIN),
        (http.client.RemoteDisconnected("gone"), AGAIN),
        (urllib.error.URLError(ConnectionResetError(errno.ECONNRESET, "reset")), AGAIN),
        (http_error(503), AGAIN),
        (http_error(429), AGAIN),
        (requests.exceptions.ReadTimeout(), AGAIN),
        (Unreachable(), AGAIN),
        (http_error(404), MEND),
        (FileNotFoundError(errno.ENOENT, "No such file"), MEND),
        (PermissionError(errno.EACCES, "Permission denied"), MEND),
        (RuntimeError("shapes differ"), MEND),
        (ValueError("no number"), MEND),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value),
)
def test_the_cause_of_an_error_decides_whether_another_try_may_help(cause: Exception, code: int) -> None:
    assert code_of_error(caused_by(cause)) == code
    assert code_of_error(caused_by(cause, hidden=True)) == code
    if isinstance(cause, OSError):
        assert code_of_error(cause) == code


@pytest.mark.parametrize(("number", "code"), [(socket.EAI_AGAIN, AGAIN), (socket.EAI_NONAME, MEND)])
def test_an_unknown_host_beneath_a_client_s_own_error_is_to_be_mended(number: int, code: int) -> None:
    client = Unreachable()
    client.__cause__ = socket.gaierror(number, "no address")
    assert code_of_error(client) == code
    assert code_of_error(caused_by(client)) == code


def test_an_error_may_have_a_code_of_its_own() -> None:
    assert [code_of_error(kind("it failed.")) for kind in (ConfigError, DataError, ModelError, RunError)] == [MEND] * 4
    assert code_of_error(RanksError("lost.")) == AGAIN
    assert code_of_error(Preempted("stopped.", signal_number=15)) == 143
    assert code_of_error(KeyboardInterrupt()) == 130
    assert code_of_error(DataError("it failed.", exit_code=AGAIN)) == AGAIN
    assert code_of_error(ZeroDivisionError()) == FAULT
    fault = KeyError("a bug")
    fault.__context__ = ConnectionResetError(errno.ECONNRESET, "reset")
    assert code_of_error(fault) == FAULT, "a fault of ours stays one, whatever came before it"


def test_one_number_parts_again_from_mend() -> None:
    assert [row.code for row in TABLE] == sorted({row.code for row in TABLE})
    for row in TABLE:
        assert row.again == (row.code >= FIRST_AGAIN) == row.meaning.startswith("try again")


def test_the_table_stands_in_the_help_and_on_the_page() -> None:
    said = " ".join(CliRunner().invoke(commands, ["--help"], terminal_width=80).output.split())
    page = PAGE.read_text(encoding="utf-8")
    for row in TABLE:
        assert f"{row.code} {row.meaning}" in said
        assert f"| {row.code} | {row.meaning} |" in page
    assert len(re.findall(r"^\| \d+ \|", page, flags=re.MULTILINE)) == len(TABLE)


def test_a_run_folder_in_use_says_try_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = runner(capsys, monkeypatch, home)
    folder = tmp_path / "busy"
    folder.mkdir()
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None and holder.stdout.readline() == "held\n"
    try:
        answer = run("train", "config.toml", "--run", folder, "--json")
    finally:
        holder.communicate("")
    said: dict[str, Any] = json.loads(answer.out)
    assert answer.code == AGAIN == said["error"]["exit_code"] and said["error"]["try_again"] is True
    assert "another process is writing" in said["error"]["message"]


HOLD = """
import sys
from pathlib import Path
from textune.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_full_disk_says_try_again(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", folder)

    monkeypatch.setattr(textune.pipeline, "info", fail)
    answer = runner(capsys, monkeypatch, home)("info", "runs/x")
    assert answer.code == NO_ROOM and answer.err == "Error: runs/x: No space left on device.\n"


def test_two_holders_are_kept_apart(tmp_path: Path) -> None:
    with held(tmp_path / "lock"), pytest.raises(RunError) as caught, RunFolder(tmp_path).lock():
        pass
    assert code_of_error(caught.value) == AGAIN


def test_a_file_that_is_written_aside_is_named_as_it_would_be(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(folder: str) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", f"{folder}/x.toml.writing")

    monkeypatch.setattr(textune.pipeline, "info", fail)
    answer = runner(capsys, monkeypatch, home)("info", "y")
    assert answer.code == MEND and answer.err == "Error: y/x.toml cannot be written: Permission denied.\n"
