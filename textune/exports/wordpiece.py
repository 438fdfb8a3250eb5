"""BERT's tokenizer as ONNX operators: characters by a table, words cut at spaces, pieces by the longest match.

    texts --split--> units --table--> normalised units --join--> texts of words --WordpieceTokenizer--> ids

Every text begins with a character of its own, so that all units are joined at once, and cut into texts again.

onnxruntime_extensions has a BertTokenizer of its own, which takes one text at a time and reads accents, characters
beyond the usual planes and special tokens in a text another way. What the normaliser and the pre-tokenizer of the
tokenizers library do to a text, they do to each character by itself; so a table of them all says it exactly.
"""

from __future__ import annotations

import functools
import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from textune.exports.graph import CLASSIC, Graph
from textune.exports.ragged import Ragged
from textune.jsontext import parse_json

_SPACE, _NOTHING = "\x01", "\x02"
"""What stands for a space and for no character in the table, whose values can be neither; the normaliser leaves no
character of these."""
_BLANKS = "\t\n\r"
"""Which the table cannot hold: its lines and columns end with them."""
_PRIVATE = r"[\x{F0000}-\x{FFFFD}\x{100000}-\x{10FFFD}]"
"""Characters of private use in two planes: the normaliser drops them, but not the last two of each plane."""
_BEGIN = "\U000f0000"
"""Before each text: no text has it any longer."""
_ZERO = "\0"
"""Which ends a text for the operators of onnxruntime_extensions; the normaliser drops it."""
_AT_ONCE = 1 << 14
_RANGES = (range(1, 0xD800), range(0xE000, 0x40000), range(0xE0000, 0xF0000))
"""What Unicode has characters in; of those between, which are none, the normaliser changes none."""


def obstacle(described: Mapping[str, Any]) -> str:
    """Why this tokenizer (its `tokenizer.json`) is none that this module writes; empty if it is."""
    normalizer, words = described["normalizer"] or {}, described["pre_tokenizer"] or {}
    if normalizer.get("type") != "BertNormalizer" or not normalizer.get("clean_text"):
        return f"its normaliser is {normalizer.get('type', 'none')}"
    if words.get("type") != "BertPreTokenizer":
        return f"its words are cut by {words.get('type', 'nothing')}"
    odd = [
        token["content"]
        for token in described["added_tokens"]
        if token["normalized"] or token["single_word"] or token["content"] not in described["model"]["vocab"]
    ]
    return f"it finds {odd[0]!r} in texts in a way of its own" if odd else ""


def wordpiece_ids(graph: Graph, texts: str, backend: Tokenizer, described: Mapping[str, Any]) -> Ragged:
    """The ids of the pieces of each text, without the tokens that begin and end a row."""
    model = described["model"]
    specials = sorted((token["content"] for token in described["added_tokens"]), key=len, reverse=True)
    table = character_table(backend)
    # The operators end the process where there are no texts at all: there is always one, which is left out in the end.
    texts = graph.add("Concat", texts, graph.texts([""]), axis=0)
    parts, _ = graph.add_all("StringSplit", texts, num=2, delimiter=_ZERO)
    whole = _concatenated(graph, parts, _NOTHING)
    plain = _replaced(graph, _replaced(graph, whole, f"[{_BLANKS}]", " "), _PRIVATE, _NOTHING)
    begun = graph.add("StringConcat", graph.texts([_BEGIN]), plain)
    pattern = graph.texts([_units(specials, table)])
    units, _, _, _ = graph.extension("StringRegexSplitWithOffsets", begun, pattern, pattern, num=4)
    lines = [
        f"{found}\t{put}" for found, put in (dict(table) | {one: f"{_SPACE}{one}{_SPACE}" for one in specials}).items()
    ]
    [units] = graph.extension("StringMapping", units, map="\n".join(lines))
    together = _concatenated(graph, graph.add("Unsqueeze", units, graph.numbers([0])), "")
    pattern = graph.texts([f"({_BEGIN}[^{_BEGIN}]*)"])
    joined, _, _, _ = graph.extension("StringRegexSplitWithOffsets", together, pattern, pattern, num=4)
    joined = _replaced(graph, _replaced(graph, joined, f"[{_BEGIN}{_NOTHING}]", ""), _SPACE, " ")
    words, _, _, rows = graph.extension(
        "StringRegexSplitWithOffsets", joined, graph.texts(["( +)"]), graph.texts([""]), num=4
    )
    rows = graph.add("Slice", rows, graph.numbers([0]), graph.numbers([-1]))
    pieces, splits, _, _ = graph.extension(
        "WordpieceTokenizer",
        words,
        graph.numbers([]),
        num=4,
        vocab=json.dumps(model["vocab"], allow_nan=False),
        suffix_indicator=model["continuing_subword_prefix"],
        unknown_token=model["unk_token"],
        max_input_chars_per_word=model["max_input_chars_per_word"],
    )
    ids = graph.add(
        "LabelEncoder",
        pieces,
        domain=CLASSIC,
        keys_strings=list(model["vocab"]),
        values_int64s=list(model["vocab"].values()),
        default_int64=(unknown := model["vocab"][model["unk_token"]]),
    )
    return _known(graph, ids, splits, rows, unknown)


