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
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = _merge(merged[key], value) if both else value
    return merged


def parse_duration(text: str) -> tuple[float, str]:
    """`"50 steps"` as (50.0, "step")."""
    match = re.fullmatch(r"\s*([\d.]+)\s+(step|epoch)s?\s*", text)
    if match is None:
        raise ValueError(f"not a duration: {text!r}")
    return float(match[1]), match[2]


def find_backbone(name: str) -> str:
    """The folder behind `package:NAME/PATH`; any other name as it stands."""
    if not name.startswith("package:"):
        return name
    package, _, inside = name.removeprefix("package:").partition("/")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ValueError(f"the Python package {package} is not installed")
    return str(Path(spec.submodule_search_locations[0]) / inside)


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
    tabs = path.suffix == ".tsv"
    names = source.get("column_names")
    quoting = source.get("quoting", "none" if tabs else "standard")
    return pd.read_csv(
        path,
        sep="\t" if tabs else ",",
        quoting=csv.QUOTE_MINIMAL if quoting == "standard" else csv.QUOTE_NONE,
        header=None if names else 0,
        names=names,
        encoding=encoding,
        dtype=str,
        keep_default_na=False,
        na_filter=False,
    )


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
    section = example["data"].get("labels", {})
    kind = example.get("task", {}).get("kind", "auto")
    if kind == "regression":
        return LabelScheme("regression", ("score",))
    if "names_file" in section:
        names = (folder / section["names_file"]).read_text(encoding="utf-8").split()
    elif "names" in section:
        names = section["names"]
    else:
        found = set(train[_label_column(example)])
        integers = all(re.fullmatch(r"-?\d+", name) for name in found)
        names = sorted(found, key=int) if integers else sorted(found)
    problem = "multi_label_classification" if kind == "multilabel" else "single_label_classification"
    return LabelScheme(problem, tuple(names), section.get("delimiter"))


def _label_column(example: Tree) -> str:
    return str(example["data"].get("columns", {}).get("label", "label"))


def tokenize(rows: pd.DataFrame, scheme: LabelScheme, example: Tree, tokenizer: Any, *, padded: bool = False) -> Features:
    """Token ids with the encoded label; `padded`: all to `tokens.max_length`."""
    columns, length = example["data"].get("columns", {}), example["tokens"]["max_length"]
    texts = [rows[columns.get("text", "text")].tolist()]
    if "text_pair" in columns:
        texts.append(rows[columns["text_pair"]].tolist())
    encoded = tokenizer(*texts, truncation=True, max_length=length, padding="max_length" if padded else False)
    labels = scheme.encode(rows[_label_column(example)].tolist())
    return [{**{key: encoded[key][i] for key in encoded}, "label": label} for i, label in enumerate(labels)]


def read_features(
    example: Tree, folder: Path, tokenizer: Any, *, max_rows: int | None = None, padded: bool = False
) -> tuple[LabelScheme, dict[str, Features]]:
    """Rows of train and, where the example has them as files, of validation and test; the last two sorted by length."""
    sources = {name: example["data"].get(name, {}) for name in ("train", "validation", "test")}
    rows = {name: read_rows(source, folder) for name, source in sources.items() if "files" in source}
    scheme = find_labels(example, rows["train"], folder)
    features = {name: tokenize(part[:max_rows], scheme, example, tokenizer, padded=padded) for name, part in rows.items()}
    for name in set(features) - {"train"}:
        features[name].sort(key=lambda row: len(row["input_ids"]))
    return scheme, features
