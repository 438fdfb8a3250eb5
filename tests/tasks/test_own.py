"""A class of a user's own is checked before anything else, and what its methods give whenever they are called."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.own import Stars
from torch.nn import functional

import textune
from textune.config.load import load_config
from textune.config.taskkinds import PythonTask
from textune.data.labels.map import LabelMap
from textune.errors import CodeError, ConfigError
from textune.exitcodes import is_out_of_memory
from textune.owncode import OwnObject
from textune.tasks.decision import USUAL
from textune.tasks.own import METHODS, build_own, own_labels

WHOLE = """
import numpy as np, torch
class Own:
    answers = "multiclass"
    labels = ["low", "high"]
    def __init__(self, shift=0): self.shift = shift
    def target(self, label): return self.labels.index(label)
    def row_losses(self, outputs, targets): return (outputs[:, 0] - targets) ** 2
    def scores(self, outputs): return torch.softmax(outputs, 1)
    def decide(self, scores): return scores.argmax(1)
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Writes a module of the user's and says what its section is."""
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(text: str, *changes: tuple[str, str], object: str = "own_module:Own", **options: Any) -> PythonTask:
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "own_module.py").write_text(text)
        sys.modules.pop("own_module", None)
        return PythonTask(object=object, options=options)

    yield write
    sys.modules.pop("own_module", None)


def head_of(section: PythonTask) -> Any:
    labels = own_labels(section)
    assert labels is not None
    return build_own(section, "label", labels, None, USUAL)


@pytest.mark.parametrize("method", ["target", "row_losses", "scores", "decide"])
def test_a_class_without_one_of_the_methods(own: Any, method: str) -> None:
    with pytest.raises(CodeError) as caught:
        own_labels(own(WHOLE, (f"def {method}(", f"def {method}_(")))
    assert caught.value.key == "task.object" and caught.value.value == method
    assert f"has no method {method}(" in caught.value.reason and f"{method}_" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "value", "words"),
    [
        ([("(self, outputs, targets)", "(self, outputs)")], "row_losses", "does not take (outputs, targets)"),
        ([("(self, scores)", "(self, scores, more)")], "decide", "missing a required argument"),
        ([("def decide(self, scores): return scores.argmax(1)", "decide = 3")], "decide", "an int, not a method"),
        ([('answers = "multiclass"', "")], "answers", "has no attribute answers"),
        ([('"multiclass"', '"multi_class"')], "multi_class", "not one of binary, multiclass"),
        ([('["low", "high"]', '"low"')], "low", "not a list of names"),
        ([('["low", "high"]', '["low", "low"]')], ["low", "low"], "repeats low"),
        ([('["low", "high"]', '["low"]')], ("low",), "need at least 2 labels"),
        ([('"multiclass"', '"regression"')], ("low", "high"), "need 1 labels"),
        ([("labels =", "outputs = []; labels =")], [], "outputs is empty"),
        ([("labels =", "metrics = 3; labels =")], 3, "not a dictionary of functions"),
        ([("labels =", 'metrics = {"accuracy": max}; labels =')], "accuracy", "one of textune's own metrics"),
        ([("labels =", 'metrics = {"My kappa": max}; labels =')], "My kappa", "one word"),
        ([("labels =", 'metrics = {"gain": lambda t, d: 1}; labels =')], "gain", "does not take (targets, decisions,"),
        ([("labels =", 'metrics = {"gain": max}; lower_is_better = 3; labels =')], 3, "not a list of names"),
        (
            [("labels =", 'metrics = {"gain": max}; lower_is_better = ["gian"]; labels =')],
            "gian",
            "not one of its metrics",
        ),
    ],
)
def test_what_does_not_fit_the_protocol(own: Any, changes: Any, value: object, words: str) -> None:
    section = own(WHOLE, *changes)
    with pytest.raises(CodeError) as caught:
        head_of(section)
    assert caught.value.key == "task.object" and caught.value.value == value and words in caught.value.reason


