"""Reads the schema: which keys a section has, which variants a table can be, where paths are, what a key expects.

`merge.py`, `problems.py` and `reference.py` use this module instead of inspecting type annotations themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeGuard, TypeVar, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from textune.config.schema import Experiment
from textune.config.section import Role, Section
from textune.config.values import Duration, PathMarker

Place = tuple[str | int, ...]
"""Where a value is: keys, and the indices of list items."""

_M = TypeVar("_M")


@cache
def keys_of(section: type[Section]) -> Mapping[str, object]:
    """The keys of a section with their annotations: `kind` first, then its own, then the inherited ones."""
    own = section.__annotations__
    order = sorted(section.model_fields, key=lambda name: (name != "kind", name not in own))
    return {name: _annotation(section.model_fields[name]) for name in order}


def description_of(section: type[Section], name: str) -> str:
    """What a key means, in one line."""
    return " ".join((section.model_fields[name].description or "").split())


def default_of(section: type[Section], name: str) -> object:
    """The default of a key; `REQUIRED` if it has none."""
    field = section.model_fields[name]
    return REQUIRED if field.is_required() else field.get_default(call_default_factory=True)


REQUIRED = object()
"""Stands for the default of a key that has none."""


def bare(annotation: object) -> object:
    """The annotation without metadata and without None."""
    return _open(annotation)[0]


def variants(annotation: object) -> dict[str, type[Section]]:
    """What a table at this key can be, by `kind`; a section without variants has the single name `""`; {} for a
    value.
    """
    plain = bare(annotation)
    if _is_section(plain):
        return {"": plain}
    options = [bare(option) for option in get_args(plain)] if get_origin(plain) in (Union, UnionType) else []
    sections = [option for option in options if _is_section(option)]
    if not options or len(sections) < len(options):
        return {}
    return {section.model_fields["kind"].default: section for section in sections}


def item_variants(annotation: object) -> dict[str, type[Section]]:
    """The variants of the items of a list of tables; else {}."""
    plain = bare(annotation)
    return variants(get_args(plain)[0]) if get_origin(plain) is tuple else {}


def named_variants(annotation: object) -> dict[str, type[Section]]:
    """The variants of the entries of a table whose names the user chooses; else {}."""
    plain = bare(annotation)
    return variants(get_args(plain)[1]) if get_origin(plain) is dict else {}


def metadata(annotation: object, kind: type[_M]) -> _M | None:
    """The metadata of this class on a value, or on the items of a list of values; None if there is none."""
    plain, notes = _open(annotation)
    for note in notes:
        if isinstance(note, kind):
            return note
    return metadata(get_args(plain)[0], kind) if get_origin(plain) is tuple else None


def table_values(annotation: object) -> object:
    """The annotation of the values of a free table (such as `dict[str, float]`); None if no table is accepted."""
    plain = bare(annotation)
    if get_origin(plain) is dict:
        return get_args(plain)[1]
    options = get_args(plain) if get_origin(plain) in (Union, UnionType) else ()
    return next((value for value in map(table_values, options) if value is not None), None)


def is_text_only(annotation: object) -> bool:
    """Whether a value is text even if it looks like a list or a table."""
    return bare(annotation) is str


@dataclass(frozen=True)
class Key:
    """A key of the schema: its place, and the `kind` its table must have (empty: any)."""

    place: tuple[str, ...]
    section: type[Section]
    kind: str


@cache
def all_keys() -> tuple[Key, ...]:
    """Every key of the schema that holds a value, in order, except those of sources inside `concat`; one of a list of
    tables stands without a number."""
    return tuple(_walk(Experiment, (), ""))


def annotations_at(place: tuple[str, ...]) -> list[object]:
    """The annotations of a key in every variant that has it; empty for an unknown key."""
    found: list[object] = [Experiment]
    for part in place:
        found = [inner for annotation in found for inner in _inside(annotation, part)]
    return found


def marker_at(place: tuple[str, ...]) -> PathMarker | None:
    """How the value of a key is a path; None where it is none."""
    return next((found for one in annotations_at(place) if (found := metadata(one, PathMarker))), None)


def role_of(key: str) -> Role:
    """The role of a dotted key; items of a list of tables are given by index. An unknown key counts as learned."""
    place = tuple(key.split("."))
    for length in range(1, len(place) + 1):
        for annotation in annotations_at(place[:length]):
            role = metadata(annotation, Role)
            if role is not None:
                return role
    return Role.LEARNED


def expected(annotation: object) -> str:
    """What a key takes, in words, such as `a number above 0`."""
    plain, notes = _open(annotation)
    origin, arguments = get_origin(plain), get_args(plain)
    if variants(annotation):
        return "a table"
    if origin is Literal:
        words = [f'"{argument}"' if isinstance(argument, str) else str(argument) for argument in arguments]
        return words[0] if len(words) == 1 else f"one of {', '.join(words)}"
    if origin in (Union, UnionType):
        words = [expected(argument).removeprefix("one of ") for argument in arguments]
        # "text or a list of texts" has said "text" already
        said = [word for word in words if not any(other.startswith(f"{word} or ") for other in words)]
        return " or ".join(said)
    if origin is tuple:
        if variants(arguments[0]):
            return "a list of tables"
        item = expected(arguments[0])
        if arguments[-1] is not Ellipsis:
            return f"a list of {len(arguments)} {_plural(item)}"
        fewest = max((getattr(note, "min_length", 0) for note in notes), default=0)
        at_least = f", at least {fewest}" if fewest else ""
        single = "" if item.startswith("a list of ") else f"{item} or "
        return f"{single}a list of {_plural(item)}{at_least}"
    if named_variants(annotation):
        return "a table of data sources"
    if origin is dict:
        item, _, items = expected(arguments[1]).partition(" or a list of ")
        return (
            "a table"
            if arguments[1] is Any
            else f"a table of {_plural(item)}{f' or of lists of {items}' if items else ''}"
        )
    return _expected_scalar(plain, notes)


def _expected_scalar(plain: object, notes: tuple[object, ...]) -> str:
    marker = next((note for note in notes if isinstance(note, PathMarker)), None)
    if marker is not None:
        return "a folder or hub name" if marker.hub else "a path"
    if plain is Duration:
        return 'a duration such as "500 steps" or "2 epochs"'
    if plain is bool:
        return "true or false"
    if plain in (int, float):
        return ("a whole number" if plain is int else "a number") + _limits(plain, notes)
    if plain is str:
        limits = {
            name: getattr(note, name) for note in notes for name in ("min_length", "max_length") if hasattr(note, name)
        }
        example = next((found[0] for note in notes if (found := getattr(note, "examples", None))), None)
        text = "one character" if limits.get("max_length") == 1 else "text"
        return f"{text} such as `{example}`" if example else text
    return "a value"


def _limits(plain: type, notes: tuple[object, ...]) -> str:
    limits = {name: getattr(note, name) for note in notes for name in ("gt", "ge", "lt", "le") if hasattr(note, name)}
    if plain is int and "gt" in limits:
        limits["ge"] = limits.pop("gt") + 1
    words = {"gt": "above", "ge": "of at least", "lt": "below", "le": "of at most"}
    texts = [
        f" {words[name]} {limit:g}" if abs(limit) < 1e6 else f" {words[name]} {limit}"
        for name, limit in limits.items()
    ]
    return " and".join(texts)


def _plural(phrase: str) -> str:
    first, *rest = phrase.removeprefix("a ").removeprefix("an ").split(" ", 1)
    if first == "whole":
        return " ".join(["whole numbers", *(text.removeprefix("number").strip() for text in rest)]).strip()
    return " ".join([first + "s", *rest])


def _annotation(field: FieldInfo) -> object:
    notes: list[object] = [*field.metadata, *([field] if field.examples else [])]
    return Annotated[(field.annotation, *notes)] if notes else field.annotation


def _open(annotation: object) -> tuple[object, tuple[object, ...]]:
    """The annotation without Annotated and None, and the metadata that was attached to it."""
    notes: tuple[object, ...] = ()
    while True:
        if get_origin(annotation) is Annotated:
            annotation, *found = get_args(annotation)
            for note in found:
                notes += (note, *note.metadata) if isinstance(note, FieldInfo) else (note,)
        elif get_origin(annotation) in (Union, UnionType):
            options = [option for option in get_args(annotation) if option is not NoneType]
            if len(options) > 1:
                return annotation, notes
            annotation = options[0]
        else:
            return annotation, notes


def _is_section(annotation: object) -> TypeGuard[type[Section]]:
    return isinstance(annotation, type) and issubclass(annotation, Section)


def _inside(annotation: object, part: str) -> Iterator[object]:
    sections = variants(annotation).values()
    for section in sections:
        if part in keys_of(section):
            yield keys_of(section)[part]
    if not sections and annotation is Any:
        yield Any
    elif item_variants(annotation):
        yield get_args(bare(annotation))[0]
    elif not sections and table_values(annotation) is not None:
        yield table_values(annotation)


def _walk(section: type[Section], place: tuple[str, ...], kind: str) -> Iterator[Key]:
    for name, annotation in keys_of(section).items():
        choices = variants(annotation) or ({} if place else item_variants(annotation))
        if not choices:
            yield Key((*place, name), section, kind)
        first = next(iter(choices), "")
        for tag, choice in choices.items():
            yield from _walk(choice, (*place, name), "" if tag == first else tag)
