"""What is true of all chunks: the text comes back, both ways of a comparison score the same characters, and no
document knows of another."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import transformers
from kits.backbones import tiny_tokenizer
from kits.documents import Entry, documents_of
from kits.gpt2 import SUBSET
from kits.rendered import Written, encoder_of, rendered_of, rows_of
from metadata.chunks.test_chunks_beside_twin import TOKENIZERS, random_document, random_rendered, random_section
from tokenizers import Tokenizer, decoders, models, normalizers

from textune.config.documents import MetadataSection
from textune.config.schema import TokensSection
from textune.metadata.chunks.encoder import ChunkEncoder, ScoredChunks
from textune.metadata.documents import Rendered
from textune.metadata.rendering.render import render


def spaced_gpt2() -> Any:
    tokenizer = tiny_tokenizer("gpt2")
    tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space = True
    return tokenizer


def sparse_gpt2() -> Any:
    """With gaps between the numbers of its tokens."""
    kept = json.loads(SUBSET.read_text(encoding="utf-8"))
    return transformers.GPT2Tokenizer(vocab=kept["vocab"], merges=[tuple(pair) for pair in kept["merges"]])


def llama_2() -> Any:
    """A normalizer puts the space before the text."""
    model = json.loads(tiny_tokenizer("llama").backend_tokenizer.to_str())["model"]
    backend = Tokenizer(
        models.BPE(model["vocab"], [tuple(pair) for pair in model["merges"]], unk_token="<unk>", byte_fallback=True)
    )
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


LOSSLESS: dict[str, tuple[Callable[[], Any], Callable[[bool, str], bool]]] = {
    "gpt2": (lambda: tiny_tokenizer("gpt2"), lambda prefixed, text: prefixed),
    "gpt2 with gaps": (sparse_gpt2, lambda prefixed, text: prefixed),
    "gpt2 with a space before texts": (spaced_gpt2, lambda prefixed, text: not text.startswith(" ")),
    "gemma": (lambda: tiny_tokenizer("gemma"), lambda prefixed, text: prefixed),
    "llama": (lambda: tiny_tokenizer("llama"), lambda prefixed, text: not text.startswith(" ")),
    "llama 2": (llama_2, lambda prefixed, text: True),
}
"""Tokenizers whose tokens say all of a text, and whether a text, behind a prefix or not, is tokenised after a
space."""


def originals(rendered: Rendered) -> list[str]:
    """The texts without what was inserted."""
    texts = []
    for document, text in enumerate(rendered.texts):
        here = rendered.insertions.document == document
        spans = zip(rendered.insertions.start[here].tolist(), rendered.insertions.end[here].tolist(), strict=True)
        inserted = {at for start, end in spans for at in range(start, end)}
        texts.append("".join(character for at, character in enumerate(text) if at not in inserted))
    return texts


def text_of(tokenizer: Any, row: tuple[list[int], list[int]]) -> str:
    """What the tokens with mask 0 say."""
    ids = [token for token, mask in zip(*row, strict=True) if not mask]
    decoder, tokens = tokenizer.backend_tokenizer.decoder, tokenizer.convert_ids_to_tokens(ids)
    if decoder is None:
        return "".join(tokens)
    stripped = ["▁"] if "Strip(" in str(decoder) else []  # decoders of Llama take a space away again
    text: str = decoder.decode([*stripped, *tokens])
    return text


@pytest.mark.every_day(2)
@pytest.mark.parametrize("kind", LOSSLESS)
def test_tokens_with_mask_0_are_the_text_of_each_chunk(kind: str) -> None:
    make, gets_space = LOSSLESS[kind]
    tokenizer = make()
    for seed in range(40):
        rng = np.random.default_rng(seed)
        position = "suffix" if seed % 2 else "prefix"
        section = random_section(rng, score_inline=False, min_tokens=1, position=position)
        rendered = random_rendered(rng, section, 4)
        encoder = ChunkEncoder(tokenizer, TokensSection(max_length=int(rng.choice([16, 40, 400]))), section)
        chunks = encoder.encode(rendered)
        prefixed = (encoder._fields.encode(rendered.fields).length > 0) & (position == "prefix")
        tagged = rendered.insertions.document[rendered.insertions.start == 0]
        texts, example = originals(rendered), chunks.store.example
        for number, row in enumerate(rows_of(chunks)):
            document = int(chunks.documents[example[number]])
            text, is_first = texts[document], number == 0 or example[number] != example[number - 1]
            space = " " if is_first and document not in tagged and gets_space(prefixed[document], text) else ""
            assert text_of(tokenizer, row) == space + text[chunks.start[number] : chunks.end[number]], seed


@pytest.mark.parametrize("family", sorted({"bert", "roberta", "xlm-roberta", "gpt2", "llama", "gemma", "qwen2", "t5"}))
def test_a_text_without_metadata_has_the_tokens_that_the_tokenizer_gives_it(family: str) -> None:
    tokenizer = tiny_tokenizer(family)
    rng = np.random.default_rng(0)
    texts = [random_document(rng)[0] for _ in range(30)]
    encoder = encoder_of(tokenizer, 10_000, begin_token="never", end_token="never")
    chunks = encoder.encode(rendered_of([Written((text,)) for text in texts]))
    expected = tokenizer(texts, add_special_tokens=False).input_ids
    assert [ids for ids, _ in rows_of(chunks)] == [expected[document] for document in chunks.documents]
    assert all(not ids for document, ids in enumerate(expected) if document not in chunks.documents)


@pytest.mark.parametrize("name", sorted(LOSSLESS))
def test_a_text_begins_as_the_tokenizer_begins_it(name: str) -> None:
    tokenizer = LOSSLESS[name][0]()
    texts = ["An apple", " an apple", "\n a"]
    encoder = encoder_of(tokenizer, 100, begin_token="never")
    chunks = encoder.encode(rendered_of([Written((text,)) for text in texts]))
    assert [ids for ids, _ in rows_of(chunks)] == tokenizer(texts, add_special_tokens=False).input_ids


@pytest.mark.every_day(2)
@pytest.mark.parametrize("keys", [{}, {"compat": "bsmetadata"}, {"position": "suffix"}])
def test_a_document_does_not_depend_on_its_batch(keys: dict[str, Any]) -> None:
    tokenizer = tiny_tokenizer("gpt2")
    for seed in range(20):
        rng = np.random.default_rng(seed)
        section = random_section(rng, **keys)
        documents = [random_document(rng) for _ in range(6)]
        encoder = ChunkEncoder(tokenizer, TokensSection(max_length=24), section)
        together = encoder.encode(render(documents_of(section.types, *documents), section))
        alone = [encoder.encode(render(documents_of(section.types, document), section)) for document in documents]
        assert rows_of(together) == [row for chunks in alone for row in rows_of(chunks)]
        assert together.start.tolist() == [place for chunks in alone for place in chunks.start.tolist()]
        assert together.counts.split == sum(chunks.counts.split for chunks in alone)


@pytest.mark.parametrize("kind", ["characters", "byte-level"])
def test_chunks_with_tags_opened_again_are_whole_by_themselves(kind: str) -> None:
    tokenizer = TOKENIZERS[kind]()
    section = MetadataSection(types=("html",), reopen_tags=True, wraps={"html": ("[", "]")})
    num_cut = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        text = random_document(rng)[0]
        spans = [sorted(rng.integers(0, len(text) + 1, size=2).tolist()) for _ in range(3)]
        entries = [Entry("html", str(rng.choice(["b", "i", "p"])), start, end) for start, end in spans]
        rendered = render(documents_of(section.types, (text, entries)), section)
        chunks = ChunkEncoder(tokenizer, TokensSection(max_length=64), section).encode(rendered)
        if chunks.counts.not_reopened or chunks.counts.split:
            continue
        num_cut += len(chunks) - len(chunks.documents)
        for ids, _ in rows_of(chunks):
            stack = []
            for closing, name in re.findall(r"<(/?)(.)>", text_of(tokenizer, (ids, [0] * len(ids)))):
                if closing:
                    assert stack.pop() == name
                else:
                    stack.append(name)
            assert stack == []
    assert num_cut > 40


def scored_of(tokenizer: Any, way: ScoredChunks) -> dict[int, tuple[str, int, int]]:
    """What the scored tokens of each document say, and their characters and bytes; documents without any left out."""
    ids: dict[int, list[int]] = {}
    amounts: dict[int, np.ndarray] = {}
    documents = way.documents[way.store.example].tolist()
    for row, (document, (of_row, mask)) in enumerate(zip(documents, rows_of(way), strict=True)):
        assert mask[:1] in ([], [1])  # nothing predicts it
        ids.setdefault(document, []).extend(token for token, one in zip(of_row, mask, strict=True) if not one)
        here = slice(*way.store.offsets[row : row + 2].tolist())
        own = [way.store.columns[name][here].sum(dtype=np.int64) for name in ("characters", "bytes")]
        amounts[document] = amounts.get(document, 0) + np.array(own)
    texts = {document: text_of(tokenizer, (some, [0] * len(some))) for document, some in ids.items() if some}
    assert all(not amounts[document].any() for document in ids.keys() - texts.keys())
    return {document: (text, *amounts[document].tolist()) for document, text in texts.items()}


@pytest.mark.every_day(3)
@pytest.mark.parametrize("compat", ["none", "bsmetadata"])
@pytest.mark.parametrize("kind", [*TOKENIZERS, "llama 2"])
def test_all_ways_of_a_comparison_score_the_same_characters(kind: str, compat: str) -> None:
    tokenizer = llama_2() if kind == "llama 2" else TOKENIZERS[kind]()
    num_compared = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        position = "suffix" if seed % 4 == 0 and compat == "none" else "prefix"
        section = random_section(rng, compat=compat, position=position)
        max_length = int(rng.choice([12, 40, 400]))
        documents = documents_of(section.types, *(random_document(rng) for _ in range(3)))
        nothing = np.zeros((3, len(section.types)), dtype=bool)
        compared = ChunkEncoder(tokenizer, TokensSection(max_length=max_length), section).compared(
            render(documents, section), render(documents, section, nothing)
        )
        assert all((way.store.lengths <= max_length).all() for way in compared)
        own, *others = (scored_of(tokenizer, way) for way in compared)
        for other in others:
            assert other.keys() == own.keys(), (kind, seed)
            for document, (text, *amounts) in own.items():
                assert list(other[document][1:]) == amounts, (kind, seed, document)
                said = [re.sub(r"##|\s", "", one) for one in (text, other[document][0])]
                unknown = any(tokenizer.unk_token and tokenizer.unk_token in one for one in said)
                # such tokens do not say what they stand for
                assert said[0] == said[1] or unknown, (kind, seed, document)
                num_compared += not unknown
                assert 0 < amounts[0] <= len(documents.texts[document])
                assert amounts[0] <= amounts[1] <= len(documents.texts[document].encode())
                if kind in {"characters", "llama 2"}:
                    assert len(text) == amounts[0] and len(text.encode()) == amounts[1]
    assert num_compared > 10
