"""A foreign configuration as a checked one of ours."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from textune.adapters.accelerate import as_accelerated
from textune.adapters.foreign import BatchLine, Foreign
from textune.adapters.remarks import about
from textune.config import Layer, Loaded, Origin, Overrides, format_key, load_config, parse_key

WORDS = "words.txt"
"""The file, beside those that are kept, with the system's name, its files and words."""


def load_foreign(foreign: Foreign, overrides: Overrides = (), unset: Iterable[str] = ()) -> Loaded:
    """The checked configuration, in which every value knows the foreign key that it comes from.

    `overrides`, `unset`: keys of ours, as `load_config` takes them. Relative paths start from the current folder.
    Under `accelerate launch` its settings count where the system has none. Raises a ConfigError that lists what does
    not fit.
    """
    foreign = as_accelerated(foreign, os.environ)
    layer = Layer(foreign.tree, Origin(foreign.system, Path.cwd()))
    loaded = load_config(None, overrides, unset, over=(layer,))
    made_of = {format_key(*parse_key(line.key)): line.origin for line in foreign.lines}
    origins = {
        key: _origin(key, made_of) if known == foreign.system else known for key, known in loaded.origins.items()
    }
    counted = [line for line in foreign.lines if isinstance(line, BatchLine)]
    return replace(
        loaded,
        origins=origins,
        notes=(*loaded.notes, *foreign.notes),
        remarks=tuple(about(foreign)),
        run=foreign.run,
        settled=foreign.settled,
        rows_a_process=next((line.rows for line in counted if origins[line.key] == line.origin), None),
        kept={**foreign.kept, WORDS: f"{shlex.join([foreign.system, *foreign.source])}\n"},
    )


def _origin(key: str, made_of: dict[str, str]) -> str:
    """Of the key, or of the table that it is an entry of."""
    parts = [part.partition("[")[0] for part in parse_key(key)]  # of an array of tables
    places = [format_key(*parts[:length]) for length in range(len(parts), 0, -1)]
    return next((made_of[place] for place in places if place in made_of), "")
