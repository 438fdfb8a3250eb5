"""A model in OpenVINO's form says what it says in PyTorch, on this machine and with bytes as well, and in no other
way."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.exported import saved_model, scores, texts_of_all_lengths
from kits.models import ALL

from textune.config.sources import Columns
from textune.errors import ExportError, ModelError
from textune.exports import export
from textune.exports.generated import generated_probe
from textune.exports.openvino import FILE, write_openvino, write_openvino_int8
from textune.exports.table import KINDS
from textune.imports import unreported
from textune.model import processor
from textune.model.pretrained import find_pretrained, require_weights
from textune.prediction import Probe, load, load_scorer, read_card, read_probe, write_card

with unreported():
    import openvino

WRITERS: dict[str, Callable[..., None]] = {"openvino": write_openvino, "openvino-int8": write_openvino_int8}
WITHIN = {"openvino": 1e-4, "openvino-int8": 0.3}
"""Largest difference of a probability. Tiny random models have no room for the rounding of bytes: what is asked of
them is that most of an answer stays."""
MOST_CHANGED = {"openvino": 0.0, "openvino-int8": 0.25}
"""Share of answers that may be others."""


def quiet(_: str) -> None:
    """Notices are not what is tested."""


def exported(model: Path, folder: Path, kind: str = "openvino") -> Path:
    folder.mkdir()
    scorer = load_scorer(model, device="cpu", precision="fp32", compile="off")
    WRITERS[kind](model, folder, probe=generated_probe(scorer, of_texts=False), on_notice=quiet)
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of pairs with token types, and its exports, which tests copy before they change them."""
    folder = tmp_path_factory.mktemp("openvino")
    model = saved_model("bert", folder, columns=Columns(text_pair="other"))
    for kind in WRITERS:
        exported(model, folder / kind, kind)
    return folder


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    """A copy of the export in fp32."""
    return Path(shutil.copytree(bert / "openvino", tmp_path / "copy"))


def assert_same(model: Path, export: Path, kind: str, *, pairs: bool = False) -> None:
    """Every score alone and in batches, and the answers."""
    texts = texts_of_all_lengths()
    others = texts[::-1] if pairs else None
    known_NK = scores(load(model, device="cpu", precision="fp32", compile="off"), texts, others)["label"]
    opened = load(export)
    for alone in (True, False):
        found_NK = scores(opened, texts, others, alone=alone)["label"]
        assert found_NK.dtype == np.float64 and np.abs(found_NK - known_NK).max() <= WITHIN[kind]
        assert (found_NK.argmax(1) != known_NK.argmax(1)).mean() <= MOST_CHANGED[kind]


