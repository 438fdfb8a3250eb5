"""`task.few`: which way suits few labels, and the run that follows from it; after `contrastive.py`, for `train.py`.

    frozen        the backbone as it is, under a linear head that is fitted once
    contrastive   the same after the backbone has learned from pairs of the texts
    full          the run as it is without `task.few`

The weights of the first two are settled before the run begins, which then has no step left to make: it evaluates,
saves and reports as any run does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np
import torch

from textune.batches import TokenRows
from textune.config import Duration, Experiment, ModelSection, SingleLabel
from textune.errors import ConfigError
from textune.evaluation import lower_limit, upper_limit
from textune.pipeline.few.contrastive import learn_pairs
from textune.pipeline.few.linear import USUAL_STRENGTH, fit_linear, folds_of
from textune.pipeline.few.settling import fitted, labelled, put_head, why_unfit
from textune.run import FewLabels, Parts, Tracker, batches_of, scorer_of
from textune.training import build_learner, steps

Way = Literal["frozen", "contrastive", "full"]
FEW = 50
"""Rows a class, in the mean, from which "auto" trains as usual."""
LEAST_OF_FULL = 16
"""Rows a class, in the mean, from which the usual training is tried too: with fewer, learning from pairs is far ahead
of it in the results of SetFit's paper."""
_FOLDS, _MANY, _FOLDS_OF_MANY = 4, 24, 2
"""Folds; above so many rows, which tell more, fewer of them."""
_CONFIDENCE = 0.95


class Build(Protocol):
    """Builds the parts of the run."""

    def __call__(self, *, few: bool = False) -> Parts:
        """`few`: the head reads what suits a head that is fitted, such as the mean of all tokens."""


@dataclass(frozen=True)
class Tried:
    """How a way did on rows that it had not learned from."""

    right_N: np.ndarray
    """bool [N] which rows were answered rightly, by models that had not seen them."""
    accuracy: float = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "accuracy", float(self.right_N.mean()))

    @property
    def interval(self) -> tuple[float, float]:
        """Of 95 %: Clopper and Pearson's."""
        hits, total, each = int(self.right_N.sum()), len(self.right_N), (1 + _CONFIDENCE) / 2
        return lower_limit(hits, total, each), upper_limit(hits, total, each)

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.accuracy:.3f} ({low:.3f} to {high:.3f})"


def built_for_few(
    experiment: Experiment, build: Build, tracker: Tracker, earlier: Mapping[str, object] | None
) -> Parts:
    """The parts of a run that is about to begin or to resume, with the weights that `task.few` asks for.

    `earlier`: what the run's manifest says of its choice, where it resumes from a checkpoint, which holds the weights.
    ConfigError where the way that is asked for cannot be gone with this task, model or number of processes.
    """
    asked = _asked(experiment)
    if asked == "off":
        return build()
    if earlier is not None:
        known = FewLabels.model_validate(earlier)
        return build() if known.chosen == "full" else _without_steps(build(few=True), known)
    if asked == "auto":
        return _chosen(experiment, build, tracker)
    parts = build(few=True)
    _require_fit(experiment, parts, asked)
    _settle(parts, asked)
    tracker.notice(f'{_WORDS[asked]}, as task.few = "{asked}" says: no step of training is left')
    return _without_steps(parts, FewLabels(chosen=asked, rows_a_class=_rows_a_class(parts)))


def few_ahead(experiment: Experiment, parts: Parts) -> str:
    """What `task.few` will do when a run of these parts begins, which are those of the usual training; empty where it
    is "off". ConfigError as in `built_for_few`."""
    asked = _asked(experiment)
    if asked == "off":
        return ""
    if asked != "auto":
        _require_fit(experiment, parts, asked)
        return f'task.few = "{asked}": when the run begins, {_AHEAD[asked]}; then no step of training is left'
    if usual := _why_usual(experiment, parts):
        return usual
    rows_a_class = _rows_a_class(parts)
    ways = '"frozen", "contrastive" and "full"' if rows_a_class >= LEAST_OF_FULL else '"frozen" and "contrastive"'
    return (
        f'task.few = "auto", {rows_a_class:.0f} rows a class: when the run begins, cross-validation on the training'
        f" rows chooses between {ways}; what is said here of steps, time and memory is that of the usual training"
    )


_WORDS: dict[Way, str] = {
    "frozen": "the backbone stays as it is, under a linear head that was fitted",
    "contrastive": "the backbone learned from pairs of texts, and a linear head was fitted",
    "full": "the run trains as usual",
}
_AHEAD: dict[Way, str] = {
    "frozen": "a linear head is fitted to the backbone as it is",
    "contrastive": "the backbone learns from pairs of texts, and a linear head is fitted",
}