def _known(graph: Graph, ids: str, splits: str, rows: str, unknown: int) -> Ragged:
    """The ids of each text's words, where a word of which not all is known is one unknown token: the operator leaves
    the pieces before what it did not find.

    `splits` int64 [W + 1] where words begin among the ids, `rows` int64 [N + 1] where texts begin among the words.
    """
    words = Ragged.of_splits(graph, ids, splits)
    one, last = graph.numbers(1), graph.add("Sub", graph.add("Add", words.begins, words.lengths), graph.numbers(1))
    bad = graph.add("Equal", graph.add("Gather", ids, last), graph.numbers(unknown))
    none = graph.add("ConstantOfShape", graph.add("Shape", ids), value=_zero())
    begun = graph.add("ScatterElements", none, words.begins, graph.add("Sign", words.lengths))
    word = graph.add("Sub", graph.add("CumSum", begun, graph.numbers(0)), one)
    places = graph.add("Range", graph.numbers(0), graph.add("Size", ids), one)
    is_last = graph.add("Equal", places, graph.add("Gather", last, word))
    kept = graph.add("Or", is_last, graph.add("Not", graph.add("Gather", bad, word)))
    before = graph.add("CumSum", graph.add("Cast", kept, to=7), graph.numbers(0))
    before = graph.add("Concat", graph.numbers([0]), before, axis=0)
    begins = graph.add("Gather", before, graph.add("Gather", splits, rows))
    return Ragged.of_splits(graph, graph.add("Compress", ids, kept), begins)


def _zero() -> Any:
    from onnx import numpy_helper

    return numpy_helper.from_array(np.zeros(1, np.int64))


def _replaced(graph: Graph, texts: str, pattern: str, put: str) -> str:
    return graph.extension("StringRegexReplace", texts, graph.texts([pattern]), graph.texts([put]), global_replace=1)[
        0
    ]


def _concatenated(graph: Graph, parts: str, between: str) -> str:
    """Strings [N]: those of each row of [N, M], one behind the other."""
    return graph.extension("StringJoin", parts, graph.texts([between]), graph.numbers([1]))[0]


def _units(specials: Sequence[str], table: Mapping[str, str]) -> str:
    """A pattern that finds what the table is asked for: special tokens, runs of what it leaves alone, characters."""
    alone = "".join(one for one in string.ascii_letters + string.digits + " " if one not in table)
    # A run would hide a special token that begins within it.
    runs = [f"[{alone}]+"] if alone and not {one[0] for one in specials} & set(alone) else []
    return f"({'|'.join([*map(re.escape, specials), *runs, '(?s:.)'])})"


def character_table(backend: Tokenizer) -> Mapping[str, str]:
    """What each character becomes, with a space where a word ends; without those that stay as they are."""
    described = parse_json(backend.to_str())
    return _table(json.dumps({name: described[name] for name in ("normalizer", "pre_tokenizer")}, allow_nan=False))


@functools.lru_cache(maxsize=4)
def _table(described: str) -> Mapping[str, str]:
    """That of a normaliser and a pre-tokenizer: a third of a million characters, read once for a process."""
    backend = Tokenizer(WordPiece({"[UNK]": 0}, unk_token="[UNK]"))
    backend = Tokenizer.from_str(json.dumps(parse_json(backend.to_str()) | parse_json(described), allow_nan=False))
    found: dict[str, str] = {}
    for characters in _all_characters():
        # No normaliser of BERT's joins, drops or moves a bar.
        normalised = backend.normalizer.normalize_str("|".join(characters)).split("|")
        assert len(normalised) == len(characters)
        found |= dict(zip(characters, normalised, strict=True))
    found["|"] = "|"
    ends = _word_ends(backend, sorted({one for put in found.values() for one in put}))
    for one, put in list(found.items()):
        cut = "".join(ends.get(part, part) for part in put)
        if cut == one or one in _BLANKS:
            found.pop(one, None)
        else:
            found[one] = cut.replace(" ", _SPACE) or _NOTHING
    return found


def _all_characters() -> Iterator[list[str]]:
    for numbers in _RANGES:
        for start in range(numbers.start, numbers.stop, _AT_ONCE):
            stop = min(start + _AT_ONCE, numbers.stop)
            yield [chr(number) for number in range(start, stop) if chr(number) != "|"]


def _word_ends(backend: Tokenizer, characters: Sequence[str]) -> dict[str, str]:
    """Characters that end a word: spaces, and punctuation, which is a word itself and stands between spaces."""
    ends: dict[str, str] = {}
    for start in range(0, len(characters), _AT_ONCE):
        part = characters[start : start + _AT_ONCE]
        pieces = iter(
            piece for piece, _ in backend.pre_tokenizer.pre_tokenize_str(" ".join(f"a{one}a" for one in part))
        )
        for one in part:
            if next(pieces) != "a":
                continue
            ends[one] = " "
            if next(pieces) != "a":
                ends[one] = f" {one} "
                next(pieces)
    return ends
