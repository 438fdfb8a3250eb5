"""The keys of `data`: where rows come from, their columns and labels; part of `schema.py`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveInt,
    ValidationInfo,
    field_validator,
)

from textune.config.section import Computed, Located, Section, ShortForm
from textune.config.values import (
    ColumnName,
    DottedPath,
    FilePath,
    FilePaths,
    HubPath,
    Names,
    OnBadRow,
    OnExtraCells,
    Quoting,
    Seed,
    known_encoding,
    regular_expression,
    spelled_tab,
)


class SetsByType(Section):
    """Keys of rows that may be held out."""

    by_type: Computed[Names] = ()
    """For held-out documents with metadata: types that get a set of their own each, such as `["url", "title"]`, of
    only the documents that have the type, without their other metadata. One more set has documents without any."""
    by_type_rows: Computed[PositiveInt] = 1024
    """Most documents in each set of `by_type`, taken from the start."""


class RowSelection(SetsByType):
    """Keys that every data source has; applied in the order where, rename, replace, select, shuffle, take."""

    where: dict[str, Names] = {}
    """Keep only rows whose column has one of these values, such as `{ source = "rotten_tomatoes" }`; values are
    compared as text."""
    rename: dict[str, str] = {}
    """New column names, such as `{old = "new"}`."""
    replace: dict[str, dict[str, str]] = {}
    """Other values for a column, such as `{ label = { contradictory = "contradiction" } }`; values are compared as
    text, and the column becomes text."""
    select: Names = ()
    """Columns to keep; empty keeps all."""
    shuffle: bool = False
    """Shuffle the rows (with `shuffle_seed`) before `take`."""
    shuffle_seed: Seed = 0
    """Seed of `shuffle`."""
    take: PositiveInt | None = None
    """Keep only this many rows, from the start."""


class FilesSource(RowSelection):
    """Files on disk; several are read as one table, the matches of a pattern in sorted order."""

    kind: Literal["files"] = "files"
    """A data source made of files."""
    files: Located[FilePaths] = ()
    """Paths or glob patterns, relative to the config file. `.gz` and `.zst` are unpacked while reading.
    `rows.zip!folder/train.tsv` is a file inside a zip archive; where the folder of `SST-2/train.tsv` is absent, the
    file is read from `SST-2.zip`."""
    exclude: Located[Names] = ()
    """Files to leave out of `files`: names or patterns, such as `["shard-007.jsonl", "held-out/*"]`, compared with the
    end of each path. One that names no file is refused."""
    format: Literal["auto", "csv", "tsv", "json", "jsonl", "parquet", "arrow", "text"] = "auto"
    """File format; `auto` goes by the file name."""
    encoding: Annotated[str, AfterValidator(known_encoding)] = "utf-8"
    """Text encoding of csv, tsv, json, jsonl and text files; a byte-order mark is skipped."""
    delimiter: Annotated[str, BeforeValidator(spelled_tab), Field(min_length=1, max_length=1)] | None = None
    """Column delimiter of csv and tsv; by default a comma and a tab."""
    quoting: Quoting = "auto"
    """`standard`: double quotes enclose a cell, which may span lines; `none`: quotes are plain characters. `auto` is
    standard for csv and none for tsv, unless the first lines of a tsv file show csv quoting (a note then says so)."""
    column_names: Names = ()
    """Names for the columns of a csv or tsv file that has no header line, or for the values of json and jsonl rows
    that are lists, such as `["a text", "a label"]`."""
    skip_lines: NonNegativeInt = 0
    """Lines of csv, tsv and text files to skip before the header, or before the rows if there is no header."""
    extra_cells: OnExtraCells = "error"
    """Rows of csv and tsv files with more cells than columns: `error` treats them as rows that cannot be read (see
    `on_bad_row`), `ignore` drops the extra cells and counts the rows."""
    split: Annotated[str, Field(min_length=1)] | None = None
    """For `.json` files that hold an object of named lists of rows, such as `{"train": [...], "test": [...]}`: the
    list to read; dots reach nested lists, as in `data.train`."""
    pattern: Annotated[str, AfterValidator(regular_expression)] | None = None
    """For `text`: a regular expression with named groups that turns each line into columns, such as
    `(?P<label>[^:]+):\\S+ (?P<text>.*)`. Without it each line is the column `text`."""
    label_files: Located[FilePaths] = ()
    """For `text`: files with one label per line, parallel to `files`; they become the column `label`."""


class HubSource(RowSelection):
    """A data set on the Hugging Face hub (or a local folder that `datasets.load_dataset` understands).

    Needs the `datasets` library (`pip install "textune[datasets]"`).
    """

    kind: Literal["hub"] = "hub"
    """A data source from the Hugging Face hub."""
    name: Located[Annotated[HubPath, Field(min_length=1)]]
    """Data set name, such as `nyu-mll/glue`, or a local path."""
    config: str | None = None
    """Configuration of the data set, such as `sst2`."""
    split: str = "train"
    """Split name, such as `train` or `validation`."""
    revision: Located[str | None] = None
    """Branch, tag or commit."""


class SavedSource(RowSelection):
    """A folder written by `Dataset.save_to_disk` or `DatasetDict.save_to_disk`.

    Needs the `datasets` library (`pip install "textune[datasets]"`).
    """

    kind: Literal["saved"] = "saved"
    """A data source saved by the `datasets` library."""
    folder: Located[FilePath]
    """The folder, relative to the config file."""
    split: str | None = None
    """Split name, for a folder that holds several."""


class PythonSource(RowSelection):
    """Your own class or function that yields rows."""

    kind: Literal["python"] = "python"
    """A data source in Python."""
    object: DottedPath
    """`package.module:Name`; called with `options`, it returns an Arrow table or an iterable of dictionaries."""
    options: dict[str, Any] = {}
    """Keyword arguments of the call."""
    part: NonNegativeInt | None = None
    """Which one to take, from 0, where the call returns several sets of rows in a tuple, such as (train, validation,
    test)."""
    column_names: Names = ()
    """Names for the values of rows that are tuples, such as `["label", "text"]`."""


class GivenSource(RowSelection):
    """Rows in memory, given in Python: `textune.train(config, train=rows)` sets it, and
    `textune.train(config, rows={"NAME": rows})` gives the rows that a configuration names."""

    kind: Literal["given"] = "given"
    """Rows in memory."""
    name: Located[Annotated[str, Field(min_length=1)]]
    """Which of the given rows."""


class ConcatSource(RowSelection):
    """Several sources, one after the other; they must share the columns that are used."""

    kind: Literal["concat"] = "concat"
    """A data source made of other sources."""
    sources: Annotated[tuple[Source, ...], Field(min_length=1)]
    """The sources, as an array of tables."""


class StreamSource(Section):
    """Training rows that are read during training, from shards larger than memory or disk, local or remote."""

    kind: Literal["stream"] = "stream"
    """Training rows that are read during training."""
    files: Located[FilePaths] = ()
    """Shards: paths or glob patterns, relative to the config file, or URLs such as `https://`, `s3://`, `gs://`,
    `hf://`."""
    exclude: Located[Names] = ()
    """Shards to leave out of `files`: names or patterns, such as `["pq00-244.jsonl.gz", "pq01-*"]`, compared with the
    end of each path or URL. One that names no shard is refused."""
    format: Literal["auto", "jsonl", "parquet"] = "auto"
    """File format; `auto` goes by the file name. jsonl may be compressed as `.gz` or `.zst`."""
    block_rows: PositiveInt = 10_000
    """Rows held in memory and shuffled together."""
    interleave: PositiveInt = 4
    """Shards read in parallel, so that a block mixes their rows; `train.order = "sequential"` reads one at a time."""
    num_rows: PositiveInt | None = None
    """Rows in all shards: the length of an epoch. Without it, durations must be in steps."""


class SplitOff(SetsByType):
    """Rows set aside from the training data."""

    kind: Literal["split"] = "split"
    """Set rows of the training source aside."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training rows."""
    count: PositiveInt | None = None
    """Number of rows; overrides `ratio`."""
    stratify: bool = True
    """Keep the share of each class, with several tasks of each combination of classes (for regression and multilabel
    the split is random)."""
    group_by: ColumnName | None = None
    """Column such as a user or document id: rows with the same value stay in the same split."""
    seed: Seed = 0
    """Seed of the split, independent of the training seed."""


