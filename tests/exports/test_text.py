"""One file that takes strings: the same tokens as the tokenizer, the same answers as the model, and onnxruntime alone
opens it."""

from __future__ import annotations

import json
import os
import re
import site
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.backbones import tiny_tokenizer
from kits.exported import saved_model
from kits.patience import every_day
from kits.predictions import card_of
from tokenizers import Tokenizer

from textune.batches import TextEncoder
from textune.config import Columns, MetadataPrefix, TokensSection
from textune.config.taskkinds import BinaryTask, MultilabelTask, MultitaskTask, RegressionTask
from textune.errors import ExportError, ModelError
from textune.exports import export
from textune.exports.answergraph import add_answers
from textune.exports.graph import Graph
from textune.exports.hardtexts import HARD, hard_texts
from textune.exports.text import FILE, OPSET, TEXT, open_session, write_text_model
from textune.exports.tokengraph import add_tokens, require_same
from textune.exports.wordpiece import character_table
from textune.prediction import Probe, load
from textune.prediction.card import HeadCard
from textune.tasks import Decision, Head, shown

WORDPIECE = ["bert", "mpnet", "electra", "distilbert"]
BPE = ["gpt2", "roberta", "modernbert", "gemma"]
REFUSED = ["xlm-roberta", "t5", "qwen2", "llama", "albert", "deberta-v2"]
NO_PROBE = Probe((), {}, is_kept=False, tokens=())
PAGE = Path(__file__).parents[2] / "docs" / "exports.md"


def encoder_of(family: str, **section: Any) -> tuple[TextEncoder, Any]:
    tokenizer = tiny_tokenizer(family)
    return TextEncoder(tokenizer, TokensSection(**{"max_length": 128} | section)), tokenizer


def tokens_of(encoder: TextEncoder, *, pad_id: int = 0) -> Callable[[list[str]], tuple[np.ndarray, np.ndarray]]:
    """What the graph of a tokenizer makes of texts."""
    from onnx import helper

    from textune.exports.text import _model

    graph = Graph("tokens")
    names = add_tokens(graph, TEXT, encoder, pad_id=pad_id)
    values = [helper.make_tensor_value_info(name, 7, None) for name in names]
    session = open_session(_model(graph.nodes, graph.constants, values, {"": OPSET}).SerializeToString())
    return lambda texts: tuple(session.run(list(names), {TEXT: np.array(texts, dtype=object)}))  # type: ignore[return-value]


def random_texts(num: int, seed: int) -> list[str]:
    """Characters of every kind, next to each other as no text has them."""
    draw = np.random.default_rng(seed)
    blocks = [(1, 0x80), (0x80, 0x250), (0x300, 0x370), (0x370, 0x1200), (0x1200, 0x3000), (0x3000, 0xD800)]
    blocks += [(0xE000, 0x10000), (0x10000, 0x20000), (0x20000, 0x110000)]
    texts = []
    for _ in range(num):
        chosen = draw.choice(len(blocks), draw.integers(1, 30), p=[0.4, *[0.6 / 8] * 8])
        texts.append("".join(chr(draw.integers(*blocks[block])) for block in chosen))
    return [text.encode("utf-8", "ignore").decode() for text in texts]


@pytest.mark.every_day(2)
@pytest.mark.parametrize("truncate", ["head", "tail", "head_tail"])
@pytest.mark.parametrize("family", every_day(WORDPIECE + BPE, ["bert", "gpt2", "roberta"]))
def test_tokens_are_those_of_the_tokenizer(family: str, truncate: str) -> None:
    for longest in (128, 15, 4):
        encoder, tokenizer = encoder_of(family, truncate=truncate, max_length=longest)
        require_same(tokens_of(encoder), encoder, hard_texts(tokenizer.all_special_tokens))


