"""What a model says of one text, in a few words."""

from __future__ import annotations

from textune.prediction.predictor import Prediction

MOST_SHOWN = 5
"""Labels that are shown with their scores, the most probable first."""


def prediction_in_words(prediction: Prediction, *, all_scores: bool = False) -> str:
    """`positive (0.9731)`; of several labels each with its score; of a regression the number.

    `all_scores`: every label with its score, the most probable first.
    """
    label = prediction.label
    if isinstance(label, float):
        return f"{label:.4f}"
    by_score = sorted(prediction.scores, key=lambda name: -prediction.scores[name])
    if all_scores:
        shown = _with_scores(by_score, prediction)
    elif label is None:
        return f"no answer ({_with_scores(by_score[:1], prediction)} is too uncertain)"
    elif isinstance(label, str):
        # The score is of the label that is given, which a fitted rule may choose although another is more probable.
        return f"{label} ({prediction.score:.4f})"
    else:
        given = [name for name in by_score if name in label]
        more = f" and {len(given) - MOST_SHOWN} more" if len(given) > MOST_SHOWN else ""
        shown = _with_scores(given[:MOST_SHOWN], prediction) + more
    return shown or f"no label ({_with_scores(by_score[:1], prediction)} is the most probable)"


def _with_scores(names: list[str], prediction: Prediction) -> str:
    return ", ".join(f"{name} ({prediction.scores[name]:.4f})" for name in names)
