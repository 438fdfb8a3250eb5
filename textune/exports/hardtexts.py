"""Texts on which tokenizers disagree: what every tokenizer that is written as a graph is held against."""

from __future__ import annotations

from collections.abc import Sequence

HARD = (
    "",
    " ",
    "a great film",
    "Hello, World!  two  spaces ",
    " before and after \t",
    "line\nbreaks\r\nand\ttabs\x0b\x0c\x85\u2028\u2029",
    "don't can't I'm you'll DON'T I’m",
    "1234567890 3.14 1,000 ½ ² ٣ ५",
    "caf\u00e9 na\u00efve cafe\u0301 \u00c5 \u212b A\u030a a\u0300\u0301 \u1ec7",
    "İstanbul ǅ ß ẞ ΣΑΣ ς Ω \u2126 ſ K",
    "ﬁ ﬀ ﬃ №  ™ ℃ ㍿",
    "中文 测试 漢字かな カタカナ ｶﾅ \u4e00\U00020000\uf900",
    "한국어 \u1112\u1161\u11ab 각",
    "العربية עברית हिन्दी ไทย தமிழ் ქართული",
    "emoji 😀 👍🏽 👨\u200d👩\u200d👧 🇩🇪 ❤\ufe0f ☺",
    "“quotes” ‘s’ — – … ¿Qué? ¡Sí! «x» 「y」、。",
    "http://x.y/z?a=b&c=%20d #tag @me a_b-c~^`|\\ [x] {y} <z> $1 €2",
    "\x01\x02\x7f\u00ad\u200b\u200e\ufeff\u2060 x\u00a0y\u3000z\u2009w \ufffd \ue000 \ufdd0",
    "[CLS] [SEP] [MASK] [UNK] [PAD] <s> </s> <unk> <mask> <pad> x[SEP]y <|endoftext|>",
    "ALL CAPS mixedCase camelCase snake_case kebab-case x.y.z A.B.C.",
    "!!!??? ... ,,, ((())) ''' \"\"\" ``` *** ---",
    "antidisestablishmentarianism " * 3,
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101 + " " + "é" * 101,
    "the film is " * 400,
    "a b c d e f g " * 200 + "!",
    "😀" * 300,
    "я" * 100 + " " + "я" * 101,
    "x\U000f0000y \U0010ffff",
)
"""Without the character U+0000, which the operators for byte-level BPE cannot read."""


def hard_texts(specials: Sequence[str]) -> list[str]:
    """All of them, and some with the special tokens of a tokenizer in them."""
    within = [f"{one}" for one in specials] + [f"x{one}y {one.lower()} {one.upper()}  {one} ." for one in specials]
    begun = {one[:length] for one in specials for length in range(1, len(one))}
    return [*HARD, *within, *(f"x{one}{more}" for one in sorted(begun) for more in ("", "v", " v", "<"))]
