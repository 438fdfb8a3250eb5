"""Documents as prompts: their metadata in a few plain words."""

from __future__ import annotations

import pytest
from kits.backbones import tiny_tokenizer
from kits.documents import Entry, documents_of
from kits.rendered import rows_of

from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection
from textune.metadata.chunks.encoder import ChunkEncoder
from textune.metadata.rendering.prompt import prompt_section, render_prompt

TYPES = (
    "title",
    "timestamp",
    "url",
    "generation_datasource",
    "generation_length_text",
    "entity",
    "entity_paragraph",
    "html",
    "own",
)
SECTION = prompt_section(MetadataSection(types=TYPES, prefix_start=" ", wraps={"html": ("<H>", "</H>")}))


def fields(*entries: Entry, text: str = "An apple is an edible fruit.") -> list[str]:
    rendered = render_prompt(documents_of(TYPES, (text, list(entries))), SECTION)
    assert list(rendered.texts) == [text] and not len(rendered.insertions)
    return [field.text for field in rendered.fields[0]]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        (Entry("title", "A day out"), "Title: A day out"),
        (Entry("timestamp", "2018-12-10"), "Year: 2018; Month: December"),
        (Entry("url", "http://a.b/c%20d+e"), "url: http://a.b/c d e"),
        (Entry("generation_datasource", "a.b > news"), "Data source: a.b > news"),
        (Entry("generation_length_text", "1200"), "Number of characters: 1200"),
        (Entry("entity", "Malus_domestica", 3, 8), "Entities: Malus domestica"),
        (Entry("entity_paragraph", "Malus_domestica", 0, 8), "Entity Paragraphs: Malus domestica"),
        (Entry("html", "b", 3, 8), "Html"),
        (Entry("own", "x", 3, 8), "Own"),
        (Entry("own", "x"), "own: x"),
    ],
)
def test_each_type_has_its_words(entry: Entry, expected: str) -> None:
    assert fields(entry) == [expected]


def test_names_are_listed_once_in_their_order_and_of_facts_the_last_counts() -> None:
    entries = (
        Entry("title", "First"),
        Entry("title", "Last"),
        Entry("entity", "Paris", 0, 2),
        Entry("entity", "Ada_Lovelace", 3, 8),
        Entry("entity", "Paris", 9, 11),
        Entry("html", "b", 3, 8),
        Entry("html", "i", 3, 8),
    )
    assert fields(*entries) == ["Title: Last", "Entities: Paris, Ada Lovelace", "Html"]
    assert fields() == []


def test_a_prompt_stands_before_the_text_with_nothing_between_but_a_space() -> None:
    tokenizer = tiny_tokenizer("gpt2")
    documents = documents_of(TYPES, ("a good film", [Entry("title", "A day"), Entry("entity", "Paris", 0, 1)]))
    encoder = ChunkEncoder(tokenizer, TokensSection(max_length=64), SECTION)
    ((ids, mask),) = rows_of(encoder.encode(render_prompt(documents, SECTION)))
    assert tokenizer.decode(ids) == "Title: A day; Entities: Paris a good film"
    assert tokenizer.decode([one for one, masked in zip(ids, mask, strict=True) if not masked]) == " a good film"
