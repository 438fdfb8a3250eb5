"""`--to text`: tokenizer, model and decision in one ONNX file that takes strings.

    text [N] --tokengraph.py--> input_ids, attention_mask --model of `--to onnx`--> logits --answergraph.py--> answers

onnxruntime opens it with the operators of onnxruntime_extensions; neither PyTorch nor textune is there.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from textune.batches import TextEncoder
from textune.errors import ExportError
from textune.exports.answergraph import INT64, STRING, Output, add_answers, names_of
from textune.exports.askers import ROWS_AT_ONCE
from textune.exports.graph import CLASSIC, EXTENSIONS, Graph
from textune.exports.hardtexts import hard_texts
from textune.exports.onnx import FILE, OPSETS, require_opset, write_onnx
from textune.exports.tokengraph import add_tokens, no_tokenizer, require_same
from textune.prediction import ExportNote, ModelCard, Predictor, Probe, Scores, load_scorer, read_card, write_card
from textune.tasks import Head, Task, shown

KIND = "text"
TEXT = "text"
"""The name of the input: strings [N]."""
OPSET = 20
"""The version of operators: the first one that finds and splits strings."""
_CORE = "model/"
"""Before every name of the model's own graph."""
_OPSETS = {EXTENSIONS: 1, CLASSIC: 3}
_MOST_BYTES = (1 << 31) - (1 << 27)
"""Of the model: one file of ONNX holds 2 GB, and the tokenizer is in it as well."""


def write_text_model(
    model: Path, folder: Path, *, probe: Probe, on_notice: Callable[[str], None], opset: int = OPSET
) -> None:
    """Fill `folder` with one file that takes texts, and the model's card; a `Writer` of `textune.exports.table`.

    ExportError for a model that reads more than one text of a row, and for a tokenizer that ONNX operators do not
    follow on `HARD` texts and the rows of `probe`.
    """
    require_opset(opset, KIND, range(OPSET, OPSETS.stop), default=OPSET)
    scorer = load_scorer(model, device="cpu", precision="fp32", compile="off", on_notice=on_notice)
    _require_single(scorer.card)
    encoder = Predictor(scorer).encoder
    tokens = Graph("tokens")
    pad_id = scorer.tokenizer.pad_token_id
    assert isinstance(pad_id, int), "every tokenizer gets a pad token"
    ids, mask = add_tokens(tokens, TEXT, encoder, pad_id=pad_id)
    texts = hard_texts(scorer.tokenizer.all_special_tokens)
    if probe.has_texts:
        texts += list(probe.given(scorer.card).texts)
    _require_tokens(tokens, ids, mask, encoder, texts)
    aside = folder / "aside"
    aside.mkdir()
    write_onnx(model, aside, probe=probe, on_notice=on_notice, opset=opset, kind=KIND)
    if (size := sum(path.stat().st_size for path in aside.glob(f"{FILE}*"))) > _MOST_BYTES:
        raise _refused(
            f"its one file would have {size / 1e9:.1f} GB, and ONNX allows 2",
            hint="Choose --to onnx, which keeps weights in a file of their own.",
        )
    joined = _joined(aside / FILE, tokens, {"input_ids": ids, "attention_mask": mask}, scorer.task)
    shutil.rmtree(aside)
    _note(joined, scorer.card)
    (folder / FILE).write_bytes(joined.SerializeToString())
    note = ExportNote(kind=KIND, file=FILE, opset=opset)
    write_card(scorer.card.model_copy(update={"exported": note}), folder)


def _require_single(card: ModelCard) -> None:
    """ExportError for a model that reads more of a row than one text."""
    reason = ""
    if card.columns.text_pair is not None:
        reason = "it reads pairs of texts"
    elif card.columns.template is not None:
        reason = "it reads a text that is made of columns (data.columns.template)"
    elif card.metadata is not None:
        reason = "it reads fields before each text (data.metadata)"
    if reason:
        raise _refused(reason, hint="Choose --to mlflow, which takes columns, or --to onnx, which takes tokens.")


def _refused(reason: str, *, hint: str) -> ExportError:
    return ExportError(f"--to text cannot hold this model: {reason}.", hint=hint, key="to", value=KIND, reason=reason)


