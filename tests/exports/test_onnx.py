"""A model in ONNX says what it says in PyTorch: in textune, in ONNX Runtime alone, and in no other way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from kits.exported import saved_model, scores, texts_of_all_lengths
from kits.further import FURTHER
from kits.models import ALL, known
from kits.patience import every_day
from onnx import TensorProto, helper, numpy_helper
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from textune.config.sources import Columns
from textune.config.taskkinds import BinaryTask, MultilabelTask, MultitaskTask, RegressionTask
from textune.errors import ExportError, ModelError
from textune.exports import export
from textune.exports.onnx import FILE, OPSET, write_onnx, write_onnx_int8
from textune.exports.table import KINDS
from textune.model import processor
from textune.model.exported import ExportedFiles
from textune.model.onnxmodel import open_onnx
from textune.model.pretrained import find_pretrained, require_weights
from textune.prediction import Probe, load, read_card, read_probe, read_usual, write_card
from textune.prediction.card import HeadCard

WRITERS: dict[str, Callable[..., None]] = {"onnx": write_onnx, "onnx-int8": write_onnx_int8}
WITHIN = {"onnx": 1e-4, "onnx-int8": 0.3}
"""Largest difference of a probability. Tiny random models have no room for the rounding of bytes: what is asked of
them is that most of an answer stays."""
MOST_CHANGED = {"onnx": 0.0, "onnx-int8": 0.25}
"""Share of answers that may be others."""
NO_PROBE = Probe((), {}, is_kept=False)
"""These writers read none."""
PAGE = Path(__file__).parents[2] / "docs" / "exports.md"


def quiet(_: str) -> None:
    """Notices are not what is tested."""


def exported(model: Path, folder: Path, kind: str = "onnx", **options: Any) -> Path:
    folder.mkdir()
    WRITERS[kind](model, folder, probe=NO_PROBE, on_notice=quiet, **options)
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of pairs with token types, and its exports, which tests copy before they change them."""
    folder = tmp_path_factory.mktemp("onnx")
    model = saved_model("bert", folder, columns=Columns(text_pair="other"))
    exported(model, folder / "onnx")
    exported(model, folder / "onnx-int8", "onnx-int8")
    return folder


@pytest.fixture
def copy(bert: Path, tmp_path: Path) -> Path:
    """A copy of the export in fp32."""
    return Path(shutil.copytree(bert / "onnx", tmp_path / "copy"))


def assert_same(model: Path, export: Path, kind: str, *, pairs: bool = False) -> None:
    """Every score alone and in batches, and the answers."""
    texts = texts_of_all_lengths()
    others = texts[::-1] if pairs else None
    plain = load(model, device="cpu", precision="fp32", compile="off")
    opened = load(export)
    ours = scores(plain, texts, others)
    for alone in (True, False):
        found = scores(opened, texts, others, alone=alone)
        assert found.keys() == ours.keys()
        for head in plain.scorer.task.heads:
            known_N, found_N = ours[head.name], found[head.name]
            assert found_N.dtype == np.float64 and found_N.shape == known_N.shape
            assert np.abs(found_N - known_N).max() <= WITHIN[kind], (head.name, alone)
            if known_N.ndim == 2:
                changed = (found_N.argmax(1) != known_N.argmax(1)).mean()
                assert changed <= MOST_CHANGED[kind], (head.name, alone)


@pytest.mark.parametrize(
    ("family", "kind"),
    every_day(
        [(family, kind) for family in (*ALL, *known(*FURTHER)) for kind in WRITERS],
        [("gpt2", "onnx")],
    ),
)
@pytest.mark.parity("AZ-20")
def test_every_family_says_the_same(family: str, kind: str, tmp_path: Path) -> None:
    model = saved_model(family, tmp_path)
    assert_same(model, exported(model, tmp_path / "out", kind), kind)


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_pairs_with_token_types_say_the_same(bert: Path, kind: str) -> None:
    assert_same(bert / "model", bert / kind, kind, pairs=True)


