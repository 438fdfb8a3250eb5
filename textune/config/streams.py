"""What a run with streamed training rows cannot have, since its rows are not all known before it starts."""

from __future__ import annotations

from textune.config.fields import Place
from textune.config.problems import Problem
from textune.config.schema import Experiment
from textune.config.section import Section
from textune.config.sources import Absent, SetAside, StreamSource
from textune.config.taskkinds import AutoTask, ConditionalLmTask, MultitaskTask, PythonTask, RegressionTask
from textune.config.toml import format_key
from textune.config.values import Duration


def stream_problems(experiment: Experiment) -> list[Problem]:
    """Every key that needs to know all training rows; none if they are not streamed."""
    source, train = experiment.data.train, experiment.train
    if not isinstance(source, StreamSource):
        return []
    problems = split_problems(experiment)
    if experiment.evaluate.train:
        message = "evaluate.train = true needs all training rows, but they are streamed."
        problems.append(
            Problem(("evaluate", "train"), message, "Leave it out, or put some of the rows in data.evaluations.")
        )
    if train.order not in ("shuffle", "sequential"):
        message = (
            f'train.order = "{train.order}" needs the lengths or weights of all rows, which a stream does not know.'
        )
        problems.append(Problem(("train", "order"), message, 'Use "shuffle" or "sequential".'))
    if experiment.data.corrections is not None:
        message = "data.corrections names rows by their number, but they are streamed."
        problems.append(Problem(("data", "corrections"), message, "Correct the files, or read them with files."))
    if train.compact_vocabulary == "on":
        message = 'train.compact_vocabulary = "on" needs the tokens of all rows, which a stream does not know.'
        problems.append(Problem(("train", "compact_vocabulary"), message, 'Use "auto".'))
    longest = min(experiment.tokens.longest, experiment.tokens.drop_longer or experiment.tokens.longest)
    if train.max_tokens != "auto" and train.max_tokens < longest:
        message = (
            f"train.max_tokens = {train.max_tokens} is less than the {longest} tokens that a streamed row may have."
        )
        problems.append(
            Problem(("train", "max_tokens"), message, f"Use {longest} or more, or lower tokens.max_length.")
        )
    return [*problems, *_label_problems(experiment), *_duration_problems(experiment, source)]


def split_problems(experiment: Experiment) -> list[Problem]:
    """Held-out sets that are a share of the training rows, if those are streamed."""
    data = experiment.data
    if not isinstance(data.train, StreamSource):
        return []
    problems = []
    held_out: dict[Place, Section] = {("data", "validation"): data.validation, ("data", "test"): data.test}
    held_out |= {("data", "evaluations", name): found for name, found in data.evaluations.items()}
    for place, section in held_out.items():
        if isinstance(section, SetAside):
            key = format_key(*place)
            hint = (
                f'Give it rows of its own, such as {key} = {{ kind = "files", files = "{place[-1]}.jsonl" }}, or none.'
            )
            message = f"{key} is a share of the training rows, but they are streamed and cannot be split."
            problems.append(Problem(place, message, hint))
    return problems


def _label_problems(experiment: Experiment) -> list[Problem]:
    task, labels = experiment.task, experiment.data.labels
    if isinstance(task, AutoTask):
        message = 'task.kind = "auto" decides from the labels of all rows, which a stream does not know.'
        hint = "Set task.kind to binary, multiclass, multilabel, multitask or regression."
        return [Problem(("task", "kind"), message, hint)]
    if isinstance(task, RegressionTask | ConditionalLmTask | PythonTask):
        return []
    problems = []
    named = bool(labels.names or labels.names_file or experiment.data.columns.labels)
    if not named and not isinstance(task, MultitaskTask):
        message = "data.labels.names is not set, and the labels of a stream are not known in advance."
        hint = 'List all of them, such as data.labels.names = ["neg", "pos"], or set data.labels.names_file.'
        problems.append(Problem(("data", "labels"), message, hint))
    if task.class_weights == "balanced":
        message = (
            'task.class_weights = "balanced" needs the number of rows of each class, which a stream does not know.'
        )
        problems.append(Problem(("task", "class_weights"), message, "Give a table of weights by label name."))
    return problems


def _duration_problems(experiment: Experiment, source: StreamSource) -> list[Problem]:
    """Durations in epochs although the length of an epoch is not known."""
    if source.num_rows is not None:
        return []
    train = experiment.train
    durations: dict[str, Duration] = {
        "duration": train.duration,
        "schedule.warmup": train.schedule.warmup,
        "log_every": train.log_every,
    }
    if not isinstance(experiment.data.validation, Absent) or experiment.data.evaluations:
        durations["evaluate_every"] = train.evaluate_every
    in_epochs = [
        f'train.{key} = "{value}"' for key, value in durations.items() if value.unit == "epochs" and value.amount
    ]
    if not in_epochs:
        return []
    message = f"{', '.join(in_epochs)}: the length of an epoch of a stream is not known."
    hint = 'Set data.train.num_rows to the number of its rows, or give durations in steps, such as "500 steps".'
    return [Problem(("data", "train", "num_rows"), message, hint)]
