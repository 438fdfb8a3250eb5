"""Settings that do not suit the backbone or its tokenizer, whatever the rows: refused or reported; used by
`build.py`."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from textune.batches import (
    NO_PADDING,
    MaxLength,
    Padding,
    Plan,
    RowTexts,
    TextEncoder,
    TokenRows,
    make_row_store,
    num_unlike_written,
)
from textune.config import (
    Columns,
    Experiment,
    Here,
    Model,
    ModelSection,
    TokensSection,
    TrainSection,
    differences_to,
    format_value,
    settings_of,
)
from textune.data import Finding, PreparedData, Split
from textune.errors import ConfigError, DataError
from textune.evaluation import MainMetric, labelled_rows
from textune.model import Device, TextModel, TokenBudget, resolve_device
from textune.ranks import Ranks
from textune.training import engine_of, rule_of
from textune.wording import listing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_UNLIMITED = 1_000_000
"""Tokenizers without a limit state numbers above this one."""
_COMPARED_ROWS = 100
"""Rows with a prefix that are tokenised as one text, too."""


def device_of(section: TrainSection, ranks: Ranks) -> Device:
    """Where the run computes, and in which precision; the same precision on all ranks."""
    device = _device(section)
    if ranks.broadcast(device.precision) != device.precision:
        raise ConfigError(
            f"rank {ranks.rank} would compute in {device.precision}, unlike rank 0.",
            hint="Set train.precision to the same value for all ranks.",
            key="train.precision",
        )
    return device


def _device(section: TrainSection) -> Device:
    """Of this process alone."""
    engine = engine_of(section)
    return resolve_device(
        engine.device if section.device == "auto" else section.device,
        engine.precision if section.precision == "auto" else section.precision,
        section="train",
    )


def require_judge(section: TrainSection, data: PreparedData, *, best_by: str) -> None:
    """ConfigError for early stopping without rows of the set that chooses the best model."""
    if best_by not in data.splits and section.early_stopping.patience:
        raise ConfigError(
            "train.early_stopping.patience is set, but there are no validation rows to judge by.",
            hint='Set data.validation, such as { kind = "split", ratio = 0.1 }, or remove early_stopping.',
            key="train.early_stopping.patience",
            value=section.early_stopping.patience,
        )


def require_labelled(rows: Mapping[str, TokenRows], data: PreparedData, metric: MainMetric, *, best_by: str) -> None:
    """DataError for a set in which no row has a label, ConfigError where the one that chooses the best model has none
    of those that the metric needs."""
    for name, of_split in rows.items():
        labelled = labelled_rows(of_split)
        having = {head for head in data.label_maps if head not in labelled or labelled[head].any()}
        if not having:
            source = data.splits[name].examples.rows.source
            raise DataError(
                f"no row of the set {name} has a label for any task ({source}).",
                hint="Give rows with at least one label each, or leave the set out.",
                key=f"data.{name}" if name in ("train", "validation", "test") else f"data.evaluations.{name}",
                place=source,
            )
        if name == best_by and not having & metric.by_head.keys():
            raise ConfigError(
                f"the best model is chosen by {metric.name} on the set {name}, but none of its rows has a label for"
                f" {listing(metric.by_head, 6)}.",
                hint=f"Choose another set with evaluate.best_by, or a metric of {listing(sorted(having), 6)}.",
                key="evaluate.best_by",
                value=name,
            )


def rate_findings(section: Model, train: TrainSection, model: TextModel) -> list[Finding]:
    """A learning rate that does not suit the backbone, as the audit says it of rows."""
    drawn = isinstance(section, ModelSection) and section.init == "scratch"
    said = rate_warning(train, model) if section.pretrained and not drawn else []
    return [Finding("warning", "learning-rate", f"{sentence}.", 1) for sentence in said]


def notices_before(section: Model, train: TrainSection, model: TextModel, plan: Plan) -> list[str]:
    """What a person should know before the first step."""
    found = []
    warmup, total = train.schedule.warmup, plan.total_steps
    if plan.steps(warmup) >= total > 1:
        found.append(
            f"train.schedule.warmup = {warmup} is not shorter than the run of {total} steps: the learning rate never"
            " reaches its peak"
        )
    for key, steps in (("evaluate_at", train.evaluate_at), ("checkpoint.at_steps", train.checkpoint.at_steps)):
        if late := [step for step in steps if step > total]:
            found.append(f"train.{key}: the run has {total} steps, so nothing happens at {listing(late, 8)}")
    if section.trust_remote_code:
        found.append(f"model.trust_remote_code is on: Python code that comes with {section.pretrained} runs here")
    return found


def budget_notice(section: TrainSection, budget: TokenBudget) -> list[str]:
    """What still decides the last bits of a run that is to be the same every time: how it is cut into parts."""
    if not section.deterministic or section.max_tokens != "auto":
        return []
    return [
        "train.deterministic = true, but train.max_tokens was measured: with less memory it may be another number,"
        f" and the last bits others; set it to {budget.max_tokens}"
    ]


def fit_length(
    section: TokensSection, wanted: MaxLength, model: TextModel, *, name: str
) -> tuple[TokensSection, list[str]]:
    """The section with `max_length` as a number that the backbone has positions for, and a notice about it.

    `wanted`: what the section stands for by itself. ConfigError where the number was set and is too large.
    """
    limit, longest = model.max_positions, wanted.tokens
    if limit is None or longest <= limit:
        return section.model_copy(update={"max_length": longest}), []
    if section.max_length != "auto":
        raise ConfigError(
            f"tokens.max_length = {longest}, but {name} has positions for {limit} tokens.",
            hint=f'Set tokens.max_length = {limit} or less, or "auto".',
        )
    said = f"tokens.max_length is {limit} here, since {name} has no positions beyond that"
    return section.model_copy(update={"max_length": limit}), [said]


def pad_rows(section: TokensSection, model: TextModel, *, name: str) -> None:
    """Make the model run padded where the section asks for padding; ConfigError where the rows would be longer than
    the backbone has positions for."""
    if not section.pads:
        return
    padding, limit = Padding.of(section), model.max_positions
    longest = int(padding.widths(np.array([section.longest]))[0])
    if limit is not None and longest > limit:
        fitting = limit - limit % padding.multiple
        raise ConfigError(
            f"tokens.pad_multiple = {padding.multiple} makes rows of {section.longest} tokens {longest} long, but"
            f" {name} has positions for {limit} tokens.",
            hint=f"Set tokens.max_length = {fitting}." if fitting > 1 else "Choose a smaller multiple.",
            key="tokens.pad_multiple",
            value=padding.multiple,
        )
    asked = f"tokens.pad_multiple = {padding.multiple}" if section.pad == "batch" else 'tokens.pad = "max_length"'
    model.pad_rows(padding, reason=f"{asked}, so padding is computed, too")


def suit_engine(section: TrainSection, model: TextModel) -> None:
    """Make the model run padded where `train.engine` computes nothing else."""
    engine = engine_of(section)
    if model.layout == "packed" and not engine.packed:
        model.pad_rows(NO_PADDING, reason=f"{engine.name} computes padding, too")


def tokenizer_notice(section: TokensSection, tokenizer: PreTrainedTokenizerBase, *, name: str) -> list[str]:
    """A warning if rows may be longer than the tokenizer says its model was made for."""
    made_for = tokenizer.model_max_length
    if made_for >= section.longest or made_for > _UNLIMITED:
        return []
    return [
        f"tokens.max_length = {section.longest}, but the tokenizer of {name} states model_max_length ="
        f" {int(made_for)}:"
        " results on longer rows may be poor"
    ]


def separator_notice(columns: Columns, section: TokensSection, encoder: TextEncoder, *, name: str) -> list[str]:
    """What is put between the texts of a pair where the tokenizer puts nothing; ConfigError where nothing is."""
    if columns.text_pair is None:
        return []
    separator = encoder.separator
    if not separator.separates:
        said = "it is empty" if not separator.text else f"the tokenizer makes no token of {separator.text!r}"
        raise ConfigError(
            f"the tokenizer of {name} puts nothing between the texts of a pair, and tokens.pair_separator ="
            f" {format_value(section.pair_separator)} does not help: {said}.",
            hint='Set it to a text that separates them, such as " | ".',
            key="tokens.pair_separator",
            value=section.pair_separator,
        )
    if section.pair_separator != "auto" or not separator.text:
        return []
    return [
        f"the tokenizer of {name} puts nothing between the texts of a pair: a line break stands between them"
        " (tokens.pair_separator)"
    ]


def prefix_notice(train: Split, encoder: TextEncoder, *, name: str) -> list[str]:
    """A warning if rows that begin with columns have other tokens than a plain tokenizer gives them."""
    if encoder.prefix is None:
        return []
    places = np.linspace(0, len(train) - 1, min(_COMPARED_ROWS, len(train))).round().astype(np.int64)
    rows = replace(RowTexts.of(train.examples.take(train.indices[places])), pair=None)
    unlike = num_unlike_written(rows, encoder, make_row_store(rows, encoder))
    if not unlike:
        return []
    return [
        f"data.metadata: the tokenizer of {name} joins fields with what stands beside them, in {unlike} of"
        f" {len(places)} rows: textune's own predictions are not affected, but plain transformers gives the same text"
        " other tokens; separators that begin with a space prevent that"
    ]


def tokens_notice(train: Split, encoder: TextEncoder, *, name: str) -> list[str]:
    """A warning if rows that come as token ids have others than the tokenizer makes of their texts: what is predicted
    later are texts."""
    refuses = encoder.section.truncate == "error"  # such texts were perhaps cut when they were encoded
    if train.examples.tokens is None or not train.examples.has_text or refuses:
        return []
    places = np.linspace(0, len(train) - 1, min(_COMPARED_ROWS, len(train))).round().astype(np.int64)
    rows = RowTexts.of(train.examples.take(train.indices[places]))
    given, made = (make_row_store(one, encoder).whole() for one in (rows, replace(rows, tokens=None)))
    unlike = sum(
        not np.array_equal(
            given.ids[slice(*given.offsets[row : row + 2])], made.ids[slice(*made.offsets[row : row + 2])]
        )
        for row in range(len(places))
    )
    if not unlike:
        return []
    return [
        f"data.columns.tokens: {unlike} of {len(places)} rows have other token ids than the tokenizer of {name} makes"
        " of their texts: predictions will read texts in another way than training did"
    ]


def rate_warning(section: TrainSection, model: TextModel) -> list[str]:
    """A warning if the learning rate would most likely destroy what a pretrained backbone knows, or hardly change its
    adapters."""
    rate, rule = section.optimizer.lr, rule_of(section.optimizer)
    adapted = model.adapters is not None
    peak = rule.adapter_peak if adapted else rule.peak
    if peak is None or not any(p.requires_grad for p in model.hf.base_model.parameters()):
        return []
    usual = f'{peak} is usual with "{section.optimizer.kind}"' + (" and model.lora" if adapted else "")
    if rate > peak.limit:
        what = (
            "adapters, which will most likely drown what the backbone knows"
            if adapted
            else "a pretrained backbone, which will most likely forget what it knew"
        )
        return [f"train.optimizer.lr = {rate:g} is very high for {what}; {usual}"]
    if adapted and rate < float(peak.lowest):
        return [
            f"train.optimizer.lr = {rate:g} is low for adapters, which start at zero and may learn little; {usual}"
        ]
    return []


def require_as_launched(experiment: Experiment, settled: Collection[str] = ()) -> list[str]:
    """ConfigError where the settings of `accelerate launch` contradict the configuration; what is only said of them.

    `settled`: settings that the configuration was made of.
    """
    if not settings_of(os.environ):
        return []
    device = _device(experiment.train)
    differing, said = differences_to(os.environ, Here(experiment, device.torch.type, device.precision), settled)
    if differing:
        both = "; ".join(f"it asks for {found.asked}, but {found.here}" for found in differing)
        raise ConfigError(
            f"`accelerate launch` contradicts the configuration: {both}.",
            hint=f"Set {', '.join(found.do for found in differing)}; or leave the setting out of accelerate's own"
            f" configuration.",
        )
    return said
