"""`text_classification_preprocess`: rows checked, split and encoded, as the fine-tuning stage takes them.

read and check (rows.py) -> set aside what is missing -> class names -> token ids -> preprocess_output
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from textune.adapters import (
    CLASS_NAMES,
    FILE_KEYS,
    FILES,
    LABELS,
    PREPROCESS,
    PREPROCESS_ARGS,
    TOKENS,
    Inputs,
    read_inputs,
    read_selected,
)
from textune.batches import TextEncoder
from textune.config import ModelSection, SplitOff, TokensSection
from textune.data import split_rows
from textune.errors import DataError
from textune.model import find_pretrained, load_tokenizer, read_config
from textune.pipeline.stages.outputs import output_folder, write_object, write_output
from textune.pipeline.stages.rows import FEW_ROWS, Checked, read_checked, source_of
from textune.wording import count, listing

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

COMPONENT = "text_classification_preprocess"
MASK, TYPES = "attention_mask", "token_type_ids"
RAW = "raw_data"
INFERENCE = "azureml_mlflow_inference_params.json"
UNLIMITED, USUAL_LENGTH = 1_000_000, 512
"""A tokenizer that states more than this states nothing; rows then have at most the usual length."""
SEED = 0
"""Of the rows that are set aside."""


@dataclass(frozen=True)
class Preprocessed:
    """What the stage wrote."""

    folder: Path
    num_rows: dict[str, int]
    """Rows by set."""
    dropped: dict[str, dict[str, int]]
    """Rows left out, by set and reason."""
    class_names: tuple[str, ...]
    num_truncated: int
    """Rows that lost tokens."""


def preprocess(given: Mapping[str, object], *, notice: Callable[[str], None] = lambda message: None) -> Preprocessed:
    """Write `preprocess_output`.

    `given`: the inputs of the component by name. ConfigError for inputs that it does not take, DataError for rows that
    cannot be used, ModelError for a tokenizer that cannot be read.
    """
    inputs = read_inputs(PREPROCESS, given, component=COMPONENT)
    output_folder(inputs.text("output_dir"), key="output_dir")
    model = read_selected(inputs.text("model_selector_output")).model
    section = ModelSection(pretrained=model)
    config = read_config(find_pretrained(model, section, key="model_selector_output"))
    tokenizer = load_tokenizer(section)
    positions = getattr(config, "max_position_embeddings", None)
    encoder = TextEncoder(tokenizer, TokensSection(max_length=_max_length(inputs, tokenizer, positions)))
    sets = _sets(inputs, notice)
    names = _class_names(sets)
    _say_few(sets["train"], notice)
    cut: list[int] = []

    def write(folder: Path) -> None:
        (folder / RAW).mkdir()
        for name, rows in sets.items():
            _write_lines(folder / RAW / FILES[name], _raw(rows, inputs))
            if rows.labels is not None:
                _write_lines(folder / FILES[name], _encoded(rows, names, encoder, tokenizer, inputs, cut))
        args = {key: inputs.values[key] for key in PREPROCESS}
        files = {FILE_KEYS[name]: FILES[name] for name, rows in sets.items() if rows.labels is not None}
        raw = {f"raw_{name}_data_fname": f"{RAW}/{FILES[name]}" for name in sets}
        own = {"max_seq_length": encoder.section.longest, "model_type": config.model_type, "model_name_or_path": model}
        write_object(folder / PREPROCESS_ARGS, {**args, **own, **files, **raw})
        write_object(folder / CLASS_NAMES, {"class_names": list(names)})
        padding = "max_length" if inputs.on("pad_to_max_length") else False
        call = {"padding": padding, "truncation": True, "max_length": encoder.section.longest}
        write_object(folder / INFERENCE, {"tokenizer_config": call})
        tokenizer.save_pretrained(folder)

    folder = write_output(inputs.text("output_dir"), write, key="output_dir")
    return Preprocessed(
        folder,
        {name: len(rows) for name, rows in sets.items()},
        {name: rows.dropped for name, rows in sets.items() if rows.dropped},
        names,
        sum(cut),
    )


def _sets(inputs: Inputs, notice: Callable[[str], None]) -> dict[str, Checked]:
    """The rows of each set: those given, and shares of the training rows for those that are not."""
    sources = {name: source_of(inputs, name, notice) for name in FILES}
    if sources["train"] is None:
        raise DataError(
            f"{COMPONENT} needs training rows.",
            hint="Give --train_file_path FILE or --train_mltable_path FOLDER.",
            key="train_file_path",
            reason="no training rows are named",
        )
    sets = {name: read_checked(source, name, inputs, notice) for name, source in sources.items() if source is not None}
    missing = [name for name in ("test", "validation") if name not in sets]
    # Both are a tenth of all rows; the second is taken of what the first has left.
    ratios = {"test": 0.1, "validation": 1 / 9} if len(missing) == 2 else dict.fromkeys(missing, 0.2)
    for name in missing:
        sets["train"], sets[name] = _set_aside(sets["train"], name, ratios[name])
    if missing:
        shares = listing(f"{len(sets[name]):,} {name}" for name in ("train", *missing))
        notice(f"of the training rows, spread over the classes by seed {SEED}: {shares} rows")
    return {name: sets[name] for name in FILES if name in sets}


def _set_aside(train: Checked, name: str, ratio: float) -> tuple[Checked, Checked]:
    """What is left for training, and the share `ratio` of the rows, with the same share of every class."""
    assert train.labels is not None, "training rows have labels"
    _, codes = np.unique(np.array(train.labels, dtype=object), return_inverse=True)
    kept, aside = split_rows(
        train.rows,
        np.arange(len(train)),
        {"label": codes},
        SplitOff(ratio=ratio, seed=SEED),
        key=f"data.{name}",
    )
    left = train.take(kept, "train")
    left.dropped.update(train.dropped)
    return left, train.take(aside, name)


def _class_names(sets: Mapping[str, Checked]) -> tuple[str, ...]:
    """The names of all classes of training and validation rows, sorted; DataError for fewer than two, and for test
    rows of other classes."""
    train, validation, test = (sets[name].labels or [] for name in FILES)
    names = tuple(sorted({*train, *validation}))
    if len(names) < 2:
        raise DataError(
            f"{sets['train'].rows.source}: all rows have the label {names[0]!r}.",
            hint="A classifier needs two classes or more; see --label_key.",
            key="label_key",
            reason="there is one class",
        )
    unknown = sorted(set(test) - set(names))
    if unknown:
        raise DataError(
            f"{sets['test'].rows.source}: {listing(map(repr, unknown), 8)} {'is' if len(unknown) == 1 else 'are'} the"
            " label of test rows, but of no training or validation row.",
            hint="Correct these labels, or leave the rows out.",
            key="label_key",
            reason="labels that nothing is learned of",
        )
    return names


def _say_few(train: Checked, notice: Callable[[str], None]) -> None:
    if len(train) < FEW_ROWS:
        notice(f"{count(len(train), 'training row')}: AzureML refuses fewer than {FEW_ROWS}, textune goes on")


def _max_length(inputs: Inputs, tokenizer: PreTrainedTokenizerBase, positions: object) -> int:
    """The longest row in tokens: what was asked for, as far as the tokenizer says that the model goes; where it says
    nothing, as far as the model has `positions`."""
    states = tokenizer.model_max_length
    known = positions if isinstance(positions, int) and positions > 1 else USUAL_LENGTH
    limit = min(USUAL_LENGTH, known) if states > UNLIMITED else int(states)
    wanted = inputs.count("max_seq_length")
    return limit if wanted < 1 else min(wanted, limit)


def _raw(rows: Checked, inputs: Inputs) -> Iterator[dict[str, object]]:
    """The rows as they were read, without the columns that nobody named."""
    columns = {inputs.text("sentence1_key"): rows.texts}
    columns |= {} if rows.pairs is None else {inputs.text("sentence2_key"): rows.pairs}
    columns |= {} if rows.labels is None else {inputs.text("label_key"): rows.labels}
    for values in zip(*columns.values(), strict=True):
        yield dict(zip(columns, values, strict=True))


def _encoded(
    rows: Checked,
    names: tuple[str, ...],
    encoder: TextEncoder,
    tokenizer: PreTrainedTokenizerBase,
    inputs: Inputs,
    cut: list[int],
) -> Iterator[dict[str, object]]:
    """The rows as token ids with their class ids, and their texts beside, which reports show; `cut` gets how many lost
    tokens."""
    assert rows.labels is not None, "rows without labels are not encoded"
    ids = {name: number for number, name in enumerate(names)}
    texts = {inputs.text("sentence1_key"): rows.texts}
    texts |= {} if rows.pairs is None else {inputs.text("sentence2_key"): rows.pairs}
    beside = {name: column for name, column in texts.items() if name not in (TOKENS, MASK, TYPES, LABELS)}
    pad_to = encoder.section.longest if inputs.on("pad_to_max_length") else 0
    pad_id = next((one for one in (tokenizer.pad_token_id, tokenizer.eos_token_id) if one is not None), 0)
    at_once = inputs.count("batch_size")
    for start in range(0, len(rows), at_once):
        stop = start + at_once
        store = encoder.encode(rows.texts[start:stop], None if rows.pairs is None else rows.pairs[start:stop])
        cut.append(int((store.raw_lengths > store.lengths).sum()))
        for number, (first, last) in enumerate(zip(store.offsets[:-1], store.offsets[1:], strict=True)):
            padding = [0] * max(pad_to - int(last - first), 0)
            row: dict[str, object] = {
                TOKENS: [*store.ids[first:last].tolist(), *[pad_id] * len(padding)],
                MASK: [1] * int(last - first) + padding,
            }
            if encoder.has_types:
                types = [0] * int(last - first) if store.types is None else store.types[first:last].tolist()
                row[TYPES] = types + padding
            row[LABELS] = ids[rows.labels[start + number]]
            yield row | {name: column[start + number] for name, column in beside.items()}


def _write_lines(file: Path, rows: Iterator[dict[str, object]]) -> None:
    with file.open("w", encoding="utf-8") as lines:
        for row in rows:
            lines.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
