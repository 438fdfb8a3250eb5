"""Checks a configuration and its data, and predicts what training will cost; trains nothing."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from textune.config import load_config
from textune.data.audit import Finding, TokenFacts, audit_data
from textune.data.batches import padding_waste
from textune.pipeline.facts import describe
from textune.pipeline.gather import Ingredients, gather
from textune.ranks import ALONE
from textune.tracking import SilentTracker, Tracker
from textune.training import Learner
from textune.training.microbatch import gradients_in_memory
from textune.training.optim import STATE_BYTES

PROBED_BATCHES = 3
"""Batches computed to predict the time of a run, after one that warms up."""


@dataclass(frozen=True)
class CheckResult:
    """What `check` found and predicts."""

    facts: dict[str, str]
    findings: list[Finding]

    @property
    def ok(self) -> bool:
        """Nothing stands in the way of training."""
        return not any(finding.level == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"ok": self.ok, "facts": self.facts, "findings": [vars(finding) for finding in self.findings]}


def check(
    config: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    unset: Sequence[str] = (),
    tracker: Tracker | None = None,
) -> CheckResult:
    """Build every part, audit the rows, compute a few batches to predict time; writes nothing but the token cache.

    Raises TextuneError for what stops a run before its rows can be audited.
    """
    loaded = load_config(config, overrides, unset)
    tracker = tracker or SilentTracker()
    for note in loaded.notes:
        tracker.notice(note)
    parts = gather(loaded.experiment, tracker=tracker, audit=False)
    facts = describe(parts)
    findings = audit_data(parts.data, tokens=_token_facts(parts))
    if not any(finding.level == "error" for finding in findings):
        facts |= _predict_cost(parts, tracker)
    return CheckResult(facts, findings)


def _token_facts(parts: Ingredients) -> TokenFacts:
    lengths = {part.name: parts.parts[part.name].lengths for part in parts.data.parts}
    unknown, total = 0, 0
    for store in {id(tokenized.store): tokenized.store for tokenized in parts.parts.values()}.values():
        unknown += 0 if parts.encoder.unknown_id is None else int((store.ids == parts.encoder.unknown_id).sum())
        total += len(store.ids)
    return TokenFacts(
        lengths=lengths,
        truncated={part.name: parts.parts[part.name].num_truncated for part in parts.data.parts},
        max_length=parts.experiment.tokens.max_length,
        num_unknown=unknown,
        num_tokens=total,
        padding_share=padding_waste(lengths["train"], parts.first_epoch()),
    )


def _predict_cost(parts: Ingredients, tracker: Tracker) -> dict[str, str]:
    """Time from a few real batches, memory from the sizes of what training holds."""
    rows = parts.training_rows()
    loader = parts.loader(rows)
    learner = Learner(parts.model, parts.experiment.train, parts.device, ALONE)
    batches = iter(loader)
    speeds = []
    parts.model.train()
    for number, batch in enumerate(islice(batches, PROBED_BATCHES + 1)):
        started = time.perf_counter()
        seed = parts.experiment.train.seed
        loss, notices = gradients_in_memory(learner, parts.task, loader, batch, seed=seed)
        float(loss)  # waits for a GPU
        for notice in notices:
            tracker.notice(notice)
        if number or len(rows) <= parts.experiment.train.batch_size:
            speeds.append(batch.num_tokens / (time.perf_counter() - started))
    batches.close()
    parts.model.zero_grad()
    seconds = parts.num_tokens / float(np.median(speeds))
    return {
        "time": f"about {_minutes(seconds)} of forward and backward passes here, from {len(speeds)} measured batches",
        "memory": _memory(parts),
    }


def _memory(parts: Ingredients) -> str:
    trained = sum(p.numel() for p in parts.model.parameters() if p.requires_grad)
    total = parts.model.num_parameters
    # fp32: weights, and a gradient for what is trained.
    held = (4 * total + (4 + STATE_BYTES[parts.experiment.train.optimizer.kind]) * trained) / 1e9
    tokens = f"{parts.room.max_tokens:,} tokens"
    return f"{held:.2f} GB for weights, gradients and optimizer, plus the activations of at most {tokens} at once"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
