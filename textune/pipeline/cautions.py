"""Settings that do not suit the backbone or its tokenizer, whatever rows were seen: refused, or said; used by `gather.py`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textune.config.schema import Columns, TokensSection, TrainSection
from textune.config.toml import format_value
from textune.data.tokens import TextEncoder
from textune.errors import ConfigError
from textune.model import TextModel

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

HIGHEST_RATE = 1e-3
"""A pretrained backbone hardly ever survives a higher peak learning rate of AdamW; a head alone may."""
_UNLIMITED = 1_000_000
"""Tokenizers that know no limit state numbers above this one."""


def fit_length(section: TokensSection, model: TextModel, *, name: str) -> tuple[TokensSection, list[str]]:
    """The section with `max_length` as a number that the backbone has positions for, and what to say about it.

    ConfigError where the number was set and is too large.
    """
    limit, longest = model.max_positions, section.longest
    if limit is None or longest <= limit:
        return section.model_copy(update={"max_length": longest}), []
    if section.max_length != "auto":
        raise ConfigError(
            f"tokens.max_length = {longest}, but {name} has positions for {limit} tokens.",
            hint=f'Set tokens.max_length = {limit} or less, or "auto".',
        )
    said = f"tokens.max_length is {limit} here, since {name} has positions for no more tokens"
    return section.model_copy(update={"max_length": limit}), [said]


def tokenizer_notice(section: TokensSection, tokenizer: PreTrainedTokenizerBase, *, name: str) -> list[str]:
    """A sentence where rows may be longer than the tokenizer says that its model was made for."""
    made_for = tokenizer.model_max_length
    if made_for >= section.longest or made_for > _UNLIMITED:
        return []
    return [
        f"tokens.max_length = {section.longest}, but the tokenizer of {name} states model_max_length = {int(made_for)}:"
        " longer rows may be read badly"
    ]


def require_separator(columns: Columns, encoder: TextEncoder, *, name: str) -> None:
    """ConfigError for pairs of texts between which the tokenizer puts nothing: the model could not tell them apart."""
    if columns.text_pair is None or encoder.separates_pairs:
        return
    first = columns.template if columns.template is not None else f"{{{columns.text}}}"
    joined = f"{first}\n{{{columns.text_pair}}}"
    raise ConfigError(
        f'data.columns.text_pair = "{columns.text_pair}", but the tokenizer of {name} puts nothing between two texts:'
        " they would run into each other.",
        hint=f"Leave text_pair out and join the texts yourself: data.columns.template = {format_value(joined)}.",
    )


def rate_warning(section: TrainSection, model: TextModel) -> list[str]:
    """A sentence where the learning rate would most likely destroy a pretrained backbone that is trained."""
    rate = section.optimizer.lr
    if rate <= HIGHEST_RATE or not any(p.requires_grad for p in model.hf.base_model.parameters()):
        return []
    return [
        f"train.optimizer.lr = {rate:g} is very high for a pretrained backbone, which most likely forgets what it knew;"
        " 1e-5 to 1e-4 is usual"
    ]
