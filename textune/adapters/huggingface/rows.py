"""`data` and `task` of a script: where its rows are, which columns it reads, what it predicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from textune.adapters.foreign import Line
from textune.adapters.huggingface.columns import FirstRow, first_row
from textune.adapters.huggingface.given import Settings
from textune.adapters.huggingface.glue import GLUE, MISMATCHED, Glue
from textune.adapters.huggingface.scripts import TASKS
from textune.wording import listing, nearest

_GLUE, _XNLI = "nyu-mll/glue", "facebook/xnli"
_LANGUAGES = ("ar", "bg", "de", "el", "en", "es", "fr", "hi", "ru", "sw", "th", "tr", "ur", "vi", "zh")
_NLI = ("entailment", "neutral", "contradiction")
Source = Mapping[str, object]


@dataclass
class Rows:
    """The rows of a run, as lines of ours and as the sets that it predicts."""

    lines: list[Line]
    notes: list[str] = field(default_factory=list)
    predict: dict[str, Source] = field(default_factory=dict)
    """Sources by the file that the script writes its predictions to, such as `predict_results_mrpc.txt`."""
    has_validation: bool = True


def rows_of(settings: Settings, folder: str | None, *, trains: bool, evaluates: bool, predicts: bool) -> Rows:
    """`folder`: a data set folder that stands for that of the hub."""
    task = settings["task_name"]
    if task is not None:
        return _glue(settings, str(task).lower(), folder, evaluates=evaluates, predicts=predicts)
    if settings.script == "run_xnli":
        return _xnli(settings, folder, evaluates=evaluates, predicts=predicts)
    if settings["dataset_name"] is not None:
        return _hub(settings, folder, evaluates=evaluates, predicts=predicts)
    return _files(settings, trains=trains, evaluates=evaluates, predicts=predicts)


def _source(key: str, source: Source, origin: str) -> Iterator[Line]:
    for name, value in source.items():
        yield Line(f"{key}.{name}", value, origin)


def _selected(settings: Settings, source: Source, limit: str) -> Source:
    """The source with its first rows alone, where `max_..._samples` says so."""
    found = dict(source)
    if limit == "max_train_samples" and settings["shuffle_train_dataset"]:
        found |= {"shuffle": True, "shuffle_seed": settings["shuffle_seed"]}
    if settings[limit] is not None:
        if settings[limit] < 1:
            settings.refuse(limit, "at least one row was expected.")
        found["take"] = settings[limit]
    return found


def _glue(settings: Settings, name: str, folder: str | None, *, evaluates: bool, predicts: bool) -> Rows:
    task = GLUE.get(name)
    if task is None:
        close = nearest(name, TASKS)
        hint = f"Did you mean {close}?" if close else f"Write one of {listing(TASKS)}."
        settings.refuse("task_name", "GLUE has no such task.", hint)
    origin = settings.origin("task_name")
    hub = {"kind": "hub", "name": folder or _GLUE, "config": name}
    rows = Rows(
        list(_source("data.train", _selected(settings, {**hub, "split": "train"}, "max_train_samples"), origin))
    )
    limit = "max_eval_samples"
    if evaluates:
        validation = _selected(settings, {**hub, "split": task.validation}, limit)
        rows.lines += _source("data.validation", validation, origin)
        if name == "mnli":
            other = _selected(settings, {**hub, "split": MISMATCHED["validation"]}, limit)
            rows.lines += _source("data.evaluations.mismatched", other, origin)
            rows.lines.append(Line("evaluate.at_end", ("mismatched",), "the script scores it after training"))
    else:
        _without_validation(rows)
    if predicts:
        tests = {name: task.test} | ({"mnli-mm": MISMATCHED["test"]} if name == "mnli" else {})
        rows.predict = {
            f"predict_results_{called}.txt": _selected(settings, {**hub, "split": split}, "max_predict_samples")
            for called, split in tests.items()
        }
    rows.lines += _columns(task.texts, "label", origin)
    rows.lines += _task_of_glue(task, origin)
    return rows


def _task_of_glue(task: Glue, origin: str) -> Iterator[Line]:
    if not task.classes:
        yield Line("task.kind", "regression", origin)
    else:
        yield Line("data.labels.names", task.classes, origin)
        yield Line("task.kind", "binary" if len(task.classes) == 2 else "multiclass", origin)
    yield Line("evaluate.metric", task.metric, f"{origin}: the metric of the task")


def _xnli(settings: Settings, folder: str | None, *, evaluates: bool, predicts: bool) -> Rows:
    language = settings["language"]
    if language is None:
        settings.refuse("language", "which language?", "Write it, such as --language de.")
    for flag in ("language", "train_language"):
        if folder is None and settings[flag] not in (None, *_LANGUAGES):
            settings.refuse(flag, "XNLI has no such language.", f"Write one of {listing(_LANGUAGES)}.")
    trained = settings["train_language"] or language
    hub = {"kind": "hub", "name": folder or _XNLI}
    origin = settings.origin("train_language" if settings["train_language"] else "language")
    train = _selected(settings, {**hub, "config": trained, "split": "train"}, "max_train_samples")
    rows = Rows(list(_source("data.train", train, origin)))
    origin = settings.origin("language")
    if evaluates:
        validation = _selected(settings, {**hub, "config": language, "split": "validation"}, "max_eval_samples")
        rows.lines += _source("data.validation", validation, origin)
    else:
        _without_validation(rows)
    if predicts:
        test = _selected(settings, {**hub, "config": language, "split": "test"}, "max_predict_samples")
        rows.predict = {"predictions.txt": test}
        rows.lines += _source("data.test", test, origin)
    rows.lines += _columns(("premise", "hypothesis"), "label", "run_xnli.py")
    rows.lines += [
        Line("data.labels.names", _NLI, "run_xnli.py"),
        Line("task.kind", "multiclass", "run_xnli.py"),
        Line("evaluate.metric", "accuracy", "run_xnli.py"),
    ]
    return rows


def _without_validation(rows: Rows) -> None:
    rows.has_validation = False
    rows.lines.append(Line("data.validation.kind", "none", "without do_eval nothing is evaluated"))


def _columns(texts: tuple[str, ...], label: str, origin: str) -> Iterator[Line]:
    yield Line("data.columns.text", texts[0], origin)
    if len(texts) > 1:
        yield Line("data.columns.text_pair", texts[1], origin)
    yield Line("data.columns.label", label, origin)


def _hub(settings: Settings, folder: str | None, *, evaluates: bool, predicts: bool) -> Rows:
    """A data set by name: run_classification names its splits and columns; run_glue guesses them."""
    hub: dict[str, object] = {"kind": "hub", "name": folder or settings["dataset_name"]}
    origin = settings.origin("dataset_name")
    if settings["dataset_config_name"]:
        hub["config"] = settings["dataset_config_name"]
    removed = _names(settings["remove_splits"])
    splits = {part: settings[f"{part}_split_name"] or part for part in ("train", "validation", "test")}
    for part, split in splits.items():
        if split in removed and settings[f"{part}_split_name"]:
            settings.refuse("remove_splits", f"{split} is the split of {part}.", "Leave one of them out.")
    train = _selected(settings, {**hub, "split": splits["train"]}, "max_train_samples")
    rows = Rows(list(_source("data.train", train, origin)))
    if evaluates:
        validation = _selected(settings, {**hub, "split": splits["validation"]}, "max_eval_samples")
        rows.lines += _source("data.validation", validation, origin)
    else:
        _without_validation(rows)
    if predicts:
        test = _selected(settings, {**hub, "split": splits["test"]}, "max_predict_samples")
        _predict_too(settings, rows, test, origin, labelled=settings.script == "run_classification")
    rows.lines += _named_columns(settings, None, rows)
    rows.lines += _own_task(settings, None)
    return rows


def _files(settings: Settings, *, trains: bool, evaluates: bool, predicts: bool) -> Rows:
    """Files of the user's own."""
    for name, used in (("train_file", trains), ("validation_file", evaluates), ("test_file", predicts)):
        if used and settings[name] is None:
            have = "task_name, dataset_name or a file" if settings.script == "run_glue" else "a data set or a file"
            settings.refuse(name, f"there are no such rows; {have} was expected.", f"Write --{name} FILE.")
    given = settings["train_file"] or settings["validation_file"] or settings["test_file"]
    flag = next(name for name in ("train_file", "validation_file", "test_file") if settings[name])
    first = None if str(given).lower().endswith((".parquet", ".arrow")) else first_row(flag, given)
    rows = Rows([])
    source = {"kind": "files", "files": (settings["train_file"] or given,)}
    rows.lines += _source("data.train", _selected(settings, source, "max_train_samples"), settings.origin(flag))
    if evaluates:
        validation = _selected(
            settings, {"kind": "files", "files": (settings["validation_file"],)}, "max_eval_samples"
        )
        rows.lines += _source("data.validation", validation, settings.origin("validation_file"))
    else:
        _without_validation(rows)
    if predicts:
        test = _selected(settings, {"kind": "files", "files": (settings["test_file"],)}, "max_predict_samples")
        has_label = first is not None and _label(settings) in first_row("test_file", settings["test_file"]).values
        labelled = has_label and settings.script == "run_classification"
        _predict_too(settings, rows, test, settings.origin("test_file"), labelled=labelled)
    rows.lines += _named_columns(settings, first, rows)
    rows.lines += _own_task(settings, first)
    return rows


