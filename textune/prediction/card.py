"""`textune.json`, the card of a saved model: how to predict with it as its own run did."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from textune.atomic import write_text
from textune.config import (
    Columns,
    ConditionalLmTask,
    DataSection,
    DottedPath,
    FilesSource,
    Labels,
    LongTexts,
    MetadataPrefix,
    MetadataSection,
    Model,
    ModelSection,
    Pooling,
    PythonModel,
    PythonTask,
    Section,
    Switch,
    TokensSection,
    Truncation,
)
from textune.config import Task as TaskSection
from textune.data import LABEL, LabelMap, PreparedData, Problem, full_names, names_by_user, problem_of
from textune.errors import ModelError, RunError
from textune.jsontext import parse_json
from textune.model import CARD_NAME, AdapterNote, Device, Precision
from textune.prediction.ownfiles import own_sources
from textune.tasks import USUAL, USUAL_THRESHOLD, Decision, Task, build_task


class HeadCard(Section):
    """One thing that the model predicts of a row."""

    name: str = LABEL
    """Distinguishes several heads."""
    problem: Problem
    """What is predicted."""
    names: tuple[str, ...]
    """Label names in the order of their ids."""
    multi_hot: bool | None = None
    """Multilabel: whether lists in the data are multi-hot rows."""
    task: TaskSection
    """The section `task` of the run, `balanced` class weights as numbers."""
    decision: Decision = USUAL
    """The rule by which scores become probabilities and answers."""

    @model_validator(mode="before")
    @classmethod
    def _from_one_threshold(cls, tree: object) -> object:
        """The same in today's form: a decision was one threshold for all labels, and did nothing else."""
        if not isinstance(tree, dict) or not isinstance(was := tree.get("decision"), dict) or "threshold" not in was:
            return tree
        now: dict[str, JsonValue] = {}
        names = tuple(tree.get("names", ()))
        if LabelMap(tree.get("problem", ""), names).several and was["threshold"] != USUAL_THRESHOLD:
            now = {"thresholds": [was["threshold"]] * len(names)}
        return tree | {"decision": now}

    @model_validator(mode="after")
    def _decides_on_its_labels(self) -> Self:
        if not self.decision.fits(len(self.names), exclusive=self.label_map.exclusive):
            raise ValueError(f"the decision is not one for {len(self.names)} labels ({self.problem})")
        return self

    @property
    def label_map(self) -> LabelMap:
        """The labels and what they are."""
        return LabelMap(self.problem, self.names, self.multi_hot)


class OwnModelCard(Section):
    """The class of the user's own that a model is made of."""

    object: DottedPath
    """`package.module:Class`."""
    options: dict[str, JsonValue] = Field(default_factory=dict)
    """What it was made with."""


class ExportNote(Section):
    """What a model became where it is no longer a folder of PyTorch weights (`textune export --to`)."""

    kind: str
    """The kind of export, as `textune export --to` names it."""
    file: str
    """The file in the folder that holds the model."""
    opset: int | None = None
    """Version of ONNX's operators; None for a form without."""
    precision: str = "fp32"
    """Of its weights: `fp32` or `int8`."""
    made_on: str = ""
    """The processor that it was made and compared on, such as `x86-64-v3`: products of bytes differ between them."""


