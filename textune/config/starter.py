"""The config file that `textune init` writes: only the keys that matter for this data, each with a short comment."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from textune.config.presets import PREFIX
from textune.config.toml import align, format_string, format_value, printable, shorten

_OPTION_REMARKS = {
    "column_names": "names for the columns; those in the file cannot be used",
    "delimiter": "between the columns",
    "encoding": "the file is not UTF-8",
    "extra_cells": "cells beyond the last column are ignored",
    "format": "the file name does not show it",
    "label_files": "one label per line, parallel to the texts",
    "pattern": "turns a line into columns",
    "quoting": '"standard": double quotes enclose cells; "none": they are plain characters',
    "skip_lines": "lines before the header or the first row",
    "split": "the key of the JSON file that holds these rows",
}
_LINE_OPTIONS = [
    ('# label_files = "labels.txt"', "one label per line, parallel to the texts; or instead:"),
    (r"# pattern = '(?P<label>\S+)\s+(?P<text>.*)'", "cuts each line into columns; or instead:"),
    ('# format = "csv"', "lines of cells, with"),
    ('# delimiter = ";"', "between them, and"),
    ('# column_names = ["label", "text"]', "where the file has no header line"),
]
"""Ways to give the lines of a text file labels, ready to be used."""
_TASK_REMARKS = {
    "auto": "decided from the labels",
    "binary": "two classes; the second name is the positive one",
    "multiclass": "exactly one class per row",
    "multilabel": "any number of labels per row",
    "regression": "a number per row",
}


@dataclass(frozen=True)
class StarterFacts:
    """What an inspection of the data showed. Paths are written as given, so they must suit the place of the config
    file.
    """

    files: tuple[str, ...]
    """The data files."""
    text: str
    """The column that holds the text."""
    label: str | None = None
    """The column that holds the labels; None if no column looks like it."""
    label_columns: tuple[str, ...] = ()
    """Columns of 0 and 1, one per label; instead of `label`."""
    text_pair: str | None = None
    """The column of the second text of a pair."""
    columns: tuple[str, ...] = ()
    """All columns."""
    options: Mapping[str, object] = field(default_factory=dict)
    """Other keys of `data.train` needed to read the files, such as `delimiter`."""
    validation: Mapping[str, object] = field(default_factory=dict)
    """The keys of `data.validation`, if it is more than a share of the training rows."""
    test: Mapping[str, object] = field(default_factory=dict)
    """The keys of `data.test`, if there are such rows."""
    skips_bad_rows: bool = False
    """Whether some rows cannot be used and must be skipped."""
    is_lines: bool = False
    """Whether the file holds lines of text in which no labels were found."""
    task: str = "auto"
    """What the labels look like."""
    labels: tuple[str, ...] = ()
    """The distinct labels, or the first of them."""
    num_labels: int | None = None
    """How many distinct labels there are."""
    label_delimiter: str | None = None
    """What separates several labels in one cell."""
    names_file: str | None = None
    """A file with the names of labels that are numbers."""
    num_rows: int | None = None
    """How many rows there are."""
    pretrained: str = ""
    """Name, folder or hub name of the backbone."""
    model_remark: str = ""
    """The comment on the backbone."""
    preset: str = ""
    """The preset that says how to train: `fast`, `balanced` or `best`; empty: the starter says so itself."""
    config_name: str = "config.toml"
    """The name of the config file, for the commands in its header."""


def starter_config(facts: StarterFacts) -> str:
    """The text of a config file for this data."""
    tables = [
        ("[data]", _bad_row_lines(facts)),
        ("[data.train]", _train_lines(facts)),
        ("[data.validation]", _validation_lines(facts)),
        ("[data.test]", _source_lines(facts.test)),
        ("[data.columns]", _column_lines(facts)),
        ("[data.labels]", _label_lines(facts)),
        ("[task]", [(f"kind = {format_string(facts.task)}", _TASK_REMARKS[facts.task])]),
        ("[model]", _model_lines(facts)),
        (
            "[tokens]",
            [('max_length = "auto"', "128, or 256 if many rows are longer; `textune check` counts what is cut")],
        ),
        *_train_tables(facts),
    ]
    lines = _header(facts)
    if facts.preset:
        lines += ["", f"extends = {format_string(PREFIX + facts.preset)}  # how to train; keys in this file win"]
    for header, table in tables:
        if table:
            lines += ["", header, *align(table)]
    return "\n".join(lines) + "\n"


def _train_tables(facts: StarterFacts) -> list[tuple[str, list[tuple[str, str]]]]:
    """How to train: in so many words, or what a preset leaves to say."""
    seed = ("seed = 0", "another seed, another run")
    if facts.preset:
        return [("[train]", [seed])]
    train = [
        (f'duration = "{num_epochs(facts.num_rows)} epochs"', 'or "500 steps"'),
        ("batch_size = 32", "rows per step"),
        seed,
    ]
    return [
        ("[train]", train),
        ("[train.optimizer]", [("lr = 5e-5", "peak learning rate; 1e-5 to 1e-4 is the usual range")]),
    ]


def validation_ratio(num_rows: int | None) -> float:
    """The share of rows to set aside: larger if there are few rows."""
    return 0.2 if num_rows is not None and num_rows < 500 else 0.1


def num_epochs(num_rows: int | None) -> int:
    """More epochs for small data."""
    return 10 if num_rows is not None and num_rows < 1000 else 3


def _header(facts: StarterFacts) -> list[str]:
    labels = facts.label_columns or ((facts.label,) if facts.label is not None else ())
    target = ", ".join(f"`{printable(label)}`" for label in labels) or "the label"
    source = ", ".join(printable(file) for file in facts.files[:3]) + (", ..." if len(facts.files) > 3 else "")
    rows = f" ({facts.num_rows:,} rows)" if facts.num_rows is not None else ""
    name = shlex.quote(printable(facts.config_name))
    return [
        f"# Predicts {target} from `{_texts(facts)}`; learns from {source}{rows}.",
        "#",
        *align(
            [
                (f"#   textune check {name}", "inspect the data before training"),
                (f"#   textune train {name} --run runs/first", "train, evaluate, report"),
                (f"#   textune show {name}", "all keys, with their defaults"),
            ]
        ),
    ]


def _texts(facts: StarterFacts) -> str:
    return printable(facts.text) + (f"` and `{printable(facts.text_pair)}" if facts.text_pair is not None else "")


def _bad_row_lines(facts: StarterFacts) -> list[tuple[str, str]]:
    return (
        [('on_bad_row = "skip"', "rows that cannot be used are skipped and counted")] if facts.skips_bad_rows else []
    )


def _train_lines(facts: StarterFacts) -> list[tuple[str, str]]:
    lines = [(f"files = {format_value(facts.files)}", "relative to this config file; patterns such as *.csv work too")]
    return lines + _option_lines(facts.options) + (_LINE_OPTIONS if facts.is_lines else [])


def _option_lines(options: Mapping[str, object]) -> list[tuple[str, str]]:
    return [(f"{key} = {_option(key, value)}", _OPTION_REMARKS.get(key, "")) for key, value in options.items()]


def _option(key: str, value: object) -> str:
    """An option as TOML; patterns in single quotes where possible, so that backslashes need no escape."""
    literal = key == "pattern" and isinstance(value, str) and "'" not in value and value.isprintable()
    return f"'{value}'" if literal else format_value(value)


def _source_lines(source: Mapping[str, object]) -> list[tuple[str, str]]:
    return [('kind = "files"', "rows of their own"), *_option_lines(source)] if source.get("files") else []


def _validation_lines(facts: StarterFacts) -> list[tuple[str, str]]:
    if facts.validation.get("files"):
        return _source_lines(facts.validation)
    if facts.validation.get("kind") == "none":
        return [('kind = "none"', "there are too few rows to set some aside")]
    ratio = validation_ratio(facts.num_rows)
    about = f", about {max(1, round(facts.num_rows * ratio)):,}" if facts.num_rows else ""
    return [
        ('kind = "split"', 'set rows of the training data aside; or "files" with `files` of their own'),
        (f"ratio = {ratio}", f"share of the rows{about}; they choose the best model"),
        *_option_lines(facts.validation),
    ]


def _column_lines(facts: StarterFacts) -> list[tuple[str, str]]:
    used = {facts.text, facts.text_pair, facts.label, *facts.label_columns}
    others = [printable(column) for column in facts.columns if column not in used]
    lines = [
        (f"text = {format_string(facts.text)}", f"other columns: {shorten(', '.join(others), 60)}" if others else "")
    ]
    if facts.text_pair is not None:
        lines.append((f"text_pair = {format_string(facts.text_pair)}", "the second text of each pair"))
    if facts.label_columns:
        return [
            *lines,
            (f"labels = {format_value(facts.label_columns)}", "0 or 1 in each row; any number of labels applies"),
        ]
    if facts.label is None:
        return [*lines, ("", 'label = "..."   <- no column looks like labels; name yours here')]
    shown = ", ".join(printable(label) for label in facts.labels)
    count = f"{facts.num_labels:,} distinct" if facts.num_labels is not None else ""
    return [*lines, (f"label = {format_string(facts.label)}", ": ".join(filter(None, [count, shorten(shown, 60)])))]


def _label_lines(facts: StarterFacts) -> list[tuple[str, str]]:
    lines = []
    if facts.label_delimiter is not None:
        lines.append((f"delimiter = {format_string(facts.label_delimiter)}", "between the labels in one cell"))
    if facts.names_file is not None:
        lines.append((f"names_file = {format_string(facts.names_file)}", "label names in the order of their ids"))
    return lines


def _model_lines(facts: StarterFacts) -> list[tuple[str, str]]:
    remark = facts.model_remark or "a name of `textune models`, a folder, or a name on the hub"
    return [(f"pretrained = {format_string(facts.pretrained)}", remark if facts.pretrained else f"fill in: {remark}")]
