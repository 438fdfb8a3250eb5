"""What the scripts of transformers do beside training: score a model that is there, write their files of predictions,
push."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter

from textune.adapters import HuggingFaceCall
from textune.atomic import write_text
from textune.config import Columns, Source, load_tree
from textune.data import read_source
from textune.errors import ConfigError
from textune.exports import push
from textune.pipeline.evaluate import evaluate
from textune.pipeline.layouts import result_text, results_of
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
    if call.evaluates and not call.trains:
        report = evaluate(model, data=experiment.data.validation, columns=experiment.data.columns)
        found = results_of(report, "eval")
        for name in ("eval_results.json", "all_results.json") if launched_rank() == 0 else ():
            folder.mkdir(parents=True, exist_ok=True)
            write_text(folder / name, result_text(found))
            yield f"Written: {folder / name}"
    if launched_rank() != 0:
        return
    if call.predict:
        trained = load(model)
        folder.mkdir(parents=True, exist_ok=True)
        for name, source in call.predict.items():
            write_text(folder / name, _predicted(trained, source, experiment.data.columns))
            yield f"Written: {folder / name}"
    if call.push is not None:
        yield f"Pushed: {push(model, call.push).name}"


def _predicted(trained: TrainedModel, source: Mapping[str, object], columns: Columns) -> str:
    """Index and prediction of each row, as the scripts write them."""
    section: Source = TypeAdapter(Source).validate_python(source)
    answers = trained.predict_table(read_source(section, key="test_file").table, columns=columns)
    lines = ["index\tprediction"]
    for index, answer in enumerate(answers.column(0).to_pylist()):
        lines.append(f"{index}\t{answer:3.3f}" if isinstance(answer, float) else f"{index}\t{answer}")
    return "\n".join(lines) + "\n"
