"""What a language model (`task.kind = "conditional_lm"`) cannot go with, and keys that are for it alone."""

from __future__ import annotations

from collections.abc import Iterator

from textune.config.fields import Place
from textune.config.problems import Problem
from textune.config.schema import EvaluateSection, Experiment, ModelSection, PythonModel
from textune.config.sources import DataSection
from textune.config.taskkinds import ConditionalLmTask
from textune.config.toml import format_key, format_value
from textune.wording import repeated_names


def language_problems(experiment: Experiment) -> list[Problem]:
    """Every key that contradicts the kind of the task."""
    if isinstance(experiment.task, ConditionalLmTask):
        return [*_without_meaning(experiment), *_of_the_model(experiment)]
    return [*_of_language_models(experiment)]


def _of_language_models(experiment: Experiment) -> Iterator[Problem]:
    """Keys that only a language model has."""
    model, data = experiment.model, experiment.data
    wrong: list[tuple[Place, object]] = []
    if isinstance(model, ModelSection):
        wrong += [(("model", "init"), model.init)] if model.init != "pretrained" else []
        wrong += [(("model", "added_tokens"), model.added_tokens)] if model.added_tokens else []
    for name in ("chunks", "on_shared_text"):
        value = getattr(data, name)
        wrong += [(("data", name), value)] if value != DataSection.model_fields[name].default else []
    arms = experiment.evaluate.arms
    wrong += [(("evaluate", "arms"), arms)] if arms != EvaluateSection().arms else []
    for place, value in wrong:
        key = format_key(*place)
        message = (
            f'{key} = {format_value(value)} is for language models, but task.kind = "{experiment.task.kind}" trains a'
            " classifier."
        )
        yield Problem(place, message, 'Leave it out, or set task.kind = "conditional_lm".', value)


def _of_the_model(experiment: Experiment) -> Iterator[Problem]:
    """Weights that are drawn beside keys that are about pretrained ones; tokens that cannot be added."""
    model = experiment.model
    if not isinstance(model, ModelSection):
        return
    if model.init == "scratch":
        for name, value in (("lora", model.lora), ("quantize", model.quantize)):
            if value is not None:
                message = f'model.init = "scratch" draws all weights, and model.{name} would leave them as they are.'
                yield Problem(("model", "init"), message, f"Leave model.{name} out, or init.", "scratch")
    repeated = repeated_names(model.added_tokens)
    for token in dict.fromkeys(model.added_tokens):
        if not token.strip() or token in repeated:
            reason = " more than once" if token.strip() else ", which is empty"
            message = f"model.added_tokens names {format_value(token)}{reason}."
            yield Problem(("model", "added_tokens"), message, "Name each token once.", token)


def _without_meaning(experiment: Experiment) -> Iterator[Problem]:
    """Keys that a language model has no use for."""
    data, train, model = experiment.data, experiment.train, experiment.model
    if isinstance(model, PythonModel):
        message = 'model.kind = "python" is a classifier, but task.kind = "conditional_lm" trains a language model.'
        yield Problem(("model", "kind"), message, "Name a backbone of transformers.", "python")
    wrong: list[tuple[Place, object, str]] = [
        (("data", "labels", name), value, "texts are learned from, and no label is read")
        for name in ("names", "names_file", "delimiter")
        if (value := getattr(data.labels, name))
    ]
    if data.columns.labels:
        wrong.append(
            (("data", "columns", "labels"), data.columns.labels, "texts are learned from, and no label is read")
        )
    if data.corrections is not None:
        wrong.append((("data", "corrections"), data.corrections, "no label is read"))
    if data.columns.weight is not None:
        wrong.append((("data", "columns", "weight"), data.columns.weight, "every token weighs the same"))
    if train.order not in ("shuffle", "sequential"):
        wrong.append((("train", "order"), train.order, "documents are read as a stream, and become rows on the way"))
    if train.engine != "torch":
        wrong.append((("train", "engine"), train.engine, "it computes classifiers alone"))
    if train.compact_vocabulary == "on":
        wrong.append(
            (("train", "compact_vocabulary"), "on", "a language model predicts every token of its vocabulary")
        )
    if experiment.evaluate.train:
        wrong.append((("evaluate", "train"), True, "training documents are rendered anew in every epoch"))
    for place, value, reason in wrong:
        message = (
            f'{format_key(*place)} = {format_value(value)} cannot go with task.kind = "conditional_lm": {reason}.'
        )
        yield Problem(place, message, "Leave it out.", value)