def _require_tokens(graph: Graph, ids: str, mask: str, encoder: TextEncoder, texts: Sequence[str]) -> None:
    """ExportError where the graph of a tokenizer makes other tokens than the tokenizer."""
    from onnx import helper

    outputs = [helper.make_tensor_value_info(name, INT64, None) for name in (ids, mask)]
    model = _model(graph.nodes, graph.constants, outputs, {"": OPSET})
    session = open_session(model.SerializeToString())

    def answer(some: list[str]) -> tuple[np.ndarray, np.ndarray]:
        try:
            ids_NL, mask_NL = session.run([ids, mask], {TEXT: np.array(some, dtype=object)})
        except Exception as error:  # onnxruntime has a class for each code, and none for all
            if "\0" not in "".join(some):
                raise
            raise no_tokenizer("its rows hold the character U+0000, which ONNX operators cannot read") from error
        return ids_NL, mask_NL

    require_same(answer, encoder, texts)


def _joined(core_file: Path, tokens: Graph, made: dict[str, str], task: Task) -> Any:
    """The ModelProto of all three graphs."""
    import onnx
    from onnx import compose

    core = compose.add_prefix(onnx.load(core_file), _CORE)
    for value in core.graph.input:
        name = value.name.removeprefix(_CORE)
        if name == "token_type_ids":  # those of a single text
            made[name] = tokens.add("Mul", made["input_ids"], tokens.numbers(0))
        tokens.output(made[name], value.name)
    answers = Graph("answers")
    outputs = add_answers(answers, core.graph.output[0].name, task.heads)
    opsets = {one.domain: one.version for one in core.opset_import}
    return _model(
        [*tokens.nodes, *core.graph.node, *answers.nodes],
        [*tokens.constants, *core.graph.initializer, *answers.constants],
        [_value(output) for output in outputs],
        opsets,
        core=core,
    )


def _value(output: Output) -> Any:
    from onnx import helper

    shape = ["rows"] if output.columns is None else ["rows", output.columns]
    return helper.make_tensor_value_info(output.name, output.element, shape)


def _model(
    nodes: Sequence[Any], constants: Sequence[Any], outputs: Sequence[Any], opsets: dict[str, int], *, core: Any = None
) -> Any:
    from onnx import helper

    text = helper.make_tensor_value_info(TEXT, STRING, ["rows"])
    graph = helper.make_graph(nodes, "textune", [text], outputs, constants)
    imports = [helper.make_opsetid(domain, number) for domain, number in (opsets | _OPSETS).items()]
    return helper.make_model(
        graph,
        opset_imports=imports,
        ir_version=10 if core is None else core.ir_version,
        functions=[] if core is None else core.functions,
    )


def _note(model: Any, card: ModelCard) -> None:
    """What a reader of the file alone should know of its outputs."""
    from onnx import helper

    labels = {head.name: list(head.names) for head in card.heads}
    said = json.dumps(labels, ensure_ascii=False, allow_nan=False)
    helper.set_model_props(model, {"labels": said, "problem": card.problem, "made_by": "textune"})


def open_session(model: str | bytes) -> Any:
    """An onnxruntime session of a file, or of its bytes, with the operators of onnxruntime_extensions."""
    import onnxruntime
    import onnxruntime_extensions

    options = onnxruntime.SessionOptions()
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    options.log_severity_level = 4  # errors are raised as well
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def by_onnxruntime(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    """An `Asker` of `textune.exports.table`: strings in, by onnxruntime. ExportError where what the file makes of its
    own scores is not what the decision of the model makes of them."""
    card = read_card(folder)
    task, texts = card.build_task(), list(probe.given(card).texts)
    session = open_session(str(folder / FILE))
    names = [output.name for output in session.get_outputs()]
    size = 1 if alone else ROWS_AT_ONCE
    parts = [
        session.run(names, {TEXT: np.array(texts[start : start + size], dtype=object)})
        for start in range(0, len(texts), size)
    ]
    found = dict(zip(names, (np.concatenate(arrays) for arrays in zip(*parts, strict=True)), strict=True))
    return {head.name: _checked(head, found, alone=len(task.heads) == 1) for head in task.heads}


def _checked(head: Head, found: dict[str, np.ndarray], *, alone: bool) -> np.ndarray:
    """The scores of a head [N, K], or its numbers [N]."""
    names = names_of(head, alone=alone)
    if not head.label_map.choices:
        return found[names["value"]]
    scores = found[names["scores"]]
    answers, _, calibrated = shown(head, scores)
    if head.label_map.exclusive:
        same_N = np.array([answer or "" for answer in answers]) == found[names["label"]]
    else:
        same_N = (head.decide(scores) == found[names["labels"]]).all(axis=1)
    wrong_N = ~same_N | (np.abs(calibrated - found[names["probabilities"]]).max(axis=1) > 1e-9)
    if wrong_N.any():
        row = int(wrong_N.argmax())
        raise ExportError(
            f"--to text: row {row + 1} gets another answer than the model's decision gives its scores.",
            hint="Choose --to onnx.",
            key="to",
            value=KIND,
            reason="another answer",
        )
    return scores