@pytest.mark.slow
def test_several_heads_say_the_same(tmp_path: Path) -> None:
    names = {"tone": ("neg", "mid", "pos"), "urgent": ("no", "yes")}
    task = MultitaskTask(groups=names)
    heads = tuple(HeadCard(name=name, problem="multiclass", names=of, task=task) for name, of in names.items())
    model = saved_model("distilbert", tmp_path, heads=heads)
    assert_same(model, exported(model, tmp_path / "out"), "onnx")


@pytest.mark.slow
def test_numbers_and_sets_of_labels_say_the_same(tmp_path: Path) -> None:
    for place, told in enumerate(
        (
            {"problem": "regression", "names": ("label",), "task": RegressionTask()},
            {"problem": "multilabel", "names": ("a", "b", "c", "d"), "task": MultilabelTask()},
            {"problem": "binary", "names": ("no", "yes"), "task": BinaryTask()},
        )
    ):
        folder = tmp_path / str(place)
        folder.mkdir()
        model = saved_model("distilbert", folder, **told)
        assert_same(model, exported(model, folder / "out"), "onnx")


def test_the_folder_says_what_it_is(bert: Path) -> None:
    card, note = read_card(bert / "onnx"), read_card(bert / "onnx").exported
    plain = read_card(bert / "model")
    assert note is not None and (note.kind, note.file, note.precision) == ("onnx", FILE, "fp32")
    opsets = {
        one.domain: one.version for one in onnx.load(bert / "onnx" / FILE, load_external_data=False).opset_import
    }
    assert note.opset == opsets[""] == OPSET
    assert card.model_copy(update={"exported": None}) == plain
    names = sorted(path.name for path in (bert / "onnx").iterdir())
    assert {FILE, f"{FILE}.data", "config.json", "textune.json", "tokenizer.json"} <= set(names)
    assert not any(name.endswith((".safetensors", ".bin", ".pkl", ".pt")) for name in names)


@pytest.mark.slow
def test_any_opset_of_the_list_can_be_asked_for_and_no_other(bert: Path, tmp_path: Path) -> None:
    model = bert / "model"
    out = exported(model, tmp_path / "out", opset=20)
    assert read_card(out).exported.opset == 20  # type: ignore[union-attr]
    assert_same(model, out, "onnx", pairs=True)
    with pytest.raises(ExportError, match="opset 7 cannot be written") as caught:
        exported(model, tmp_path / "other", opset=7)
    assert caught.value.key == "opset" and "18" in caught.value.hint


@pytest.mark.slow
@pytest.mark.every_day(1)
@pytest.mark.parametrize("family", every_day(["llama", "qwen2"], ["llama"]))
def test_decoders_read_the_last_real_token_on_either_side_of_padding(family: str, tmp_path: Path) -> None:
    model = saved_model(family, tmp_path)
    session = onnxruntime.InferenceSession(exported(model, tmp_path / "out") / FILE)
    tokenizer = AutoTokenizer.from_pretrained(model)
    plain = AutoModelForSequenceClassification.from_pretrained(model)
    found = {}
    for side in ("left", "right"):
        batch = tokenizer(
            texts_of_all_lengths(), padding=True, padding_side=side, truncation=True, return_tensors="pt"
        )
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.inference_mode():
            theirs = plain(**inputs).logits.numpy()
        (found[side],) = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})
        np.testing.assert_allclose(found[side], theirs, atol=1e-4)
    np.testing.assert_allclose(found["left"], found["right"], atol=1e-4)


@pytest.mark.slow
def test_onnxruntime_and_tokenizers_alone_answer_as_textune_does(tmp_path: Path) -> None:
    """The script of the page, word for word."""
    model = saved_model("roberta", tmp_path)
    exported(model, tmp_path / "model-onnx")
    (script,) = re.findall(
        r"```python\n(import json.*?onnxruntime.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL
    )
    check = "\nimport sys\nassert not {'torch', 'transformers', 'textune'} & set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script + check],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (texts,) = re.findall(r"texts = (\[.*?\])\n", script, re.DOTALL)
    answers = load(model, device="cpu", precision="fp32").predict(json.loads(texts))
    assert done.stdout.split() == [answer.label for answer in answers]