class ModelCard(Section):
    """`textune.json`: what a saved model needs beyond its Hugging Face files to predict as it did in its run."""

    version: int = 2
    """Version of this file's form."""
    heads: tuple[HeadCard, ...] = Field(min_length=1)
    """What is predicted."""
    model: OwnModelCard | None = None
    """What the model is made of, where that is code of the user's own."""
    adapters: AdapterNote | None = None
    """What the adapters in the folder stand beside; None where it holds whole weights."""
    exported: ExportNote | None = None
    """What the model became; None where the folder holds weights that PyTorch and transformers read."""
    max_length: int = Field(ge=2)
    """Longest row in tokens."""
    truncate: Truncation
    """Which part of a longer text is kept."""
    long: LongTexts = "truncate"
    """What becomes of a longer text."""
    stride: int = Field(default=0, ge=0)
    """Tokens that a window shares with the one before."""
    pooling: Pooling = "mean"
    """How the vectors of windows become one."""
    max_windows: int | None = Field(default=None, ge=1)
    """Most windows of a text."""
    pair_separator: str = ""
    """What was put before the second text of each pair."""
    columns: Columns
    """Where text was found in the training data."""
    metadata: MetadataPrefix | None = None
    """Columns that were written before each text, and how."""
    documents: MetadataSection | None = None
    """How a language model's documents are rendered; None for a classifier."""
    labels: Labels
    """How labels were read; names that were given are here, whatever file they came from."""
    sources: dict[str, FilesSource] = Field(default_factory=dict)
    """How the run's own files were read, by their suffix, where that is not the usual way."""
    precision: Precision
    """Arithmetic of the run's own evaluation."""
    compiled: bool = False
    """Whether the run could use compiled kernels: figures that should be the same again need the same arithmetic."""
    max_tokens: int = Field(default=16384, ge=1)
    """Most tokens computed at once in the run's own evaluation."""
    metric: str = "auto"
    """The run's main metric."""
    data: dict[str, str] = Field(default_factory=dict)
    """Fingerprints of the data, by split."""
    step: int | None = None
    """Optimizer steps that made this model."""
    merge_change: float | None = None
    """The largest change of a logit when weights of few bits became fp32; None where there were none."""
    value: float | None = None
    """The main metric on the rows that chose the model; None where there was no evaluation."""

    @property
    def tokens(self) -> TokensSection:
        """How texts become tokens."""
        return TokensSection(
            max_length=self.max_length,
            truncate=self.truncate,
            long=self.long,
            stride=self.stride,
            pooling=self.pooling,
            max_windows=self.max_windows,
            pair_separator=self.pair_separator,
        )

    @property
    def is_language_model(self) -> bool:
        """Whether the model predicts texts themselves, not labels."""
        return isinstance(self.task, ConditionalLmTask)

    @property
    def required_documents(self) -> MetadataSection:
        """How documents are rendered; ModelError for a classifier."""
        if not self.is_language_model:
            raise no_language_model()
        return self.documents or MetadataSection()

    @property
    def window_pooling(self) -> Pooling | None:
        """How the model pools windows; None where every text is one row."""
        return self.tokens.window_pooling

    @property
    def problem(self) -> str:
        """What is predicted, in one word."""
        return problem_of(self.label_maps)

    @property
    def task(self) -> TaskSection:
        """The section `task` of the run."""
        return self.heads[0].task

    @property
    def names(self) -> tuple[str, ...]:
        """Label names in the order of their ids; those of several heads one after the other, as in `tone/neg`."""
        return full_names(self.label_maps)

    @property
    def label_maps(self) -> dict[str, LabelMap]:
        """The labels of each head and what they are."""
        return {head.name: head.label_map for head in self.heads}

    @property
    def code(self) -> tuple[str, ...]:
        """The classes of the user's own that the model needs, as `package.module:Name`."""
        named = [head.task.object for head in self.heads if isinstance(head.task, PythonTask)]
        return tuple(dict.fromkeys([*named, *([] if self.model is None else [self.model.object])]))

    def opened_in(self, folder: Path, *, compile: Switch) -> Model:
        """The section `model` that opens the folder where this card lies."""
        if self.model is None:
            return ModelSection(pretrained=str(folder), compile=compile)
        return PythonModel(object=self.model.object, options=dict(self.model.options), pretrained=str(folder))

    @property
    def knows_loss(self) -> bool:
        """Whether the task's loss is known: earlier versions did not keep the numbers of `balanced` class weights."""
        return getattr(self.task, "class_weights", "none") != "balanced"

    def undecided(self) -> ModelCard:
        """The same with the usual rule for every head."""
        return self.with_decisions({})

    def with_decisions(self, decisions: Mapping[str, Decision]) -> ModelCard:
        """The same with these rules by head, and the usual one for the others."""
        heads = tuple(head.model_copy(update={"decision": decisions.get(head.name, USUAL)}) for head in self.heads)
        return self.model_copy(update={"heads": heads})

    def build_task(self) -> Task:
        """The task that the model was trained for; without class weights where the card does not know them. Imports
        what `code` names."""
        section = self.task
        if not self.knows_loss:
            section = section.model_copy(update={"class_weights": "none"})
        return build_task(section, self.label_maps, decisions={head.name: head.decision for head in self.heads})