class FoldOff(SetsByType):
    """One of several equal parts of the training data: a fold of a cross-validation."""

    kind: Literal["fold"] = "fold"
    """Set one of `folds` equal parts of the training rows aside. The folds of one seed have no row in common and
    cover all rows."""
    folds: Annotated[int, Field(ge=2)] = 5
    """How many parts."""
    fold: NonNegativeInt
    """Which of them: 0, 1, ..., `folds` - 1."""
    stratify: bool = True
    """Spread the rows of each class evenly over the folds, with several tasks those of each combination of classes
    (for regression and multilabel rows are spread at random)."""
    group_by: ColumnName | None = None
    """Column such as a user or document id: rows with the same value are in the same fold."""
    seed: Seed = 0
    """Seed of the folds, independent of the training seed."""

    @field_validator("fold")
    @classmethod
    def _is_one_of_them(cls, fold: int, info: ValidationInfo) -> int:
        folds = info.data.get("folds")
        if folds is not None and fold >= folds:
            raise ValueError(f"of {folds} folds the last is {folds - 1}, as they count from 0")
        return fold


SetAside: TypeAlias = SplitOff | FoldOff
"""Rows set aside from the training data."""
SET_ASIDE_KINDS = tuple(way.model_fields["kind"].default for way in (SplitOff, FoldOff))


