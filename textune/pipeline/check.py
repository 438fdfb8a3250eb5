"""Checks a configuration and its data, and predicts what training will cost; trains nothing."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textune.batches import TextEncoder
from textune.config import ConditionalLmTask, Experiment, Overrides
from textune.data import Finding, GivenRows, TokenFacts, audit_data
from textune.pipeline.build import build_parts
from textune.pipeline.cautions import rate_findings, require_as_launched
from textune.pipeline.documents import DocumentsCheck, check_documents
from textune.pipeline.few import few_ahead
from textune.pipeline.heard import heard
from textune.pipeline.memory import SetsInMemory, load_with_rows
from textune.pipeline.rowsalone import Naming
from textune.run import Facts, Parts, SilentTracker, Tracker, Trackers, batches_of, build_targets, describe, run_facts
from textune.training import Learner, deterministic, gradients_in_memory, learner_alone, state_bytes, trained_in
from textune.wording import count

if TYPE_CHECKING:
    from pydantic import JsonValue

PROBED_BATCHES = 3
"""Batches computed to predict the time of a run, after one for warm-up."""


@dataclass(frozen=True)
class Costs:
    """What a run would take on this machine."""

    memory_bytes: int
    """Weights, gradients and optimizer state, held at all times."""
    seconds: float | None = None
    """Seconds of forward and backward passes, at the speed of the measured batches; None if none were measured."""
    tokens_per_second: float | None = None
    batches_measured: int = 0

    def words(self, facts: Facts) -> dict[str, str]:
        """The costs of the run with these facts, in words."""
        seconds, measured = self.seconds, count(self.batches_measured, "measured batch", "measured batches")
        time = (
            {}
            if seconds is None
            else {"time": f"about {_minutes(seconds)} of forward and backward passes here, from {measured}"}
        )
        memory = (
            f"{_size(self.memory_bytes)} for weights, gradients and optimizer, plus the activations of at most"
            f" {facts.max_tokens:,} tokens at once"
        )
        return time | {"memory": memory}

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object, without what was not measured."""
        measured = asdict(self) if self.batches_measured else {"memory_bytes": self.memory_bytes}
        return dict(measured)


@dataclass(frozen=True)
class CheckResult:
    """What `check` found and predicts."""

    facts: Facts
    """What would be trained on what."""
    findings: list[Finding]
    """What the audit of the rows found."""
    notices: tuple[str, ...] = ()
    """What else the user should know before training, as sentences."""
    costs: Costs | None = None
    """What it costs; None before that is known, and if training is not possible."""

    @property
    def ok(self) -> bool:
        """Whether training is possible."""
        return not any(finding.level == "error" for finding in self.findings)

    @property
    def words(self) -> dict[str, str]:
        """Facts and costs in words."""
        return describe(self.facts) | ({} if self.costs is None else self.costs.words(self.facts))

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "ok": self.ok,
            "numbers": self.facts.to_dict() | ({} if self.costs is None else self.costs.to_dict()),
            "facts": dict(self.words),
            "findings": [vars(finding) for finding in self.findings],
            "notices": list(self.notices),
        }


@heard
def check(
    config: object = None,
    *,
    text: str | None = None,
    label: str | Sequence[str] | None = None,
    model: str | os.PathLike[str] | None = None,
    preset: str | None = None,
    overrides: Overrides = (),
    unset: Iterable[str] = (),
    train: object = None,
    validation: object = None,
    test: object = None,
    evaluations: Mapping[str, object] | None = None,
    rows: GivenRows | None = None,
    timing: bool = True,
    audited: Callable[[CheckResult | DocumentsCheck], None] | None = None,
    tracker: Tracker | None = None,
) -> CheckResult | DocumentsCheck:
    """Build every part, audit the rows, compute a few batches to predict time; writes nothing but the token cache.

    With a section `metadata`, documents are checked first; where the task is no language model's, or no backbone is
    named, nothing else is. `config`, `text`, `label`, `model`, `preset` and rows in memory (`train`, `validation`,
    `test`, `evaluations`, `rows`) as in `textune.train`. `timing = False` computes no batches. `audited` receives what
    is known before they are computed, since that takes a while. Raises TextuneError for whatever prevents the rows
    from being audited.
    """
    sets = SetsInMemory(
        train, validation, test, {} if evaluations is None else evaluations, {} if rows is None else rows
    )
    loaded, rows = load_with_rows(config, overrides, unset, sets, Naming(text, label, model, preset))
    build_targets(loaded.experiment.track, Path("runs") / loaded.name)  # refuses what cannot be sent to
    trackers = Trackers([tracker or SilentTracker()])
    for note in (*loaded.notes, *require_as_launched(loaded.experiment, loaded.settled)):
        trackers.notice(note)
    if loaded.experiment.metadata is not None:
        checked = check_documents(loaded.experiment, given=rows, tracker=trackers)
        if audited is not None:
            audited(checked)
        trains = isinstance(loaded.experiment.task, ConditionalLmTask) and loaded.experiment.model.pretrained
        if not (checked.ok and trains):
            return checked
        return _with_costs(checked, loaded.experiment, trackers, rows, timing=timing)
    with deterministic(loaded.experiment.train):
        parts = build_parts(loaded.experiment, tracker=trackers, audit=False, given=rows)
        learner = learner_alone(parts.model, parts.settings.train, parts.device)
        if ahead := few_ahead(loaded.experiment, parts):
            trackers.notice(ahead)
        findings = rate_findings(loaded.experiment.model, parts.settings.train, parts.model)
        findings += audit_data(parts.data, tokens=_token_facts(parts))
        result = CheckResult(run_facts(parts), findings, tuple(trackers.notices))
        if audited is not None:
            audited(result)
        if not result.ok:
            return result
        costs = Costs(_memory_bytes(parts))
        return replace(result, costs=_measured(costs, parts, learner, trackers) if timing else costs)


