"""Writes the tokenizer of torchrecipes' tiny model: `python tests/make_tiny_recipe.py textune/presets/tiny/xlmr`.

Run once; the files are kept in the package. It has the form of XLM-R's (SentencePiece's unigram model, the same ids of
special tokens) and fits into the 102 rows of that model's table of embeddings.
"""

from __future__ import annotations

import csv
import string
import sys
from pathlib import Path

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

ROWS = 102
SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def write(folder: Path) -> None:
    """A tokenizer trained on the reviews of `preset:tiny`, which knows every printable ASCII letter and digit."""
    with (folder.parent / "reviews.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["review"] for row in csv.DictReader(file)]
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    trainer = trainers.UnigramTrainer(
        vocab_size=ROWS - 2,
        special_tokens=[AddedToken(token, special=True) for token in SPECIAL],
        unk_token="<unk>",
        initial_alphabet=letters,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = dict(zip(("bos_token", "pad_token", "eos_token", "unk_token", "mask_token"), SPECIAL, strict=True))
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, cls_token="<s>", sep_token="</s>", model_max_length=62, **names
    )
    assert len(made) <= ROWS
    made.save_pretrained(folder)


if __name__ == "__main__":
    write(Path(sys.argv[1]))
