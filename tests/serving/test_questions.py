"""Typed questions: which ones a head answers, and that answers are those of transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from kits.metrics import head_of
from pydantic import TypeAdapter
from transformers.decision import DecisionConfig
from transformers.decision.template_utils import parse_questions

from textune.data.labels.map import LabelMap
from textune.serving.refusals import Refusal
from textune.serving.shapes.questions import Question, planned, said_by
from textune.tasks.classes import ClassHead
from textune.tasks.decision import Decision
from textune.tasks.head import Head

TOPIC = ClassHead(LabelMap("multiclass", ("red", "green", "blue")), 3, name="topic")
TONE = ClassHead(LabelMap("binary", ("neg", "pos")), 2, name="tone")
STARS = ClassHead(LabelMap("multiclass", ("1", "10", "2", "3")), 4, name="stars")
TAGS = head_of("multilabel", names=("joy", "anger", "fear"))
NUMBER = head_of("regression")
CHOICE = {"type": "choice", "criteria": {"green": "like grass", "red": None, "blue": {"like": "sky"}}}
SCORE = {"type": "score", "instructions": "How warm?", "criteria": ["blue", "green", "red"]}


def read(questions: dict[str, Any]) -> dict[str, Question]:
    return TypeAdapter(dict[str, Question]).validate_python(questions)


def answers(questions: dict[str, Any], heads: list[Any], scores: dict[str, list[float]]) -> dict[str, Any]:
    plans = planned(read(questions), heads)
    return {
        name: plan.answer(said_by(plan.head, np.array([scores[plan.head.name]]))).model_dump()
        for name, plan in plans.items()
    }


@pytest.mark.parametrize("seed", range(5))
def test_answers_are_those_of_transformers(seed: int) -> None:
    topic, tone = (np.random.default_rng(seed).dirichlet(np.ones(num)).tolist() for num in (3, 2))
    questions = {"topic": CHOICE, "tone": {"type": "noul", "instructions": "Is it kind?"}}
    given = answers(questions, [TOPIC, TONE], {"topic": topic, "tone": tone})
    by_label = dict(zip(TOPIC.labels, topic, strict=True))
    for question in parse_questions(questions | {"scale": SCORE}, DecisionConfig()):
        if question.type == "score":
            expected = question.answer([by_label[name] for name in SCORE["criteria"]])
            assert answers({"topic": SCORE}, [TOPIC], {"topic": topic})["topic"] == expected
        elif question.type == "noul":
            assert given["tone"] == question.answer(tone[::-1]), "true is the second class"
        else:
            expected = question.answer([by_label[name] for name in question.options])
            confidence = expected.pop("confidence")
            assert given["topic"].pop("confidence") == pytest.approx(confidence)
            assert given["topic"] == expected and list(given["topic"]["probabilities"]) == list(CHOICE["criteria"])


def test_the_decision_of_the_model_is_what_is_answered() -> None:
    strict = ClassHead(TONE.label_map, 2, decision=Decision(temperature=2.0, thresholds=(0.9,)), name="tone")
    question = {"tone": {"type": "choice", "criteria": {"neg": None, "pos": None}}}
    answer = answers(question, [strict], {"tone": [0.05, 0.95]})["tone"]
    assert answer["choice"] == "neg" and answer["confidence"] == 0.0
    assert answer["probabilities"]["pos"] == pytest.approx(1 / (1 + (0.05 / 0.95) ** 0.5)), "calibrated"
    unsure = ClassHead(TOPIC.label_map, 3, decision=Decision(abstain_below=0.9), name="topic")
    scores = {"topic": [0.8, 0.1, 0.1]}
    for question in ({"topic": CHOICE}, {"topic": SCORE}):
        assert answers(question, [unsure], scores)["topic"]["confidence"] == 0.0, "withheld"
        assert answers(question, [TOPIC], scores)["topic"]["confidence"] > 0.5


def test_numbers_are_levels_in_their_order() -> None:
    """Whatever the order of the ids."""
    levels = {"stars": {"type": "score", "criteria": ["poor", "fair", "good", "splendid"]}}
    answer = answers(levels, [STARS], {"stars": [0.1, 0.6, 0.2, 0.1]})["stars"]
    assert answer["probabilities"] == {"0": 0.1, "1": 0.2, "2": 0.1, "3": 0.6}
    assert answer["score"] == pytest.approx(0.2 + 0.2 + 1.8) and answer["legend"]["3"] == "splendid"


@pytest.mark.parametrize("name", ["joy", "label/joy"])
def test_each_of_several_labels_is_a_question(name: str) -> None:
    given = answers({name: {"type": "noul"}}, [TAGS], {"label": [0.7, 0.2, 0.9]})
    assert given == {name: {"type": "noul", "noul": 0.7}}


REFUSED: dict[str, tuple[list[Head], str, dict[str, Any], str]] = {
    "an unknown name": ([TOPIC, TONE], "mood", CHOICE, "names nothing"),
    "other classes": ([TOPIC], "topic", CHOICE | {"criteria": {"red": None, "pink": None}}, "other criteria"),
    "fewer classes": ([TOPIC], "topic", CHOICE | {"criteria": {"red": None, "green": None}}, "other criteria"),
    "too few levels": ([TOPIC], "topic", SCORE | {"criteria": ["red", "green"]}, "in the order of a scale"),
    "levels of no scale": ([TOPIC], "topic", SCORE | {"criteria": ["a", "b", "c"]}, "in the order of a scale"),
    "one of several labels": ([TAGS], "label", CHOICE, "is multilabel"),
    "a number": ([NUMBER], "label", SCORE, "is regression"),
    "yes or no of three": ([TOPIC], "topic", {"type": "noul"}, "names no label"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_questions_are_refused_with_those_that_can_be_answered(case: str) -> None:
    heads, name, question, why = REFUSED[case]
    with pytest.raises(Refusal, match=why) as caught:
        planned(read({name: question}), heads)
    assert caught.value.status == 422
    for head in heads:
        assert head.label_map.choices == () or repr(head.labels[0]).strip("'") in caught.value.sentence


def test_a_label_of_two_tasks_needs_the_name_of_one() -> None:
    other = ClassHead(TOPIC.label_map, 3, name="second")
    with pytest.raises(Refusal, match=r"several tasks.*topic/red, second/red"):
        planned(read({"red": {"type": "noul"}}), [TOPIC, other])
    scores = {"topic": [1.0, 0.0, 0.0], "second": [0.0, 1.0, 0.0]}
    assert answers({"second/red": {"type": "noul"}}, [TOPIC, other], scores)["second/red"]["noul"] == 0.0