def _asked(experiment: Experiment) -> Literal["off", "auto", "frozen", "contrastive"]:
    return experiment.task.few if isinstance(experiment.task, SingleLabel) else "off"


def _require_fit(experiment: Experiment, parts: Parts, asked: Way) -> None:
    """Refuse a way that was asked for where no head can be fitted."""
    if obstacle := _obstacle(experiment, parts):
        raise ConfigError(
            f'task.few = "{asked}" fits a linear head before training, but {obstacle}.',
            hint='Set task.few = "off".',
            key="task.few",
            value=asked,
            reason=obstacle,
        )


def _why_usual(experiment: Experiment, parts: Parts) -> str:
    """The note that "auto" trains as usual, with the reason; empty where it has something to choose."""
    rows_a_class = _rows_a_class(parts)
    many = f"there are {rows_a_class:.0f} rows a class, {FEW} or more" if rows_a_class >= FEW else ""
    why = many or _obstacle(experiment, parts)
    return why and f'task.few = "auto": the run trains as usual, since {why}'


def _chosen(experiment: Experiment, build: Build, tracker: Tracker) -> Parts:
    """The parts of the way that cross-validation finds best."""
    usual = build()
    rows_a_class = _rows_a_class(usual)
    if note := _why_usual(experiment, usual):
        tracker.notice(note)
        return replace(usual, few=FewLabels(chosen="full", rows_a_class=rows_a_class))
    parts = build(few=True)
    tried = _tried(usual, parts, tracker, with_full=rows_a_class >= LEAST_OF_FULL)
    way = choose(tried)
    scores = {
        name: {"accuracy": one.accuracy, "low": one.interval[0], "high": one.interval[1]}
        for name, one in tried.items()
    }
    few = FewLabels(chosen=way, rows_a_class=rows_a_class, tried=scores)
    found = ", ".join(f"{name} {one}" for name, one in tried.items()) or "a class has a single row, so none was tried"
    tracker.notice(
        f'task.few = "auto", {rows_a_class:.0f} rows a class: {_WORDS[way]} ({way}; cross-validated accuracy:'
        f' {found}); task.few = "off" trains as usual'
    )
    if way == "full":
        return replace(usual, few=few)
    _settle(parts, way)
    return _without_steps(parts, few)


def choose(tried: Mapping[Way, Tried]) -> Way:
    """The cheapest way that is not worse than the best one by more than one standard error of their difference, row by
    row (the rule of Breiman et al. 1984, on pairs); "frozen" where nothing was tried."""
    if not tried:
        return "frozen"
    best = max(tried.values(), key=lambda one: one.accuracy)
    for name, one in tried.items():
        lost_N = best.right_N.astype(float) - one.right_N
        if lost_N.mean() <= lost_N.std() / np.sqrt(len(lost_N)):
            return name
    raise AssertionError("the best way is not worse than itself")


def _tried(usual: Parts, parts: Parts, tracker: Tracker, *, with_full: bool) -> dict[Way, Tried]:
    """Every way on the folds of the training rows, the cheapest first; none where a class has a single row."""
    rows, seed = parts.rows["train"], parts.settings.train.seed
    targets_N = labelled_targets(parts, rows)
    folds = folds_of(targets_N, seed, most=_FOLDS if len(rows) <= _MANY else _FOLDS_OF_MANY)
    if not folds:
        return {}
    whole = labelled(parts, rows)
    ways: dict[Way, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
        "frozen": lambda kept, held: _answers(
            parts, fit_linear(whole.at(kept), USUAL_STRENGTH).outputs(whole.features_NF[held])
        ),
        "contrastive": lambda kept, held: _after_pairs(parts, rows.at(kept), rows.at(held), seed),
    }
    if with_full:
        ways["full"] = lambda kept, held: _after_training(usual, usual.rows["train"].at(kept), held)
    done, found, last = 0, dict[Way, Tried](), list(ways)[-1]
    for name, way in ways.items():
        right_N, left_N = np.zeros(len(rows), bool), np.ones(len(rows), bool)
        for held in folds:
            kept = np.setdiff1d(np.arange(len(rows)), held)
            tracker.progress(f"trying {name}", done, len(ways) * len(folds))
            right_N[held], left_N[held] = way(kept, held) == targets_N[held], False
            done += 1
            if name == last and left_N.any() and is_hopeless(found, name, right_N | left_N):
                num_seen, right = int((~left_N).sum()), int(right_N.sum())
                tracker.notice(
                    f"{name} was given up after {num_seen:,} of {len(rows):,} rows, {right:,} of them right: it cannot"
                    " be chosen, however it does on the others"
                )
                break
        else:
            found[name] = Tried(right_N)
    tracker.progress("trying", done, done)
    return found


