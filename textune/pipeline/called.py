"""Verbs as Python calls them, where the command line is more than one function: each takes names, not open models."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import JsonValue

from textune.adapters import load_any
from textune.config import (
    Columns,
    Config,
    DeviceName,
    OnBadRow,
    Overrides,
    PredictionPrecision,
    Switch,
    described_presets,
    json_schema,
)
from textune.config import show as show_loaded
from textune.data import column_names, items_of, require_no_lookalike
from textune.errors import InputError
from textune.owncode import article
from textune.pipeline.evaluate import columns_of
from textune.pipeline.heard import LOG
from textune.pipeline.load import load
from textune.pipeline.predict_files import FilesPredicted, predict_files
from textune.prediction import Continuation, find_model, read_card
from textune.run import Tracker
from textune.serving import needing_packages


def predict(
    run: str | Path,
    data: object,
    *,
    output: str | Path | None = None,
    columns: Columns | Mapping[str, object] | None = None,
    all_scores: bool = False,
    on_bad_row: OnBadRow = "error",
    workers: int = 1,
    force: bool = False,
    device: DeviceName = "auto",
    precision: PredictionPrecision = "auto",
    max_tokens: int | None = None,
    compile: Switch = "auto",
    code: str | Sequence[str] = (),
    decision: bool = True,
    tracker: Tracker | None = None,
) -> pa.Table | FilesPredicted:
    """Predict rows in memory, or files into `output`.

    `data` without an `output`: rows or texts in any form that `TrainedModel.predict` takes; returns an Arrow table of
    `predicted_label`, `predicted_score` and, with `all_scores`, `score_NAME` for every label, a row for each of them.
    With an `output`: a file, a pattern or a list of them, which `textune.predict_files` reads. `columns`: which have
    the text, as in `{"text": "body"}`; by default as in the training data. Other options as in `textune.load` and
    `textune.predict_files`. Raises InputError for a file without an `output`, else errors as of these.
    """
    codes = [code] if isinstance(code, str) else list(code)
    read = columns_of(columns, read_card(find_model(run)))
    if output is not None:
        return predict_files(
            run,
            _require_files(data),
            output,
            workers=workers,
            columns=read,
            all_scores=all_scores,
            on_bad_row=on_bad_row,
            force=force,
            device=device,
            precision=precision,
            max_tokens=max_tokens,
            compile=compile,
            code=codes,
            decision=decision,
            tracker=tracker,
        )
    if isinstance(data, os.PathLike) or (isinstance(data, str) and Path(data).expanduser().is_file()):
        raise InputError(
            f"data is the file {os.fspath(data)}, and no output is named for its predictions.",
            hint='Name one: output="predictions.csv".',
            key="output",
            value=os.fspath(data),
            reason="a file without an output",
        )
    model = load(
        run,
        device=device,
        precision=precision,
        max_tokens=max_tokens,
        compile=compile,
        code=codes,
        decision=decision,
    )
    return model.predict_table(_as_table(data, read), columns=read, all_scores=all_scores)


def _require_files(data: object) -> str | Path | list[str | Path]:
    """Names of files; InputError for anything else."""
    if isinstance(data, str | Path):
        return data
    if isinstance(data, list | tuple) and data and all(isinstance(one, str | Path) for one in data):
        return list(data)
    raise InputError(
        f"data is {article(data)}: an output is written for files alone.",
        hint="Leave output out: the predictions of rows in memory are returned as a table.",
        key="data",
        reason="rows in memory with an output",
    )


def _as_table(data: object, columns: Columns) -> object:
    """Texts as a table of them; a table, or rows as dictionaries, as it is."""
    if isinstance(data, str):
        return {columns.text: [data]}
    if column_names(data) is not None:
        return data
    require_no_lookalike("data", data, columns)
    items = items_of(data, "data")
    return items if not items or isinstance(items[0], Mapping) else {columns.text: items}


def generate(
    run: str | Path,
    prompt: str = "",
    *,
    device: DeviceName = "auto",
    precision: PredictionPrecision = "auto",
    **how: Any,
) -> list[Continuation]:
    """What the language model of a run writes after `prompt`; options and errors as of `TrainedModel.generate`."""
    return load(run, device=device, precision=precision).generate(prompt, **how)


def show(
    config: Config | None = None, *, overrides: Overrides = (), unset: Iterable[str] = (), diff: bool = False
) -> str:
    """A configuration with every value and where it comes from, as TOML; with `diff`, what differs from the defaults.
    ConfigError as of `textune.train`."""
    return show_loaded(load_any(config, overrides, unset), diff=diff)


def schema() -> JsonValue:
    """The JSON Schema of a configuration, for editors that complete and check TOML."""
    return json_schema()


def presets() -> dict[str, str]:
    """The configurations that come with textune, by name, each with what it is for in one line."""
    return described_presets()


def serve(
    models: str | Path | Sequence[str | Path] | Mapping[str, str | Path],
    *,
    device: DeviceName = "auto",
    precision: PredictionPrecision = "auto",
    max_tokens: int | None = None,
    compile: Switch = "auto",
    code: str | Sequence[str] = (),
    decision: bool = True,
    on_start: Callable[[str], None] | None = None,
    **settings: Any,
) -> None:
    """Answer requests over HTTP with the models of runs or model folders, until a signal asks to stop.

    `models`: one, several, or several by the name that their addresses have. `settings`: those of a server
    (`textune.serving.Settings`), such as `host`, `port`, `token`. `on_start` gets the address once requests are
    answered. Raises ModelError where the extra `serve` is not installed, RunError for a folder without a model.
    """
    with needing_packages():
        from textune.serving import LoadOptions, Models, Settings, named_folders
        from textune.serving import serve as run_server

        told = Settings(**settings)
    if told.is_open:
        LOG.warning("everyone who reaches %s is answered; a token keeps others out", told.host)
    if isinstance(models, Mapping):
        words = [f"{name}={folder}" for name, folder in models.items()]
    else:
        words = [str(one) for one in ([models] if isinstance(models, str | Path) else models)]
    codes = (code,) if isinstance(code, str) else tuple(code)
    loading = LoadOptions(device, precision, max_tokens, compile, codes, decision)
    served = Models(named_folders(words), told, loading, on_notice=LOG.warning)
    run_server(served, told, on_start=on_start or (lambda address: LOG.warning("serving at %s", address)))