def _predict_too(settings: Settings, rows: Rows, test: Source, origin: str, *, labelled: bool) -> None:
    rows.predict = {"predict_results_None.txt" if settings.script == "run_glue" else "predict_results.txt": test}
    if labelled:
        rows.lines += _source("data.test", test, origin)


def _label(settings: Settings) -> str:
    return settings["label_column_name"] or "label"


def _names(text: str | None) -> list[str]:
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def _named_columns(settings: Settings, first: FirstRow | None, rows: Rows) -> Iterator[Line]:
    """Columns by `text_column_names`, else as the scripts guess them."""
    label, named = _label(settings), _names(settings["text_column_names"])
    if first is not None:
        for name in [*named, label] if settings["train_file"] else named:
            if name not in first.values:
                key = "label_column_name" if name == label else "text_column_names"
                close = nearest(name, first.values)
                hint = f"Did you mean {close}?" if close else f"Its columns are {listing(first.values)}."
                settings.refuse(key, f"{first.file} has no column {name}.", hint)
    origin = settings.origin("text_column_names")
    if len(named) > 1:
        delimiter = settings["text_column_delimiter"]
        if any(brace in name for name in named for brace in "{}"):
            settings.refuse("text_column_names", "a column with braces in its name cannot be joined.")
        joined = delimiter.replace("{", "{{").replace("}", "}}").join(f"{{{name}}}" for name in named)
        yield Line("data.columns.template", joined, f"{origin}, {settings.origin('text_column_delimiter')}")
        yield Line("data.columns.label", label, settings.origin("label_column_name"))
        return
    if named:
        yield from _columns((named[0],), label, origin)
    elif settings.script == "run_classification":
        yield from _columns(("sentence",), label, origin)
    elif first is None:
        yield from _columns(("sentence1", "sentence2"), label, "as the script names them")
    else:
        texts, passed = first.texts(label)
        if not texts:
            settings.refuse("train_file", "it has no column of texts.")
        if passed:
            rows.notes.append(f"The column {listing(passed)} counts rows; the scripts take it for a text.")
        yield from _columns(texts, label, f"columns of {first.file.name}: the first that are no label")


