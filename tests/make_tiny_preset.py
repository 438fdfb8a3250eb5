"""Writes the rows and the model of `preset:tiny`: `python tests/make_tiny_preset.py textune/presets/tiny`.

Run once; the files are kept in the package, since torch and transformers may draw other numbers in a later version.
"""

from __future__ import annotations

import csv
import random
import sys
from pathlib import Path

import torch
import transformers

GOOD = ["charming", "funny", "warm", "clever", "gripping", "lovely", "bright", "moving", "fresh", "superb"]
BAD = ["dull", "boring", "cold", "clumsy", "tedious", "ugly", "bleak", "shallow", "stale", "awful"]
PARTS = ["film", "story", "plot", "cast", "music", "scene", "ending", "camera", "script", "dialogue"]
FORMS = (
    "the {part} is {word}",
    "a {word} {part} from start to end",
    "i found the {part} quite {word}",
    "what a {word} {part}",
    "the {part} was {word} and so was the {other}",
    "never less than {word} , above all the {part}",
)
NUM_ROWS = 400


def rows(seed: int = 0) -> list[tuple[str, str]]:
    """Distinct reviews, half of them of each opinion, in random order."""
    draw = random.Random(seed)
    found: dict[str, str] = {}
    while len(found) < NUM_ROWS:
        opinion = ("negative", "positive")[len(found) % 2]
        part, other = draw.sample(PARTS, 2)
        word = draw.choice(GOOD if opinion == "positive" else BAD)
        found.setdefault(draw.choice(FORMS).format(part=part, other=other, word=word), opinion)
    mixed = list(found.items())
    draw.shuffle(mixed)
    return mixed


def write(folder: Path) -> None:
    """The rows as csv, and a plain Hugging Face folder with random weights in 16 bits."""
    found = rows()
    with (folder / "reviews.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([("review", "opinion"), *found])
    words = sorted({word for text, _ in found for word in text.split()})
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters), *words]
    vocab = {piece: index for index, piece in enumerate(dict.fromkeys(pieces))}
    transformers.BertTokenizer(vocab=vocab).save_pretrained(folder / "model")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(vocab),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=0.1,
    )
    transformers.BertModel(config).half().save_pretrained(folder / "model")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
