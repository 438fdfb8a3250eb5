"""The slow twin of rendering: one document, entry by entry and character by character, as docs/metadata.md says it.

It uses nothing of textune but the configuration: labels, dates and tags are written out here again.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus

from kits.documents import Entry

from textune.config.documents import MetadataSection

KEYS = {
    "website_desc": "website_description",
    "generation_datasource": "datasource",
    "generation_length_text": "length",
    "generation_length_sentence": "length",
}
LABELS = {
    "title": "Title",
    "website_description": "Website Description",
    "datasource": "Datasource",
    "length": "Text Length",
}
MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)


@dataclass
class Sheet:
    """A text as it is written: characters, and for each whether it was inserted."""

    text: str = ""
    mask: str = ""

    def write(self, text: str, inserted: bool) -> None:
        self.text += text
        self.mask += "01"[inserted] * len(text)


@dataclass
class Piece:
    """What an entry has before or after its span."""

    text: str
    entry: int
    closing: bool


def key_of(name: str) -> str:
    return KEYS.get(name, name)


def global_text(entry: Entry, section: MetadataSection) -> str:
    key, separator = key_of(entry.type), section.key_value_separator
    if key == "timestamp":
        moment = datetime.datetime.fromisoformat(entry.value)
        between = ": " if section.compat == "bsmetadata" else separator
        return f"Year{between}{moment.year}{section.separator}Month{between}{MONTHS[moment.month - 1]}"
    if key == "url":
        return key + separator + unquote_plus(entry.value)
    return LABELS.get(key, key) + separator + entry.value


def local_texts(entry: Entry, section: MetadataSection) -> tuple[str, str] | None:
    """What stands before a span and after it; None where the filter drops the tag."""
    name = entry.value.replace("_", " ")
    if entry.type == "entity":
        return "", f" [[{name}]]"
    if entry.type == "entity_paragraph":
        return (f" |{name}|", "") if section.entity_position == "begin" else ("", f" |{name}|")
    if entry.type == "html":
        if is_dropped(entry, section):
            return None
        opening = "<" + entry.value
        for attribute, value in entry.attributes:
            if section.html.attributes is None or attribute in section.html.attributes:
                opening += " " + attribute + ":" + value
        return opening + ">", "</" + entry.value + ">"
    pair = key_of(entry.type) + section.key_value_separator + entry.value
    return "[" + pair + "]", "[/" + pair + "]"


def is_dropped(entry: Entry, section: MetadataSection) -> bool:
    assert entry.start is not None and entry.end is not None
    rules, characters = section.html, entry.end - entry.start
    alone = {tag: (float("-inf"), float("inf")) for tag in rules.drop}
    for tag, (least, most) in rules.drop_lengths.items():
        alone.setdefault(tag, (least, most))
    if entry.value in alone and alone[entry.value][0] <= characters <= alone[entry.value][1]:
        return True
    least, most = rules.drop_all_lengths or (float("-inf"), float("-inf"))
    return entry.value not in rules.keep and least <= characters <= most


def twin(text: str, entries: Sequence[Entry], section: MetadataSection) -> tuple[str, Sheet]:
    """Prefix and text."""
    entries = [entry for entry in entries if entry.type in section.types]
    if section.compat == "bsmetadata":
        return original_prefix(entries, section), original_text(text, entries, section)
    sheet, shown = nested_text(text, entries, section)
    return prefix(entries, shown, section), sheet


def joined(slots: Sequence[str], section: MetadataSection) -> str:
    return section.prefix_start + section.separator.join(slots) + section.prefix_separator if slots else ""


# The original


def original_prefix(entries: Sequence[Entry], section: MetadataSection) -> str:
    slots: dict[str, str] = {}
    for entry in entries:
        key = key_of(entry.type)
        if entry.start is None:
            slots[key] = global_text(entry, section)
        elif section.types_in_prefix:
            slots[key] = section.type_tokens.get(entry.type, key)
    keys = dict.fromkeys(key_of(name) for name in section.types)
    return joined([slots[key] for key in keys if key in slots], section)


def original_text(text: str, entries: Sequence[Entry], section: MetadataSection) -> Sheet:
    """Lists of texts for each character, in which the start of each further entry goes to the front."""
    by_type: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        if entry.start is not None:
            by_type[entry.type].append(entry)
    inserted: list[tuple[int, int, int, str, str]] = []  # priority, end, start, opening text, closing text
    for name, of_type in by_type.items():
        priority = [key_of(one) for one in section.types].index(key_of(name))
        if of_type[0].start_order is not None:
            inserted += [(priority, at, at, shown, "") for at, shown in collated(of_type, section)]
            continue
        for entry in of_type:
            assert entry.start is not None and entry.end is not None
            texts = local_texts(entry, section)
            if texts is not None:
                inserted.append((priority, entry.end, entry.start, *texts))
    starts: dict[bool, dict[int, list[str]]] = {empty: defaultdict(list) for empty in (False, True)}
    ends: dict[bool, dict[int, list[str]]] = {empty: defaultdict(list) for empty in (False, True)}
    for _, end, start, opening, closing in sorted(inserted, key=lambda one: one[:2]):
        starts[start == end][start].insert(0, opening)
        ends[start == end][end].append(closing)
    sheet = Sheet()
    for at in range(len(text) + 1 if text else 0):
        for lists in (ends[False], starts[True], ends[True], starts[False]):
            for one in lists[at]:
                sheet.write(one, True)
        sheet.write(text[at : at + 1], False)
    return sheet


def collated(entries: Sequence[Entry], section: MetadataSection) -> list[tuple[int, str]]:
    """Everything that a type with positions has at a character, as one text."""
    at: dict[int, dict[int, str]] = defaultdict(dict)
    for entry in entries:
        texts = local_texts(entry, section)
        if texts is None:
            continue
        for place, order, text in (
            (entry.start, entry.start_order, texts[0]),
            (entry.end, entry.end_order, texts[1]),
        ):
            assert place is not None and order is not None and order not in at[place]
            at[place][order] = text
    before, after = section.wraps.get(entries[0].type, ("", ""))
    texts_at = {place: "".join(texts[order] for order in sorted(texts)) for place, texts in at.items()}
    return [(place, before + text + after) for place, text in texts_at.items() if text]


# The default


def prefix(entries: Sequence[Entry], shown: set[str], section: MetadataSection) -> str:
    """The last value of each type, or the token of a type that has tags in the text."""
    slots = []
    for name in section.types:
        values = [entry for entry in entries if entry.type == name and entry.start is None]
        if values:
            slots.append(global_text(values[-1], section))
        elif section.types_in_prefix and name in shown:
            slots.append(section.type_tokens.get(name, key_of(name)))
    return joined(slots, section)


def nested_text(text: str, entries: Sequence[Entry], section: MetadataSection) -> tuple[Sheet, set[str]]:
    """The text, and which types have tags in it; a stack of open tags makes them nest."""
    texts = {}
    for number, entry in enumerate(entries):
        if entry.start is not None and text:
            found = local_texts(entry, section)
            if found is not None:
                texts[number] = found
    sheet, stack = Sheet(), list[int]()
    for at in range(len(text) + 1):
        wanted = [piece for piece in pieces_at(at, texts, entries, section) if piece.text]
        written = []
        for piece in wanted:
            if "" in texts[piece.entry]:  # stands at one end of its span
                written.append(piece)
            elif not piece.closing:
                stack.append(piece.entry)
                written.append(piece)
            elif piece.entry in stack:
                crossed = []
                while stack[-1] != piece.entry:
                    crossed.append(stack.pop())
                    written.append(Piece(texts[crossed[-1]][1], crossed[-1], True))
                stack.pop()
                written.append(piece)
                for other in reversed(crossed):
                    if int(entries[other].end or 0) > at:
                        stack.append(other)
                        written.append(Piece(texts[other][0], other, False))
        write_wrapped(sheet, written, entries, section)
        sheet.write(text[at : at + 1], False)
    return sheet, {entries[number].type for number, found in texts.items() if any(found)}


def write_wrapped(sheet: Sheet, pieces: Sequence[Piece], entries: Sequence[Entry], section: MetadataSection) -> None:
    """Pieces at one character; around those of one type that stand together, what the section puts there."""
    types = [entries[piece.entry].type for piece in pieces]
    for index, piece in enumerate(pieces):
        before, after = section.wraps.get(types[index], ("", ""))
        if index == 0 or types[index - 1] != types[index]:
            sheet.write(before, True)
        sheet.write(piece.text, True)
        if index == len(pieces) - 1 or types[index + 1] != types[index]:
            sheet.write(after, True)


def pieces_at(
    at: int, texts: dict[int, tuple[str, str]], entries: Sequence[Entry], section: MetadataSection
) -> list[Piece]:
    """Everything at a character in order: ends of spans, tags without text, starts of spans."""

    def rank(number: int) -> int:
        """From the inside to the outside, of equal spans."""
        positioned = entries[number].start_order is not None
        return section.types.index(entries[number].type) + (len(section.types) if positioned else 0)

    def order(piece: Piece) -> int:
        entry = entries[piece.entry]
        given = entry.end_order if piece.closing else entry.start_order
        return (piece.entry if piece.closing else -piece.entry) if given is None else given

    def span(piece: Piece) -> tuple[int, int]:
        start, end = entries[piece.entry].start, entries[piece.entry].end
        assert start is not None and end is not None
        return start, end

    ends, starts, empty_starts, empty_ends, empty_placed = ([] for _ in range(5))  # type: ignore[var-annotated]
    for number, (opening, closing) in texts.items():
        before, after = Piece(opening, number, False), Piece(closing, number, True)
        start, end = span(before)
        if start == end == at and entries[number].start_order is not None:
            empty_placed += [before, after]
        elif start == end == at:
            empty_starts.append(before)
            empty_ends.append(after)
        elif start == at:
            starts.append(before)
        elif end == at:
            ends.append(after)
    ends = [piece for piece in ends if piece.text]
    starts = [piece for piece in starts if piece.text]
    loose = empty_starts
    beside: dict[int, Piece] = {}  # by entry, the tag with text that a tag without text stands beside
    for piece in sorted(empty_placed, key=order):
        if not piece.text:
            continue
        same = [one for one in [*ends, *starts] if entries[one.entry].type == entries[piece.entry].type]
        same = [one for one in same if one.entry not in beside]
        following = [one for one in same if one.closing and order(one) > order(piece)]
        preceding = [one for one in same if not one.closing and order(one) < order(piece)]
        if piece.closing and texts[piece.entry][0]:  # goes with its opening tag
            anchor = beside.get(piece.entry)
        else:
            anchor = min(following, key=order) if following else max(preceding, key=order, default=None)
        if anchor is None:
            loose.append(piece)
        else:
            beside[piece.entry] = anchor
            (ends if anchor.closing else starts).append(piece)

    def span_beside(piece: Piece) -> tuple[int, int]:
        return span(beside.get(piece.entry, piece))

    ends.sort(key=lambda piece: (-span_beside(piece)[0], rank(piece.entry), order(piece)))
    starts.sort(key=lambda piece: (-span_beside(piece)[1], -rank(piece.entry), order(piece)))
    loose.sort(key=lambda piece: (-rank(piece.entry), order(piece)))
    empty_ends.sort(key=lambda piece: (rank(piece.entry), order(piece)))
    return [*ends, *loose, *empty_ends, *starts]
