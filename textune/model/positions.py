"""How long a row a backbone can take, from its tables and its configuration; before `backbone.py`."""

from __future__ import annotations

from collections.abc import Iterator

from textune.model.hugging import FamilyModule, HuggingConfig, HuggingModel

_TABLES = frozenset({"position_embeddings", "wpe", "embed_positions", "positions_embed"})
"""What families call their table of positions."""
_KEYS = ("max_position_embeddings", "max_seq_len")
"""Keys of a configuration that say how many positions the backbone was made for."""


def max_positions(hf: HuggingModel) -> int | None:
    """The longest row in tokens that a Hugging Face model is made for; None where its positions are relative, without a limit.

    A table of positions is a hard limit. Rotary positions are computed for rows of any length, but beyond the number in the
    configuration the backbone has never seen them, so that number is the limit.
    """
    config = hf.config.get_text_config()
    limits = [*_table_sizes(hf.base_model)]
    if not _is_relative(config):
        found = (getattr(config, key, None) for key in _KEYS)
        # XLNet says -1 for "no limit".
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
    """Whether the number of positions in a configuration limits nothing: distances count, in buckets or as a slope."""
    if config.model_type in ("deberta", "deberta-v2"):
        return not getattr(config, "position_biased_input", True)
    return config.model_type == "falcon" and bool(getattr(config, "alibi", False))