@pytest.mark.slow
@pytest.mark.parametrize(("family", "kind"), [(family, kind) for family in ALL for kind in WRITERS])
def test_every_family_says_the_same(family: str, kind: str, tmp_path: Path) -> None:
    model = saved_model(family, tmp_path)
    assert_same(model, exported(model, tmp_path / "out", kind), kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_pairs_with_token_types_say_the_same(bert: Path, kind: str) -> None:
    assert_same(bert / "model", bert / kind, kind, pairs=True)


def test_the_folder_says_what_it_is_and_runs_in_openvino_alone(bert: Path) -> None:
    note = read_card(bert / "openvino-int8").exported
    assert note is not None and (note.kind, note.precision) == ("openvino-int8", "int8")
    assert note.made_on == processor.byte_products()
    assert read_card(bert / "openvino").model_copy(update={"exported": None}) == read_card(bert / "model")
    names = {path.name for path in (bert / "openvino").iterdir()}
    assert {FILE, "model.bin", "config.json", "textune.json", "tokenizer.json"} <= names
    compiled = openvino.compile_model(str(bert / "openvino" / FILE), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    rows = {name: np.ones((2, 5), dtype=np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")}
    assert compiled(rows)["logits"].shape == (2, 3)


def test_nothing_is_reported_to_the_makers(bert: Path, tmp_path: Path) -> None:
    """Their packages leave an identity in the home folder where they are used in any other way."""
    code = "import sys, textune; print(textune.load(sys.argv[1]).predict(['a'], ['b'])[0].label)"
    if os.environ.get("CI"):
        code = f"import os; del os.environ['CI']; {code}"
    environment = os.environ | {"HOME": str(tmp_path), "PYTHONPATH": str(Path(__file__).parents[2])}
    subprocess.run([sys.executable, "-c", code, bert / "openvino"], env=environment, check=True)
    assert not (tmp_path / "intel").exists()


def test_bytes_are_bytes(bert: Path) -> None:
    small, large = ((bert / kind / "model.bin").stat().st_size for kind in ("openvino-int8", "openvino"))
    kinds = [op.get_type_name() for op in openvino.Core().read_model(str(bert / "openvino-int8" / FILE)).get_ops()]
    assert small < large and kinds.count("FakeQuantize") >= 12  # what goes into six layers in each of two blocks


def test_several_threads_predict_at_once(bert: Path) -> None:
    texts = texts_of_all_lengths()
    predictor = load(bert / "openvino")
    known = scores(predictor, texts, texts)["label"]
    found: dict[int, np.ndarray] = {}

    def predict(number: int) -> None:
        found[number] = scores(predictor, texts, texts, alone=True)["label"]

    threads = [threading.Thread(target=predict, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4 and all(np.abs(one - known).max() < 1e-5 for one in found.values())


@pytest.mark.slow
def test_the_makers_are_told_nothing(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []

    def write(model: Any, path: Any) -> None:
        seen.append(os.environ.get("CI"))
        openvino.save_model(model, str(path))

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setattr("transformers.exporters.exporter_openvino.OpenVINOExporter.save_program", staticmethod(write))
    exported(bert / "model", tmp_path / "out")
    assert seen == ["true"] and "CI" not in os.environ


# --- options and files that cannot be used ---------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{"device": "cuda"}, {"precision": "bf16"}, {"compile": "on"}], ids=str)
def test_options_that_make_no_sense_are_refused(bert: Path, options: Any) -> None:
    with pytest.raises(ModelError) as caught:
        load(bert / "openvino", **options)
    assert caught.value.hint and caught.value.key == next(iter(options))


def cut_off(folder: Path) -> None:
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(data[: len(data) // 2])


def cut_off_weights(folder: Path) -> None:
    (folder / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:1000])


def without_weights(folder: Path) -> None:
    (folder / "model.bin").unlink()


def not_openvino(folder: Path) -> None:
    (folder / FILE).write_text("<html></html>", encoding="utf-8")


def weights_linked_outside(folder: Path) -> None:
    (folder / "model.bin").rename(folder.parent / "secret")
    (folder / "model.bin").symlink_to(folder.parent / "secret")


def other_output(folder: Path) -> None:
    text = (folder / FILE).read_text(encoding="utf-8")
    (folder / FILE).write_text(text.replace('names="logits"', 'names="words"'), encoding="utf-8")


def more_labels(folder: Path) -> None:
    card = read_card(folder)
    head = card.heads[0].model_copy(update={"names": ("red", "green", "blue", "grey")})
    write_card(card.model_copy(update={"heads": (head,)}), folder)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (cut_off, "cannot open it"),
        (cut_off_weights, "cannot open it"),
        (without_weights, "there is no model.bin"),
        (not_openvino, "cannot open it"),
        (weights_linked_outside, "leads out of the folder"),
        (other_output, "does not give out 3 logits"),
        (more_labels, "does not give out 4 logits"),
    ],
    ids=["cut off", "weights cut off", "no weights", "no graph", "outside", "output", "labels"],
)
def test_a_damaged_or_foreign_file_gets_a_sentence(copy: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(copy)
    with pytest.raises(ModelError, match=said) as caught:
        load(copy)
    assert FILE in caught.value.place and caught.value.hint


def test_nothing_is_trained_from_an_export(bert: Path) -> None:
    section = read_card(bert / "model").opened_in(bert / "openvino", compile="off")
    with pytest.raises(ModelError, match="predicts and cannot be trained"):
        require_weights(find_pretrained(str(bert / "openvino"), section, key="model.pretrained"))


def made_on(folder: Path, products: str) -> None:
    card = read_card(folder)
    assert card.exported is not None
    write_card(card.model_copy(update={"exported": card.exported.model_copy(update={"made_on": products})}), folder)


def test_another_instruction_set_is_told(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    load(bert / "openvino", on_notice=told.append)
    assert told == []
    copy = Path(shutil.copytree(bert / "openvino-int8", tmp_path / "copy"))
    made_on(copy, "avx2")
    monkeypatch.setattr(processor, "byte_products", lambda: "avx512")
    load(copy, on_notice=told.append)
    assert len(told) == 1 and "avx512" in told[0]
    made_on(copy, "avx512-vnni")
    load(copy, on_notice=told.append)
    assert len(told) == 2 and "may overflow" in told[1] and "may overflow" not in told[0]


# --- through the gate ------------------------------------------------------------------------------------------------


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", WRITERS)
def test_a_run_becomes_an_export_that_passes_the_gate(trained: Any, tmp_path: Path, kind: str) -> None:
    run: Path = trained[0].run
    done = export(run, tmp_path / "out", to=kind)
    assert done.parity.of == "validation rows" and read_probe(tmp_path / "out") is not None
    texts = ["a charming film", "so boring"]
    labels = [answer.label for answer in load(run).predict(texts)]
    assert [answer.label for answer in load(tmp_path / "out").predict(texts)] == labels


def change_a_weight(folder: Path) -> None:
    """Other signs for the weights of the head, which has two rows, and of the other table with two."""
    data = bytearray((folder / "model.bin").read_bytes())
    text = (folder / FILE).read_text(encoding="utf-8")
    found = re.findall(r'element_type="f32" shape="2, \d+" offset="(\d+)" size="(\d+)"', text)
    assert found
    for offset, size in found:
        weights = np.frombuffer(data, dtype=np.float32, count=int(size) // 4, offset=int(offset))
        weights *= -1
    (folder / "model.bin").write_bytes(data)


def write_spoilt(model: Path, folder: Path, *, probe: Probe, on_notice: Callable[[str], None]) -> None:
    """A writer whose weights are not those of the model."""
    write_openvino(model, folder, probe=probe, on_notice=on_notice)
    change_a_weight(folder)


@pytest.mark.slow
def test_a_sabotaged_export_is_refused_and_leaves_nothing(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(KINDS, "openvino", replace(KINDS["openvino"], writer=f"{__name__}:write_spoilt"))
    with pytest.raises(ExportError, match="does not answer as the model does"):
        export(trained[0].run, tmp_path / "out", to="openvino")
    assert list(tmp_path.iterdir()) == []
