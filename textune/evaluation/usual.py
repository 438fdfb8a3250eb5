"""What the rows of an evaluated set looked like to its model, counted; from `evaluated.py` to its folder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from textune.config import TokensSection
from textune.evaluation.evaluated import EvaluatedSet
from textune.evaluation.scored import Scored
from textune.prediction import UsualHead, UsualRows, given, histogram, length_bounds, score_bounds
from textune.tasks import Head


def usual_rows(evaluated: EvaluatedSet, lengths_N: np.ndarray, section: TokensSection) -> UsualRows | None:
    """Lengths, scores and labels of the N rows of a set, as its model answers them; `lengths_N`: int64, the tokens
    that it reads of each, `section`: how. None for documents, which have no labels."""
    scored = evaluated.scored
    heads = [_of_head(head, rows) for head in scored.heads if (rows := scored.of(head.name)) is not None]
    counted = tuple(one for one in heads if one is not None)
    if not counted:
        return None
    return UsualRows(rows=len(evaluated), lengths=histogram(length_bounds(section), lengths_N), heads=counted)


def decided_anew(usual: UsualRows, evaluated: EvaluatedSet, heads: Sequence[Head]) -> UsualRows:
    """The same rows as these heads decide them; where scores were not kept, they stay as they were counted."""
    counted = {head.name: head for head in usual.heads}
    for head in heads:
        rows = evaluated.scored.of(head.name)
        if rows is not None and (own := _of_head(head, rows)) is not None:
            counted[head.name] = own
    return usual.model_copy(update={"heads": tuple(counted.values())})


def _of_head(head: Head, rows: Scored) -> UsualHead | None:
    """By the head's own rule, not by those of the folds that judged these rows: the same that answers others later."""
    if rows.answers.measures.of_texts:
        return None
    scores = rows.ranked.scores if head.label_map.choices else rows.predictions
    if scores is None:
        return None
    seen = given(head, scores)
    labels_K1 = np.bincount(seen.label_G, minlength=len(head.labels) + 1).tolist() if head.label_map.choices else [0]
    return UsualHead(
        name=head.name,
        decision=head.decision,
        labels=tuple(labels_K1[:-1]),
        none=labels_K1[-1],
        scores=histogram(score_bounds(head, seen.score_N), seen.score_N),
    )
