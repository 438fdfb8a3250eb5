"""Sets thresholds of a trained model that keep a promise, with the proof beside the model, and says later whether they
still keep it.

rows with scores --Gate--> GatedRows --prove--> threshold --> the card's rule of decision, guarantees.json beside it
new labelled rows ----------------------measure--> holds, open or broken
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from pydantic import JsonValue

from textune.config import Columns, FilesSource, user_path
from textune.errors import ConfigError, RunError
from textune.evaluation import (
    Aim,
    EvaluatedSet,
    Gate,
    GatedRows,
    Measured,
    Verdict,
    decided_anew,
    measure,
    prove,
    read_rows,
    verdict_on,
)
from textune.pipeline.evaluate import answer_files
from textune.pipeline.guarantees import Guarantee, read_guarantees, weights_hash, write_guarantees
from textune.pipeline.heard import heard
from textune.pipeline.proofrows import rows_of_proof
from textune.prediction import (
    ModelCard,
    find_model,
    no_classifier,
    read_card,
    read_usual,
    write_card,
    write_usual,
)
from textune.run import FITTED_ON, GUARANTEES, RunFolder, SilentTracker, Tracker, now
from textune.tasks import Decision, Head
from textune.wording import count, listing, nearest


@dataclass(frozen=True)
class Checked:
    """A guarantee beside new rows."""

    guarantee: Guarantee
    verdict: Verdict
    measured: Measured

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        numbers = {name: None if number != number else number for name, number in asdict(self.measured).items()}
        return {"guarantee": self.guarantee.model_dump(mode="json"), "verdict": self.verdict, "measured": numbers}


@heard
def decide(
    run: str | Path,
    aim: Aim,
    *,
    label: str | Sequence[str] = (),
    task: str | None = None,
    part: str | None = None,
    data: str | Path | Sequence[str | Path] | FilesSource | None = None,
    columns: Columns | Mapping[str, object] | None = None,
    force: bool = False,
    code: str | Sequence[str] = (),
    tracker: Tracker | None = None,
) -> list[Guarantee]:
    """Set thresholds that reach an aim, as labelled rows prove it; the card keeps them, `guarantees.json` the proof.

    `label`: the labels that get a threshold each, proved one by one; by default the second of two classes. Of several
    classes no label means all answers: they are withheld below the threshold. `task`: which head. The rows are the
    run's own test (else validation) rows, those of the set `part`, or `data`; where test rows prove, validation rows
    propose. Raises RunError where no threshold reaches the aim, and where one is locked by an earlier guarantee and
    `force` is not set.
    """
    _require_sensible(aim)
    tracker = tracker or SilentTracker()
    run = user_path(run)
    folder = find_model(run)
    card = read_card(folder)
    head = _head(card, task)
    labels = _labels(head, [label] if isinstance(label, str) else list(label), aim)
    known = read_guarantees(folder)
    _require_unlocked(known, head, labels, folder, force=force)
    proving, proposing = rows_of_proof(run, part, data, columns, code, tracker)
    weights, found = weights_hash(folder), []
    kept = [old for old in known if not any(_is_moved(old, head, one) for one in labels)]
    if any(old.label is None and old not in kept for old in known):
        # The bound of all answers is taken back with its promise.
        card, head = _deciding(card, head, replace(head.decision, abstain_below=None))
    for one in labels:
        gate = Gate(head, one)
        proved = _proved(aim, gate, proving, proposing)
        rule = gate.with_threshold(proved.threshold)
        if head.decision.costs is not None and rule.costs is None:
            tracker.notice("the rule of costs gives way to the threshold: a head has one of them")
        card, head = _deciding(card, head, rule)
        found.append(_guarantee(aim, Gate(head, one), proved, proving, weights))
    write_card(card, folder)
    write_guarantees(folder, [*kept, *found])
    _renew_usual(run, folder, card, tracker)
    return found


def check_guarantees(
    run: str | Path,
    data: str | Path | Sequence[str | Path] | FilesSource,
    *,
    columns: Columns | Mapping[str, object] | None = None,
    code: str | Sequence[str] = (),
    tracker: Tracker | None = None,
) -> list[Checked]:
    """Whether a model's guarantees hold on new labelled rows; RunError where it has none, and where its weights or
    its rule are others than those of the proof."""
    run = user_path(run)
    folder = find_model(run)
    card, known = read_card(folder), read_guarantees(folder)
    if not known:
        raise RunError(
            f"{folder} has no guarantee.",
            hint=f"Make one: `textune decide {run} --target-precision 0.95`.",
            place=str(folder),
            reason="no guarantee",
        )
    _require_as_proved(known, card, folder)
    answered = answer_files(run, data, columns=columns, code=code, tracker=tracker)
    return [_checked(guarantee, card, answered) for guarantee in known]


def _renew_usual(run: Path, folder: Path, card: ModelCard, tracker: Tracker) -> None:
    """Count the validation rows of a run by the new rule, as far as their scores are there: a server then compares
    what it answers with them. Without them it compares lengths alone."""
    path = RunFolder(run).rows_of(FITTED_ON)
    try:
        usual = read_usual(folder)
        if usual is None or not path.is_file():
            return
        rows = read_rows(path)
    except RunError as error:
        tracker.notice(f"drift of labels and scores will not be measured: {error}")
        return
    if rows.fingerprint == card.data.get(FITTED_ON):
        write_usual(decided_anew(usual, rows, card.build_task().heads), folder)


# --- what the threshold is of ----------------------------------------------------------------------------------------


def _head(card: ModelCard, task: str | None) -> Head:
    """The head of that name; the only one without a name."""
    if card.is_language_model:
        raise no_classifier()
    heads = {head.name: head for head in card.build_task().heads}
    if task is None and len(heads) > 1:
        raise ConfigError(
            f"the model has several tasks ({listing(heads, 8)}), and a threshold is one of them.",
            hint="Name it with --task.",
            key="task",
        )
    name = task or next(iter(heads))
    if name not in heads:
        near = nearest(name, list(heads))
        hint = f'Did you mean "{near}"?' if near else f"It has {listing(heads, 8)}."
        raise ConfigError(f"the model has no task {name!r}.", hint=hint, key="task", value=name)
    if not heads[name].label_map.choices:
        raise ConfigError(
            f"the model predicts {heads[name].label_map.noun}s, which no threshold decides.",
            hint="Thresholds are of labels and classes.",
            key="task",
            value=name,
        )
    return heads[name]


def _deciding(card: ModelCard, head: Head, rule: Decision) -> tuple[ModelCard, Head]:
    """The card and its head with this rule."""
    card = card.with_decisions({own.name: own.decision for own in card.heads} | {head.name: rule})
    return card, next(own for own in card.build_task().heads if own.name == head.name)


def _require_sensible(aim: Aim) -> None:
    """ConfigError for numbers that no threshold can be held to."""
    wrong = [
        (f"target_{aim.name}", aim.level, aim.name != "cost" and not 0 < aim.level < 1, "a share between 0 and 1"),
        ("target_cost", aim.level, aim.name == "cost" and not 0 < aim.level < math.inf, "more than 0"),
        ("confidence", aim.confidence, not 0 < aim.confidence < 1, "between 0 and 1, such as 0.95"),
        ("wrong_cost", aim.cost_of_wrong, not 0 <= aim.cost_of_wrong < math.inf, "0 or more"),
        ("missed_cost", aim.cost_of_none, not 0 <= aim.cost_of_none < math.inf, "0 or more"),
        ("wrong_cost", aim.cost_of_wrong, aim.cost_of_wrong == aim.cost_of_none == 0, "more than 0, or --missed-cost"),
    ]
    for key, value, is_wrong, what in wrong:
        if is_wrong:
            option = "--" + key.replace("_", "-")
            raise ConfigError(
                f"{option} {value:g} is not {what}.", hint="Choose another number.", key=key, value=value
            )


def _labels(head: Head, wanted: list[str], aim: Aim) -> list[int | None]:
    """The ids of the labels that get a threshold; None stands for all answers."""
    names = list(head.labels)
    for name in wanted:
        if name not in names:
            near = nearest(name, names)
            hint = f'Did you mean "{near}"?' if near else f"It has {listing(names, 8)}."
            raise ConfigError(f"the model has no label {name!r}.", hint=hint, key="label", value=name)
    if aim.name == "coverage" and (wanted or not head.label_map.exclusive):
        raise ConfigError(
            "coverage is the share of rows that are answered at all, so it has no label.",
            hint="Leave --label out, or aim at a recall.",
            key="label",
            value=listing(wanted, 8) or None,
        )
    if wanted:
        labels = [names.index(name) for name in dict.fromkeys(wanted)]
        if len(labels) > 1 and Gate(head, labels[0]).moves(labels[1]):
            raise ConfigError(
                "two classes share one threshold: it cannot keep a promise about each of them.",
                hint="Name one of them with --label.",
                key="label",
                value=listing(wanted, 8),
            )
        return list(labels)
    if not head.label_map.exclusive:
        raise ConfigError(
            f"each of the {len(names)} labels has a threshold of its own.",
            hint=f"Name one or more with --label, such as --label {names[0]!r}.",
            key="label",
        )
    if aim.name == "recall" and len(names) > 2:
        raise ConfigError("recall is that of one class.", hint="Name it with --label.", key="label")
    return [1] if len(names) == 2 and aim.name != "coverage" else [None]


def _require_unlocked(
    known: Sequence[Guarantee], head: Head, labels: Sequence[int | None], folder: Path, *, force: bool
) -> None:
    """RunError where an earlier guarantee is about rows that a new threshold moves, unless `force` is set."""
    locked = [old for old in known for one in labels if _is_moved(old, head, one)]
    if locked and not force:
        raise RunError(
            f"a guarantee locks this threshold: {locked[0].for_whom} {locked[0].level:g}, of {locked[0].at}.",
            hint="Set another one with --force, which takes that guarantee back, or see whether it still holds with"
            " --check FILE.",
            place=str(folder / GUARANTEES),
            value=locked[0].threshold,
            reason="a guarantee locks it",
        )


def _is_moved(old: Guarantee, head: Head, label: int | None) -> bool:
    """Whether the threshold of `label` changes what an earlier guarantee is about."""
    if old.task != head.name:
        return False
    names = list(head.labels)
    if old.label not in (None, *names):  # of an earlier model
        return True
    return Gate(head, label).moves(None if old.label is None else names.index(old.label))


# --- the proof -------------------------------------------------------------------------------------------------------


def _gated(gate: Gate, rows: EvaluatedSet) -> GatedRows:
    """The rows with a label for the gate's head; RunError where their scores were too many to keep."""
    scored = rows.scored.of(gate.head.name)
    if scored is None or scored.ranked.scores is None:
        raise RunError(
            f"no row of {rows.dataset} has a label for {gate.head.name}, or their scores were not kept.",
            hint="Give labelled rows with --data FILE.",
            place=rows.dataset,
        )
    return gate.rows(scored)