def is_hopeless(found: Mapping[Way, Tried], name: Way, at_best_N: np.ndarray) -> bool:
    """Whether "frozen" will be chosen however the last way does on the rows that are left.

    `at_best_N`: bool [N] its rows where all that are left are right. The more of them are wrong instead, the further
    the mean of the difference falls below its standard error: what is chosen at best is chosen in any case.
    """
    return bool(found) and choose(found) == choose({**found, name: Tried(at_best_N)}) == "frozen"


def _answers(parts: Parts, outputs_NC: np.ndarray) -> np.ndarray:
    """int64 [N] the likeliest class by the logits of all classes."""
    return np.asarray(outputs_NC.argmax(1))


def _after_pairs(parts: Parts, kept: TokenRows, held: TokenRows, seed: int) -> np.ndarray:
    """Answers of a backbone that learned from the pairs of other rows."""
    with _as_before(parts):
        learn_pairs(parts, kept, seed=seed)
        linear = fit_linear(labelled(parts, kept), USUAL_STRENGTH)
        return _answers(parts, linear.outputs(labelled(parts, held).features_NF))


def _after_training(parts: Parts, kept: TokenRows, held: np.ndarray) -> np.ndarray:
    """Answers of the usual training on other rows."""
    plan = replace(parts.plan, num_rows=len(kept))
    section, rows = parts.settings.train, parts.rows["train"]
    part = replace(parts, rows={**parts.rows, "train": kept}, plan=plan)
    with _as_before(parts):
        learner = build_learner(parts.model, section, parts.device, parts.ranks)
        loader = batches_of(part, learner=learner)
        warmup = plan.steps(section.schedule.warmup)
        for _ in steps(learner, parts.task, loader, section, total_steps=plan.total_steps, warmup_steps=warmup):
            pass
        (head,) = parts.task.heads
        with learner.published():
            scores = scorer_of(part, learner).score_store(rows.store, rows.examples[held])
        return np.asarray(scores[head.name].argmax(1))


@contextmanager
def _as_before(parts: Parts) -> Iterator[None]:
    """Give the model the weights back that it had."""
    weights = {name: value.detach().clone() for name, value in parts.model.hf.state_dict(keep_vars=True).items()}
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in parts.model.hf.state_dict(keep_vars=True).items():
                value.copy_(weights[name])
        parts.model.zero_grad(set_to_none=True)


def _settle(parts: Parts, way: Way) -> None:
    """Give the model the weights of a way, learned from all training rows."""
    rows = parts.rows["train"]
    if way == "contrastive":
        learn_pairs(parts, rows, seed=parts.settings.train.seed)
    put_head(parts, fitted(parts, labelled(parts, rows)))


def _without_steps(parts: Parts, few: FewLabels) -> Parts:
    """The run that evaluates, saves and reports the model as it is."""
    none = Duration(0, "steps")
    section = parts.settings.train.model_copy(update={"duration": none, "evaluate_first": True})
    settings = replace(parts.settings, train=section)
    return replace(parts, settings=settings, plan=replace(parts.plan, duration=none), few=few)


def labelled_targets(parts: Parts, rows: TokenRows) -> np.ndarray:
    """int64 [N] the class of each row."""
    (head,) = parts.task.heads
    return rows.targets[head.name].astype(np.int64)


def _rows_a_class(parts: Parts) -> float:
    (head,) = parts.task.heads
    return len(parts.rows["train"]) / max(1, len(head.label_map.names))


def _obstacle(experiment: Experiment, parts: Parts) -> str:
    """Why no head can be fitted before this run; empty where one can."""
    model, heads = experiment.model, parts.task.heads
    if len(heads) > 1 or not heads[0].label_map.exclusive:
        return "it is for tasks with exactly one class a row"
    if parts.maker is not None:
        return "the training rows are streamed"
    if not parts.ranks.alone:
        return "several processes share the run"
    if parts.settings.train.engine != "torch":
        return f'train.engine = "{parts.settings.train.engine}" trains by a graph of its own'
    if not isinstance(model, ModelSection) or model.lora is not None or model.quantize is not None:
        return "the model is code of its own, or has adapters or weights of few bits"
    if len(np.unique(labelled_targets(parts, parts.rows["train"]))) < 2:
        return "all rows have the same class"
    return why_unfit(parts)