@pytest.mark.parametrize("family", ["gpt2", "roberta"])
def test_special_tokens_may_say_that_they_are_normalized(family: str) -> None:
    """Those of the published tokenizers of GPT-2 and RoBERTa do, and nothing there normalizes."""
    _, tokenizer = encoder_of(family)
    described = json.loads(tokenizer.backend_tokenizer.to_str())
    assert described["normalizer"] is None
    for one in described["added_tokens"]:
        one["normalized"] = True
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(described))
    encoder = TextEncoder(tokenizer, TokensSection(max_length=128))
    require_same(tokens_of(encoder), encoder, hard_texts(tokenizer.all_special_tokens))


@pytest.mark.parametrize("family", every_day(WORDPIECE + BPE, ["bert", "gpt2"]))
def test_no_texts_are_no_rows(family: str) -> None:
    """onnxruntime_extensions would end the process."""
    ids, mask = tokens_of(encoder_of(family)[0])([])
    assert len(ids) == len(mask) == 0


def test_wordpiece_reads_past_the_character_0() -> None:
    encoder, _ = encoder_of("bert")
    texts = ["a\0b", "\0", "x\0\0y\0", "[C\0LS] [SE\U000f0000P]", "great\0 film"]
    require_same(tokens_of(encoder), encoder, texts)
    assert tokens_of(encoder)(["a\0b"])[0].shape == (1, 4)


def test_bpe_says_that_it_cannot_read_the_character_0() -> None:
    ask = tokens_of(encoder_of("gpt2")[0])
    with pytest.raises(Exception, match=r"Gather node. Name:'tokens/a text has the character U\+0000'"):
        ask(["a great film", "a\0b"])


@pytest.mark.parametrize("family", every_day(WORDPIECE + BPE, ["bert"]))
def test_tokens_of_random_characters_are_those_of_the_tokenizer(family: str) -> None:
    encoder, _ = encoder_of(family)
    require_same(tokens_of(encoder), encoder, random_texts(700, seed=3))


def test_padding_stands_behind_shorter_texts() -> None:
    encoder, _ = encoder_of("bert")
    ids, mask = tokens_of(encoder, pad_id=77)(["a", "a great film", ""])
    assert ids.shape == mask.shape == (3, 5)
    assert mask.sum(1).tolist() == [3, 5, 2] and (ids[mask == 0] == 77).all()
    ids, mask = tokens_of(encoder)([""])
    assert mask.tolist() == [[1, 1]]


def test_a_table_says_what_the_tokenizer_does_to_each_character() -> None:
    """The slow way: characters one by one, between letters."""
    backend = encoder_of("bert")[0].backend
    table = character_table(backend)
    draw = np.random.default_rng(5)
    for number in [*range(1, 0x250), *draw.integers(0x250, 0xD800, 2000), *draw.integers(0xE000, 0x40000, 2000)]:
        one = chr(number)
        put = table.get(one, " " if one in "\t\n\r" else one).replace("\x01", " ").replace("\x02", "")
        wanted = [
            piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(f"a{one}b"))
        ]
        assert f"a{put}b".split(" ") == wanted or f"a{put}b".split() == wanted, hex(number)


@pytest.mark.parametrize("family", REFUSED)
def test_a_tokenizer_that_is_read_otherwise_is_refused(family: str) -> None:
    encoder, tokenizer = encoder_of(family)
    with pytest.raises(ExportError, match="--to text cannot hold the tokenizer"):
        require_same(tokens_of(encoder), encoder, hard_texts(tokenizer.all_special_tokens))


def test_the_refusal_names_text_and_token() -> None:
    encoder, _ = encoder_of("bert")
    ask = tokens_of(encoder)

    def wrong(texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        ids, mask = ask(texts)
        ids[-1, 1] += 1
        return ids, mask

    with pytest.raises(ExportError, match=r"cuts the text 'bad'.*token 2 \(3 tokens instead of 3\)"):
        require_same(wrong, encoder, ["good", "bad"])


def test_older_operators_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="--to text: opset 18 cannot be written") as refused:
        write_text_model(tmp_path, tmp_path, probe=NO_PROBE, on_notice=lambda _: None, opset=18)
    assert refused.value.hint == "Choose one from 20 to 23; 20 is the default."


