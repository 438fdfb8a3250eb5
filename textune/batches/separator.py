"""What tells the two texts of a pair apart: the tokenizer's own special tokens or token types, or else a text before
the second one; used by `tokens.py`."""

from __future__ import annotations

from dataclasses import dataclass

from tokenizers import Encoding, Tokenizer

LINE_BREAK = "\n"


@dataclass(frozen=True)
class Separator:
    """A text that is put before the second text of each pair."""

    text: str
    """Empty where the tokenizer separates the texts by itself."""
    num_tokens: int
    """How many tokens more the second text has through it."""
    separates: bool
    """Whether the two texts can be told apart."""


def find_separator(tokenizer: Tokenizer, wanted: str, *, has_types: bool) -> Separator:
    """The separator that `tokens.pair_separator` asks for; `auto` is a line break, where the tokenizer puts nothing.

    `has_types`: whether the backbone reads token types.
    """
    plain = tokenizer.encode("a", "b")
    by_itself = _separates(plain, has_types=has_types)
    text = wanted if wanted != "auto" else "" if by_itself else LINE_BREAK
    num_tokens = len(tokenizer.encode("a", text + "b")) - len(plain)
    return Separator(text, num_tokens, by_itself or num_tokens > 0)


def _separates(encoding: Encoding, *, has_types: bool) -> bool:
    """Whether a special token stands between the texts of a pair, or their token types differ."""
    texts = encoding.sequence_ids
    if 0 not in texts or 1 not in texts:
        return True
    second = texts.index(1)
    before = len(texts) - 1 - texts[::-1].index(0)
    return second - before > 1 or (has_types and encoding.type_ids[second] != encoding.type_ids[before])
