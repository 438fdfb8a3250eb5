"""Nothing is exported that does not say the same: what the gate asks, and what it refuses."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file, save_file

from textune.errors import ExportError
from textune.exports import export
from textune.exports.table import KINDS, ExportKind
from textune.prediction import Probe, read_probe


@pytest.fixture
def run(trained: Any) -> Path:
    folder: Path = trained[0].run
    return folder


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_passes_says_what_was_asked(run: Path, tmp_path: Path) -> None:
    done = export(run, tmp_path / "model")
    told = json.loads((tmp_path / "model" / "parity.json").read_text())
    assert told["kind"] == "hf" and told["rows"] == len(read_probe(run / "best") or ()) and told["changed"] == 0
    assert told["opened_by"] == ["textune", "transformers"] and told["of"] == "validation rows"
    assert told["difference"] == done.parity.difference < 1e-5
    assert (tmp_path / "model" / "probe.jsonl").read_bytes() == (run / "best" / "probe.jsonl").read_bytes()
    assert left(tmp_path) == ["model"]


def test_in_the_real_process(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forked_gate: Callable[[Path], Any]
) -> None:
    monkeypatch.setattr("textune.exports.parity.start_asking", forked_gate)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    assert export(run, tmp_path / "model").parity.difference < 1e-5


def change_a_weight(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith("classifier.weight"))
    tensors[name][0, 0] += 0.5
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def swap_the_labels(folder: Path) -> None:
    """The rows of the head, as a writer would that sorts labels in another way."""
    tensors = load_file(folder / "model.safetensors")
    for end in ("classifier.weight", "classifier.bias"):
        tensors[end] = tensors[end].flip(0).contiguous()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def leave_out_the_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def make_it_no_number(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.bias"][0] = float("nan")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def write(model: Path, folder: Path, *, probe: Probe, on_notice: Any, sabotage: Any = None, **options: Any) -> None:
    """A writer that copies the folder, and does this to it."""
    for path in model.iterdir():
        shutil.copy2(path, folder / path.name)
    if sabotage is not None:
        sabotage(folder)


def die(model: Path, folder: Path, *, probe: Probe, on_notice: Any) -> None:
    (folder / "half.bin").write_bytes(b"half")
    raise ExportError("the operator Foo cannot be exported.", hint="Choose --to hf.")


@pytest.fixture
def copied(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives `KINDS` a kind `copy`, whose writer copies the folder."""

    def add(**fields: Any) -> None:
        kind = ExportKind("a copy", writer=f"{__name__}:write", instead="Choose --to hf.")
        monkeypatch.setitem(KINDS, "copy", replace(kind, **fields))

    return add


@pytest.mark.parametrize(
    ("sabotage", "said"),
    {
        "one weight changed": (change_a_weight, "does not answer as the model does"),
        "labels swapped": (swap_the_labels, "does not answer as the model does"),
        "no weights": (leave_out_the_weights, "textune cannot use what was written"),
        "no number": (make_it_no_number, "not numbers"),
    }.values(),
    ids=["one weight changed", "labels swapped", "no weights", "no number"],
)
def test_a_sabotaged_export_is_refused_and_leaves_nothing(
    run: Path, tmp_path: Path, copied: Callable[..., None], sabotage: Any, said: str
) -> None:
    copied()
    with pytest.raises(ExportError) as caught:
        export(run, tmp_path / "model", to="copy", sabotage=sabotage)
    assert said in str(caught.value) and "Choose --to hf." in caught.value.hint and "--to copy" in str(caught.value)
    assert left(tmp_path) == []
    export(run, tmp_path / "model", to="copy")


def test_a_refusal_names_the_row_the_scores_and_the_difference(
    run: Path, tmp_path: Path, copied: Callable[..., None]
) -> None:
    copied()
    with pytest.raises(ExportError) as caught:
        export(run, tmp_path / "model", to="copy", sabotage=swap_the_labels)
    probe = read_probe(run / "best")
    assert probe is not None
    known = probe.scores["label"]
    row = int(np.abs(known - known[:, ::-1]).max(axis=1).argmax())
    assert f"row {row + 1} of probe.jsonl" in str(caught.value)
    assert f"{np.abs(known[row] - known[row, ::-1]).max():.2g} apart (0.0001 is allowed" in str(caught.value)


def test_a_writer_that_dies_leaves_nothing(run: Path, tmp_path: Path, copied: Callable[..., None]) -> None:
    copied(writer=f"{__name__}:die")
    with pytest.raises(ExportError, match="the operator Foo cannot be exported"):
        export(run, tmp_path / "model", to="copy")
    assert left(tmp_path) == []