def no_language_model() -> ModelError:
    """The error for a classifier where documents are scored or written."""
    return ModelError(
        "the model is a classifier, and no language model.",
        hint="Use `textune predict`, or in Python textune.load(...).predict.",
        reason="a classifier",
    )


def no_classifier() -> ModelError:
    """The error for a language model where texts are predicted."""
    return ModelError(
        "the model is a language model: it has no labels to predict.",
        hint="`textune evaluate` reports on documents, `textune generate` shows what it writes, and in Python"
        " textune.load(...).score gives the likelihood of each.",
        reason="a language model",
    )


def card_of(
    data: DataSection,
    task: TaskSection,
    tokens: TokensSection,
    prepared: PreparedData,
    device: Device,
    *,
    pair_separator: str,
    compiled: bool,
    max_tokens: int,
    metric: str,
    model: Model | None = None,
    documents: MetadataSection | None = None,
) -> ModelCard:
    """The card of a run's model, from the run's sections and its data; `documents` is the section `metadata`."""
    section = data.labels
    # Only where the user gave the names do integers of later data count into them.
    names = full_names(prepared.label_maps) if names_by_user(section) else ()
    heads = tuple(
        HeadCard(name=name, problem=label_map.problem, names=label_map.names, multi_hot=label_map.multi_hot, task=task)
        for name, label_map in prepared.label_maps.items()
    )
    return ModelCard(
        heads=heads,
        model=OwnModelCard(object=model.object, options=model.options) if isinstance(model, PythonModel) else None,
        max_length=tokens.longest,
        truncate=tokens.truncate,
        long=tokens.long,
        stride=tokens.stride,
        pooling=tokens.pooling,
        max_windows=tokens.max_windows,
        pair_separator=pair_separator,
        columns=data.columns,
        metadata=data.metadata,
        documents=documents,
        labels=Labels(names=names, delimiter=section.delimiter),
        sources=own_sources(data),
        precision=device.precision,
        compiled=compiled,
        max_tokens=max_tokens,
        metric=metric,
        data=prepared.fingerprints,
    )


def write_card(card: ModelCard, folder: Path) -> None:
    """Write `textune.json` into a model folder; readers see the old one or the new."""
    write_text(folder / CARD_NAME, card.model_dump_json(indent=2) + "\n")


def settle_copy(original: Path, folder: Path) -> None:
    """Let the card in `folder`, a copy of the model folder `original`, say where the backbone of its adapters is as
    seen from there."""
    card = read_card(folder)
    if card.adapters is not None:
        backbone = card.adapters.backbone.moved(original, folder)
        adapters = card.adapters.model_copy(update={"backbone": backbone})
        write_card(card.model_copy(update={"adapters": adapters}), folder)


def read_card(folder: Path) -> ModelCard:
    """Read `textune.json` of a model folder; RunError where it is broken or of a later version."""
    path, key = folder / CARD_NAME, ""
    try:
        tree = parse_json(path.read_text(encoding="utf-8"))
        if not isinstance(tree, dict):
            raise ValueError("not a JSON object")
        version = tree.get("version", 1)
        if version == 1:
            tree = _from_version_1(tree)
        elif version != 2:
            raise RunError(
                f"{path} was written by a later version of textune.",
                hint="Upgrade textune to read it.",
                key="version",
                value=version,
                place=str(path),
            )
        return ModelCard.model_validate(tree)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = f"{key}: {first['msg']}"
    except ValueError as error:
        reason = str(error).splitlines()[0]
    hint = "Train again, or restore the file from a copy."
    raise RunError(f"{path} is damaged: {reason}.", hint=hint, key=key, place=str(path), reason=reason)


def _from_version_1(tree: dict[str, JsonValue]) -> dict[str, JsonValue]:
    """The same card in today's form: until version 2 a model had one head, whose keys stood beside the others."""
    of_head: dict[str, JsonValue] = {
        key: tree[key] for key in ("problem", "names", "multi_hot", "task") if key in tree
    }
    return {
        "version": 2,
        "heads": [of_head],
        **{key: value for key, value in tree.items() if key not in {"version", *of_head}},
    }
