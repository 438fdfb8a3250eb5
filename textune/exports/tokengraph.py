"""A tokenizer with textune's own truncation as an ONNX graph, held against the tokenizer itself on hard texts.

texts [N] --tokenizer--> ids of each text --cut, framed, padded--> input_ids, attention_mask [N, L]
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from textune.batches import TextEncoder
from textune.errors import ExportError
from textune.exports.graph import Graph
from textune.exports.ragged import Ragged
from textune.exports.wordpiece import obstacle, wordpiece_ids
from textune.jsontext import parse_json
from textune.wording import count, shorten

BYTE_LEVEL, METASPACE = ("GPT2Tokenizer", "GemmaTokenizer")
"""Classes by which onnxruntime_extensions knows two ways to cut words for BPE."""


def add_tokens(graph: Graph, texts: str, encoder: TextEncoder, *, pad_id: int) -> tuple[str, str]:
    """Token ids and mask, int64 [N, L], of texts (strings [N]), as `encoder` makes them of single texts.

    ExportError for a tokenizer that cannot be such a graph, for windows, and where a longer text would be refused.
    """
    described = parse_json(encoder.backend.to_str())
    _require_cut(encoder)
    kind = described["model"]["type"]
    if kind == "WordPiece":
        if reason := obstacle(described):
            raise no_tokenizer(reason)
        ids = wordpiece_ids(graph, texts, encoder.backend, described)
    elif kind == "BPE":
        ids = _bpe_ids(graph, texts, described)
    else:
        raise no_tokenizer(f"its pieces are of the kind {kind}")
    return _framed(graph, ids, encoder, pad_id)


def _require_cut(encoder: TextEncoder) -> None:
    """ExportError where rows are made in a way that no graph has."""
    section, reason = encoder.section, ""
    if section.truncate == "error":
        reason = 'a longer text is an error (tokens.truncate = "error"), and a graph cannot refuse one'
    elif encoder.frame_ids is None or encoder.columns(pair=False) != ("ids",):
        reason = "its tokenizer frames rows in a way of its own"
    if reason:
        raise ExportError(
            f"--to text cannot hold this model: {reason}.",
            hint="Choose --to onnx, which takes tokens.",
            key="to",
            value="text",
            reason=reason,
        )


def no_tokenizer(reason: str) -> ExportError:
    """The error for a tokenizer that is no graph."""
    return ExportError(
        f"--to text cannot hold the tokenizer of this model: {reason}.",
        hint="Choose --to onnx, which takes the tokens that tokenizer.json makes.",
        key="to",
        value="text",
        reason=reason,
    )


def _bpe_ids(graph: Graph, texts: str, described: Mapping[str, Any]) -> Ragged:
    """By the HfJsonTokenizer of onnxruntime_extensions, which reads the same file; what it reads otherwise shows when
    it is compared.

    The operator ends a text at the character U+0000, which these tokenizers have a token for: such a text is an error.
    It loses the last character of a text where that is the first one by which the text differs from a special token
    ("<3" and "<s>"), so a special token is put behind each text, and its id is taken away.
    """
    whole = graph.add("RegexFullMatch", texts, pattern=r"(?s)[^\x00]*")
    zeros = graph.zeros_unless(graph.add("Not", whole), "a text has the character U+0000")
    words = described["pre_tokenizer"] or {}
    config = {"tokenizer_class": BYTE_LEVEL if "ByteLevel" in json.dumps(words, allow_nan=False) else METASPACE}
    config |= {"unk_token": described["model"]["unk_token"]} if described["model"].get("unk_token") else {}
    if end := _plain_special(described):
        texts = graph.add("StringConcat", texts, graph.texts([end]))
        zeros = graph.add("Sub", zeros, graph.numbers(1))
    ids, mask = graph.extension(
        "HfJsonTokenizer",
        texts,
        num=2,
        tokenizer_config=json.dumps(config, allow_nan=False),
        tokenizer_vocab=json.dumps(
            {**described, "post_processor": None, "truncation": None, "padding": None}, allow_nan=False
        ),
    )
    rows = Ragged.of_mask(graph, ids, mask)
    return rows._replace(lengths=graph.add("Add", rows.lengths, zeros))


def _plain_special(described: Mapping[str, Any]) -> str:
    """A special token that takes no spaces with it; empty where there is none."""
    flags = ["lstrip", "rstrip", "single_word"]
    flags += ["normalized"] if described["normalizer"] else []  # true of every token of GPT-2, and nothing normalizes
    found = [one["content"] for one in described["added_tokens"] if one["special"] and not any(map(one.get, flags))]
    return str(found[0]) if found else ""


def _framed(graph: Graph, ids: Ragged, encoder: TextEncoder, pad_id: int) -> tuple[str, str]:
    """Rows cut to the longest, between the tokens that begin and end a row, with padding behind.

    All of them are chosen by one index from one row of numbers: the frame, padding, and the ids of all texts.
    """
    assert encoder.frame_ids is not None, "_require_cut has asked"
    before, after = encoder.frame_ids
    fixed = [*before, *after, pad_id, encoder.empty_id]
    table = graph.add("Concat", graph.numbers(fixed), ids.flat, axis=0)
    pad, empty = len(before) + len(after), len(before) + len(after) + 1
    room = encoder.section.longest - pad
    kept = graph.add("Min", ids.lengths, graph.numbers(room))
    # Without a frame, an empty text is one token.
    shown = kept if pad else graph.add("Max", kept, graph.numbers(1))
    lengths = graph.add("Add", shown, graph.numbers(pad))
    places, inside = Ragged.places(graph, lengths)
    kept_N1, shown_N1, of_text_N1, begins_N1 = (
        graph.add("Unsqueeze", one, graph.numbers([1])) for one in (kept, shown, ids.lengths, ids.begins)
    )
    within = graph.add("Sub", places, graph.numbers(len(before)))
    text = graph.add("Add", graph.add("Add", begins_N1, graph.numbers(len(fixed))), within)
    text = graph.add("Add", text, _skipped(graph, encoder, within, kept_N1, of_text_N1))
    if not pad:
        text = graph.add("Where", graph.add("Equal", of_text_N1, graph.numbers(0)), graph.numbers(empty), text)
    behind = graph.add("Add", graph.add("Sub", within, shown_N1), graph.numbers(len(before)))
    index = graph.add("Where", graph.add("Less", within, graph.numbers(0)), places, text)
    index = graph.add("Where", graph.add("GreaterOrEqual", within, shown_N1), behind, index)
    index = graph.add("Where", inside, index, graph.numbers(pad))
    return graph.add("Gather", table, index), graph.add("Cast", inside, to=7)


def _skipped(graph: Graph, encoder: TextEncoder, within: str, kept_N1: str, of_text_N1: str) -> str:
    """int64 [N, L] how many of a text's tokens are left out before each place: none in its head, all in its tail."""
    left_out = graph.add("Sub", of_text_N1, kept_N1)
    match encoder.section.truncate:
        case "tail":
            head = graph.add("Sub", kept_N1, kept_N1)
        case "head_tail":
            head = graph.add("Sub", kept_N1, graph.add("Div", kept_N1, graph.numbers(2)))
        case _:
            head = kept_N1
    in_tail = graph.add("GreaterOrEqual", within, head)
    return graph.add("Where", in_tail, left_out, graph.numbers(0))


def require_same(
    answer: Callable[[list[str]], tuple[np.ndarray, np.ndarray]], encoder: TextEncoder, texts: Sequence[str]
) -> None:
    """ExportError for the first of these texts that a graph cuts into other tokens than `encoder`.

    `answer`: ids and mask [N, L] of several texts.
    """
    store = encoder.encode(texts)
    wanted = [store.ids[start:stop].tolist() for start, stop in zip(store.offsets, store.offsets[1:], strict=False)]
    for start in range(0, len(texts), 7):
        ids_NL, mask_NL = answer(list(texts[start : start + 7]))
        for number, (ids_L, mask_L) in enumerate(zip(ids_NL, mask_NL, strict=True), start):
            found = ids_L[: int(mask_L.sum())].tolist()
            if found != wanted[number]:
                place = _first_difference(found, wanted[number])
                raise no_tokenizer(
                    f"as ONNX operators it cuts the text {shorten(texts[number])} into other tokens, the first of them"
                    f" token {place + 1} ({count(len(found), 'token')} instead of {len(wanted[number])})"
                )


def _first_difference(one: Sequence[int], other: Sequence[int]) -> int:
    """Where two rows of ids begin to differ."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (left, right) in pairs if left != right), min(len(one), len(other)))
