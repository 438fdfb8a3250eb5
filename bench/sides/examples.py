"""An example's TOML, rows and labels, read a second time and by other means than textune's: an error there would show.

It knows what the examples and the configs of the speed questions need: files, labels, AdamW, a linear schedule.
"""

from __future__ import annotations

import csv
import importlib.util
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

Tree = dict[str, Any]
Features = list[dict[str, Any]]


def read_example(path: Path) -> Tree:
    """The TOML file on top of the files it extends."""
    tree = tomllib.loads(path.read_text(encoding="utf-8"))
    parent = tree.pop("extends", None)
    return _merge(read_example(path.parent / parent), tree) if parent else tree


def _merge(below: Tree, above: Tree) -> Tree:
    """Tables merge, everything else replaces."""
    tables = {key: _merge(below.get(key, {}), value) for key, value in above.items() if isinstance(value, dict)}
    return below | above | tables


def parse_duration(text: str) -> tuple[float, str]:
    """`"50 steps"` as (50.0, "step")."""
    amount, unit = text.split()
    return float(amount), unit.removesuffix("s")


def find_backbone(name: str) -> str:
    """The folder behind `package:NAME/PATH`; any other name as it stands."""
    package, _, inside = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package) if name.startswith("package:") else None
    return str(Path((spec.submodule_search_locations or [""])[0]) / inside) if spec else name


def read_rows(source: Tree, folder: Path) -> pd.DataFrame:
    """The rows of one `files` source as columns of strings."""
    files = source["files"] if isinstance(source["files"], list) else [source["files"]]
    return pd.concat([_read_file(source, folder / name) for name in files], ignore_index=True)


def _read_file(source: Tree, path: Path) -> pd.DataFrame:
    encoding = source.get("encoding", "utf-8")
    if source.get("format", "auto") == "text":
        lines = path.read_text(encoding=encoding).removesuffix("\n").split("\n")
        matches = [re.fullmatch(source["pattern"], line) for line in lines]
        return pd.DataFrame([match.groupdict() for match in matches if match is not None])
    is_tsv, names = path.suffix == ".tsv", source.get("column_names")
    is_quoted = source.get("quoting", "none" if is_tsv else "standard") == "standard"
    options: dict[str, Any] = {
        "sep": "\t" if is_tsv else ",",
        "quoting": csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
    }
    options |= {"header": None if names else 0, "names": names, "encoding": encoding}
    return pd.read_csv(path, **options, dtype=str, keep_default_na=False, na_filter=False)


@dataclass(frozen=True)
class LabelScheme:
    """The problem and its label names in the order of their ids; encodes cells into what the model's loss expects."""

    problem: str  # transformers' problem_type
    names: tuple[str, ...]
    delimiter: str | None = None

    def encode(self, cells: list[str]) -> list[Any]:
        """An id, a number or a list of 0.0 and 1.0 for each cell."""
        if self.problem == "regression":
            return [float(cell) for cell in cells]
        ids = {name: number for number, name in enumerate(self.names)}
        if self.problem == "single_label_classification":
            return [ids[cell] for cell in cells]
        chosen = [{ids[part] if part in ids else int(part) for part in cell.split(self.delimiter)} for cell in cells]
        return [[float(number in row) for number in range(len(self.names))] for row in chosen]


def find_labels(example: Tree, train: pd.DataFrame, folder: Path) -> LabelScheme:
    """Integers in numeric order, other names sorted, unless the example lists them."""
    section, kind = example["data"].get("labels", {}), example.get("task", {}).get("kind", "auto")
    if kind == "regression":
        return LabelScheme("regression", ("score",))
    found = set(train[_columns(example)["label"]]) if kind != "multilabel" else set()
    integers = all(re.fullmatch(r"-?\d+", name) for name in found)
    names = section.get("names") or (sorted(found, key=int) if integers else sorted(found))
    if "names_file" in section:
        names = (folder / section["names_file"]).read_text(encoding="utf-8").split()
    problem = "multi_label_classification" if kind == "multilabel" else "single_label_classification"
    return LabelScheme(problem, tuple(names), section.get("delimiter"))


def _columns(example: Tree) -> Tree:
    columns: Tree = {"text": "text", "label": "label"}
    return columns | example["data"].get("columns", {})


def read_features(
    example: Tree, folder: Path, tokenizer: Any, *, max_rows: int | None = None, padded: bool = False
) -> tuple[LabelScheme, dict[str, Features]]:
    """Token ids and encoded labels of train and, where they are files, of validation and test; the last two by length.

    `padded`: all rows to `tokens.max_length`.
    """
    sources = {name: example["data"].get(name, {}) for name in ("train", "validation", "test")}
    rows = {name: read_rows(source, folder) for name, source in sources.items() if "files" in source}
    scheme, columns, features = find_labels(example, rows["train"], folder), _columns(example), {}
    options = {"max_length": example["tokens"]["max_length"], "padding": "max_length" if padded else False}
    for name, part in rows.items():
        texts = [part[columns[key]][:max_rows].tolist() for key in ("text", "text_pair") if key in columns]
        encoded = tokenizer(*texts, truncation=True, **options)
        labels = scheme.encode(part[columns["label"]][:max_rows].tolist())
        features[name] = [
            {**{key: encoded[key][i] for key in encoded}, "label": label} for i, label in enumerate(labels)
        ]
        if name != "train":
            features[name].sort(key=lambda row: len(row["input_ids"]))
    return scheme, features
