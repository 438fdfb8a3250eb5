"""How a run's own files are read, kept with its model, so that `predict` and `evaluate` read others of their kind
alike."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from textune.config import ConcatSource, DataSection, FilesSource, absolute, expected, keys_of
from textune.data import bare_suffix
from textune.errors import ConfigError, DataError, Setting, Words
from textune.wording import listing

READING = (
    "format",
    "encoding",
    "delimiter",
    "quoting",
    "column_names",
    "skip_lines",
    "extra_cells",
    "split",
    "pattern",
    "rename",
    "replace",
)
"""What a file's form decides; which of its rows a run took is the run's own affair."""


def own_sources(section: DataSection) -> dict[str, FilesSource]:
    """The way of reading files of each suffix, where it is not the usual one; without the files."""
    found: dict[str, FilesSource] = {}
    for source in (section.train, *section.held_out.values()):
        for one in source.sources if isinstance(source, ConcatSource) else [source]:
            if isinstance(one, FilesSource):
                kept = FilesSource(**{key: getattr(one, key) for key in READING})
                for path in one.files:
                    found.setdefault(bare_suffix(Path(path)), kept)
    return {suffix: source for suffix, source in found.items() if source != FilesSource()}


def read_as_run(
    own: Mapping[str, FilesSource], files: Sequence[str | Path], given: Mapping[str, object], *, plain: bool = False
) -> tuple[FilesSource, str]:
    """Files as a source, read as the run's own of the same suffix but for what is `given`, and a sentence that says
    so.

    `plain`: by their names and what is given alone. ConfigError names the option that is wrong.
    """
    paths = [str(path) for path in files]
    suffixes = {bare_suffix(Path(path)) for path in paths}
    chosen = own.get(suffixes.pop()) if len(suffixes) == 1 and not plain else None
    if chosen is not None and given.get("format", chosen.format) != chosen.format:
        chosen = None
    taken = {} if chosen is None else {key: value for key, value in chosen.model_dump(exclude_defaults=True).items()}
    taken = {key: value for key, value in taken.items() if key not in given}
    try:
        source = FilesSource(files=tuple(absolute(path, Path.cwd()) for path in paths), **taken, **given)
    except ValidationError as error:
        [first, *_] = error.errors()
        key = str(first["loc"][0])
        reason = f"expected {expected(keys_of(FilesSource)[key])}"
        if first["type"] == "value_error":
            reason = str(first["ctx"]["error"]).rstrip(".")
        value = first["input"]
        raise ConfigError(Words(Setting(key, value), f": {reason}."), key=key, value=value, reason=reason) from None
    if not taken:
        return source, ""
    settings = listing((f"{key} = {_shown(value)}" for key, value in taken.items()), 6)
    return (
        source,
        f"{os.path.basename(paths[0])} is read as the run's own files: {settings} (--reading plain turns this off)",
    )


def _shown(value: object) -> str:
    return "[" + ", ".join(map(repr, value)) + "]" if isinstance(value, tuple) else repr(value)


def data_source(own: Mapping[str, FilesSource], data: object) -> tuple[FilesSource, str]:
    """What `evaluate` was given as data: a source, a file, or a list of files; DataError for anything else."""
    if isinstance(data, FilesSource):
        return data, ""
    if isinstance(data, str | Path):
        return read_as_run(own, [data], {})
    if isinstance(data, list | tuple) and data and all(isinstance(one, str | Path) for one in data):
        return read_as_run(own, data, {})
    raise DataError(f"data is {data!r:.60}, not a file.", hint='Give a path such as "test.csv", or a list of paths.')
