"""All configuration keys with their types, defaults, descriptions and roles; imports no torch.

Each room of textune receives its own section, never the root. A key is marked with its role (`section.Role`).
Sections are frozen; a value that follows from others is a property, never filled in by a validator.
`docs/configuration.md` and the JSON Schema are generated from this file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, PositiveInt

from textune.config.section import Computed, Located, Section
from textune.config.sharing import Checkpointing, DataParallel, Distributed
from textune.config.values import (
    AttentionLayout,
    ColumnName,
    DeviceName,
    DottedPath,
    Duration,
    FilePath,
    FilePaths,
    HubPath,
    Names,
    OnBadRow,
    OnExtraCells,
    Period,
    Quoting,
    ScheduleKind,
    Seed,
    Switch,
    TrainingPrecision,
    Truncation,
    known_encoding,
    regular_expression,
    spelled_tab,
    whole_number,
)

# --- data: where rows come from -------------------------------------------------------------------------------------


class RowSelection(Section):
    """Keys that every data source has; applied in the order where, rename, select, shuffle, take."""

    where: dict[str, Names] = {}
    """Keep only rows whose column has one of these values, such as `{ source = "rotten_tomatoes" }`; values are
    compared as text."""
    rename: dict[str, str] = {}
    """New column names, such as `{old = "new"}`."""
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
    """Paths or glob patterns, relative to the config file. `.gz` and `.zst` are unpacked while reading."""
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


class GivenSource(RowSelection):
    """Rows in memory, given in Python: `textune.train(config, rows={"NAME": rows})`."""

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
    format: Literal["auto", "jsonl", "parquet"] = "auto"
    """File format; `auto` goes by the file name. jsonl may be compressed as `.gz` or `.zst`."""
    block_rows: PositiveInt = 10_000
    """Rows held in memory and shuffled together."""
    interleave: PositiveInt = 4
    """Shards read in parallel, so that a block mixes their rows; `train.order = "sequential"` reads one at a time."""
    num_rows: PositiveInt | None = None
    """Rows in all shards: the length of an epoch. Without it, durations must be in steps."""


class SplitOff(Section):
    """Rows set aside from the training data."""

    kind: Literal["split"] = "split"
    """Set rows of the training source aside."""
    ratio: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training rows."""
    count: PositiveInt | None = None
    """Number of rows; overrides `ratio`."""
    stratify: bool = True
    """Keep the share of each class (for regression and multilabel tasks the split is random)."""
    group_by: ColumnName | None = None
    """Column such as a user or document id: rows with the same value stay in the same split."""
    seed: Seed = 0
    """Seed of the split, independent of the training seed."""


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
    SplitOff | Absent | FilesSource | HubSource | SavedSource | PythonSource | GivenSource | ConcatSource,
    Field(discriminator="kind"),
]

EvaluationSet = Annotated[
    FilesSource | HubSource | SavedSource | PythonSource | GivenSource | ConcatSource | SplitOff | Absent,
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
    task with these label names. Replaces `label`."""
    weight: ColumnName | None = None
    """Column of the weight of each row in the loss, or in the sampling of rows (`train.order = "weighted"`)."""


class Labels(Section):
    """How labels are read and ordered."""

    names: Names = ()
    """Label names in the order of their ids. By default: integers in numeric order, other labels sorted."""
    names_file: Located[FilePath | None] = None
    """File with one label name per line (in the order of their ids), or a JSON list; instead of `names`."""
    delimiter: Annotated[str, Field(min_length=1)] | None = None
    """Separates the labels in one cell of a multilabel data set, such as `","`."""


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
    on_bad_row: OnBadRow = "error"
    """A row that cannot be read or has no label: `error` stops with its place and reason, `skip` skips it and reports
    how many were skipped."""


class TokensSection(Section):
    """Texts to token ids: computed once, cached, shared by all ranks."""

    max_length: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """Longest row in tokens, including special tokens. `auto`: 256, or the number of positions of the backbone if
    that is less."""
    truncate: Truncation = "head"
    """Which part of a longer text is kept; of a pair, the longer text is shortened first. `error` refuses longer
    rows."""
    drop_longer: PositiveInt | None = None
    """Skip rows with more than this many tokens (before truncation); the report counts them."""
    cache: Computed[FilePath | None] = None
    """Folder of the token cache; by default `textune/tokens` in the user's cache folder (`$XDG_CACHE_HOME` or
    `~/.cache`)."""
    cache_size_gb: Computed[Annotated[float, Field(gt=0)]] = 20.0
    """Largest size of the cache; beyond it, the least recently used entries are removed."""

    @property
    def longest(self) -> int:
        """Most tokens that a row can have; for `auto`, the value before the backbone is known."""
        return 256 if self.max_length == "auto" else self.max_length


# --- task ------------------------------------------------------------------------------------------------------------

ClassWeights = Literal["none", "balanced"] | dict[str, Annotated[float, Field(ge=0)]]


class AutoTask(Section):
    """Binary, multiclass, multilabel or regression, decided from the labels."""

    kind: Literal["auto"] = "auto"
    """Decide from the labels."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread over the classes: y(1-s)+s/C for softmax, y(1-s)+s/2 for sigmoid outputs."""
    class_weights: ClassWeights = "none"
    """`balanced` (number of rows / (classes x rows of the class)) or a table of weights by label name."""