def test_rules_that_no_graph_has_are_refused() -> None:
    with pytest.raises(ExportError, match="a graph cannot refuse one"):
        add_tokens(Graph("tokens"), TEXT, encoder_of("bert", truncate="error")[0], pad_id=0)


# --- whole models ----------------------------------------------------------------------------------------------------


def answers(folder: Path, texts: list[str]) -> dict[str, np.ndarray]:
    session = open_session(str(folder / FILE))
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {TEXT: np.array(texts, dtype=object)}), strict=True))


def written(model: Path, folder: Path) -> Path:
    folder.mkdir()
    write_text_model(model, folder, probe=NO_PROBE, on_notice=lambda _: None)
    return folder


@pytest.mark.parametrize("family", every_day(WORDPIECE + BPE, []))
@pytest.mark.parity("TR-14")
def test_scores_are_those_of_the_model(family: str, tmp_path: Path) -> None:
    model = saved_model(family, tmp_path)
    folder = written(model, tmp_path / "text")
    predictor = load(model, precision="fp32")
    wanted = predictor.score(list(HARD))
    found = answers(folder, list(HARD))
    np.testing.assert_allclose(found["scores"], wanted, atol=1e-5)
    assert found["label"].tolist() == [one.label for one in predictor.predict(list(HARD))]  # type: ignore[union-attr]
    assert sorted(path.name for path in folder.iterdir()) == [FILE, "textune.json"]


HEADS: dict[str, tuple[dict[str, Any], Decision]] = {
    "as usual": ({}, Decision()),
    "temperature": ({}, Decision(temperature=2.5)),
    "costs and abstention": ({}, Decision(costs=((0, 1, 1), (5, 0, 5), (1, 1, 0)), abstain_below=(0.3, 0.36, 0.3))),
    "threshold": ({"problem": "binary", "names": ("no", "yes")}, Decision(thresholds=(0.45,), abstain_below=0.51)),
    "platt": ({"problem": "binary", "names": ("no", "yes")}, Decision(platt=((2.0, -0.3),))),
    "one output": ({"problem": "binary", "names": ("no", "yes"), "task": BinaryTask()}, Decision(temperature=0.5)),
    "labels": ({"problem": "multilabel", "task": MultilabelTask()}, Decision()),
    "labels by thresholds": (
        {"problem": "multilabel", "task": MultilabelTask()},
        Decision(temperature=3.0, thresholds=(0.4, 0.5, 0.6)),
    ),
    "labels by costs": ({"problem": "multilabel", "task": MultilabelTask()}, Decision(costs=((0, 1), (2, 0)))),
    "a number": ({"problem": "regression", "names": ("label",), "task": RegressionTask()}, Decision()),
}


@pytest.mark.parametrize("name", HEADS)
def test_answers_are_those_of_the_decision(name: str) -> None:
    card, decision = HEADS[name]
    told = card_of(**{"problem": "multiclass", "names": ("red", "green", "blue"), "decision": decision} | card)
    [head] = told.build_task().heads
    logits = np.random.default_rng(1).normal(0, 3, (500, head.num_outputs)).astype(np.float32)
    found = answers_of(head, logits)
    scores = head.scores(torch.from_numpy(logits).double()).numpy()
    if not head.label_map.choices:
        assert (found["value"] == scores).all()
        return
    said = shown(head, scores)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-12)
    np.testing.assert_allclose(found["probabilities"], said.scores, atol=1e-12)
    if head.label_map.exclusive:
        assert found["label"].tolist() == [answer or "" for answer in said.answers]
        assert len(set(said.answers)) > 1
    else:
        assert (found["labels"] == head.decide(scores)).all()
        assert 0 < found["labels"].mean() < 1


