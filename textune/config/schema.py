"""All configuration keys with their types, defaults, descriptions and roles; imports no torch.

Each room of textune receives its own section, never the root. A key is marked with its role (`section.Role`).
Sections are frozen; a value that follows from others is a property, never filled in by a validator.
`docs/configuration.md` and the JSON Schema are generated from this file.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from textune.config.adapters import Lora, Quantize
from textune.config.deciding import DecideSection
from textune.config.documents import MetadataSection
from textune.config.section import Computed, Located, Section
from textune.config.sharing import Checkpointing, DataParallel, Distributed
from textune.config.sources import DataSection
from textune.config.taskkinds import AutoTask, ConditionalLmTask, Task
from textune.config.tracking import Track
from textune.config.updaterules import AdamW, EarlyStopping, LinearSchedule, Optimizer, Schedule, Soup
from textune.config.values import (
    Arms,
    AttentionLayout,
    DeviceName,
    DottedPath,
    Duration,
    FilePath,
    HubPath,
    LongTexts,
    Names,
    PadTo,
    Period,
    Pooling,
    Rounding,
    RunLength,
    Seed,
    Steps,
    Switch,
    TrainingPrecision,
    Truncation,
)

SHORT_ROWS, LONG_ROWS = 128, 256
"""What `tokens.max_length = "auto"` stands for, by the lengths of the training rows."""


class TokensSection(Section):
    """Texts to token ids: computed once, cached, shared by all ranks."""

    max_length: Annotated[int, Field(ge=2)] | Literal["auto"] = "auto"
    """Longest row in tokens, including special tokens. `auto`: 128, or 256 where a tenth of the training rows are
    longer than 128 (of at most 1,000 rows, evenly spread), or the number of positions of the backbone if that is
    less."""
    truncate: Truncation = "head"
    """Which part of a longer text is kept; of a pair, the longer text is shortened first. `error` refuses longer
    rows."""
    long: LongTexts = "truncate"
    """What becomes of a text of more than `max_length` tokens. `truncate` cuts it. `windows` reads it in windows of
    `max_length` tokens, whose vectors are pooled before the head: a text has one loss, one weight and one
    prediction, however many windows it has."""
    stride: Annotated[int, Field(ge=0)] = 0
    """With `long = "windows"`: tokens of the text that a window shares with the one before it, so that it begins
    `max_length` - special tokens - `stride` tokens later."""
    pooling: Pooling = "mean"
    """With `long = "windows"`: how a text's vector is made of those of its windows. `attention` weighs them by a
    vector that is learned with the head, beginning with the mean."""
    max_windows: PositiveInt | None = None
    """With `long = "windows"`: the most windows of a text; what follows them is cut off. By default, a text has as
    many as it needs."""
    pair_separator: str = "auto"
    """Text put before the second text of a pair. `auto`: a line break where the tokenizer puts nothing between the two
    (GPT-2, Qwen), else nothing."""
    drop_longer: PositiveInt | None = None
    """Skip rows with more than this many tokens (before truncation); the report counts them."""
    pad: Computed[PadTo] = "batch"
    """How long rows are made where a backbone runs padded: as long as the longest row computed at once (`batch`), or
    `tokens.max_length`, so that all shapes are the same. `max_length` makes every backbone run padded."""
    pad_multiple: Computed[PositiveInt | None] = None
    """Make rows a multiple of this many tokens long, such as 8 or 16: fewer shapes. It makes every backbone run
    padded."""
    cache: Computed[FilePath | None] = None
    """Folder of the token cache; by default `textune/tokens` in the user's cache folder (`$XDG_CACHE_HOME` or
    `~/.cache`). A table of frozen token embeddings of 64 MiB or more also stands there, in a file without a name,
    while a run trains alone on a processor."""
    cache_size_gb: Computed[Annotated[float, Field(gt=0)]] = 20.0
    """Largest size of the cache; beyond it, the least recently used entries are removed."""

    @property
    def pads(self) -> bool:
        """Whether rows are padded beyond what the padded layout needs."""
        return self.pad != "batch" or self.pad_multiple is not None

    @property
    def longest(self) -> int:
        """Most tokens that a row can have; for `auto`, the most that it may stand for."""
        return LONG_ROWS if self.max_length == "auto" else self.max_length

    @property
    def window_pooling(self) -> Pooling | None:
        """How the windows of a text are pooled; None where every text is one row."""
        return self.pooling if self.long == "windows" else None


class ModelKeys(Section):
    """Keys of every kind of model."""

    revision: Located[str] = "main"
    """Branch, tag or commit on the hub."""
    trust_remote_code: bool = False
    """Run the Python code that comes with the backbone. Leave it off unless you have read that code."""
    freeze: Names = ()
    """Parts that are not trained: `backbone`, `embeddings`, or patterns of parameter names such as `*.layer.0.*`."""
    unfreeze: Names = ()
    """Parts of what `freeze` takes that are trained after all, in the same words: `freeze = "backbone"` with `unfreeze
    = "*.layer.11.*"` trains the head and that layer."""
    attention: Computed[AttentionLayout] = "auto"
    """`packed` computes no padding; `auto` packs every backbone that supports it."""


class ModelSection(ModelKeys):
    """The pretrained backbone."""

    kind: Literal["pretrained"] = "pretrained"
    """A backbone of the transformers library."""
    pretrained: Located[HubPath] = ""
    """Folder or hub name of the backbone, such as `google-bert/bert-base-uncased`, or a run to start from, such as
    `runs/x`. Folders are relative to the config file."""
    tokenizer: Located[HubPath | None] = None
    """Folder or hub name of the tokenizer, if it is not the backbone's own."""
    ignore_mismatched_sizes: bool = False
    """Replace a saved head of another size by a new one instead of stopping, if its outputs have no label names."""
    compile: Computed[Switch] = "auto"
    """Compiled code instead of PyTorch's own operators. On a CPU, for training and prediction: the kernels built with
    textune. On a GPU, for training: layers compiled in the first steps (needs Triton and a C compiler). `auto`
    compiles where that is faster, `on` stops where it is impossible."""
    config: dict[str, Any] = {}
    """Changes to the backbone's own configuration, such as `{ hidden_dropout_prob = 0.2 }`."""
    init: Literal["pretrained", "scratch"] = "pretrained"
    """Where the weights of a language model come from: the backbone's files, or, with `scratch`, a draw by
    `train.seed`; the folder then holds a configuration and no weights."""
    added_tokens: Names = ()
    """Special tokens that a language model's tokenizer is given, such as `["<HTML>", "</HTML>"]`, each with a new row
    of embeddings."""
    lora: Lora | None = None
    """Train few numbers beside the backbone's frozen weights; a table, which may be empty (`[model.lora]`)."""
    quantize: Quantize | None = None
    """Give the backbone's linear layers weights of few bits, beneath the adapters of `model.lora`; a table, which may
    be empty (`[model.quantize]`)."""

    @property
    def name(self) -> str:
        """What messages call the model."""
        return self.pretrained