def _proved(aim: Aim, gate: Gate, proving: EvaluatedSet, proposing: EvaluatedSet | None) -> Measured:
    rows = _gated(gate, proving)
    if proposing is not None and gate.head.name not in proposing.scored.by_head:
        proposing = None  # no row with a label for it
    found = prove(aim, rows, None if proposing is None else _gated(gate, proposing))
    if found is None:
        raise _not_reached(aim, rows, proving)
    return found


def _not_reached(aim: Aim, rows: GatedRows, proving: EvaluatedSet) -> RunError:
    """What these rows show at best, and how many would be needed."""
    best = min((measure(aim, rows, threshold) for threshold in _some(rows)), key=lambda one: one.p_value)
    said = "nothing" if math.isnan(best.value) else f"{best.value:.4f} on {count(best.counted, 'row')}"
    needed = ""
    if aim.name != "cost":
        least = math.ceil(math.log(aim.error) / math.log(aim.level))
        needed = f" It takes {least:,} such rows without a single mistake to prove that."
    return RunError(
        f"no threshold is proved to reach a {aim.name} of {aim.level:g} with {aim.confidence:.0%} confidence on"
        f" {count(len(rows), 'row')} of {proving.dataset}: the best one has {said}.{needed}",
        hint="Aim lower, give more labelled rows with --data FILE, or train a better model.",
        key=f"target_{aim.name}",
        value=aim.level,
        place=proving.dataset,
        reason="no threshold reaches it",
    )


