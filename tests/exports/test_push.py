"""What is pushed, what is not, and what is said where the hub refuses: against a hub on loopback that keeps it all."""

from __future__ import annotations

import _thread
import hashlib
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard, constants
from huggingface_hub.utils import _http
from kits.cli import runner
from kits.errors import refused
from kits.fakehub import TOKEN, Hub, Repo, hub_on_loopback

import textune
from textune.errors import HubError, RunError
from textune.exports.exporting import Exported
from textune.exports.hub import MODEL_FILES, Pushed
from textune.exports.parity import Parity
from textune.exports.table import Tolerance
from textune.prediction import read_card, write_card
from textune.run import RunFolder, card_of_run

NAME = "ada/reviews"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # how the library sends a file


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with hub_on_loopback() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setattr(_http.time, "sleep", lambda _: None)  # between two tries
        yield hub


@pytest.fixture
def run(trained: Any) -> Path:
    return Path(trained[0].run)


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best model is copied instead of exported, for tests of what comes after that."""

    def copy(source: Path, target: Path, **_: object) -> Exported:
        shutil.copytree(source / "best", target)
        parity = Parity("hf", 0, "validation rows", (), 0.0, 0.0, 0, Tolerance())
        return Exported(target, 7, source / "best", "merged", "hf", parity)

    monkeypatch.setattr("textune.exports.hub.export", copy)


@pytest.mark.parity("HF-18")
def test_a_recorded_upload_opens_as_the_run_does(hub: Hub, run: Path, tmp_path: Path) -> None:
    done = textune.push(run, NAME, private=True)
    repo = hub.repos[NAME]
    pushed = repo.branches["main"]
    assert repo.private and done.private and done.url == f"{hub.url}/{NAME}" and done.commit == repo.head("main")
    assert {path: len(data) for path, data in pushed.items() if path != ".gitattributes"} == done.files
    assert len(repo.commits) == 1 and "step" in repo.commits[0]["summary"]
    for path, data in pushed.items():
        (tmp_path / path).write_bytes(data)
    texts = ["a good film", "the worst movie"]
    assert (textune.load(tmp_path).score(texts) == textune.load(run).score(texts)).all()
    assert pushed["README.md"].decode() == done.card
    assert not [path for path, data in pushed.items() if str(run).encode() in data]


@pytest.fixture
def by_xet(hub: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Large files go as they go where the package hf_xet is installed."""
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", False)
    monkeypatch.setenv("HF_XET_CACHE", str(tmp_path / "xet"))
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")


@pytest.mark.usefixtures("copied", "by_xet")
def test_large_files_go_by_xet(hub: Hub, run: Path) -> None:
    textune.push(run, NAME)
    weights = (run / "best" / "model.safetensors").read_bytes()
    assert hub.repos[NAME].branches["main"]["model.safetensors"].decode() == hashlib.sha256(weights).hexdigest()
    assert any(request.startswith("POST /xet/") for request in hub.requests) and hub.blobs == {}


@pytest.mark.parametrize(
    ("path", "status", "hint"), [("/xet-write-token/", 403, "may write to ada"), ("/xet/", 401, "hf auth login")]
)
@pytest.mark.usefixtures("copied", "by_xet")
def test_what_xet_refuses_is_a_sentence(hub: Hub, run: Path, path: str, status: int, hint: str) -> None:
    hub.faults[path] = (status, "no")
    with refused(HubError, value=status, place=f"{hub.url}/{NAME}") as caught:
        textune.push(run, NAME)
    assert hint in caught.value.hint and "is empty" in caught.value.hint and hub.repos[NAME].commits == []


@pytest.mark.usefixtures("copied")
def test_a_card_that_the_hub_does_not_take(hub: Hub, run: Path) -> None:
    hub.yaml["errors"] = [{"message": '"license" must be one of [apache-2.0, mit]'}]
    with refused(HubError, reason='"license" must be one of') as caught:
        textune.push(run, NAME)
    assert "change its README.md" in caught.value.hint and hub.repos[NAME].commits == []
    hub.yaml = {"errors": [], "warnings": [{"message": "no language is given"}]}
    said: list[str] = []
    textune.push(run, NAME, on_notice=said.append)
    assert any("no language is given" in line for line in said)