def _with_costs(
    checked: DocumentsCheck, experiment: Experiment, trackers: Trackers, given: GivenRows, *, timing: bool
) -> DocumentsCheck:
    """With what training a language model on the documents takes."""
    # They have been compared already.
    data = experiment.data.model_copy(update={"on_shared_text": "unchecked"})
    with deterministic(experiment.train):
        parts = build_parts(experiment.model_copy(update={"data": data}), tracker=trackers, audit=False, given=given)
        learner = learner_alone(parts.model, parts.settings.train, parts.device)
        facts, costs = run_facts(parts), Costs(_memory_bytes(parts))
        costs = _measured(costs, parts, learner, trackers) if timing else costs
    findings = [*rate_findings(experiment.model, parts.settings.train, parts.model), *checked.findings]
    words = {name: word for name, word in describe(facts).items() if name not in ("documents", "chunks")}
    numbers = facts.to_dict() | costs.to_dict()
    return replace(
        checked,
        findings=findings,
        notices=tuple(trackers.notices),
        training=words | costs.words(facts),
        numbers=numbers,
    )


def _token_facts(parts: Parts) -> TokenFacts:
    lengths = {name: rows.lengths for name, rows in parts.rows.items()}
    unknown, total, encoder = 0, 0, parts.encoder
    assert isinstance(encoder, TextEncoder), "rows of labelled texts"
    for store in {id(rows.store): rows.store for rows in parts.rows.values()}.values():
        for ids in store.occurring:
            unknown += 0 if encoder.unknown_id is None else int((ids == encoder.unknown_id).sum())
            total += len(ids)
    return TokenFacts(
        lengths=lengths,
        truncated={name: rows.num_truncated for name, rows in parts.rows.items()},
        windows={}
        if parts.card.window_pooling is None
        else {name: rows.by_windows for name, rows in parts.rows.items()},
        beyond={name: rows.num_beyond(parts.card.max_length) for name, rows in parts.rows.items()},
        max_length=parts.card.max_length,
        num_unknown=unknown,
        num_tokens=total,
        padding_share=parts.rows["train"].padding_waste(
            parts.plan.batches(0, lengths["train"], parts.rows["train"].weights)
        ),
    )


def _measured(costs: Costs, parts: Parts, learner: Learner, tracker: Tracker) -> Costs:
    """With the speed of a few real batches, and the seconds of a whole run at that speed."""
    rows, loader = parts.rows["train"], batches_of(parts)
    batches = iter(loader)
    speeds = []
    parts.model.train()
    for number, batch in enumerate(islice(batches, PROBED_BATCHES + 1)):
        tracker.progress("measuring", number, PROBED_BATCHES + 1)
        started = time.perf_counter()
        seed = parts.settings.train.seed
        loss, notices = gradients_in_memory(learner, parts.task, loader, batch, seed=seed)
        float(loss)  # waits for a GPU
        for notice in notices:
            tracker.notice(notice)
        if number or len(rows) <= parts.settings.train.batch_size:
            speeds.append(batch.num_tokens / (time.perf_counter() - started))
    tracker.progress("measuring", PROBED_BATCHES + 1, PROBED_BATCHES + 1)
    batches.close()
    parts.model.zero_grad()
    speed = float(np.median(speeds))
    return replace(
        costs,
        seconds=round(_num_tokens(parts) / speed, 1),
        tokens_per_second=round(speed, 1),
        batches_measured=len(speeds),
    )


def _num_tokens(parts: Parts) -> int:
    """About how many tokens are computed, by all runs of a soup."""
    soup = parts.settings.train.joining
    tokens = parts.plan.num_tokens(parts.rows["train"], streamed=parts.maker is not None)
    return tokens * (1 if soup is None else soup.seeds)


def _memory_bytes(parts: Parts) -> int:
    """Memory that training always holds: the weights, and gradients and optimizer state for the trained ones."""
    trained = trained_in(parts.model)
    gradients = 4 * sum(weight.numel() for weight in trained.values())
    return parts.model.num_bytes + gradients + state_bytes(parts.settings.train.optimizer, trained)


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.2f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:.2g} MB"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