def _some(rows: GatedRows) -> list[float]:
    """Up to a hundred thresholds, and one that all rows reach."""
    scores = sorted({score for score in rows.scores.tolist() if math.isfinite(score)})
    return [*scores[:: max(1, len(scores) // 100)], *scores[-1:]] or [0.0]


def _guarantee(aim: Aim, gate: Gate, proved: Measured, proving: EvaluatedSet, weights: str) -> Guarantee:
    """The proof of the threshold that `gate` now has."""
    return Guarantee(
        task=gate.head.name,
        label=None if gate.label is None else gate.head.labels[gate.label],
        aim=aim.name,
        level=aim.level,
        confidence=aim.confidence,
        cost_of_wrong=aim.cost_of_wrong,
        cost_of_none=aim.cost_of_none,
        threshold=gate.threshold,
        temperature=gate.head.decision.temperature,
        platt=gate.head.decision.platt,
        value=proved.value,
        limit=proved.limit,
        p_value=proved.p_value,
        counted=proved.counted,
        given=proved.given,
        rows=proved.rows,
        proved_on=proving.dataset,
        fingerprint=proving.fingerprint,
        weights=weights,
        at=now(),
    )


def _checked(guarantee: Guarantee, card: ModelCard, answered: EvaluatedSet) -> Checked:
    gate = _gate_of(guarantee, card)
    rows = _gated(gate, answered)
    measured = measure(guarantee.as_aim(), rows, gate.threshold)
    return Checked(guarantee, verdict_on(guarantee.as_aim(), measured, rows), measured)


def _gate_of(guarantee: Guarantee, card: ModelCard) -> Gate:
    head = _head(card, guarantee.task)
    return Gate(head, None if guarantee.label is None else list(head.labels).index(guarantee.label))


def _require_as_proved(known: Sequence[Guarantee], card: ModelCard, folder: Path) -> None:
    """RunError where the model is another than that of the proof, or decides by another rule."""
    weights = weights_hash(folder)
    for guarantee in known:
        changed = "the weights" if guarantee.weights != weights else ""
        if not changed:
            gate = _gate_of(guarantee, card)
            rule = gate.head.decision
            proved = (guarantee.threshold, guarantee.temperature, guarantee.platt)
            if (gate.threshold, rule.temperature, rule.platt) != proved:
                changed = "the rule of decision"
        if changed:
            raise RunError(
                f"{changed} of {folder} changed after the guarantee of {guarantee.at} ({guarantee.for_whom}"
                f" {guarantee.level:g}): it says nothing about the model of now.",
                hint="Prove it again with `textune decide ... --force`.",
                place=str(folder),
                reason=f"{changed} changed",
            )