@pytest.mark.parametrize(
    ("object", "words"),
    [
        ("own_module:Owns", "Did you mean 'Own'?"),
        ("own_modul:Own", "No module named 'own_modul'"),
        ("own_module.inner:Own", "cannot be imported"),
        ("own_module:np", "a module, not a class"),
    ],
)
def test_an_object_that_is_not_there(own: Any, object: str, words: str) -> None:
    with pytest.raises(CodeError) as caught:
        own_labels(own(WHOLE, object=object))
    assert caught.value.key == "task.object" and caught.value.value == object and words in str(caught.value)


def test_options_that_the_class_does_not_take(own: Any) -> None:
    assert own_labels(own(WHOLE, shift=2)) == LabelMap("multiclass", ("low", "high"))
    with pytest.raises(CodeError) as caught:
        own_labels(own(WHOLE, shifts=2))
    assert "does not take (shifts=...)" in caught.value.reason


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("import numpy as np, torch", "import numpy as np, torch, no_such_thing", 2),
        ("import numpy as np, torch", "import numpy as np, torch\n1 / 0", 3),
        ("    answers =", "    answers == ", 4),
        ("class Own:", "class Own", 3),
        ("self.shift = shift", "self.shift = 1 / shift", 6),
    ],
)
def test_an_error_in_its_code_names_file_and_line(own: Any, tmp_path: Path, old: str, new: str, line: int) -> None:
    with pytest.raises(CodeError) as caught:
        own_labels(own(WHOLE, (old, new)))
    assert caught.value.place == f"{tmp_path / 'own_module.py'}, line {line}"
    assert type(caught.value.__cause__).__name__ in caught.value.reason


def test_an_error_in_a_call_names_the_line_in_its_own_code(own: Any, tmp_path: Path) -> None:
    """Not the one in PyTorch that it comes from."""
    head = head_of(own(WHOLE, ("(outputs[:, 0] - targets) ** 2", "outputs @ targets")))
    with pytest.raises(CodeError) as caught:
        head.row_losses(torch.zeros(3, 2), torch.zeros(3))
    assert caught.value.place == f"{tmp_path / 'own_module.py'}, line 8" and "row_losses" in caught.value.message


@pytest.mark.parametrize(
    ("old", "new", "method", "words"),
    [
        (") ** 2", ").pow(2).mean()", "row_losses", "shape [], but must return one loss for each of the 3 rows, [3]"),
        (") ** 2", ").unsqueeze(1)", "row_losses", "shape [3, 1]"),
        (") ** 2", ").tolist()", "row_losses", "a list"),
        (") ** 2", ").int()", "row_losses", "torch.int32"),
        (") ** 2", ").detach()", "row_losses", "losses without a gradient"),
        ("torch.softmax(outputs, 1)", "outputs[:, 0]", "scores", "scores of shape [3, 2]"),
        (
            "torch.softmax(outputs, 1)",
            "outputs - 0.25",
            "scores",
            "from -0.25 to -0.25, but must return probabilities",
        ),
        ("torch.softmax(outputs, 1)", "outputs + 1.5", "scores", "numbers from 1.5 to 1.5"),
        ("scores.argmax(1)", "scores", "decide", "class ids of shape [3]"),
        ("scores.argmax(1)", "scores.argmax(1) + 2", "decide", "class ids from 2 to 2"),
    ],
)
def test_what_a_method_gives_is_checked(own: Any, old: str, new: str, method: str, words: str) -> None:
    head = head_of(own(WHOLE, (old, new)))
    outputs, targets = torch.zeros(3, 2, requires_grad=True), torch.tensor([0, 1, 1])
    with pytest.raises(CodeError) as caught:
        {
            "row_losses": lambda: head.row_losses(outputs, targets),
            "scores": lambda: head.scores(outputs),
            "decide": lambda: head.decide(np.zeros((3, 2))),
        }[method]()
    assert caught.value.value == method and words in caught.value.reason


@pytest.mark.parametrize(
    ("gives", "value"),
    [("2", 2), ("np.float32(0.5)", 0.5), ("torch.tensor(3)", 3), ("float('inf')", None), ("np.array(np.nan)", None)],
)
def test_a_metric_gives_a_number_or_none_at_all(own: Any, gives: str, value: float | None) -> None:
    """An infinite one has no place in a report."""
    head = head_of(own(WHOLE, ("labels =", f'metrics = {{"gain": lambda t, d, s: {gives}}}; labels =')))
    given = head.answers.measures.own["gain"].function(np.zeros(3), np.zeros(3), np.zeros((3, 2)))
    assert type(given) is float and (given == value if value is not None else np.isnan(given))


