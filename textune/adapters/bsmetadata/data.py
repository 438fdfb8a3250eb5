"""`data` of a run of bsmetadata: training rows, without those that are held out, and validation rows."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from textune.adapters.bsmetadata.given import Settings
from textune.adapters.bsmetadata.keys import DATA
from textune.adapters.foreign import Line
from textune.config import Problem, absolute, parse_key, refuse

TEST_FILE = "c4-en-html_cc-main-2019-18_pq00-000.jsonl.gz"
"""The shard that the original's data set keeps for testing, and that everyone has to leave out by hand."""
_FORMATS = {"json": "jsonl", "jsonl": "jsonl", "csv": "csv", "txt": "text", "text": "text", "parquet": "parquet"}
_ENDINGS = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".gz", ".zst")


@dataclass(frozen=True)
class Experiment:
    """What `data_config.experiment` chooses."""

    renders: bool = True
    """Whether documents have their metadata."""
    chunks: str = "document"
    by_column: bool = False
    """Whether metadata stands in columns, of which `metadata_column_list` says which are read."""
    always_streams: bool = False
    splits: bool = False
    """Whether validation rows are a share of the training rows where there is no file of them."""


EXPERIMENTS = {
    "sample": Experiment(renders=False),
    "without_metadata": Experiment(renders=False, chunks="fixed", splits=True),
    "with_metadata": Experiment(splits=True),
    "with_metadata_datasetv2": Experiment(by_column=True),
    "with_metadata_datasetv2_tf": Experiment(by_column=True, always_streams=True),
}
"""By name."""


def experiment_of(settings: Settings) -> Experiment:
    """What kind of run it is."""
    return EXPERIMENTS[settings[DATA + "experiment"]]


@dataclass(frozen=True)
class Rows:
    """Where training rows come from."""

    shards: str
    """A path, a pattern or a URL; empty for a data set of the hub as a whole."""
    remote: bool
    streamed: bool


def rows_of(settings: Settings) -> Rows:
    """Where the training rows are; ConfigError where nothing says it."""
    experiment = experiment_of(settings)
    name, file = settings[DATA + "dataset_name"] or None, settings[DATA + "train_file"] or None
    streams = bool(settings[DATA + "streaming"]) or experiment.always_streams
    if settings[DATA + "experiment"] == "sample":
        return Rows("", remote=True, streamed=False)
    if file is None and (name is None or experiment.by_column):
        message = f"{DATA}train_file is not set: there are no rows to train on."
        hint = f"Name the shards, such as {DATA}train_file='*.jsonl.gz'."
        refuse([Problem(parse_key(DATA + "train_file"), message, hint)])
    if file is None:
        return Rows("", remote=True, streamed=False)
    shards, remote = _located(name, file, only_local=experiment.always_streams)
    return Rows(shards, remote, streams or remote)


def _located(name: str | None, file: str, *, only_local: bool) -> tuple[str, bool]:
    """A file of a data set, which is a folder or on the hub; whether it is on the hub."""
    if "://" in file:
        return file, True
    if name is None or os.path.isabs(file) or file.startswith((".", "~")):
        return file, False
    folder = absolute(name, Path.cwd(), hub=True)
    if os.path.isabs(folder) or (only_local and "/" not in name):
        return os.path.join(name, file), False
    return f"hf://datasets/{name}/{file}", True


def data_lines(settings: Settings, types: tuple[str, ...], notes: list[str]) -> Iterator[Line]:
    """The section `data`; what is done otherwise is added to `notes`. `types`: those that are rendered."""
    rows = rows_of(settings)
    yield from _train_lines(settings, rows, notes)
    yield from _validation_lines(settings, rows, types, notes)
    experiment = experiment_of(settings)
    if experiment.chunks == "fixed":
        yield Line("data.chunks", "fixed", settings.origin(DATA + "experiment"))
    if not experiment.renders:
        notes.append("Of a document that is longer than a row all is learned; there its end is cut off.")


def _train_lines(settings: Settings, rows: Rows, notes: list[str]) -> Iterator[Line]:
    name = settings[DATA + "dataset_name"]
    if settings[DATA + "experiment"] == "sample":
        yield Line("data.train.kind", "hub", f"{settings.origin(DATA + 'experiment')}: WikiText-2")
        yield Line("data.train.name", "Salesforce/wikitext", "wikitext, as the hub calls it now")
        yield Line("data.train.config", "wikitext-2-raw-v1", "as in the original's code")
        yield Line("data.train.split", "train", "as in the original's code")
        return
    if not rows.shards:
        yield Line("data.train.kind", "hub", settings.origin(DATA + "dataset_name"))
        yield Line("data.train.name", name, settings.origin(DATA + "dataset_name"))
        if settings[DATA + "dataset_config_name"] is not None:
            config = settings[DATA + "dataset_config_name"]
            yield Line("data.train.config", config, settings.origin(DATA + "dataset_config_name"))
        yield Line("data.train.split", "train", "as in the original's code")
        return
    used = [DATA + "dataset_name"] * (name is not None and rows.shards != settings[DATA + "train_file"])
    yield Line("data.train.kind", "stream" if rows.streamed else "files", _why_streamed(settings, rows))
    yield Line("data.train.files", (rows.shards,), settings.origin(*used, DATA + "train_file"))
    excluded = excluded_files(settings, rows)
    if excluded:
        why = "the test file of the data set" if excluded == (TEST_FILE,) else "the validation file, and the test file"
        yield Line("data.train.exclude", excluded, f"held out: {why}")
    folder = os.path.dirname(rows.shards)
    unseen = not rows.remote and not os.path.isdir(os.path.expanduser(folder) or ".")
    if unseen and glob.has_magic(rows.shards) and TEST_FILE not in excluded:
        notes.append(
            f"{folder} is not here: if it holds {TEST_FILE}, the test file of the original's data set, name that in"
            " data.train.exclude."
        )
    if (form := _format(settings)) is not None:
        yield Line("data.train.format", form, settings.origin(DATA + "extension"))