@pytest.mark.usefixtures("copied")
def test_a_push_that_is_stopped_commits_nothing_and_can_be_repeated(
    hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    answer = hub.answer

    def stop(method: str, path: str, body: bytes) -> Any:
        if path.startswith("/blobs/"):
            _thread.interrupt_main()
            time.sleep(0.2)
        return answer(method, path, body)

    monkeypatch.setattr(hub, "answer", stop)
    with pytest.raises(KeyboardInterrupt):
        textune.push(run, NAME)
        time.sleep(5)
    assert hub.repos[NAME].commits == [] and list(tmp_path.iterdir()) == []
    monkeypatch.undo()


@pytest.mark.usefixtures("copied")
def test_whether_everybody_sees_it_is_known_afterwards(hub: Hub, run: Path) -> None:
    assert textune.push(run, NAME).private is False
    said: list[str] = []
    assert textune.push(run, NAME, on_notice=said.append).private is False
    assert any("README.md there is replaced" in line for line in said)


def test_folders_and_keys_of_this_machine_are_not_in_the_card(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "a run"
    shutil.copytree(run, copy)
    told = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    told["facts"]["backbone"] = "/home/ada/my models/tiny"
    told["resolved"]["model"] = "/home/ada/my models/tiny (bert), 1 M parameters"
    told["command"] = [
        "textune",
        "train",
        "--run=/home/ada/my clients/acme/first",
        'data.train.files=["/home/ada/my clients/a.csv", "https://host/b.csv?key=hidden"]',
        "data.validation.files=file:///home/ada/v.csv",
        "data.folder=~/my clients/rows",
    ]
    (copy / "manifest.json").write_text(json.dumps(told), encoding="utf-8")
    report = json.loads((copy / "report.json").read_text(encoding="utf-8"))
    report["dataset"] = "validation: /home/ada/my clients/v.csv"
    report["warnings"] = ["3 lines of /home/ada/clients/v.csv were not read."]
    (copy / "report.json").write_text(json.dumps(report), encoding="utf-8")
    card = card_of_run(RunFolder(copy))
    assert card is not None
    assert not [word for word in ("ada", "clients", "my models", "hidden", "acme", "~/") if word in card]
    for said in ("tiny (bert)", "validation: v.csv", "3 lines of v.csv", "--run=first", "https://host/b.csv?…"):
        assert said in card, said


@pytest.mark.parity("HF-18")
def test_the_card_is_one_that_the_hub_reads(run: Path, home: Path) -> None:
    (home / "backbone" / "README.md").write_text("---\nlicense: mit\n---\n# A backbone\n", encoding="utf-8")
    try:
        done = textune.push(run, NAME, dry_run=True, revision="early")
    finally:
        (home / "backbone" / "README.md").unlink()
    card = ModelCard(done.card)
    results = {result.dataset_split: result for result in card.data.eval_results or []}
    assert card.data.license == "mit" and card.data.language is None and card.data.base_model is None
    assert (card.data.library_name, card.data.pipeline_tag) == ("transformers", "text-classification")
    report = json.loads((run / "report-test.json").read_text(encoding="utf-8"))
    assert results["test"].metric_value == pytest.approx(report["main"]["value"], abs=1e-6)
    assert results["test"].dataset_revision == report["fingerprint"]
    assert yaml.safe_load(done.card.split("---\n")[1])["model-index"][0]["name"] == "reviews"
    low, high = report["main"]["interval_95"]
    for said in (
        f'textune.load(snapshot_download("{NAME}", revision="early"))',
        f'pipeline("text-classification", model="{NAME}", revision="early")',
        f"{low:.4f} to {high:.4f}",
        "2 labels: neg, pos",
        "fingerprint of the train data",
        "## Limits",
        "command",
    ):
        assert said in done.card


def test_a_dry_run_needs_no_network_and_no_token(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("the network was used")

    real = socket.socket.connect

    def on_this_machine(here: socket.socket, address: Any) -> None:  # the gate's process is found there
        return real(here, address) if here.family == socket.AF_UNIX else refuse()

    monkeypatch.setattr("socket.socket.connect", on_this_machine)
    for place in ("socket.getaddrinfo", "socket.create_connection"):
        monkeypatch.setattr(place, refuse)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    done = textune.push(run, NAME, dry_run=True)
    assert done.commit is None and done.url is None
    assert {"README.md", "config.json", "model.safetensors", "textune.json", "tokenizer.json"} <= done.files.keys()
    assert done.card.startswith("---\nlibrary_name: transformers\n")


@pytest.mark.usefixtures("copied")
def test_what_is_no_file_of_a_model_stays_here(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    run = Path(shutil.copytree(run, tmp_path / "run"))
    own = {"probe.jsonl": "{}", "corrections.jsonl": "{}", "rows.parquet": "", "notes.txt": "", ".env": ""}
    for name, text in own.items():
        (run / "best" / name).write_text(text, encoding="utf-8")
    done = textune.push(run, NAME, dry_run=True, on_notice=said.append)
    with_probe = textune.push(run, NAME, dry_run=True, with_probe=True)
    assert own.keys() <= set(done.left_out) and not own.keys() & done.files.keys()
    assert with_probe.files.keys() - done.files.keys() <= {"probe.jsonl", "usual.json"}
    assert "probe.jsonl" in with_probe.files
    assert any("probe.jsonl" in line and "--with-probe" in line for line in said)


@pytest.mark.usefixtures("copied")
def test_a_model_replaces_an_earlier_one_and_nothing_else(hub: Hub, run: Path) -> None:
    textune.push(run, NAME)
    repo = hub.repos[NAME]
    repo.branches["main"]["model-00002-of-00002.safetensors"] = b"part"
    repo.branches["early"] = {}
    first = textune.push(run, NAME, message="Again")
    assert "model-00002-of-00002.safetensors" not in repo.branches["main"] and repo.branches["early"] == {}
    assert repo.commits[-1]["summary"] == "Again" and first.commit == repo.head("main")
    assert textune.push(run, NAME).commit == repo.head("main")
    textune.push(run, NAME, revision="early")
    assert "model.safetensors" in repo.branches["early"]
    repo.branches["main"]["thesis.pdf"] = b""
    with refused(HubError, value="thesis.pdf", place=f"{hub.url}/{NAME}"):
        textune.push(run, NAME)
    hub.repos["ada/other"] = Repo(private=False, files={"model.safetensors": b"of somebody else"})
    with refused(HubError, value="model.safetensors", place=f"{hub.url}/ada/other"):
        textune.push(run, "ada/other")


@pytest.mark.parametrize("there", [True, False])
def test_a_repository_that_is_private_or_public_otherwise_is_refused(hub: Hub, run: Path, there: bool) -> None:
    hub.repos[NAME] = Repo(private=there)
    with refused(HubError, key="private", place=f"{hub.url}/{NAME}"):
        textune.push(run, NAME, private=not there)
    assert hub.repos[NAME].commits == []


@pytest.mark.parametrize("exists", [True, False])
def test_a_branch_that_is_not_there_is_refused(hub: Hub, run: Path, exists: bool) -> None:
    if exists:
        hub.repos[NAME] = Repo(private=False)
    with refused(HubError, place=f"{hub.url}/{NAME}") as caught:
        textune.push(run, NAME, revision="early")
    assert "branch create" in caught.value.hint
    assert list(hub.repos) == ([NAME] if exists else [])


@pytest.mark.every_day(2)
@pytest.mark.parametrize(
    ("path", "status", "hint"),
    [
        ("/api/models/ada/reviews", 401, "hf auth login"),
        ("/api/repos/create", 403, "may write to ada"),
        ("/preupload/", 403, "is empty"),
        ("/objects/batch", 500, "is empty"),
        ("/blobs/", 500, "again later"),
        ("/commit/", 404, "Check the name"),
        ("/commit/", 409, "then run the same command again"),
        ("/commit/", 500, "again later"),
        ("/commit/", 429, "some minutes"),
        ("/api/validate-yaml", 500, "again"),
    ],
)
@pytest.mark.usefixtures("copied")
def test_what_the_hub_refuses_is_a_sentence(
    hub: Hub, run: Path, path: str, status: int, hint: str, caplog: pytest.LogCaptureFixture
) -> None:
    hub.faults[path] = (status, f"no, not with {TOKEN}")
    with refused(HubError, place=f"{hub.url}/{NAME}") as caught:
        textune.push(run, NAME)
    assert hint in caught.value.hint
    assert TOKEN not in f"{caught.value} {caught.value.reason} {caplog.text}"
    assert not hub.repos or hub.repos[NAME].commits == []


def test_a_token_that_the_hub_does_not_know(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with refused(HubError, place=f"{hub.url}/{NAME}") as caught:
        textune.push(run, NAME)
    assert "hf auth login" in caught.value.hint and "hf_wrong" not in str(caught.value)


def test_no_token_no_network_and_offline(hub: Hub, run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with refused(HubError, place=f"http://127.0.0.1:9/{NAME}") as caught:
        textune.push(run, NAME)
    assert "--dry-run" in caught.value.hint
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "none"))
    with refused(HubError, key="HF_TOKEN"):
        textune.push(run, NAME)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with refused(HubError, key="HF_HUB_OFFLINE"):
        textune.push(run, NAME)
    assert hub.requests == []


@pytest.mark.parametrize("name", ["reviews", "a/b/c", "ada/", "ada/re views", "ada/re--views", "ada/x.git", ""])
def test_a_name_that_the_hub_does_not_take(run: Path, name: str) -> None:
    with refused(HubError, key="name", value=name):
        textune.push(run, name, dry_run=True)


def test_what_cannot_be_exported_is_not_on_the_hub(hub: Hub, tmp_path: Path) -> None:
    with refused(RunError, place=str(tmp_path / "none")):
        textune.push(tmp_path / "none", NAME)
    assert hub.repos == {}


@pytest.mark.usefixtures("copied")
def test_adapters_beside_a_folder_of_this_machine_are_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from textune.exports import hub as pushing
    from textune.model import AdapterNote
    from textune.model.origin import BackboneNote

    note = AdapterNote(backbone=BackboneNote(name="backbone", folder="/models/backbone"))
    copy: Callable[..., Exported] = pushing.export

    def with_adapters(source: Path, target: Path, **options: object) -> Exported:
        done = copy(source, target, **options)
        write_card(read_card(target).model_copy(update={"adapters": note}), target)
        return replace(done, form="adapter")

    monkeypatch.setattr(pushing, "export", with_adapters)
    with refused(HubError, key="form", value="adapter") as caught:
        textune.push(run, NAME, dry_run=True)
    assert f"textune push {run} {NAME} --merge" in caught.value.hint


@pytest.mark.usefixtures("copied")
def test_the_verb_shows_files_and_card(
    run: Path, home: Path, hub: Hub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call = runner(capsys, monkeypatch, home)
    shown = call("push", run, NAME, "--dry-run")
    assert shown.code == 0 and "model.safetensors" in shown.out and "# reviews" in shown.out and " kB" in shown.out
    assert hub.requests == []
    pushed = call("push", run, NAME, "--private", "--message", "First")
    assert pushed.code == 0 and f"{hub.url}/{NAME} (private)" in pushed.err and pushed.out == ""
    assert hub.repos[NAME].commits[0]["summary"] == "First"
    refused_ = call("push", run, "reviews", "--json")
    assert refused_.code == 2 and json.loads(refused_.out)["error"]["key"] == "name"
    assert TOKEN not in shown.out + shown.err + pushed.err


@pytest.mark.slow
def test_an_exported_folder_has_its_card_and_keeps_it(run: Path, tmp_path: Path) -> None:
    from textune.exports import export

    export(run, tmp_path / "model")
    page = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert 'textune.load("FOLDER")' in page and ModelCard(page).data.eval_results
    again: Pushed = textune.push(tmp_path / "model", NAME, dry_run=True)
    assert ModelCard(again.card).data.eval_results == ModelCard(page).data.eval_results
    assert f'model="{NAME}"' in again.card and "FOLDER" not in again.card
    assert f'textune.load(snapshot_download("{NAME}"))' in again.card
    early: Pushed = textune.push(tmp_path / "model", NAME, revision="early", dry_run=True)
    assert f'snapshot_download("{NAME}", revision="early")' in early.card
    export(run / "checkpoints" / _newest(run), tmp_path / "step")
    alone = (tmp_path / "step" / "README.md").read_text(encoding="utf-8")
    assert ModelCard(alone).data.eval_results is None and "Nothing is known here of how good" in alone


def _newest(run: Path) -> str:
    return max((run / "checkpoints").glob("step-*"), key=lambda path: int(path.name.removeprefix("step-"))).name


def test_patterns_of_model_files_take_no_rows() -> None:
    assert not {"*", "*.json", "*.jsonl", "*.txt", "*.parquet"} & set(MODEL_FILES)