class BinaryTask(Section):
    """Two classes."""

    kind: Literal["binary"] = "binary"
    """Two classes; the second label name is the positive one."""
    num_logits: Annotated[Literal[1, 2], BeforeValidator(whole_number)] = 2
    """Two logits with softmax, or one with sigmoid."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread over the classes."""
    class_weights: ClassWeights = "none"
    """`balanced` or a table of weights by label name."""


class MulticlassTask(Section):
    """One of several classes."""

    kind: Literal["multiclass"] = "multiclass"
    """Exactly one class per row."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target spread over the classes."""
    class_weights: ClassWeights = "none"
    """`balanced` or a table of weights by label name."""


class MultilabelTask(Section):
    """Any number of classes."""

    kind: Literal["multilabel"] = "multilabel"
    """Any number of classes per row."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target moved towards one half."""
    class_weights: ClassWeights = "none"
    """`balanced` (rows without the label / rows with it, for the positive term) or a table of weights of the positive
    term."""


class RegressionTask(Section):
    """A number."""

    kind: Literal["regression"] = "regression"
    """A number per row."""
    loss: Literal["mse", "smooth_l1"] = "mse"
    """Squared error, or the Huber-like smooth L1 with `beta`."""
    beta: Annotated[float, Field(gt=0)] = 0.1
    """Where smooth L1 turns from squared to absolute."""
    activation: Literal["linear", "sigmoid"] = "linear"
    """`sigmoid` keeps predictions between 0 and 1."""


Task = Annotated[AutoTask | BinaryTask | MulticlassTask | MultilabelTask | RegressionTask, Field(discriminator="kind")]


class ModelSection(Section):
    """The pretrained backbone."""

    pretrained: Located[HubPath] = ""
    """Folder or hub name of the backbone, such as `google-bert/bert-base-uncased`, or a run to start from, such as
    `runs/x`. Folders are relative to the config file."""
    tokenizer: Located[HubPath | None] = None
    """Folder or hub name of the tokenizer, if it is not the backbone's own."""
    revision: Located[str] = "main"
    """Branch, tag or commit on the hub."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the backbone. Leave it off unless you have read that code."""
    ignore_mismatched_sizes: bool = False
    """Replace a saved head of another size by a new one instead of stopping, if its outputs have no label names."""
    freeze: Names = ()
    """Parts that are not trained: `backbone`, `embeddings`, or patterns of parameter names such as `*.layer.0.*`."""
    attention: Computed[AttentionLayout] = "auto"
    """`packed` computes no padding; `auto` packs every backbone that supports it."""
    compile: Computed[Switch] = "auto"
    """Compiled code instead of PyTorch's own operators. On a CPU, for training and prediction: the kernels built with
    textune. On a GPU, for training: layers compiled in the first steps (needs Triton and a C compiler). `auto`
    compiles where that is faster, `on` stops where it is impossible."""
    config: dict[str, Any] = {}
    """Changes to the backbone's own configuration, such as `{ hidden_dropout_prob = 0.2 }`."""


# --- train -----------------------------------------------------------------------------------------------------------


class AdamW(Section):
    """AdamW; biases and norms are not decayed."""

    kind: Literal["adamw"] = "adamw"
    """Adam with decoupled weight decay (arXiv:1711.05101)."""
    lr: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    """Decay per step, times the learning rate; not on biases and norms."""
    beta1: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Decay of the running mean of the gradient."""
    beta2: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Decay of the running mean of the squared gradient."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the denominator."""


class AdamW8bit(AdamW):
    """AdamW that keeps its two moments in 8 bits, a quarter of the optimizer's memory; the other keys are those of
    `adamw`.

    Needs bitsandbytes (`pip install "textune[8bit]"`) or torchao. Steps are slightly less exact, and slower on a CPU.
    """

    kind: Literal["adamw_8bit"] = "adamw_8bit"  # type: ignore[assignment]
    """Quantised block by block (arXiv:2110.02861)."""


Optimizer = Annotated[AdamW | AdamW8bit, Field(discriminator="kind")]