def answers_of(head: Head, logits: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of the graph of a head alone."""
    from onnx import helper

    graph = Graph("answers")
    outputs = add_answers(graph, "logits", [head])
    values = [helper.make_tensor_value_info(output.name, output.element, None) for output in outputs]
    given = [helper.make_tensor_value_info("logits", 1, ["rows", head.num_outputs])]
    made = helper.make_graph(graph.nodes, "answers", given, values, graph.constants)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    names = [output.name for output in outputs]
    return dict(zip(names, open_session(model.SerializeToString()).run(names, {"logits": logits}), strict=True))


@pytest.mark.slow
def test_several_tasks_have_outputs_by_name(tmp_path: Path) -> None:
    heads = tuple(
        HeadCard(name=name, problem="multiclass", names=names, task=MultitaskTask())
        for name, names in (("tone", ("neg", "mid", "pos")), ("topic", ("a", "b", "c", "d")))
    )
    model = saved_model("bert", tmp_path, heads=heads)
    found = answers(written(model, tmp_path / "text"), list(HARD))
    predictor = load(model, precision="fp32")
    for name, scores in predictor.score(list(HARD)).items():  # type: ignore[union-attr]
        np.testing.assert_allclose(found[f"{name}_probabilities"], scores, atol=1e-5)
    assert set(found["topic_label"]) <= {"a", "b", "c", "d"}


@pytest.mark.parametrize(
    ("card", "match"),
    [
        pytest.param({"columns": Columns(text="a", text_pair="b")}, "pairs of texts", id="pairs"),
        pytest.param({"columns": Columns(template="{a} {b}")}, "made of columns", id="template"),
        pytest.param({"metadata": MetadataPrefix(columns=("source",))}, "fields before", id="fields"),
    ],
)
def test_models_of_more_than_a_text_are_refused(card: dict[str, Any], match: str, tmp_path: Path) -> None:
    model = saved_model("bert", tmp_path, **card)
    with pytest.raises(ExportError, match=match):
        export(model, tmp_path / "text", to="text")
    assert not (tmp_path / "text").exists()


def test_the_character_0_in_the_rows_of_a_bpe_model_is_refused(tmp_path: Path) -> None:
    probe = Probe(({"text": "a\0b"},), {}, is_kept=True)
    with pytest.raises(ExportError, match=r"its rows hold the character U\+0000") as refused:
        write_text_model(saved_model("gpt2", tmp_path), tmp_path, probe=probe, on_notice=lambda _: None)
    assert "Choose --to onnx" in refused.value.hint


@pytest.fixture(scope="module")
def passed(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The export of a run, through the gate."""
    folder = tmp_path_factory.mktemp("passed") / "model-text"
    done = export(trained[0].run, folder, to="text")
    assert done.parity.difference < 1e-5
    return folder


@pytest.mark.slow
def test_textune_says_that_it_does_not_open_it(passed: Path) -> None:
    with pytest.raises(ModelError, match="of the kind text, which textune does not open") as refused:
        load(passed)
    assert "docs/exports.md" in refused.value.hint


@pytest.mark.slow
def test_no_texts_get_no_answers(passed: Path) -> None:
    """A process of its own: the operators for strings would end it where there are none."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom textune.exports.text import *\n"
        "session = open_session(sys.argv[1])\n"
        "print([len(one) for one in session.run(None, {TEXT: np.array([], dtype=object)})])"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, str(passed / FILE)], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (0, "[0, 0, 0]\n"), ran.stderr


@pytest.mark.slow
@pytest.mark.parity("TR-14")
def test_the_page_s_program_needs_onnxruntime_alone(passed: Path, trained: Any, tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8").partition("\n## Text\n")[2].partition("\n## ")[0]
    [program] = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / "program.py").write_text(
        # None of these can be imported.
        f"import sys\nsys.modules |= dict.fromkeys(['torch', 'transformers', 'textune', 'tokenizers'])\n{program}",
        encoding="utf-8",
    )
    (tmp_path / "model-text").symlink_to(passed)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(site.getsitepackages())}
    ran = subprocess.run(
        [sys.executable, "-S", "program.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    predictor = load(Path(trained[0].run), precision="fp32")
    wanted = predictor.predict(["a charming film", "no plot at all"])
    assert [line.split()[0] for line in ran.stdout.splitlines()] == [one.label for one in wanted]  # type: ignore[union-attr]