def _why_streamed(settings: Settings, rows: Rows) -> str:
    if rows.streamed and not settings[DATA + "streaming"]:
        return settings.origin(DATA + "experiment") if not rows.remote else "on the hub"
    return settings.origin(DATA + "streaming")


def _format(settings: Settings) -> str | None:
    """The format of files whose names do not tell it."""
    extension, file = settings[DATA + "extension"], settings[DATA + "train_file"] or ""
    if extension is None or file.endswith(_ENDINGS):
        return None
    if extension not in _FORMATS:
        given = settings.given(DATA + "extension")
        message = f"{given.said}: expected one of {', '.join(_FORMATS)}."
        refuse([Problem(parse_key(given.key), message, value=extension, origin=given.place)])
    return _FORMATS[extension]


def excluded_files(settings: Settings, rows: Rows) -> tuple[str, ...]:
    """Files that the training pattern matches and that are held out: the validation file and the data set's test file.

    A file that is named alone is trained on; ConfigError where the validation file is that one.
    """
    folder, name = os.path.split(os.path.expanduser(rows.shards))
    validation = settings[DATA + "validation_file"]
    held_out = [] if validation is None else [os.path.basename(validation)]
    if validation is not None and validation == settings[DATA + "train_file"] and not glob.has_magic(validation):
        given = settings.given(DATA + "validation_file")
        message = f"{given.said} is also the training file: a model would be evaluated on what it has seen."
        refuse([Problem(parse_key(given.key), message, "Name another file.", given.value, given.place)])
    if not glob.has_magic(name):
        return ()
    seen = None if rows.remote or not os.path.isdir(folder or ".") else fnmatch.filter(os.listdir(folder or "."), name)
    if seen is not None:
        found = [file for file in (*held_out, TEST_FILE) if fnmatch.filter(seen, file)]
    else:  # what is there is not known; the data set's test file is on the hub
        found = [file for file in held_out if fnmatch.fnmatch(file, name) or glob.has_magic(file)]
        found += [TEST_FILE] * (rows.remote and fnmatch.fnmatch(TEST_FILE, name))
    return tuple(dict.fromkeys(found))


def _validation_lines(settings: Settings, rows: Rows, types: tuple[str, ...], notes: list[str]) -> Iterator[Line]:
    if not settings["do_eval"]:
        yield Line("data.validation.kind", "none", settings.origin("do_eval"))
        return
    file = settings[DATA + "validation_file"]
    if file is not None:
        yield from _validation_file(settings, file, types, notes)
        return
    experiment = experiment_of(settings)
    if settings[DATA + "experiment"] == "sample":
        yield Line("data.validation.kind", "hub", "WikiText-2")
        yield Line("data.validation.name", "Salesforce/wikitext", "as for training")
        yield Line("data.validation.config", "wikitext-2-raw-v1", "as for training")
        yield Line("data.validation.split", "validation", "as in the original's code")
        return
    percentage = settings[DATA + "validation_split_percentage"]
    if experiment.splits and not rows.streamed and percentage is not None:
        yield Line("data.validation.kind", "split", "no validation_file")
        yield Line("data.validation.ratio", percentage / 100, settings.origin(DATA + "validation_split_percentage"))
        notes.append(
            f"The {percentage} % of the rows that are held out are drawn at random; there they are the first ones."
        )
        return
    yield Line("data.validation.kind", "none", settings.origin(DATA + "validation_file"))
    notes.append(
        "There are no validation rows, so the last model is kept: give a file with data_config.validation_file=FILE."
    )


def _validation_file(settings: Settings, file: str, types: tuple[str, ...], notes: list[str]) -> Iterator[Line]:
    experiment = experiment_of(settings)
    path, remote = _located(settings[DATA + "dataset_name"], file, only_local=experiment.always_streams)
    given = settings.given(DATA + "validation_file")
    if remote:
        message = f"{given.said} is on the hub ({path}), but held-out rows are read from a file."
        hint = "Download it, and give its path, beginning with ./ or /."
        refuse([Problem(parse_key(given.key), message, hint, file, given.place)])
    yield Line("data.validation.kind", "files", settings.origin(DATA + "validation_file"))
    yield Line("data.validation.files", (path,), settings.origin(DATA + "validation_file"))
    if (form := _format(settings)) is not None:
        yield Line("data.validation.format", form, settings.origin(DATA + "extension"))
    if experiment.by_column:
        if (most := settings[DATA + "validation_size_max"]) is not None:
            yield Line("data.validation.take", most, settings.origin(DATA + "validation_size_max"))
        if types:
            yield Line("data.validation.by_type", types, "a set for each column of metadata_column_list")
            if most is not None:
                yield Line("data.validation.by_type_rows", most, settings.origin(DATA + "validation_size_max"))
    if experiment.always_streams:
        notes.append(
            f"{given.said} is evaluated on, and left out of the training rows; with"
            f" {settings[DATA + 'experiment']} the original does neither."
        )
