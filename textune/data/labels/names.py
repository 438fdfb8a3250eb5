"""Label names that the user gives, in the order of their ids; read before the label map is made."""

from __future__ import annotations

from pathlib import Path

from textune.config import Labels
from textune.data.reading import read_text
from textune.errors import DataError
from textune.jsontext import parse_json
from textune.wording import listing, repeated_names, shorten


def names_by_user(section: Labels) -> bool:
    """Whether the user gave the names: then integers are positions in them, in every file."""
    return bool(section.names or section.names_file)


def given_names(section: Labels, by_source: tuple[str, ...] = ()) -> tuple[str, ...]:
    """`data.labels.names`, else those of `data.labels.names_file` (one per line, or a JSON list), else the source's
    own; else ().

    DataError for both at once, a file that cannot be read, empty or repeated names.
    """
    if section.names and section.names_file:
        raise DataError("data.labels.names and data.labels.names_file are both given.", hint="Remove one of them.")
    if section.names_file is not None:
        return _checked(_from_file(Path(section.names_file)), Path(section.names_file).name)
    if section.names:
        return _checked(tuple(name.strip() for name in section.names), "data.labels.names")
    return _checked(by_source, "the class names that the data itself gives")


def _from_file(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        raise DataError(f"The file of label names {path} does not exist.", hint="Set data.labels.names_file.")
    text = read_text(path, "utf-8")
    if path.suffix.lower() != ".json" and not text.lstrip().startswith("["):
        return tuple(line.strip() for line in text.rstrip().split("\n"))
    try:
        names = parse_json(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is not a JSON list of label names: {error}.") from error
    if not isinstance(names, list) or not all(isinstance(name, (str, int)) for name in names):
        raise DataError(f"{path.name} holds {shorten(text, 40)}, not a JSON list of label names.")
    return tuple(str(name).strip() for name in names)


def _checked(names: tuple[str, ...], where: str) -> tuple[str, ...]:
    if "" in names:
        raise DataError(
            f"{where}: name {names.index('') + 1} is empty.", hint="Each line or entry is the name of one label."
        )
    twice = repeated_names(names)
    if twice:
        raise DataError(f"{where}: {listing(repr(name) for name in twice)} occurs more than once.")
    return names
