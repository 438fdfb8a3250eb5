"""`textune.json` in its second form: a list of heads; the first form, one head among the other keys, is still read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kits.predictions import card_of

from textune.config.taskkinds import AutoTask, BinaryTask
from textune.errors import RunError
from textune.model.saved import CARD_NAME
from textune.prediction.card import HeadCard, ModelCard, read_card
from textune.tasks.decision import USUAL, Decision

OLD = Path(__file__).parents[1] / "data-of-versions" / "0.1.0" / "run" / "best"


def write(folder: Path, tree: Any) -> Path:
    (folder / CARD_NAME).write_text(json.dumps(tree), encoding="utf-8")
    return folder


def test_the_first_form_says_the_same() -> None:
    tree = json.loads((OLD / CARD_NAME).read_text(encoding="utf-8"))
    assert tree["version"] == 1 and "heads" not in tree
    card = read_card(OLD)
    today = json.loads(card.model_dump_json())
    assert today["version"] == 2
    (head,) = today["heads"]
    assert head == {
        "name": "label",
        **{key: tree[key] for key in ("problem", "names", "multi_hot")},
        "task": {**head["task"], **tree["task"]},  # keys have come
        "decision": {"temperature": 1.0, "thresholds": None, "costs": None, "abstain_below": None, "platt": None},
    }
    assert today["columns"] == {**today["columns"], **tree.pop("columns")}  # one key has come
    moved = {"version", "problem", "names", "multi_hot", "task"}
    assert {key: today[key] for key in tree.keys() - moved} == {key: tree[key] for key in tree.keys() - moved}
    assert (card.problem, list(card.names)) == (tree["problem"], tree["names"])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    card = card_of(problem="multilabel", names=("a", "b"), multi_hot=True, decision=Decision(1.7, (0.25, 0.5)))
    (tmp_path / CARD_NAME).write_text(card.model_dump_json(indent=2), encoding="utf-8")
    assert read_card(tmp_path) == card


def test_the_decision_is_that_of_the_card() -> None:
    scores = np.array([[0.3, 0.1], [0.1, 0.6]])
    for threshold, wanted in ((0.25, [[1, 0], [0, 1]]), (0.5, [[0, 0], [0, 1]])):
        card = card_of(problem="multilabel", names=("a", "b"), decision=Decision(thresholds=(threshold,) * 2))
        assert card.build_task().heads[0].decide(scores).tolist() == wanted


def test_class_weights_are_left_to_training() -> None:
    section = BinaryTask(num_logits=1, class_weights="balanced", label_smoothing=0.1)
    head: Any = card_of(task=section).build_task().heads[0]
    assert head.class_weights is None and head.num_outputs == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"heads": []}, "heads: Tuple should have at least 1 item"),
        ({"version": 3}, "later version"),
        ({"heads": [{"problem": "ternary", "names": ["a"], "task": {"kind": "auto"}}]}, r"heads\.0\.problem"),
        ({"problem": "binary"}, "problem: "),  # of the first form
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], reason: str, tmp_path: Path) -> None:
    tree = json.loads(card_of().model_dump_json())
    with pytest.raises(RunError, match=reason) as caught:
        read_card(write(tmp_path, tree | changes))
    assert CARD_NAME in str(caught.value)


def test_a_card_may_have_several_heads() -> None:
    tone, urgent = (
        HeadCard(name=name, problem=problem, names=names, task=AutoTask())
        for name, problem, names in (
            ("tone", "multiclass", ("neg", "mid", "pos")),
            ("urgent", "binary", ("no", "yes")),
        )
    )
    card = ModelCard.model_validate(card_of().model_dump() | {"heads": [tone, urgent]})
    assert card.problem == "multitask"
    assert card.names == ("tone/neg", "tone/mid", "tone/pos", "urgent/no", "urgent/yes")
    task = card.build_task()
    assert [(head.name, head.num_outputs) for head in task.heads] == [("tone", 3), ("urgent", 2)]


def test_one_threshold_of_earlier_cards_is_that_of_every_label(tmp_path: Path) -> None:
    for problem, names, threshold, wanted in (
        ("multilabel", ("a", "b"), 0.3, Decision(thresholds=(0.3, 0.3))),
        ("multilabel", ("a", "b"), 0.5, USUAL),
        ("binary", ("a", "b"), 0.3, USUAL),  # which did nothing
        ("regression", ("value",), 0.5, USUAL),
    ):
        tree = json.loads(card_of(problem=problem, names=names).model_dump_json())
        tree["heads"][0]["decision"] = {"threshold": threshold}
        assert read_card(write(tmp_path, tree)).heads[0].decision == wanted


@pytest.mark.parametrize(
    "decision",
    [{"temperature": 0}, {"thresholds": [0.5, 0.5]}, {"costs": [[0, 1], [1]]}, {"temperature": "warm"}],
)
def test_a_decision_that_is_none_is_damage(decision: dict[str, Any], tmp_path: Path) -> None:
    tree = json.loads(card_of().model_dump_json())
    tree["heads"][0]["decision"] = decision
    with pytest.raises(RunError) as caught:
        read_card(write(tmp_path, tree))
    assert caught.value.key.startswith("heads.0") and caught.value.place == str(tmp_path / CARD_NAME)


def test_decisions_are_given_and_taken_by_head() -> None:
    card = card_of().with_decisions({"label": Decision(2.0)})
    assert card.heads[0].decision == Decision(2.0) == card.build_task().head.decision
    assert card.undecided() == card_of()
