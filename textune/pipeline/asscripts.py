"""What the scripts of transformers do beside training: score a model that is there, write their files of predictions,
push."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter

from textune.adapters import HuggingFaceCall
from textune.atomic import write_text
from textune.config import Absent, Columns, Experiment, Source, load_tree
from textune.data import read_source
from textune.errors import ConfigError, RunError
from textune.exports import push
from textune.jsontext import parse_json
from textune.pipeline.evaluate import evaluate
from textune.pipeline.layouts import ending_of, result_text, results_of
from textune.pipeline.load import TrainedModel, load
from textune.ranks import launched_rank


def finish_call(call: HuggingFaceCall) -> Iterator[str]:
    """Do what a call asks for once training is over; a sentence for each file that is written.

    Where nothing was trained, the model is that of `model_name_or_path`, which textune must have trained. Raises
    TextuneError for a model or rows that cannot be used, and HubError where the hub refuses. Processes of one launcher
    share the evaluation; the first one does the rest.
    """
    experiment = load_tree(call.foreign.tree, origin=call.foreign.system, base=Path.cwd()).experiment
    folder = Path(call.foreign.run)
    model = folder if call.trains else Path(experiment.model.name)
    if not call.trains and (call.evaluates or call.predict) and not model.is_dir():
        raise ConfigError(
            f"model_name_or_path = {model}: without do_train, the model must be a folder that textune trained.",
            hint="Add --do_train, or name a run folder.",
            key="model_name_or_path",
            value=str(model),
        )
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
