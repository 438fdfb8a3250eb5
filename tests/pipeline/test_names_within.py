"""Folders may come from anybody: what their files name and what their links lead to is never read or copied from
elsewhere."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import datasets
import pytest
from kits.runs import reviews
from safetensors.torch import load_file, save_file

import textune
from textune.config.sources import SavedSource
from textune.data.reading.sources import read_source
from textune.errors import DataError, ModelError, RunError
from textune.exports import export


def cut_weights(backbone: Path, name: str) -> None:
    """The weights in a file of that name, which an index names."""
    tensors = load_file(backbone / "model.safetensors")
    (backbone / "model.safetensors").unlink()
    save_file(tensors, backbone / name, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": dict.fromkeys(tensors, name)}
    (backbone / "model.safetensors.index.json").write_text(json.dumps(index))


def test_an_index_of_weights_names_files_of_its_folder_only(home: Path, tmp_path: Path) -> None:
    for folder, name in (("good", "part-1.safetensors"), ("bad", "../part-1.safetensors")):
        backbone = shutil.copytree(home / "backbone", tmp_path / folder)
        cut_weights(backbone, name)
        words = [f"model.pretrained={backbone}"]
        if folder == "good":
            textune.train(home / "config.toml", dry_run=True, overrides=words)
            continue
        with pytest.raises(ModelError, match=r"the name '\.\./part-1.safetensors' leads out of the folder"):
            textune.train(home / "config.toml", dry_run=True, overrides=words)


@pytest.mark.every_day(2)
@pytest.mark.parametrize(
    "text", ["[" * 100_000 + "]" * 100_000, "{", "[]", '{"weight_map": 1}', '{"weight_map": {"a": 1}}']
)
def test_an_index_that_is_none_is_a_sentence(home: Path, tmp_path: Path, text: str) -> None:
    backbone = shutil.copytree(home / "backbone", tmp_path / "backbone")
    (backbone / "model.safetensors").unlink()
    (backbone / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"has a model.safetensors.index.json that cannot be read"):
        textune.train(home / "config.toml", dry_run=True, overrides=[f"model.pretrained={backbone}"])


def rewrite(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_saved_data_set_names_files_and_splits_of_its_folder_only(tmp_path: Path) -> None:
    rows = datasets.Dataset.from_list(reviews(8))
    for name in ("outside", "inside"):
        rows.save_to_disk(tmp_path / name)
    file = next((tmp_path / "outside").glob("*.arrow")).name
    rewrite(tmp_path / "inside" / "state.json", _data_files=[{"filename": f"../outside/{file}"}])
    with pytest.raises(DataError, match=r"leads out of the folder"):
        read_source(SavedSource(kind="saved", folder=str(tmp_path / "inside")))

    datasets.DatasetDict({"train": rows}).save_to_disk(tmp_path / "splits")
    rewrite(tmp_path / "splits" / "dataset_dict.json", splits=["../outside"])
    with pytest.raises(DataError, match=r"the name '\.\./outside' leads out of the folder"):
        read_source(SavedSource(kind="saved", folder=str(tmp_path / "splits")))


def test_a_link_in_a_model_is_not_followed_out_of_it_when_the_model_is_copied(trained: Any, tmp_path: Path) -> None:
    model = shutil.copytree(trained[0].run / "best", tmp_path / "model")
    (tmp_path / "secret").write_text("secret")
    (model / "notes.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(RunError, match=r"notes.txt is a link that leads out of the folder"):
        export(model, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_a_checkpoint_does_not_vouch_for_is_not_copied(trained: Any, tmp_path: Path) -> None:
    checkpoint = next((trained[0].run / "checkpoints").iterdir())
    copied = shutil.copytree(checkpoint, tmp_path / checkpoint.name)
    (tmp_path / "secret").write_text("secret")
    (copied / "model" / "notes.txt").symlink_to(tmp_path / "secret")
    export(copied, tmp_path / "out")
    assert (tmp_path / "out" / "textune.json").is_file() and not (tmp_path / "out" / "notes.txt").exists()