class Absent(Section):
    """No such data."""

    kind: Literal["none"] = "none"
    """No such data."""


Source = Annotated[
    FilesSource | HubSource | SavedSource | PythonSource | GivenSource | ConcatSource,
    Field(discriminator="kind"),
]
TrainSource = Annotated[
    FilesSource | HubSource | SavedSource | PythonSource | GivenSource | ConcatSource | StreamSource,
    Field(discriminator="kind"),
]
HeldOut = Annotated[
    SplitOff | FoldOff | Absent | FilesSource | HubSource | SavedSource | PythonSource | GivenSource | ConcatSource,
    Field(discriminator="kind"),
]

EvaluationSet = Annotated[
    FilesSource | HubSource | SavedSource | PythonSource | GivenSource | ConcatSource | SplitOff | FoldOff | Absent,
    Field(discriminator="kind"),
]
"""The same kinds as `HeldOut`; without a `kind` the rows come from files."""


class Columns(Section):
    """Which columns hold what."""

    text: ColumnName = "text"
    """Column of the text."""
    text_pair: ColumnName | None = None
    """Column of the second text of a pair."""
    template: Annotated[str, Field(min_length=1)] | None = None
    """Text made of several columns, such as `"{title}\\n{body}"`; replaces `text`."""
    label: ColumnName = "label"
    """Column of the label, or labels."""
    labels: Names = ()
    """Columns of 0 and 1 (or false and true, no and yes), one per label, such as `["toxic", "obscene"]`: a multilabel
    task with these label names. With `task.kind = "multitask"`, a column for each task, such as `["tone", "urgent"]`,
    in their order or with their names. Replaces `label`."""
    tokens: ColumnName | None = None
    """Column of token ids, such as `input_ids`: lists of whole numbers that the backbone's own tokenizer made, so that
    rows are not tokenised again. `token_type_ids` and `attention_mask` beside it are read as well; tokens of mask 0
    are padding and left out. The text, where the files have it, is what reports show."""
    weight: ColumnName | None = None
    """Column of the weight of each row in the loss, or in the sampling of rows (`train.order = "weighted"`). With
    several tasks, a number or a list with one for each task."""


