"""What a backbone has to know of texts: whether they are English, what else they seem to be, and how long they are.

Function words decide between languages in Latin letters, since nearly every sentence has some; other scripts show by
their letters. Only the choice of a backbone depends on it, so few languages are told apart, and texts without any
such word (names, key words) count as English while their letters do.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

_MAX_FOREIGN = 0.01
"""Share of letters of another script above which texts are hardly English."""
_MAX_ACCENTED = 0.03
"""Share of accented letters above which texts without function words are hardly English."""
_LAST_LATIN = "\u024f"
_WORDS = {
    "English": "the of and to a i in on is it that you was for are with not this be have do what how my your they",
    "German": "der die das und ist nicht ich ein eine zu mit für auf es den von wie sind auch wird dem",
    "French": "le la les des et est un une je pas que pour dans il vous ne du sur avec ce qui au",
    "Spanish": "el la los de que y en un una por con para se mi las del pero como más muy esta",
    "Italian": "il la di che e un una non per sono è le con mi del della più ma questo anche",
    "Portuguese": "o a de que e do da em um uma não para com os se na por mais como foi",
    "Dutch": "de het een en van ik is dat niet op te zijn voor met er maar ook aan deze",
    "Polish": "nie to się w na i z do jest że co jak tak ale po od za mnie",
    "Turkish": "bir ve bu için da de ne çok mi ile daha ama gibi var olarak",
    "Indonesian": "yang dan di ini itu saya tidak untuk dengan ke ada dari bisa akan juga",
    "Swedish": "och att det som en är jag inte på för av med har den till om",
}
"""Frequent function words of a language."""
_LANGUAGES_OF: dict[str, list[str]] = {}
for _name, _listed in _WORDS.items():
    for _one in _listed.split():
        _LANGUAGES_OF.setdefault(_one, []).append(_name)
_WORD = re.compile(r"[^\W\d_]+")


@dataclass(frozen=True)
class TextFacts:
    """What some texts are like."""

    is_english: bool = True
    said: str = "English"
    """What they seem to be, to follow `the texts look`: a language, or letters of a script."""
    mean_characters: float = 0.0
    long_characters: float = 0.0
    """Nineteen of twenty texts are at most that long."""


def text_facts(texts: Iterable[str]) -> TextFacts:
    """Of these texts; a few thousand are enough."""
    lengths: list[int] = []
    hits: Counter[str] = Counter()
    scripts: Counter[str] = Counter()
    letters = accented = 0
    for text in texts:
        lengths.append(len(text))
        for word in _WORD.findall(text.lower()):
            letters += len(word)
            if not word.isascii():
                foreign = [letter for letter in word if letter > _LAST_LATIN]
                scripts.update(map(_script, foreign))
                accented += sum(letter > "\x7f" for letter in word) - len(foreign)
            for language in _LANGUAGES_OF.get(word, ()):
                hits[language] += 1
    if not lengths:
        return TextFacts()
    is_english, said = _language(hits, scripts, accented, letters)
    return TextFacts(is_english, said, float(np.mean(lengths)), float(np.quantile(lengths, 0.95)))


def _language(hits: Counter[str], scripts: Counter[str], accented: int, letters: int) -> tuple[bool, str]:
    """Whether it is English, and what it seems to be."""
    if scripts.total() > _MAX_FOREIGN * letters:
        return False, f"to have {scripts.most_common(1)[0][0]} letters"
    best = max(hits, key=lambda language: (hits[language], language == "English"), default="")
    if not best:
        foreign = accented > _MAX_ACCENTED * letters
        return not foreign, "to have accented letters" if foreign else "English"
    return best == "English", best


def _script(letter: str) -> str:
    """Such as Cyrillic, by the first word of the letter's name."""
    return unicodedata.name(letter, "other").partition(" ")[0].capitalize()
