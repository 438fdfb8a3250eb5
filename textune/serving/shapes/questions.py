"""The typed questions of `/v1/systemone`, and their answers from the scores of a head.

A question is answered where its name says what the model was trained for:

| type | its name | answer |
|---|---|---|
| `choice` | a head of classes; `criteria` names all of its classes | the class, and the probability of each |
| `score` | a head of classes; `criteria` names them as a scale, or they are numbers | the expected level |
| `noul` | a label (`toxic`, or `task/toxic`), or a head of two classes, for its second one | the probability of yes |

Instructions and descriptions are not read: the model knows its own. Definitions of `confidence` are those of
transformers (its `Question.answer`); it is 0 where the model withholds its answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from textune.serving.refusals import Refusal
from textune.tasks import Head, shown
from textune.wording import listing

Content = str | dict[str, Any] | list[Any]
"""Text, or anything that a template would render."""


class _Question(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    instructions: Content | None = None


class NoulCriteria(BaseModel):
    """What counts as yes and as no."""

    model_config = ConfigDict(extra="forbid", strict=True)

    true: Content | None = None
    false: Content | None = None


class NoulQuestion(_Question):
    """Is it so?"""

    type: Literal["noul"]
    criteria: NoulCriteria | None = None


class ChoiceQuestion(_Question):
    """Which one is it?"""

    type: Literal["choice"]
    criteria: dict[str, Content | None] = Field(min_length=1)


class ScoreQuestion(_Question):
    """How much is it?"""

    type: Literal["score"]
    criteria: list[Content] = Field(min_length=1)


Question = Annotated[NoulQuestion | ChoiceQuestion | ScoreQuestion, Field(discriminator="type")]


class NoulAnswer(BaseModel):
    """The probability of yes."""

    type: Literal["noul"] = "noul"
    noul: float


class ChoiceAnswer(BaseModel):
    """What the model decides, and the probability of each option."""

    type: Literal["choice"] = "choice"
    choice: str
    confidence: float
    probabilities: dict[str, float]


class ScoreAnswer(BaseModel):
    """The expected level, and the probability of each."""

    type: Literal["score"] = "score"
    score: float
    legend: dict[str, Content]
    confidence: float
    probabilities: dict[str, float]


Answer = Annotated[NoulAnswer | ChoiceAnswer | ScoreAnswer, Field(discriminator="type")]


class Said(NamedTuple):
    """What a head says of one state."""

    probabilities: Sequence[float]
    """Calibrated, in the order of its labels."""
    answer: object
    """A label, several, or None where it is withheld."""
    decided: int
    """The id of the class that it would answer; of several labels 0."""


Answering = Callable[[Said], BaseModel]
"""Makes the answer to one question."""


class Plan(NamedTuple):
    """How a question is answered: by which head, and how."""

    head: Head
    answer: Answering


def is_of_two_classes(head: Head) -> bool:
    """Whether it answers yes or no: yes is its second class."""
    return head.label_map.exclusive and len(head.labels) == 2


def said_by(head: Head, scores: np.ndarray) -> Said:
    """What a head says by its decision; `scores` [1, K] of one state."""
    answers, _, probabilities = shown(head, scores)
    decided = int(head.decide(scores)[0]) if head.label_map.exclusive else 0
    return Said(probabilities[0].tolist(), answers[0], decided)


def planned(questions: Mapping[str, Question], heads: Sequence[Head]) -> dict[str, Plan]:
    """How each question is answered. Refusal, with the questions that can be, where one cannot."""
    plans: dict[str, Plan] = {}
    wrong: list[str] = []
    for name, question in questions.items():
        found = _plan(name, question, heads)
        if isinstance(found, str):
            wrong.append(f"{question.type} {name!r:.80} {found}")
        else:
            plans[name] = found
    if wrong:
        raise Refusal("unusable", f"`questions`: {'; '.join(wrong[:4])}. {answerable(heads)}")
    return plans


def answerable(heads: Sequence[Head]) -> str:
    """Which questions a model of these heads answers, in a sentence."""
    kinds: list[str] = []
    nouls: list[str] = []
    for head in heads:
        label_map, names = head.label_map, listing(head.labels)
        if label_map.exclusive:
            kinds.append(f"choice {head.name!r} among {names} (or score, as levels)")
        nouls += [repr(name if len(heads) == 1 else f"{head.name}/{name}") for name in label_map.choices]
    if nouls:
        kinds.append(f"noul {listing(nouls)}")
    return f"The model answers: {'; '.join(kinds) or 'none, since it predicts a number; use /predict'}."


def _plan(name: str, question: Question, heads: Sequence[Head]) -> Plan | str:
    """How a question is answered, or why not."""
    if isinstance(question, NoulQuestion):
        return _plan_noul(name, heads)
    head = next((head for head in heads if head.name == name), None)
    if head is None:
        return "names nothing that it was trained for"
    if not head.label_map.exclusive:
        return f"asks for one answer, and {name!r:.80} is {head.label_map.problem}"
    if isinstance(question, ChoiceQuestion):
        if set(question.criteria) != set(head.labels):
            return f"has other criteria than its classes ({listing(head.labels)})"
        ids = [head.labels.index(option) for option in question.criteria]
        return Plan(head, lambda said: _choice(head, ids, said))
    levels = _levels(question.criteria, head.labels)
    if levels is None:
        return f"has criteria that are not its classes ({listing(head.labels)}) in the order of a scale"
    legend = {str(level): text for level, text in enumerate(question.criteria)}
    return Plan(head, lambda said: _score(levels, legend, said))


def _plan_noul(name: str, heads: Sequence[Head]) -> Plan | str:
    found = [
        (head, index)
        for head in heads
        for index, label in enumerate(head.label_map.choices)
        if name == f"{head.name}/{label}" or name == label
    ]
    two_classes = [(head, 1) for head in heads if head.name == name and is_of_two_classes(head)]
    if len(found) > 1:
        return f"is a label of several tasks ({listing(f'{head.name}/{name}' for head, _ in found)})"
    if not (found or two_classes):
        return "names no label, and no task of two classes"
    head, index = (found or two_classes)[0]
    return Plan(head, lambda said: NoulAnswer(noul=said.probabilities[index]))


def _levels(criteria: Sequence[Content], labels: Sequence[str]) -> list[int] | None:
    """The class of each level; None where the classes are no such scale."""
    names = [text for text in criteria if isinstance(text, str)]
    if len(criteria) != len(labels):
        return None
    if sorted(names) == sorted(labels):
        return [labels.index(name) for name in names]
    if all(label.isascii() and label.isdigit() for label in labels):
        return sorted(range(len(labels)), key=lambda index: int(labels[index]))
    return None


def _choice(head: Head, ids: Sequence[int], said: Said) -> ChoiceAnswer:
    """Options in the order of the question."""
    num = len(ids)
    sure = max(0.0, (said.probabilities[said.decided] - 1 / num) / (1 - 1 / num))
    return ChoiceAnswer(
        choice=head.labels[said.decided],
        confidence=0.0 if said.answer is None else sure,
        probabilities={head.labels[index]: said.probabilities[index] for index in ids},
    )


def _score(levels: Sequence[int], legend: Mapping[str, Content], said: Said) -> ScoreAnswer:
    """How far the levels are spread around the likeliest one, beside an even spread, says how sure the score is."""
    probabilities = [said.probabilities[index] for index in levels]
    num, best = len(levels), int(np.argmax(probabilities))
    distance = sum(share * abs(level - best) for level, share in enumerate(probabilities))
    even = sum(abs(level - (num - 1) / 2) for level in range(num)) / num
    return ScoreAnswer(
        score=sum(level * share for level, share in enumerate(probabilities)),
        legend=dict(legend),
        confidence=0.0 if said.answer is None else max(0.0, 1 - distance / even),
        probabilities={str(level): share for level, share in enumerate(probabilities)},
    )