def _own_task(settings: Settings, first: FirstRow | None) -> Iterator[Line]:
    """What is predicted: a number, one class or several, which the labels tell."""
    value = None if first is None else first.values.get(_label(settings))
    forced = settings["do_regression"]
    number = forced if forced is not None else isinstance(value, float) or _is_fraction(value)
    if number:
        origin = settings.origin("do_regression") if forced else "labels with a fraction"
        yield Line("task.kind", "regression", origin)
        if settings["metric_name"] is None:
            yield Line("evaluate.metric", "mse", "the metric of the script for numbers")
    elif isinstance(value, list):
        yield Line("task.kind", "multilabel", "labels that are lists")
        if settings["metric_name"] is None:
            yield Line("evaluate.metric", "f1_micro", "the metric of the script for several labels")
    elif settings["metric_name"] is None and first is not None:
        yield Line("evaluate.metric", "accuracy", "the metric of the script for classes")
    if settings["metric_name"] is not None:
        yield Line("evaluate.metric", settings["metric_name"], settings.origin("metric_name"))


def _is_fraction(value: object) -> bool:
    """Whether a cell is a number with a decimal point, which the datasets library reads as one."""
    try:
        return isinstance(value, str) and "." in value and float(value) == float(value)
    except ValueError:
        return False
