"""The longest row that a backbone supports, from its tables and its configuration; before `backbone.py`."""

from __future__ import annotations

from collections.abc import Iterator

from textune.model.hugging import FamilyModule, HuggingConfig, HuggingModel

_TABLES = frozenset({"position_embeddings", "wpe", "embed_positions", "positions_embed"})
"""Names of the table of positions in the families."""
_KEYS = ("max_position_embeddings", "max_seq_len")
"""Configuration keys for the number of positions that the backbone was made for."""


def max_positions(hf: HuggingModel) -> int | None:
    """The longest row, in tokens, that a Hugging Face model is made for; None if its positions are relative without a
    limit.

    A table of positions is a hard limit. Rotary positions can be computed for any length, but the backbone has never
    seen those beyond the number in its configuration, so that number is the limit.
    """
    config = hf.config.get_text_config()
    limits = [*_table_sizes(hf.base_model)]
    if not _is_relative(config):
        found = (getattr(config, key, None) for key in _KEYS)
        # XLNet has -1 for "no limit".
        limits += [value for value in found if isinstance(value, int) and value > 0]
    return min(limits, default=None)


def _table_sizes(backbone: FamilyModule) -> Iterator[int]:
    for name, module in backbone.named_modules():
        weight = getattr(module, "weight", None)
        if name.rpartition(".")[2] not in _TABLES or weight is None or weight.ndim != 2:
            continue
        # RoBERTa's positions begin after the pad id, BART's at an offset.
        padding = getattr(module, "padding_idx", None)
        yield int(weight.shape[0]) - (padding + 1 if padding is not None else int(getattr(module, "offset", 0)))


def _is_relative(config: HuggingConfig) -> bool:
    """Whether the configured number of positions is not a limit, since the model uses distances
    (buckets or slopes).
    """
    if config.model_type in ("deberta", "deberta-v2"):
        return not getattr(config, "position_biased_input", True)
    return config.model_type == "falcon" and bool(getattr(config, "alibi", False))
