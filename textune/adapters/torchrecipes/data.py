"""`data` and `task` of a run of torchrecipes: the rows, their columns and labels."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from textune.adapters.foreign import Line
from textune.adapters.torchrecipes.given import Settings, require_keys
from textune.adapters.torchrecipes.model import dotted
from textune.config import Problem, parse_key, refuse

DATASET = "datamodule.dataset"
_SST2 = ("torchtext.datasets.sst2.SST2", "torchtext.datasets.SST2", "torchtext.experimental.datasets.sst2.SST2")
_HUB = "nyu-mll/glue"
_LABELS = "transform.label_transform"
_LABEL_TRANSFORM = "torchtext.transforms.LabelToIndex"
_PARTS = ("train", "validation", "test")


def data_lines(settings: Settings, notes: list[str], *, tests: bool) -> Iterator[Line]:
    """Rows, columns and labels. `tests`: whether the run ends with a test."""
    target = settings.target(DATASET)
    if settings[DATASET] is None:
        message = f"{DATASET} is not set: there are no rows."
        refuse([Problem(parse_key(DATASET), message, "Choose one: +datamodule/dataset=sst2_dataset.")])
    if target in _SST2:
        yield from _sst2(settings, notes, tests=tests)
        columns = ("sentence", "label")
        said = "the columns of SST-2's files"
    elif target is None:
        yield from _files(settings, tests=tests)
        columns, said = _columns(settings), settings.origin("datamodule.columns", "datamodule.label_column")
    else:
        yield from _own(settings, target, tests=tests)
        columns, said = _columns(settings), settings.origin("datamodule.columns", "datamodule.label_column")
    yield Line("data.columns.text", columns[0], said)
    yield Line("data.columns.label", columns[1], said)
    yield from _label_lines(settings)


def _columns(settings: Settings) -> tuple[str, str]:
    """The columns of the text and of the label; ConfigError unless the rows have both."""
    columns, label = settings["datamodule.columns"], settings["datamodule.label_column"]
    text = settings["transform.transform.text_column"] or "text"
    problems = [
        settings.problem(key, f"it is not one of datamodule.columns = {columns}", f"Name one of them: {key}=COLUMN.")
        for key, name in (("transform.transform.text_column", text), ("datamodule.label_column", label))
        if name not in columns
    ]
    refuse(problems)
    return text, label


def _sst2(settings: Settings, notes: list[str], *, tests: bool) -> Iterator[Line]:
    """SST-2 where torchtext keeps it; where it is not there, from the hub."""
    require_keys(settings, DATASET, ["root", "validate_hash", "split"])
    if settings[f"{DATASET}.split"] is not None:
        refuse([settings.problem(f"{DATASET}.split", "the recipe takes all three parts", "Leave it out.")])
    if set(label_names(settings)) != {"0", "1"}:
        reason = "SST-2's labels are 0 (negative) and 1 (positive)"
        refuse([settings.problem(f"{_LABELS}.label_names", reason, "Write [0,1] in quotes: ['0','1'].")])
    root = settings[f"{DATASET}.root"] or "~/.torchtext/cache"
    folder = Path(str(root)) / "SST2"
    here = folder.expanduser()
    said = settings.origin(f"{DATASET}._target_")
    is_here = (here / "SST-2.zip").is_file() or (here / "SST-2" / "train.tsv").is_file()
    parts = {"train": "train", "validation": "dev", **({"test": "dev"} if tests else {})}
    for part, file in parts.items():
        if is_here:
            yield Line(f"data.{part}.kind", "files", said)
            yield Line(f"data.{part}.files", (f"{folder}/SST-2/{file}.tsv",), f"{DATASET}.root = {root}")
            yield Line(f"data.{part}.quoting", "none", "quotes are plain characters in SST-2")
            continue
        yield Line(f"data.{part}.kind", "hub", f"{said}; there is no {folder}/SST-2.zip")
        yield Line(f"data.{part}.name", _HUB, "the same rows, downloaded once")
        yield Line(f"data.{part}.config", "sst2", said)
        yield Line(f"data.{part}.split", "train" if part == "train" else "validation", said)
        words = {"negative": "0", "positive": "1"}
        yield Line(f"data.{part}.replace.label", words, "the hub writes labels as words")
    if not is_here:
        notes.append(
            f"{folder}/SST-2.zip is not here, so SST-2 comes from the hub ({_HUB}), downloaded once by one process."
        )
    if tests:
        notes.append(
            "The test rows are the validation rows, as there: the labels of SST-2's own test rows are not public. The"
            " best of several evaluations of them is too good a score."
        )


def _files(settings: Settings, *, tests: bool) -> Iterator[Line]:
    """Files that the data set names by part."""
    require_keys(settings, DATASET, _PARTS)
    for part in _PARTS if tests else _PARTS[:2]:
        key = f"{DATASET}.{part}"
        files = settings[key]
        if files is None:
            if part == "train":
                refuse([settings.problem(key, "there are no rows to train on", f"Name files: {key}=FILE.")])
            yield Line(f"data.{part}.kind", "split", f"{settings.origin(key)}: a tenth of the training rows")
            continue
        yield Line(f"data.{part}.kind", "files", settings.origin(key))
        yield Line(
            f"data.{part}.files", tuple(files) if isinstance(files, list) else (str(files),), settings.origin(key)
        )


def _own(settings: Settings, target: str, *, tests: bool) -> Iterator[Line]:
    """A callable of the user's own, which returns the three parts."""
    name = dotted(settings, f"{DATASET}._target_", target)
    options = settings.table(DATASET)
    for number, part in enumerate(_PARTS if tests else _PARTS[:2]):
        yield Line(f"data.{part}.kind", "python", f"{DATASET}._target_ names code of your own")
        yield Line(f"data.{part}.object", name, settings.origin(f"{DATASET}._target_"))
        yield Line(f"data.{part}.part", number, "it returns (train, validation, test)")
        yield Line(
            f"data.{part}.column_names", tuple(settings["datamodule.columns"]), settings.origin("datamodule.columns")
        )
        for option, value in options.items():
            yield Line(f"data.{part}.options.{option}", value, f"{DATASET}.{option}")


