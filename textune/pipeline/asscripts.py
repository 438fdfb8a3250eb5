"""What the scripts of transformers do beside training: score a model that is there, write their files of predictions,
push."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter

from textune.adapters import HuggingFaceCall
from textune.atomic import write_text
from textune.config import (
    Absent,
    BinaryTask,
    Columns,
    Experiment,
    Labels,
    MulticlassTask,
    MultilabelTask,
    RegressionTask,
    Source,
    load_tree,
)
from textune.data import read_source
from textune.errors import ConfigError, RunError
from textune.exports import push
from textune.jsontext import parse_json
from textune.model import CARD_NAME, complete_model, find_pretrained, read_config
from textune.pipeline.evaluate import evaluate
from textune.pipeline.layouts import ending_of, result_text, results_of
from textune.pipeline.load import TrainedModel, load
from textune.prediction import HeadCard, ModelCard, write_card
from textune.ranks import launched_rank


def finish_call(call: HuggingFaceCall) -> Iterator[str]:
    """Do what a call asks for once training is over; a sentence for each file that is written.

    Where nothing was trained, the model is that of `model_name_or_path`, a folder that textune or transformers wrote.
    Raises TextuneError for a model or rows that cannot be used, and HubError where the hub refuses. Processes of one
    launcher share the evaluation; the first one does the rest.
    """
    experiment = load_tree(call.foreign.tree, origin=call.foreign.system, base=Path.cwd()).experiment
    model = Path(call.foreign.run) if call.trains else Path(experiment.model.name)
    if not call.trains and (call.evaluates or call.predict) and not model.is_dir():
        raise ConfigError(
            f"model_name_or_path = {model}: without do_train, the model must be a folder of a trained one.",
            hint="Add --do_train, or name a run folder, or the folder of a classifier.",
            key="model_name_or_path",
            value=str(model),
        )
    with tempfile.TemporaryDirectory(prefix="textune-") as scratch:
        if not call.trains and not _is_ours(model):
            model = _as_ours(model, experiment, Path(scratch) / model.resolve().name)
        yield from _finished(call, experiment, model)


def _finished(call: HuggingFaceCall, experiment: Experiment, model: Path) -> Iterator[str]:
    folder = Path(call.foreign.run)
    if not call.trains:
        yield from _evaluated(call, experiment, model)
    if launched_rank() != 0:
        return
    if call.predict:
        trained = load(model)
        if trained.card.max_length != experiment.tokens.max_length:
            yield (
                f"Rows have at most {trained.card.max_length} tokens, as the model was trained, not"
                f" {experiment.tokens.max_length}."
            )
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in call.predict.items():
            write_text(folder / name, _predicted(trained, source, experiment.data.columns))
            yield f"Written: {folder / name}"
    if call.push is not None:
        yield f"Pushed: {push(model, call.push).name}"


def _is_ours(model: Path) -> bool:
    """Whether textune wrote the folder; one without a configuration is left to those who read it."""
    written = (model / CARD_NAME).is_file() or complete_model(model) is not None
    return written or not (model / "config.json").is_file()


def _as_ours(model: Path, experiment: Experiment, copy: Path) -> Path:
    """A copy of a classifier that transformers wrote, with what textune keeps beside one: the names of its classes are
    its own, else those of the task, else numbers."""
    config = read_config(find_pretrained(str(model), experiment.model, key="model_name_or_path"))
    if not any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        raise ConfigError(
            f"model_name_or_path = {model}: its config.json names no model of sequence classification.",
            hint="Add --do_train, or name a trained classifier.",
            key="model_name_or_path",
            value=str(model),
            place=str(model),
        )
    own = tuple(str(name) for _, name in sorted((config.id2label or {}).items()))
    if all(name == f"LABEL_{number}" for number, name in enumerate(own)):
        stated = experiment.data.labels.names
        own = stated if len(stated) == len(own) else tuple(str(number) for number in range(len(own)))
    if len(own) == 1:
        head = HeadCard(problem="regression", names=(), task=RegressionTask())
    elif config.problem_type == "multi_label_classification":
        head = HeadCard(problem="multilabel", names=own, task=MultilabelTask())
    elif len(own) == 2:
        head = HeadCard(problem="binary", names=own, task=BinaryTask())
    else:
        head = HeadCard(problem="multiclass", names=own, task=MulticlassTask())
    length = experiment.tokens.max_length
    card = ModelCard(
        heads=(head,),
        max_length=length if isinstance(length, int) else 128,
        truncate="head",
        columns=experiment.data.columns,
        labels=Labels(names=head.names),
        precision="fp32",
    )
    shutil.copytree(model, copy, ignore=shutil.ignore_patterns("checkpoint*", "*.bin", "*.pt", "*.pth", "*.pkl"))
    write_card(card, copy)
    return copy


def _evaluated(call: HuggingFaceCall, experiment: Experiment, model: Path) -> Iterator[str]:
    """Write the results of a model that was not trained by this call; those of earlier calls stay in
    `all_results.json`, as there."""
    folder, data = Path(call.foreign.run), experiment.data
    sets: dict[str, dict[str, object]] = {}
    if call.evaluates:
        sets["eval"] = {"": data.validation}
        sets["eval"] |= {ending_of(name): source for name, source in data.evaluations.items()}
    if call.predict and not isinstance(data.test, Absent):
        sets["predict"] = {"": data.test}
    for part, sources in sets.items():
        found: dict[str, float | None] = {}
        for ending, source in sources.items():
            report = evaluate(model, data=source, columns=data.columns)
            found |= {f"{name}{ending}": value for name, value in results_of(report, part).items()}
        if launched_rank() != 0:
            continue
        folder.mkdir(parents=True, exist_ok=True)
        together = folder / "all_results.json"
        for file, results in ((folder / f"{part}_results.json", found), (together, _earlier(together) | found)):
            write_text(file, result_text(results))
            yield f"Written: {file}"


def _earlier(file: Path) -> dict[str, float | None]:
    """Results that a file holds; none where there is no such file."""
    try:
        found = parse_json(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read: {error}.", hint="Move it away.", place=str(file)) from error
    return found if isinstance(found, dict) else {}


def _predicted(trained: TrainedModel, source: Mapping[str, object], columns: Columns) -> str:
    """Index and prediction of each row, as the scripts write them."""
    section: Source = TypeAdapter(Source).validate_python(source)
    answers = trained.predict_table(read_source(section, key="test_file").table, columns=columns)
    lines = ["index\tprediction"]
    for index, answer in enumerate(answers.column(0).to_pylist()):
        lines.append(f"{index}\t{answer:3.3f}" if isinstance(answer, float) else f"{index}\t{answer}")
    return "\n".join(lines) + "\n"
