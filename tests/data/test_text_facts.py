"""What a text looks like to whom chooses a backbone: its language, and how long it is."""

import pytest

from textune.data import text_facts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("i am still waiting on my card, what do i do?", "English"),
        ("a café with the best crème brûlée of them", "English"),
        ("blue widget 12 mm", "English"),
        ("", "English"),
        ("Der Zug ist nicht mit uns gekommen", "German"),
        ("je ne sais pas ce que vous dans la rue", "French"),
        ("no es para el niño que las come con un amigo", "Spanish"),
        ("il film non è per chi ama la storia di una donna", "Italian"),
        ("o filme não é para quem não gosta de uma boa história, mas foi", "Portuguese"),
        ("ik heb het niet op tijd en dat is van mijn broer", "Dutch"),
        ("to nie jest film, na który się czeka", "Polish"),
        ("bu film çok iyi ama ne için bir daha", "Turkish"),
        ("film ini tidak untuk anak yang ada di rumah", "Indonesian"),
        ("det är inte för mig, och jag har den på film", "Swedish"),
        ("это хороший фильм", "to have Cyrillic letters"),
        ("这部电影很好", "to have Cjk letters"),
        ("žluťoučký kůň", "to have accented letters"),
    ],
)
def test_a_language_shows_by_its_function_words_or_its_letters(text: str, said: str) -> None:
    facts = text_facts([text])
    assert facts.said == said
    assert facts.is_english == (said == "English")


def test_lengths_are_of_characters() -> None:
    facts = text_facts(["a" * 10, "b" * 30])
    assert facts.mean_characters == 20 and facts.long_characters == 29
    assert text_facts([]).is_english and text_facts([]).mean_characters == 0
