"""Checks a configuration and its data, and predicts what training will cost; trains nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import numpy as np

from textune.batches import padding_waste
from textune.config import Config, Overrides, load_config
from textune.data import Finding, TokenFacts, audit_data
from textune.pipeline.build import gather
from textune.pipeline.facts import describe, measure
from textune.run import Ingredients, NoticeKeeper, SilentTracker, Tracker, Trackers
from textune.training import STATE_BYTES, gradients_in_memory, learner_alone
from textune.wording import count

PROBED_BATCHES = 3
"""Batches computed to predict the time of a run, after one that warms up."""


@dataclass(frozen=True)
class CheckResult:
    """What `check` found and predicts."""

    facts: dict[str, str]
    """What would be trained on what, and at the end what it costs, in sentences."""
    findings: list[Finding]
    """What the audit of the rows saw."""
    numbers: dict[str, Any]
    """The same as numbers."""
    notices: tuple[str, ...] = ()
    """What else a person should know before training, in sentences."""

    @property
    def ok(self) -> bool:
        """Nothing stands in the way of training."""
        return not any(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "ok": self.ok,
            "numbers": self.numbers,
            "facts": self.facts,
            "findings": [vars(finding) for finding in self.findings],
            "notices": list(self.notices),
        }


def check(
    config: Config | None = None,
    *,
    overrides: Overrides = (),
    unset: Iterable[str] = (),
    timing: bool = True,
    audited: Callable[[CheckResult], None] | None = None,
    tracker: Tracker | None = None,
) -> CheckResult:
    """Build every part, audit the rows, compute a few batches to predict time; writes nothing but the token cache.

    `timing = False` computes no batches. `audited` is told what is known before they are computed, which takes a while. Raises
    TextuneError for what stops a run before its rows can be audited.
    """
    loaded = load_config(config, overrides, unset)
    kept = NoticeKeeper()
    tracker = Trackers([kept, tracker or SilentTracker()])
    for note in loaded.notes:
        tracker.notice(note)
    parts = gather(loaded.experiment, tracker=tracker, audit=False)
    result = CheckResult(
        describe(parts), audit_data(parts.data, tokens=_token_facts(parts)), measure(parts), tuple(kept.notices)
    )
    if audited is not None:
        audited(result)
    if not result.ok:
        return result
    numbers: dict[str, Any] = {"memory_bytes": _memory_bytes(parts)}
    costs = {}
    if timing:
        timed = _measure_time(parts, tracker)
        numbers |= timed
        costs["time"] = (
            f"about {_minutes(timed['seconds'])} of forward and backward passes here, from"
            f" {count(timed['batches_measured'], 'measured batch', 'measured batches')}"
        )
    costs["memory"] = (
        f"{numbers['memory_bytes'] / 1e9:.2f} GB for weights, gradients and optimizer, plus the activations of at most"
        f" {parts.room.max_tokens:,} tokens at once"
    )
    return replace(result, facts=result.facts | costs, numbers=result.numbers | numbers)


def _token_facts(parts: Ingredients) -> TokenFacts:
    lengths = {part.name: parts.parts[part.name].lengths for part in parts.data.parts}
    unknown, total = 0, 0
    for store in {id(tokenized.store): tokenized.store for tokenized in parts.parts.values()}.values():
        unknown += 0 if parts.encoder.unknown_id is None else int((store.ids == parts.encoder.unknown_id).sum())
        total += len(store.ids)
    return TokenFacts(
        lengths=lengths,
        truncated={part.name: parts.parts[part.name].num_truncated for part in parts.data.parts},
        max_length=parts.experiment.tokens.longest,
        num_unknown=unknown,
        num_tokens=total,
        padding_share=padding_waste(lengths["train"], parts.first_epoch()),
    )


def _measure_time(parts: Ingredients, tracker: Tracker) -> dict[str, Any]:
    """Speed of a few real batches, and the seconds of a whole run at that speed."""
    rows = parts.training_rows()
    loader = parts.loader(rows)
    learner = learner_alone(parts.model, parts.experiment.train, parts.device)
    batches = iter(loader)
    speeds = []
    parts.model.train()
    for number, batch in enumerate(islice(batches, PROBED_BATCHES + 1)):
        tracker.progress("measuring", number, PROBED_BATCHES + 1)
        started = time.perf_counter()
        seed = parts.experiment.train.seed
        loss, notices = gradients_in_memory(learner, parts.task, loader, batch, seed=seed)
        float(loss)  # waits for a GPU
        for notice in notices:
            tracker.notice(notice)
        if number or len(rows) <= parts.experiment.train.batch_size:
            speeds.append(batch.num_tokens / (time.perf_counter() - started))
    tracker.progress("measuring", PROBED_BATCHES + 1, PROBED_BATCHES + 1)
    batches.close()
    parts.model.zero_grad()
    speed = float(np.median(speeds))
    return {
        "seconds": round(parts.num_tokens / speed, 1),
        "tokens_per_second": round(speed, 1),
        "batches_measured": len(speeds),
    }


def _memory_bytes(parts: Ingredients) -> int:
    """What training holds at all times: weights in fp32, and a gradient and the optimizer's state for what is trained."""
    trained = sum(p.numel() for p in parts.model.parameters() if p.requires_grad)
    return int(4 * parts.model.num_parameters + (4 + STATE_BYTES[parts.experiment.train.optimizer.kind]) * trained)


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