@pytest.mark.parametrize("gives", ["None", "'0.5'", "np.zeros(2)", "torch.zeros(1)"])
def test_a_metric_that_gives_no_number(own: Any, gives: str) -> None:
    head = head_of(own(WHOLE, ("labels =", f'metrics = {{"gain": lambda t, d, s: {gives}}}; labels =')))
    with pytest.raises(CodeError) as caught:
        head.answers.measures.own["gain"].function(np.zeros(3), np.zeros(3), np.zeros((3, 2)))
    assert caught.value.value == "gain" and "one number" in caught.value.reason


def test_what_a_class_does_to_the_scores_it_is_given_stays_with_it(own: Any) -> None:
    body = "scores *= 0; return scores.argmax(1)"
    given = np.full((3, 2), 0.5)
    head_of(own(WHOLE, ("return scores.argmax(1)", body))).decide(given)
    assert (given == 0.5).all()


def test_code_that_exits_does_not_end_the_command(own: Any) -> None:
    """As if all were well."""
    with pytest.raises(CodeError) as caught:
        own_labels(own(WHOLE + "raise SystemExit(0)"))
    assert "SystemExit: 0" in caught.value.reason and caught.value.place.endswith("own_module.py, line 11")
    head = head_of(own(WHOLE, ("return torch.softmax", "raise SystemExit; torch.softmax")))
    with pytest.raises(CodeError):
        head.scores(torch.zeros(3, 2))


def test_memory_that_runs_out_in_its_code_is_seen(own: Any) -> None:
    head = head_of(own(WHOLE, (") ** 2", ") ** 2 if len(targets) < 3 else torch.empty(1 << 60)")))
    with pytest.raises(CodeError) as caught:
        head.row_losses(torch.zeros(3, 2), torch.zeros(3))
    assert is_out_of_memory(caught.value)
    assert not is_out_of_memory(CodeError("else"))


def test_labels_of_the_configuration_are_refused_beside_it() -> None:
    task = {"kind": "python", "object": "kits.own:Stars"}
    data = {"train": {"files": "a.csv"}, "labels": {"names": ["a"]}}
    with pytest.raises(ConfigError) as caught:
        textune.train({"task": task, "model": {"pretrained": "x"}, "data": data}, dry_run=True)
    assert caught.value.key == "data.labels.names"
    with pytest.raises(ConfigError) as missing:
        load_config({"task": {"kind": "python"}})
    assert missing.value.key == "task.object"


def test_a_class_that_has_changed_since_the_model_was_trained(own: Any) -> None:
    section = own(WHOLE)
    with pytest.raises(CodeError) as caught:
        build_own(section, "label", LabelMap("multiclass", ("low", "mid", "high")), None, USUAL)
    assert "mid" in caught.value.reason


def test_the_example_of_the_documents_is_such_a_class() -> None:
    """As it stands there, beside the same task of the tests."""
    page = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
    (block,) = [part for part in page.split("```python\n") if part.startswith("class Stars")]
    names = {"torch": torch, "binary_cross_entropy_with_logits": functional.binary_cross_entropy_with_logits}
    exec(block.partition("```")[0], names)
    OwnObject("page:Stars", "task.object", names["Stars"]).require_class(METHODS)
    theirs: Any = names["Stars"]
    page_s, ours, outputs = theirs(most=5), Stars(most=5), torch.randn(7, 4)
    targets = torch.arange(7) % 5
    assert [page_s.target("*" * number) for number in range(1, 6)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="stars are written"):
        page_s.target("three")
    assert len(page_s.outputs) == 4 and page_s.lower_is_better == [*page_s.metrics]
    torch.testing.assert_close(page_s.row_losses(outputs, targets), ours.row_losses(outputs, targets))
    scores = page_s.scores(outputs)
    torch.testing.assert_close(scores, ours.scores(outputs))
    assert (page_s.decide(scores.numpy()) == ours.decide(scores.numpy())).all()