def label_names(settings: Settings) -> tuple[str, ...]:
    """The labels in their order; ConfigError where the places that count them do not agree."""
    target = settings.target(_LABELS)
    if target not in (None, _LABEL_TRANSFORM):
        hint = f"Give the names in their order: {_LABELS}.label_names."
        refuse([settings.problem(f"{_LABELS}._target_", f"labels are read as {_LABEL_TRANSFORM} does", hint)])
    require_keys(settings, _LABELS, ["label_names", "label_path", "sort_names"])
    names, path = settings[f"{_LABELS}.label_names"], settings[f"{_LABELS}.label_path"]
    if path is not None:
        hint = "Give the names themselves, or set data.labels.names_file in the converted configuration."
        refuse([settings.problem(f"{_LABELS}.label_path", "names are given in the configuration", hint)])
    if names is not None and not isinstance(names, list):
        refuse([settings.problem(f"{_LABELS}.label_names", "expected a list", "Write [NAME,NAME].")])
    found = tuple(str(name) for name in names or ("0", "1"))
    if settings[f"{_LABELS}.sort_names"]:
        found = tuple(sorted(found))
    problems = []
    for key in ("transform.num_labels", "module.num_classes", "module.model.head.num_classes"):
        number = settings[key]
        if number is not None and number != len(found):
            said = f"{_LABELS}.label_names has {len(found)}: {', '.join(found)}"
            hint = f"Set {key}={len(found)}, or give as many names."
            problems.append(settings.problem(key, said, hint))
    refuse(problems)
    return found


def _label_lines(settings: Settings) -> Iterator[Line]:
    names = label_names(settings)
    yield Line("data.labels.names", names, settings.origin(f"{_LABELS}.label_names"))
    kind = "binary" if len(names) == 2 else "multiclass"
    yield Line("task.kind", kind, f"cross-entropy over {len(names)} labels")
