"""The tokens that begin and end a document, by rule: a tokenizer's own template would put them in its middle, too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textune.config import MetadataSection
from textune.errors import ConfigError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BEGINNINGS, _ENDS = ("bos_token", "cls_token"), ("eos_token", "sep_token")
"""What tokenizers call such tokens, the best one first."""


def begin_token(tokenizer: PreTrainedTokenizerBase, metadata: MetadataSection) -> int | None:
    """The token that every chunk begins with; None for none. ConfigError where the tokenizer has none to put there."""
    return _chosen(tokenizer, metadata, "begin_token", _BEGINNINGS, place=0)


def end_token(tokenizer: PreTrainedTokenizerBase, metadata: MetadataSection) -> int | None:
    """The token that the last chunk of a document ends with; the rest as `begin_token`."""
    return _chosen(tokenizer, metadata, "end_token", _ENDS, place=-1)


def token_between(tokenizer: PreTrainedTokenizerBase) -> int:
    """The token behind every document that others follow in the same row. ConfigError where the tokenizer has none."""
    found = next((token for name in _ENDS if (token := getattr(tokenizer, f"{name}_id", None)) is not None), None)
    if found is None:
        raise ConfigError(
            f'data.chunks = "fixed" puts a token between documents, but the tokenizer {type(tokenizer).__name__} has'
            f" no {' and no '.join(_ENDS)}.",
            hint='Use data.chunks = "document", or name a tokenizer that has one in model.tokenizer.',
            key="data.chunks",
            value="fixed",
            reason=f"the tokenizer has no {_ENDS[0]}",
        )
    return int(found)


def _chosen(
    tokenizer: PreTrainedTokenizerBase, metadata: MetadataSection, key: str, names: tuple[str, ...], *, place: int
) -> int | None:
    rule = getattr(metadata, key)
    known: list[int] = [token for name in names if (token := getattr(tokenizer, f"{name}_id", None)) is not None]
    if rule == "always" and not known:
        raise ConfigError(
            f'metadata.{key} = "always", but the tokenizer {type(tokenizer).__name__} has no'
            f" {' and no '.join(names)}.",
            hint=f'Set metadata.{key} = "never", or name a tokenizer that has one in model.tokenizer.',
            key=f"metadata.{key}",
            value=rule,
            reason=f"the tokenizer has no {names[0]}",
        )
    if rule == "always":
        return known[0]
    if rule == "never" or metadata.as_original:
        return None
    own: list[int] = tokenizer.backend_tokenizer.encode("a").ids
    return own[place] if own and own[place] in known else None
