"""Nothing is exported that does not say the same: what the gate asks, and what it refuses."""

import json
import os
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.errors import refused
from safetensors.torch import load_file, save_file

from textune.errors import ExportError, RunError
from textune.exports import export
from textune.exports.generated import generated_probe
from textune.exports.parity import Answers, compare
from textune.exports.table import KINDS, AskedBy, ExportKind, Tolerance
from textune.prediction import Probe, Scores, load_scorer, read_card, read_probe, write_card
from textune.prediction.card import ExportNote
from textune.tasks import Decision


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


@pytest.mark.every_day(1)
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
    assert f"{np.abs(known[row] - known[row, ::-1]).max():.3g} apart (0.0001 is allowed" in str(caught.value)


def test_a_writer_that_dies_leaves_nothing(run: Path, tmp_path: Path, copied: Callable[..., None]) -> None:
    copied(writer=f"{__name__}:die")
    with pytest.raises(ExportError, match="the operator Foo cannot be exported"):
        export(run, tmp_path / "model", to="copy")
    assert left(tmp_path) == []


def hang(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    print("loading the weights", flush=True)
    time.sleep(600)
    raise AssertionError


def crash(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    os.kill(os.getpid(), signal.SIGSEGV)
    raise AssertionError


def fail(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    raise ValueError("no kernel image is available")


def answer_short(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    return {name: of_head[:-1] for name, of_head in probe.scores.items()}


def answer_nothing(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    return {}


def answer_worse_in_batches(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    return {name: of_head if alone else of_head + 0.01 for name, of_head in probe.scores.items()}


def answer_by_bytes(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    """Every tenth row's answer is another one."""
    scores = probe.scores["label"].copy()
    scores[::10] = scores[::10, ::-1]
    return {"label": scores}


@pytest.mark.every_day(1)
@pytest.mark.parametrize(
    ("asker", "said"),
    {
        "hang": (hang, r"did not answer within 8 s; its last words: loading the weights"),
        "crash": (crash, r"was ended by SIGSEGV"),
        "fail": (fail, r"ended with exit code 1; its last words: ValueError: no kernel image is available"),
        "too few rows": (answer_short, r"it gives scores of the shape \[\d+, 2\], not \[\d+, 2\]"),
        "no head": (answer_nothing, r"it gives no scores of label"),
        "worse in batches": (answer_worse_in_batches, r"in a batch '\w+' .* 0\.01 apart"),
    }.values(),
    ids=["hang", "crash", "fail", "too few rows", "no head", "worse in batches"],
)
def test_a_process_that_does_not_answer_is_an_export_that_fails(
    run: Path, tmp_path: Path, copied: Callable[..., None], monkeypatch: pytest.MonkeyPatch, asker: Any, said: str
) -> None:
    copied(asked_by=(AskedBy("it", f"{__name__}:{asker.__name__}"),))
    if asker is hang:
        monkeypatch.setattr("textune.exports.parity.LIMIT_SECONDS", 8.0)
    started = time.monotonic()
    with pytest.raises(ExportError, match=said):
        export(run, tmp_path / "model", to="copy")
    assert left(tmp_path) == [] and time.monotonic() - started < 300


def test_a_kind_may_have_a_tolerance_of_its_own(run: Path, tmp_path: Path, copied: Callable[..., None]) -> None:
    probe = read_probe(run / "best")
    assert probe is not None
    num_changed = len(probe.scores["label"][::10])
    asked_by = (AskedBy("bytes", f"{__name__}:answer_by_bytes"),)
    copied(asked_by=asked_by, tolerance=Tolerance(score=1.0, labels=0.2, mean=1.0))
    parity = export(run, tmp_path / "model", to="copy").parity
    assert parity.changed == num_changed and f"{num_changed} answers are other ones" in parity.in_words()
    copied(asked_by=asked_by, tolerance=Tolerance(score=1.0, labels=0.05, mean=1.0))
    with pytest.raises(ExportError, match=f"{num_changed} of {len(probe)} rows are answered otherwise"):
        export(run, tmp_path / "other", to="copy")


def test_answers_are_those_of_the_cards_own_decision(run: Path) -> None:
    """Scores within the tolerance, and a threshold between them."""
    probe = Probe(({"text": "a"}, {"text": "b"}), {"label": np.array([[0.3, 0.7], [0.6, 0.4]])})
    near = {"label": probe.scores["label"] + np.array([[3e-5, -3e-5], [0.0, 0.0]])}
    card = read_card(run / "best")
    threshold = Decision(thresholds=(0.69999,))
    for decisions, changed in (({}, 0), ({"label": threshold}, 1)):
        heads = card.with_decisions(decisions).build_task().heads
        kind = replace(KINDS["hf"], tolerance=Tolerance(labels=1.0))
        found = compare(probe, [Answers(AskedBy("it", ""), True, near)], heads, "hf", kind)
        assert found.changed == changed and found.difference == pytest.approx(3e-5)
        if changed:
            with pytest.raises(ExportError, match="no other answer; 1 of 2 rows are answered otherwise"):
                compare(probe, [Answers(AskedBy("it", ""), True, near)], heads, "hf", KINDS["hf"])


def test_rows_that_are_all_a_little_off_are_refused_by_their_mean(run: Path) -> None:
    """As scores are where sums of bytes overflow: no row is far off, and none is near."""
    probe, heads = read_probe(run / "best"), read_card(run / "best").build_task().heads
    assert probe is not None
    known = probe.scores["label"]
    kind = replace(KINDS["onnx-int8"], tolerance=Tolerance(score=0.2, labels=1.0, mean=0.03))
    one_off, all_off = known.copy(), known + 0.04
    one_off[0] += 0.19
    found = compare(probe, [Answers(AskedBy("it", ""), True, {"label": one_off})], heads, "it", kind)
    assert found.mean == pytest.approx(0.19 / len(probe)) and found.difference == pytest.approx(0.19)
    with pytest.raises(ExportError, match=r"0\.2 is allowed; 0\.04 on average, where 0\.03 is allowed"):
        compare(probe, [Answers(AskedBy("it", ""), True, {"label": all_off})], heads, "it", kind)


def test_accuracy_that_is_lost_is_refused_however_near_the_scores_are(run: Path) -> None:
    """Of 100 rows about which the model is hardly sure, three answers change: to wrong ones, or to right ones."""
    heads = read_card(run / "best").build_task().heads
    scores, targets = np.tile([0.51, 0.49], (100, 1)), np.zeros(100)
    probe = Probe(({"text": "a"},) * 100, {"label": scores}, targets={"label": targets})
    found, kind = scores.copy(), KINDS["onnx-int8"]
    found[:3] = found[:3, ::-1]
    asked = [Answers(AskedBy("it", ""), True, {"label": found})]
    with pytest.raises(
        ExportError, match=r"3 of 100 rows are answered otherwise; 3\.0% of accuracy is lost, where 2\.0%"
    ):
        compare(probe, asked, heads, "onnx-int8", kind)
    passed = compare(probe, asked, heads, "it", replace(kind, tolerance=replace(kind.tolerance, lost=0.03)))
    assert passed.lost == pytest.approx(0.03) and "3 answers are other ones (3.0% of accuracy" in passed.in_words()
    gained = compare(replace(probe, targets={"label": 1 - targets}), asked, heads, "it", kind)
    assert gained.lost == 0 and gained.changed == 3
    assert compare(replace(probe, targets={}), asked, heads, "it", kind).lost is None


def test_without_a_probe_rows_of_every_length_are_asked(run: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(run / "best", model)
    (model / "probe.jsonl").unlink()
    done = export(model, tmp_path / "out")
    assert done.parity.of == "generated rows" and done.parity.difference < 1e-5
    assert not (tmp_path / "out" / "probe.jsonl").exists()
    asked = generated_probe(load_scorer(model, device="cpu", precision="fp32"), of_texts=False)
    lengths = {len(row["ids"]) for row in asked.tokens}
    assert lengths == set(range(3, read_card(model).max_length + 1))
    change_a_weight(model)  # nothing remembers what it said before
    export(model, tmp_path / "changed")


def test_a_changed_weight_is_noticed_where_rows_are_kept(run: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(run / "best", model)
    change_a_weight(model)
    with pytest.raises(ExportError, match="may have changed since it was saved"):
        export(model, tmp_path / "out")
    assert left(tmp_path) == ["model"]


def test_a_checkpoint_is_asked_the_rows_of_its_run(run: Path, tmp_path: Path) -> None:
    checkpoint = next(iter(sorted((run / "checkpoints").iterdir())))
    done = export(checkpoint, tmp_path / "model")
    kept, written = read_probe(run / "best"), read_probe(tmp_path / "model")
    assert kept is not None and written is not None and written.rows == kept.rows
    assert done.parity.of == "validation rows"


def test_what_cannot_be_made_is_said_before_any_work(
    run: Path, tmp_path: Path, copied: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: Any, **__: Any) -> None:
        raise AssertionError("work began")

    monkeypatch.setattr("textune.exports.exporting.find_source", work)
    with refused(RunError, key="to", value="onx"):
        export(run, tmp_path / "model", to="onx")
    copied(packages=("no_such_package",), extra="onnx")
    with pytest.raises(ExportError, match="no_such_package") as caught:
        export(run, tmp_path / "model", to="copy")
    assert 'pip install "textune[onnx]"' in caught.value.hint
    (tmp_path / "model").mkdir()
    with refused(RunError, key="out", value=str(tmp_path / "model")):
        export(run, tmp_path / "model")
    assert left(tmp_path) == ["model"]


def test_a_kind_says_what_it_cannot_hold(
    run: Path, tmp_path: Path, copied: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    copied()
    model = tmp_path / "model"
    shutil.copytree(run / "best", model)
    write_card(read_card(model).model_copy(update={"long": "windows"}), model)
    with refused(ExportError, key="to", value="copy", reason="windows") as caught:
        export(model, tmp_path / "out", to="copy")
    assert "--to hf" in caught.value.hint
    with refused(RunError, key="form", value="adapter"):
        export(run, tmp_path / "out", to="copy", form="adapter")
    write_card(read_card(run / "best").model_copy(update={"exported": ExportNote(kind="onnx", file="m.onnx")}), model)
    with refused(RunError, reason="exported as onnx"):
        export(model, tmp_path / "out")
    assert left(tmp_path) == ["model"]