class PythonModel(ModelKeys):
    """Your own class: a `torch.nn.Module` from token ids to outputs, or a model class of transformers."""

    kind: Literal["python"] = "python"
    """A class of your own."""
    object: DottedPath
    """`package.module:Class`; what such a class must have: docs/extending.md."""
    options: dict[str, Any] = {}
    """Keyword arguments of the class; of a class of transformers, keys of its configuration."""
    pretrained: Located[HubPath] = ""
    """Folder or hub name of weights for a class of transformers, or a run of the same class to start from. Without
    it all weights start new."""
    tokenizer: Located[HubPath | None] = None
    """Folder or hub name of the tokenizer, if it is not that of `pretrained`."""

    @property
    def name(self) -> str:
        """What messages call the model."""
        return self.pretrained or self.object


Model = Annotated[ModelSection | PythonModel, Field(discriminator="kind")]

RowOrder = Literal["shuffle", "bucket", "sequential", "weighted"]


class TrainSection(Section):
    """The training run."""

    duration: RunLength = Duration(3, "epochs")
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
    rounding: Rounding = "nearest"
    """What becomes of a duration that is no whole number of steps, such as a share of the run: the nearest step, or
    the next one, as transformers' Trainer counts."""
    order: RowOrder = "shuffle"
    """Order of the rows. `shuffle`: a new, truly random permutation each epoch. `bucket`: the same, but rows of
    similar length share a batch, which saves padding if the backbone runs padded. `sequential`: as read. `weighted`:
    drawn with replacement in proportion to `data.columns.weight`, which then affects the draw and not the loss."""
    seed: Seed = 0
    """Seed of the head's weights, the order and dropout."""
    order_seed: Seed | None = None
    """Seed of the order and dropout, if it is not `seed`: runs that differ in it alone begin with the same weights."""
    soup: Soup | None = None
    """Train several times and join the models into one; a table, which may be empty (`[train.soup]`)."""
    deterministic: Computed[bool] = False
    """Use only algorithms that give the same bits in every run on the same machine, also on a GPU, where that takes
    longer; runs on a processor do so anyway."""
    precision: TrainingPrecision = "auto"
    """Arithmetic of the forward and backward pass; weights stay fp32. `auto` is bf16 if the device supports it and is
    faster with it, else fp32."""
    device: Computed[DeviceName] = "auto"
    """Where to compute; `auto` takes a GPU if there is one."""
    optimizer: Optimizer = AdamW()
    """The update rule."""
    schedule: Schedule = LinearSchedule()
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
    """How often to evaluate: on the validation rows, and on each set of `data.evaluations`."""
    evaluate_at: Computed[Steps] = ()
    """Steps to evaluate at in addition to `evaluate_every`, such as `[1, 500]`."""
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
    engine: Computed[Literal["torch", "onnxruntime"]] = "torch"
    """What computes the forward and the backward pass. `onnxruntime`: ONNX Runtime, in fp32, padded, in one process on
    a CPU (docs/onnxruntime.md); everything else is the same."""
    layout: Computed[Literal["textune", "huggingface", "training-wizard", "azureml"]] = "textune"
    """Which files a finished run has beside its own: none, or those that another system writes
    (docs/migrating.md)."""

    @property
    def drawing_seed(self) -> int:
        """Seed of the order and dropout."""
        return self.seed if self.order_seed is None else self.order_seed

    @property
    def joining(self) -> Soup | None:
        """How several runs are joined; None where there is a single one."""
        return None if self.soup is None or self.soup.seeds == 1 else self.soup


