"""Chunks the slow way: one document at a time, one token and one character after the other."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from textune.config.documents import MetadataSection
from textune.metadata.documents import NO_POSITION, Rendered
from textune.metadata.rendering.fields import fields_text


@dataclass
class Tag:
    """An inserted piece of a rendered text."""

    start: int
    end: int
    type: int
    opens: int
    closes: int

    @property
    def silent(self) -> bool:
        return self.opens == NO_POSITION and self.closes == NO_POSITION


@dataclass
class Token:
    id: int
    inserted: bool
    start: int
    end: int
    in_suffix: bool = False


@dataclass
class Row:
    """What a chunk is to be."""

    ids: list[int]
    mask: list[int]
    start: int
    end: int


class SlowChunks:
    """Of tokenizers that put no space before a text of their own accord, or put one before every word."""

    def __init__(self, tokenizer: Any, max_length: int, section: MetadataSection, end_id: int | None = None) -> None:
        self.tokenizer, self.max_length, self.section, self.end_id = tokenizer, max_length, section, end_id

    def encode(self, rendered: Rendered, document: int) -> list[Row]:
        """The chunks of one document."""
        columns = rendered.insertions
        here = [index for index in range(len(columns)) if columns.document[index] == document]
        tags = [
            Tag(*(int(getattr(columns, name)[i]) for name in ("start", "end", "type", "opens", "closes")))
            for i in here
        ]
        text = rendered.texts[document]
        if self.section.as_original:
            return self.as_original(text, tags, rendered.fields[document])
        return self.by_default(text, tags, rendered.fields[document])

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def spans(self, text: str) -> list[tuple[int, int, int]]:
        found = self.tokenizer.backend_tokenizer.encode(text, add_special_tokens=False)
        return [(token, *span) for token, span in zip(found.ids, found.offsets, strict=True)]

    # --- the original system -----------------------------------------------------------------------------------------

    def as_original(self, text: str, tags: list[Tag], fields: Any) -> list[Row]:
        prefix = self.ids(fields_text(fields, self.section)) if fields else []
        most = self.max_length // 2
        if len(prefix) > most:
            prefix = prefix[: most - 2] + prefix[-2:]
        is_inserted = [any(tag.start <= at < tag.end for tag in tags) for at in range(len(text))]
        spaced, offset = (f" {text}", 1) if prefix else (text, 0)
        tokens = []
        for token, start, end in self.spans(spaced):
            characters = list(range(start, end))
            while len(characters) > 1 and spaced[characters[0]].isspace() and spaced[start:end].strip():
                characters = characters[1:]
            inserted = any(at >= offset and is_inserted[at - offset] for at in characters)
            tokens.append(Token(token, inserted, max(start - offset, 0), end - offset))
        if len(tokens) < self.section.min_tokens:
            return []
        room = self.max_length - len(prefix)
        pieces = [tokens[at : at + room] for at in range(0, len(tokens), room)]
        return self.rows(text, tags, prefix, [([], piece, []) for piece in pieces])

    # --- textune -----------------------------------------------------------------------------------------------------

    def by_default(self, text: str, tags: list[Tag], fields: Any) -> list[Row]:
        metadata = self.trimmed(fields)
        prefix, suffix = ([], metadata) if self.section.position == "suffix" else (metadata, [])
        lead = " " if prefix and self.ids("b a") != self.ids("b") + self.ids("a") else ""
        tokens = self.tokens(text, tags, lead)
        if sum(not token.inserted for token in tokens) < self.section.min_tokens:
            return []
        tokens += [Token(token, True, len(text), len(text), in_suffix=True) for token in suffix]
        if self.end_id is not None:
            tokens.append(Token(self.end_id, False, len(text), len(text)))
        return self.rows(text, tags, prefix, self.pieces(text, tags, tokens, self.max_length - len(prefix)))

    def trimmed(self, fields: Any) -> list[int]:
        """The tokens of the prefix, with as many fields as fit."""
        whole = self.ids(fields_text(fields, self.section)) if fields else []
        most = int(Fraction(str(self.section.prefix_share)) * self.max_length)
        if self.section.position == "suffix":
            most = min(most, self.max_length - 1 - (self.end_id is not None))
        if len(whole) <= most:
            return whole
        names = [*self.section.priority, *(name for name in self.section.types if name not in self.section.priority)]
        kept: list[Any] = []
        for name in names:
            for one in fields:
                if self.section.types[one.type] == name:
                    more = [other for other in fields if other in kept or other is one]
                    if len(self.ids(fields_text(more, self.section))) <= most:
                        kept = more
        return self.ids(fields_text(kept, self.section)) if kept else []

    def tokens(self, text: str, tags: list[Tag], lead: str) -> list[Token]:
        """Each part of the text and each tag by itself."""
        owner = [next((n for n, tag in enumerate(tags) if tag.start <= at < tag.end), -1) for at in range(len(text))]
        tokens, at = [], 0
        while at < len(text):
            stop = at
            while stop < len(text) and owner[stop] == owner[at]:
                stop += 1
            before = lead if at == 0 else ""
            for token, start, end in self.spans(before + text[at:stop]):
                place = at - len(before)
                tokens.append(Token(token, owner[at] >= 0, max(place + start, at), place + end))
            at = stop
        return tokens

    def pieces(self, text: str, tags: list[Tag], tokens: list[Token], room: int) -> list[Any]:
        """Of each chunk: the tokens that open tags, its own, those that close them."""
        pieces, begin, opening = [], 0, list[int]()
        behind = sum(token.in_suffix for token in tokens)
        if behind and self.end_id is not None:
            behind += 1
        while len(tokens) - begin > room - len(opening):
            rest = limit = room - len(opening)
            if behind:  # half of the text that fits beside the suffix stays for the last chunk
                stays = max(1, (room - behind) // 2)
                limit = max(1, min(rest, len(tokens) - behind - begin - stays))
            while True:
                end = self.cut(text, tags, tokens, begin, limit)
                closing, again = self.open_tags(text, tags, tokens[end - 1].end, min(room // 4, room - behind - 1))
                if end - begin + len(closing) <= rest:
                    break
                limit = rest - len(closing)
            pieces.append((opening, tokens[begin:end], closing))
            begin, opening = end, again
        return [*pieces, (opening, tokens[begin:], [])]

    def cut(self, text: str, tags: list[Tag], tokens: list[Token], begin: int, limit: int) -> int:
        for end in range(begin + limit, begin + limit // 2, -1):
            if self.kind(text, tags, tokens, end) == "good":
                return end
        for worse in (("beside a tag", "good"), ("in a word", "beside a tag", "good")):
            for end in range(begin + limit, begin, -1):
                if self.kind(text, tags, tokens, end) in worse:
                    return end
        return begin + limit

    def kind(self, text: str, tags: list[Tag], tokens: list[Token], end: int) -> str:
        at = tokens[end - 1].end
        if tokens[end].in_suffix or (self.end_id is not None and end == len(tokens) - 1):
            return "forbidden"
        if tokens[end].start < at or any(tag.start < at < tag.end for tag in tags):
            return "forbidden"
        original = "".join(c for i, c in enumerate(text) if not any(tag.start <= i < tag.end for tag in tags))
        place = at - sum(tag.end - tag.start for tag in tags if tag.end <= at)
        if 0 < place < len(original) and original[place - 1].isalnum() and original[place].isalnum():
            return "in a word"
        left = [index for index, tag in enumerate(tags) if tag.end == at]
        right = [index for index, tag in enumerate(tags) if tag.start == at]
        if left and right and (tags[left[0]].silent or tags[right[0]].silent):
            return "beside a tag"
        if left and (self.speaking(tags, left[0], -1, "opens") or self.alone(tags, left[0])):
            return "beside a tag"
        if right and (self.speaking(tags, right[0], 1, "closes") or self.alone(tags, right[0])):
            return "beside a tag"
        return "good"

    def speaking(self, tags: list[Tag], index: int, step: int, what: str) -> bool:
        """Whether the first tag that is not silent, from here on among those that touch, opens or closes a span."""
        while tags[index].silent:
            other = index + step
            if not 0 <= other < len(tags):
                return False
            first, second = sorted((index, other))
            if tags[first].end != tags[second].start:
                return False
            index = other
        return bool(getattr(tags[index], what) != NO_POSITION)

    def alone(self, tags: list[Tag], index: int) -> bool:
        return not any(self.speaking(tags, index, step, what) for step in (-1, 1) for what in ("opens", "closes"))

    def open_tags(self, text: str, tags: list[Tag], at: int, most: int) -> tuple[list[int], list[int]]:
        """Tokens that close what is open at this place, and that open it again."""
        if not self.section.reopen_tags:
            return [], []
        stack: list[Tag] = []
        closers: list[Tag] = []
        for index, tag in enumerate(tags):
            if tag.opens != NO_POSITION and tag.end <= at:
                closer = next(other for other in tags[index:] if other.closes == tag.opens)
                if closer.start >= at:
                    stack.append(tag)
                    closers.insert(0, closer)
        while True:
            opening, closing = self.written(text, stack), self.written(text, closers)
            if max(len(opening), len(closing)) <= most:
                return closing, opening
            stack, closers = stack[1:], closers[:-1]

    def written(self, text: str, tags: list[Tag]) -> list[int]:
        """The tokens of these tags, with their wraps."""
        pieces: list[str] = []
        for index, tag in enumerate(tags):
            wrap = self.section.wraps.get(self.section.types[tag.type], ("", ""))
            first = index == 0 or tags[index - 1].type != tag.type
            last = index + 1 == len(tags) or tags[index + 1].type != tag.type
            pieces += [wrap[0] if first else "", text[tag.start : tag.end], wrap[1] if last else ""]
        return [token for piece in pieces if piece for token in self.ids(piece)]

    def rows(self, text: str, tags: list[Tag], prefix: list[int], pieces: list[Any]) -> list[Row]:
        size = len(text) - sum(tag.end - tag.start for tag in tags)
        rows: list[Row] = []
        for number, (opening, piece, closing) in enumerate(pieces):
            scores = self.section.score_inline
            own = [int(token.in_suffix or (token.inserted and not scores)) for token in piece]
            last = piece[-1].end
            end = sum(not any(tag.start <= at < tag.end for tag in tags) for at in range(last))
            rows.append(
                Row(
                    [*prefix, *opening, *(token.id for token in piece), *closing],
                    [1] * (len(prefix) + len(opening)) + own + [1] * len(closing),
                    rows[-1].end if rows else 0,
                    size if number == len(pieces) - 1 else end,
                )
            )
        return rows
