"""A checkpoint is complete, or it is passed over with a sentence: whatever is torn, changed, missing or of another
version."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from kits.checkpoints import keeper_of, save
from kits.errors import refused

import textune.training.checkpoint as checkpoint
from textune.errors import RunError
from textune.training.checkpoint import checkpoints_in, newest, open_checkpoint, remove, remove_unfinished
from textune.training.tensorfile import facts_of

FILES = ("state-1-of-1.safetensors", "state.json", "config.toml", "model/config.json")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "checkpoints"
    keeper = keeper_of(folder, keep=2)
    save(keeper, 4)
    save(keeper, 8)
    return folder


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return shutil.copytree(saved, tmp_path / "checkpoints")


def cut_in_half(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def lengthen(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "nothing")


DAMAGES = [cut_in_half, empty, lengthen, change_a_byte, Path.unlink, make_a_folder, link_to_nothing]


def test_what_was_saved_is_read_again(folder: Path) -> None:
    found, passed = newest(folder)
    assert found is not None and passed == []
    assert found.step == 8 and found.state["note"] == "n" * 8
    assert torch.equal(found.read("model/weight"), torch.full((64,), 8.0))
    assert found.read("optimizer/weight/step").shape == ()
    with pytest.raises(KeyError):
        found.read("model/other")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named_and_the_checkpoint_before_is_taken(
    folder: Path, name: str, damage: Callable[[Path], None]
) -> None:
    damage(folder / "step-8" / name)
    with pytest.raises(RunError, match="step-8") as raised:
        open_checkpoint(folder / "step-8")
    assert name in str(raised.value) and raised.value.hint
    found, passed = newest(folder)
    assert found is not None and found.step == 4
    assert len(passed) == 1 and name in passed[0]


@pytest.mark.parametrize("damage", [damage for damage in DAMAGES if damage is not lengthen])
def test_a_damaged_manifest_is_named_and_the_checkpoint_before_is_taken(
    folder: Path, damage: Callable[[Path], None]
) -> None:
    damage(folder / "step-8" / "manifest.json")
    with pytest.raises(RunError, match="step-8") as raised:
        open_checkpoint(folder / "step-8")
    assert (
        "manifest.json" in str(raised.value) or damage is change_a_byte
    )  # whose hash is then no longer that of its file
    assert raised.value.hint
    found, _ = newest(folder)
    assert found is not None and found.step == 4


def test_no_changed_byte_of_a_manifest_gives_another_checkpoint(folder: Path) -> None:
    """Each byte in turn: refused in a sentence, or white space that says nothing."""
    path = folder / "step-8" / "manifest.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        for flipped in (whole[place] ^ 1, whole[place] ^ 0x10):
            path.write_bytes(whole[:place] + bytes([flipped]) + whole[place + 1 :])
            try:
                found = open_checkpoint(folder / "step-8")
            except RunError:
                continue
            assert json.loads(path.read_bytes()) == json.loads(whole), (place, flipped)
            assert found.step == 8


def test_no_cut_manifest_is_taken(folder: Path) -> None:
    path = folder / "step-8" / "manifest.json"
    whole = path.read_bytes()
    for size in range(len(whole.rstrip())):
        path.write_bytes(whole[:size])
        with pytest.raises(RunError):
            open_checkpoint(folder / "step-8")


@pytest.mark.parametrize(
    "text",
    ["[]", "{}", "null", "7", '{"version": 1}', '{"version": "1", "kind": "state", "files": {}}',
     '{"version": 1, "kind": "state", "files": []}', '{"version": 1, "kind": "state", "files": {"state.json": 3}}',
     '{"version": 1, "kind": "state", "files": {}}', "\udcff"],
)  # fmt: skip
def test_a_manifest_of_another_form_is_refused_in_a_sentence(folder: Path, text: str) -> None:
    (folder / "step-8" / "manifest.json").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(RunError, match="step-8"):
        open_checkpoint(folder / "step-8")


def test_a_later_version_is_refused_with_what_to_do(folder: Path) -> None:
    path = folder / "step-8" / "manifest.json"
    path.write_text(json.dumps({"version": 99, "something": "new"}))
    with refused(RunError, key="version", value=99):
        open_checkpoint(folder / "step-8")
    with pytest.raises(RunError, match="later version"):  # an earlier one would undo what that version has done
        newest(folder)


def test_a_disk_that_cannot_be_read_is_as_good_as_a_torn_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = checkpoint.facts_of

    def failing(path: Path) -> object:
        if path.parent.name == "step-8":
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(checkpoint, "facts_of", failing)
    found, passed = newest(folder)
    assert found is not None and found.step == 4 and "Input/output error" in passed[0]


def test_where_none_is_whole_each_is_named(folder: Path) -> None:
    for step in (4, 8):
        cut_in_half(folder / f"step-{step}" / "state.json")
    found, passed = newest(folder)
    assert found is None and ["step-8" in passed[0], "step-4" in passed[1], len(passed)] == [True, True, 2]


def test_a_folder_that_is_none_is_refused(folder: Path) -> None:
    with pytest.raises(RunError, match="there is no checkpoint"):
        open_checkpoint(folder / "step-9")
    (folder / "step-12").write_text("no folder")
    (folder / "step-x").mkdir()
    (folder / "step-16.writing").mkdir()
    assert [step for step, _ in checkpoints_in(folder)] == [4, 8]
    assert checkpoints_in(folder / "nothing") == [] and newest(folder / "nothing") == (None, [])


def test_what_was_half_written_or_half_removed_is_no_checkpoint_and_is_cleaned_away(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(folder / "step-8", folder / "step-12.writing")

    def torn(path: Path, *args: object, **kwargs: object) -> None:
        (path / "state.json").unlink()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", torn)
        remove(folder / "step-8")
    found, passed = newest(folder)
    assert found is not None and found.step == 4 and passed == []
    remove_unfinished(folder)
    assert [path.name for path in folder.iterdir()] == ["step-4"]


@pytest.mark.parametrize(
    "name", ["../secret", "/etc/hostname", "model/../../secret", "..", "", "C:\\secret", "..\\secret"]
)
def test_a_manifest_never_names_a_file_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    save(keeper_of(tmp_path / "checkpoints"), 1)
    folder, secret = tmp_path / "checkpoints" / "step-1", tmp_path / "checkpoints" / "secret"
    secret.write_bytes(b"secret")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = facts_of(secret).to_dict()
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(
        RunError, match=r"the checkpoint .*step-1 is refused: .*(leads out of the folder|is not the name of a file)"
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize("within", ["file", "folder"])
def test_a_link_in_a_checkpoint_never_leads_out_of_it(tmp_path: Path, within: str) -> None:
    """Though what it leads to is what was written."""
    save(keeper_of(tmp_path / "checkpoints"), 1)
    folder = tmp_path / "checkpoints" / "step-1"
    path = folder / "model" if within == "folder" else folder / "model" / "config.json"
    path.symlink_to(path.rename(tmp_path / "elsewhere"))
    with pytest.raises(RunError, match=r"is refused: model/config.json is a link that leads out of the folder"):
        open_checkpoint(folder)


def test_a_folder_of_checkpoints_may_itself_be_a_link(tmp_path: Path) -> None:
    save(keeper_of(tmp_path / "real"), 1)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert open_checkpoint(tmp_path / "link" / "step-1").step == 1