# --- options and files that cannot be used ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device": "cuda"}, "has no CUDAExecutionProvider"),
        ({"precision": "bf16"}, "its weights are fp32"),
        ({"precision": "int8"}, "its weights are fp32"),
        ({"compile": "on"}, "do not compute it"),
    ],
    ids=["cuda", "bf16", "int8", "compile"],
)
def test_options_that_make_no_sense_are_refused(bert: Path, options: Any, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        load(bert / "onnx", **options)
    assert caught.value.hint and caught.value.key == next(iter(options))


def cut_off(folder: Path) -> None:
    data = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(data[: len(data) // 2])


def cut_off_weights(folder: Path) -> None:
    path = folder / f"{FILE}.data"
    path.write_bytes(path.read_bytes()[:1000])


def without_weights(folder: Path) -> None:
    (folder / f"{FILE}.data").unlink()


def without_model(folder: Path) -> None:
    (folder / FILE).unlink()


def not_onnx(folder: Path) -> None:
    (folder / FILE).write_text("{}" * 100)


def edit(folder: Path, change: Callable[[Any], None]) -> None:
    model = onnx.load(folder / FILE, load_external_data=False)
    change(model)
    (folder / FILE).write_bytes(model.SerializeToString())


def another_opset(folder: Path) -> None:
    def change(model: Any) -> None:
        model.opset_import[0].version = 13

    edit(folder, change)


def unknown_operator(folder: Path) -> None:
    def change(model: Any) -> None:
        model.graph.node[-1].op_type = "RunThis"

    edit(folder, change)


def other_output(folder: Path) -> None:
    def change(model: Any) -> None:
        model.graph.output[0].name = model.graph.node[-1].output[0] = "words"

    edit(folder, change)


def weights_outside(folder: Path) -> None:
    (folder.parent / "secret").write_bytes((folder / f"{FILE}.data").read_bytes())

    def change(model: Any) -> None:
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = "../secret"

    edit(folder, change)


def weights_linked_outside(folder: Path) -> None:
    (folder / f"{FILE}.data").rename(folder.parent / "secret")
    (folder / f"{FILE}.data").symlink_to(folder.parent / "secret")


def card_names_outside(folder: Path) -> None:
    (folder / FILE).rename(folder.parent / FILE)
    card = read_card(folder)
    assert card.exported is not None
    note = card.exported.model_copy(update={"file": f"../{FILE}"})
    write_card(card.model_copy(update={"exported": note}), folder)


DAMAGE: dict[Callable[[Path], None], str] = {
    cut_off: "no ONNX model, or was cut off",
    cut_off_weights: "cannot open it",
    without_weights: "is not there",
    without_model: "no such file",
    not_onnx: "no ONNX model, or was cut off",
    another_opset: "of opset 13, and its card says 18",
    unknown_operator: "cannot open it",
    other_output: "does not give out 3 logits",
    weights_outside: "leads out of the folder",
    weights_linked_outside: "leads out of the folder",
    card_names_outside: "leads out of the folder",
}


@pytest.mark.parametrize(("damage", "said"), DAMAGE.items(), ids=[damage.__name__ for damage in DAMAGE])
def test_a_damaged_or_foreign_file_gets_a_sentence(copy: Path, damage: Callable[[Path], None], said: str) -> None:
    damage(copy)
    with pytest.raises(ModelError, match=said) as caught:
        load(copy)
    assert "onnx" in caught.value.place and caught.value.hint


def test_a_graph_of_another_task_is_refused(copy: Path) -> None:
    card = read_card(copy)
    head = card.heads[0].model_copy(update={"names": ("red", "green", "blue", "grey")})
    write_card(card.model_copy(update={"heads": (head,)}), copy)
    with pytest.raises(ModelError, match="does not give out 4 logits"):
        load(copy)


def test_nothing_is_trained_from_an_export_or_saved_of_it(bert: Path, tmp_path: Path) -> None:
    section = read_card(bert / "model").opened_in(bert / "onnx", compile="off")
    with pytest.raises(ModelError, match="predicts and cannot be trained") as caught:
        require_weights(find_pretrained(str(bert / "onnx"), section, key="model.pretrained"))
    assert caught.value.key == "model.pretrained" and FILE in str(caught.value)
    with pytest.raises(ModelError, match="only predicts"):
        load(bert / "onnx").scorer.save(tmp_path)


def test_an_export_of_an_unknown_kind_gets_a_sentence(copy: Path) -> None:
    card = read_card(copy)
    assert card.exported is not None
    write_card(card.model_copy(update={"exported": card.exported.model_copy(update={"kind": "future"})}), copy)
    with pytest.raises(ModelError, match="of the kind future, which textune does not open"):
        load(copy)


# --- int8 ------------------------------------------------------------------------------------------------------------


def byte_weights(folder: Path) -> dict[str, np.ndarray]:
    graph = onnx.load(folder / FILE).graph
    return {one.name: numpy_helper.to_array(one) for one in graph.initializer if one.data_type == TensorProto.INT8}


@pytest.mark.slow
@pytest.mark.parametrize(("products", "largest"), [("avx2", 64), ("avx512-vnni", 127)])
def test_weights_have_no_more_bits_than_sums_have_room_for(
    bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, products: str, largest: int
) -> None:
    monkeypatch.setattr(processor, "byte_products", lambda: products)
    out = exported(bert / "model", tmp_path / "out", "onnx-int8")
    weights = [weight for weight in byte_weights(out).values() if weight.ndim == 2]
    assert len(weights) >= 12  # six layers of weights in each of two blocks
    assert max(np.abs(weight.astype(int)).max() for weight in weights) in range(largest - 1, largest + 2)
    note = read_card(out).exported
    assert note is not None and note.made_on == products and note.precision == "int8"


def test_another_instruction_set_is_told_once(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    load(bert / "onnx-int8", on_notice=told.append)
    assert told == []
    monkeypatch.setattr(processor, "byte_products", lambda: "another")
    predictor = load(bert / "onnx-int8", on_notice=told.append)
    scores(predictor, ["a film"], ["a plot"])
    assert len(told) == 1 and "another" in told[0] and "textune evaluate" in told[0]
    load(bert / "onnx", on_notice=told.append)
    assert len(told) == 1


def saturating(folder: Path) -> np.ndarray:
    """Write a model whose one product of bytes is 255 x 127 for every pair of numbers: two of them are more than 16
    bits hold. Returns its logits for one token, without any rounding."""
    width, labels = 64, 3
    signs = np.array([1, -1, 1], dtype=np.int8)
    weight = np.full((width, labels), 127, dtype=np.int8) * signs
    nodes = [
        helper.make_node("Cast", ["input_ids"], ["number"], to=TensorProto.FLOAT),
        helper.make_node("Expand", ["number", "shape"], ["row"]),
        helper.make_node("Cast", ["row"], ["bytes"], to=TensorProto.UINT8),
        helper.make_node("MatMulInteger", ["bytes", "weight"], ["sums"]),
        helper.make_node("Cast", ["sums"], ["logits"], to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "saturating",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", 1])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", labels])],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([1, width], dtype=np.int64), "shape"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.save(model, folder / FILE)
    return 255.0 * 127.0 * width * signs.astype(np.float64)


@pytest.mark.parametrize("made_on", ["avx512-vnni", ""], ids=["vnni", "unknown"])
def test_bytes_do_not_saturate_whatever_the_file_was_made_on(tmp_path: Path, made_on: str) -> None:
    """Weights of 8 bits, as they are made where sums have room, on this machine, which may have none."""
    exact = saturating(tmp_path)
    ids = np.full((4, 1), 255, dtype=np.int64)
    plain = onnxruntime.InferenceSession(tmp_path / FILE, providers=["CPUExecutionProvider"])
    if processor.byte_products() == "avx2":  # else the question would not arise here
        assert np.abs(plain.run(None, {"input_ids": ids})[0] - exact).max() > 1000
    files = ExportedFiles(
        folder=tmp_path,
        kind="onnx-int8",
        file=FILE,
        precision="int8",
        config=None,  # type: ignore[arg-type]
        pad_id=0,
        num_logits=3,
        opset=OPSET,
        made_on=made_on,
    )
    model = open_onnx(files, device="cpu", on_notice=quiet)
    (found,) = model._session.run(["logits"], {"input_ids": ids})
    np.testing.assert_array_equal(found, np.tile(exact, (4, 1)))


# --- through the gate ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def of_run(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a run, in fp32 and without a gate."""
    return exported(trained[0].run / "best", tmp_path_factory.mktemp("of_run") / "onnx")


@pytest.mark.every_day(1)
@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parity("AZ-20")
def test_a_run_becomes_an_export_that_passes_the_gate(
    trained: Any, tmp_path: Path, forked_gate: Any, kind: str
) -> None:
    run: Path = trained[0].run
    done = export(run, tmp_path / "out", to=kind)
    assert done.parity.opened_by == ("textune",) and done.parity.of == "validation rows"
    assert read_probe(tmp_path / "out") is not None
    usual = read_usual(run / "best")
    assert usual is not None and read_usual(tmp_path / "out") == usual
    assert read_card(tmp_path / "out").step == read_card(run / "best").step
    texts = ["a charming film", "so boring"]
    labels = [answer.label for answer in load(run).predict(texts)]
    assert [answer.label for answer in load(tmp_path / "out").predict(texts)] == labels


def change_a_weight(weight: np.ndarray) -> None:
    weight[0, 0] += 0.5


def swap_the_labels(weight: np.ndarray) -> None:
    weight *= -1  # of two labels


def change_head(folder: Path, change: Callable[[np.ndarray], None]) -> None:
    """Change the weight of the head."""
    model = onnx.load(folder / FILE)
    (old,) = (one for one in model.graph.initializer if "classifier" in one.name and len(one.dims) == 2)
    weight = numpy_helper.to_array(old).copy()
    change(weight)
    old.CopyFrom(numpy_helper.from_array(weight, old.name))
    onnx.save(model, folder / FILE)


def write_copy(
    model: Path,
    folder: Path,
    *,
    probe: Probe,
    on_notice: Any,
    written: Path,
    sabotage: Callable[[Path], None],
) -> None:
    """A writer that spoils what another one has written."""
    shutil.copytree(written, folder, dirs_exist_ok=True)
    sabotage(folder)


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("sabotage", "said"),
    [
        (partial(change_head, change=change_a_weight), "does not answer as the model does"),
        (partial(change_head, change=swap_the_labels), "does not answer as the model does"),
        (another_opset, "of opset 13, and its card says 18"),
        (cut_off, "no ONNX model, or was cut off"),
    ],
    ids=["weight", "labels", "opset", "cut off"],
)
def test_a_sabotaged_export_is_refused_and_leaves_nothing(
    trained: Any,
    of_run: Path,
    tmp_path: Path,
    forked_gate: Any,
    monkeypatch: pytest.MonkeyPatch,
    sabotage: Any,
    said: str,
) -> None:
    monkeypatch.setitem(KINDS, "onnx", replace(KINDS["onnx"], writer=f"{__name__}:write_copy"))
    with pytest.raises(ExportError, match=said):
        export(trained[0].run, tmp_path / "out", to="onnx", written=of_run, sabotage=sabotage)
    assert list(tmp_path.iterdir()) == []