class Labels(Section):
    """How labels are read and ordered."""

    names: Names = ()
    """Label names in the order of their ids. By default: integers in numeric order, other labels sorted."""
    names_file: Located[FilePath | None] = None
    """File with one label name per line (in the order of their ids), or a JSON list; instead of `names`."""
    delimiter: Annotated[str, Field(min_length=1)] | None = None
    """Separates the labels in one cell of a multilabel data set, such as `","`."""


Rate = Annotated[float, Field(ge=0, lt=1)]


class MetadataPrefix(Section):
    """Columns that are written before each text, such as `source: imdb | date: 2020 |||`."""

    columns: Annotated[Names, Field(min_length=1)]
    """The columns, in the order of the prefix. A row without a value has no such field."""
    dropout: Rate | dict[str, Rate] = 0.0
    """Probability that a training row goes without a field, drawn for each column, row and epoch: a number for all
    columns, or a table by column. Evaluation and prediction leave nothing out."""
    separator: Annotated[str, Field(min_length=1)] = " | "
    """Between two fields."""
    key_value_separator: str = ": "
    """Between the name of a column and its value."""
    prefix_separator: Annotated[str, Field(min_length=1)] = " |||"
    """Between the last field and the text; a space follows it. A row without any field begins with it."""
    allow_leak: Computed[Names] = ()
    """Columns that may give the label away: without this, `check` and `train` refuse a column from which alone a table
    predicts the labels of training rows that it was not made of."""

    def dropout_of(self, column: str) -> float:
        """Probability that a training row goes without the field of this column."""
        return self.dropout.get(column, 0.0) if isinstance(self.dropout, dict) else self.dropout

    @property
    def drops(self) -> bool:
        """Whether training leaves fields out at all."""
        return any(self.dropout_of(column) for column in self.columns)


class DataSection(Section):
    """Rows, columns and labels."""

    folder: Located[FilePath | None] = None
    """Folder that relative data files start from; by default the folder of the config file (for overrides, the current
    folder)."""
    train: TrainSource = FilesSource()
    """The training rows."""
    validation: HeldOut = SplitOff()
    """Rows for choosing the best model: a share of the training rows, a source of their own, or none."""
    test: HeldOut = Absent()
    """Rows for the final report, never used in training."""
    evaluations: dict[str, EvaluationSet] = {}
    """More rows to evaluate on, under a name that you choose, such as `[data.evaluations.news]`; each can be what
    `data.test` can be. Each gets a line in `metrics.jsonl` at every evaluation and its own report, and never chooses
    the best model."""
    columns: Columns = Columns()
    """Which columns hold what."""
    labels: Labels = Labels()
    """How labels are read and ordered."""
    corrections: Located[FilePath | None] = None
    """File of corrections of the training rows, such as `textune doctor` proposes: other labels, and rows to leave
    out. Rows of evaluation stay as they are."""
    metadata: Annotated[MetadataPrefix | None, ShortForm("columns")] = None
    """Columns that are written before each text: a table, or their names alone, such as `["source", "date"]`
    (docs/metadata.md)."""
    chunks: Literal["document", "fixed"] = "document"
    """How a language model's documents become rows of tokens. `document`: each by itself, cut where it is longer than
    `tokens.max_length`. `fixed`: documents one after the other, the end-of-text token between them, cut into rows of
    exactly `tokens.max_length` tokens."""
    on_bad_row: OnBadRow = "error"
    """A row that cannot be read or has no label: `error` stops with its place and reason, `skip` skips it and reports
    how many were skipped."""
    on_shared_text: Computed[Literal["error", "report", "unchecked"]] = "error"
    """Held-out documents of a language model that have the text of a training document, up to case, spacing and
    punctuation: `error` refuses to train, `report` says how many there are, `unchecked` does not look for them. All
    shards of a stream are read once to compare their texts. Shares of the training rows are not compared."""

    @property
    def held_out(self) -> dict[str, HeldOut]:
        """Where the rows of every evaluation set come from, by name: validation, test, then those of `evaluations`."""
        return {"validation": self.validation, "test": self.test, **self.evaluations}


ConcatSource.model_rebuild()