class Schedule(Section):
    """Learning rate as a pure function of the step."""

    kind: ScheduleKind = "linear"
    """Shape after the warm-up: a line to zero, half a cosine to zero, or constant."""
    warmup: Duration = Duration(0.1, "epochs")
    """Linear rise from zero to the peak."""


class EarlyStopping(Section):
    """Stop when the best metric no longer improves."""

    patience: Annotated[int, Field(ge=0)] = 0
    """Evaluations without improvement before training stops; 0 never stops early."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """Smallest change that counts as an improvement."""


RowOrder = Literal["shuffle", "bucket", "sequential", "weighted"]


class TrainSection(Section):
    """The training run."""

    duration: Period = Duration(3, "epochs")
    """How long to train."""
    batch_size: PositiveInt = 32
    """Rows per optimizer step, over all devices: the only size that affects the result."""
    max_tokens: Computed[PositiveInt | Literal["auto"]] = "auto"
    """Token budget: the most tokens computed at once. A batch is cut into micro-batches within the budget; the
    gradient is the same. `auto` measures how many tokens fit. If memory still runs out, the budget is halved and the
    step repeated."""
    gradient_checkpointing: Computed[bool] = False
    """Keep only each layer's input and recompute the rest in the backward pass: much less memory, a third more time.
    """
    order: RowOrder = "shuffle"
    """Order of the rows. `shuffle`: a new, truly random permutation each epoch. `bucket`: the same, but rows of
    similar length share a batch, which saves padding if the backbone runs padded. `sequential`: as read. `weighted`:
    drawn with replacement in proportion to `data.columns.weight`, which then affects the draw and not the loss."""
    seed: Seed = 0
    """Seed of the head's weights, the order and dropout."""
    precision: TrainingPrecision = "auto"
    """Arithmetic of the forward and backward pass; weights stay fp32. `auto` is bf16 if the device supports it and is
    faster with it, else fp32."""
    device: Computed[DeviceName] = "auto"
    """Where to compute; `auto` takes a GPU if there is one."""
    optimizer: Optimizer = AdamW()
    """The update rule."""
    schedule: Schedule = Schedule()
    """The learning rate over time."""
    compact_vocabulary: Switch = "auto"
    """Keep gradients and optimizer state only for the embeddings of tokens that occur in the data; the others are put
    back when the model is saved, as the optimizer would have left them. `auto`: wherever that is exact and saves
    memory."""
    max_grad_norm: Annotated[float, Field(ge=0)] = 1.0
    """Gradients are scaled down to this norm; 0 disables clipping."""
    log_every: Computed[Period] = Duration(20, "steps")
    """How often to log loss, learning rate and speed."""
    evaluate_every: Computed[Period] = Duration(1, "epochs")
    """How often to evaluate on the validation rows."""
    evaluate_first: Computed[bool] = False
    """Evaluate once before the first step."""
    early_stopping: Computed[EarlyStopping] = EarlyStopping()
    """When to stop early."""
    prefetch: Computed[Annotated[int, Field(ge=0)]] = 2
    """Batches prepared ahead in a thread; 0 prepares each batch when it is needed."""
    checkpoint: Computed[Checkpointing] = Checkpointing()
    """What is saved during training."""
    distributed: Computed[Distributed] = DataParallel()
    """How several devices share the work."""


class EvaluateSection(Section):
    """Metrics and report."""

    metric: str = "auto"
    """Main metric: it chooses the best model and is reported with an interval. `auto`: accuracy (binary, multiclass),
    f1_micro (multilabel), pearson (regression)."""
    max_tokens: Computed[PositiveInt] = 16384
    """Token budget of prediction: the most tokens computed at once."""
    bootstrap: Computed[Annotated[int, Field(ge=0)]] = 1000
    """Draws or resamples for the 95 % interval of the main metric; 0 reports no interval."""
    mistakes: Computed[Annotated[int, Field(ge=0)]] = 20
    """Number of most confident mistakes listed in the report."""
    train: Computed[bool] = False
    """Evaluate on the training rows too, as the set `train`: the gap to the validation rows shows overfitting."""
    at_end: Computed[Names] = ()
    """Sets of `data.evaluations`, or `train`, that are evaluated for the final report only, not during training."""


class Experiment(Section):
    """One run, from rows to report."""

    data: DataSection = DataSection()
    """Rows, columns and labels."""
    tokens: TokensSection = TokensSection()
    """Texts to token ids."""
    task: Task = AutoTask()
    """What the model predicts."""
    model: ModelSection = ModelSection()
    """The pretrained backbone."""
    train: TrainSection = TrainSection()
    """The training run."""
    evaluate: EvaluateSection = EvaluateSection()
    """Metrics and report."""


ConcatSource.model_rebuild()