class EvaluateSection(Section):
    """Metrics and report."""

    metric: str | Annotated[tuple[str, ...], Field(min_length=1)] = "auto"
    """Main metric: it chooses the best model and is reported with an interval. `auto`: accuracy (binary, multiclass),
    f1_micro (multilabel), pearson (regression), bits_per_character (language models). `loss`: the task's own loss, the
    lower the better. A list such as `["f1", "accuracy"]` is the mean of its metrics. Names of other libraries are
    understood."""
    best_by: str = "validation"
    """The set whose main metric chooses the best model and stops early: `validation`, a set of `data.evaluations`, or
    `train`."""
    keep: Literal["best", "last"] = "best"
    """Which model a run keeps and reports: that of its best evaluation, or that of its last one. Early stopping goes
    by the best either way."""
    max_tokens: Computed[PositiveInt] = 16384
    """Token budget of prediction: the most tokens computed at once."""
    bootstrap: Computed[Annotated[int, Field(ge=0)]] = 1000
    """Draws or resamples for the 95 % interval of the main metric; 0 reports no interval."""
    mistakes: Computed[Annotated[int, Field(ge=0)]] = 20
    """Number of most confident mistakes listed in the report; of a language model, of documents with the most bits per
    character."""
    slices: Computed[Names] = ()
    """Columns of the rows, such as `["source"]`, by whose values the report measures the main metric as well; at most
    50 values each. The rows that a run keeps in `evaluations/` have them too."""
    plots: Computed[bool] = False
    """Draw the plots of `report.html` as PNG files into `plots/` of the run folder too; needs the extra `plots`."""
    probe: Computed[Annotated[int, Field(ge=0)]] = 200
    """Validation rows, spread over length and label, that are kept beside the best model with its scores
    (`best/probe.jsonl`): an export is asked them again, and refused where it answers otherwise. They hold texts; 0
    keeps none."""
    train: Computed[bool] = False
    """Evaluate on the training rows too, as the set `train`: the gap to the validation rows shows overfitting."""
    arms: Computed[Arms] = ("without",)
    """What held-out documents with metadata are compared with, over the same characters. `without`: the same texts
    without metadata, as the set `validation-without`; `same-context`: these cut where the documents with metadata are,
    as `validation-same-context`."""
    at_end: Computed[Names] = ()
    """Sets of `data.evaluations`, or `train`, that are evaluated for the final report only, not during training; also
    `validation`, where `best_by` is another set."""


class Experiment(Section):
    """One run, from rows to report."""

    data: DataSection = DataSection()
    """Rows, columns and labels."""
    tokens: TokensSection = TokensSection()
    """Texts to token ids."""
    task: Task = AutoTask()
    """What the model predicts."""
    model: Model = ModelSection()
    """The backbone and its tokenizer."""
    train: TrainSection = TrainSection()
    """The training run."""
    evaluate: EvaluateSection = EvaluateSection()
    """Metrics and report."""
    decide: Computed[DecideSection | None] = None
    """The rule by which scores become probabilities and answers, fitted on the validation rows after training; a
    table, which may be empty (`[decide]`). Without it probabilities are the scores as they are, and the highest
    one, or 0.5, decides."""
    track: Computed[tuple[Track, ...]] = ()
    """Trackers that the run is sent to while it trains, one `[[track]]` for each; `metrics.jsonl` has all of it."""
    metadata: MetadataSection | None = None
    """How documents with their metadata become text for a language model; without this section it reads texts
    alone."""

    @model_validator(mode="after")
    def _of_texts_alone(self) -> Self:
        """A language model's documents always have the section; no key of it has been set."""
        if isinstance(self.task, ConditionalLmTask) and self.metadata is None:
            object.__setattr__(self, "metadata", MetadataSection())
        return self
