"""The nine tasks of GLUE, and XNLI, as they are published, with a few rows each; and the same as a data set of the
hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

SIDES = ("a fine film", "a dull one", "the cast is good", "she said it was not", 'he called it "a story"')


@dataclass(frozen=True)
class Published:
    """One task: its folder, the header of its files, which of the columns are texts and the label, and its labels."""

    folder: str
    header: str
    texts: tuple[str, ...]
    label: str
    labels: tuple[str, ...]
    names: tuple[str, ...]
    """What its labels are called, in the order of `labels`; none for numbers."""
    hub_texts: tuple[str, ...]
    dev: tuple[str, ...] = ("dev",)
    hub_dev: tuple[str, ...] = ("validation",)

    def rows(self, count: int, start: int = 0) -> list[dict[str, str]]:
        """Distinct rows by column, each label as often as the others."""
        found = []
        for number in range(start, start + count):
            row = dict.fromkeys(self.header.split("\t"), "x")
            row |= {text: f"{SIDES[(number + at) % 5]} {number}" for at, text in enumerate(self.texts)}
            found.append(row | {self.label: self.labels[number % len(self.labels)]})
        return found

    def text(self, rows: Sequence[dict[str, str]], *, header: bool = True) -> str:
        """The rows as a file holds them: quotes are plain characters."""
        lines = [self.header] if header else []
        return "\n".join(lines + ["\t".join(row.values()) for row in rows]) + "\n"


_PAIR = ("sentence1", "sentence2")
_PLAIN = "index\tsentence1\tsentence2\tlabel"
_MNLI = (
    "index\tpromptID\tpairID\tgenre\tsentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse"
    "\tsentence1\tsentence2\tlabel1\tgold_label"
)
_NLI = ("entailment", "neutral", "contradiction")
_ENTAILS = ("entailment", "not_entailment")
_ZERO_ONE = ("0", "1")

GLUE = {
    "cola": Published(
        "CoLA",
        "source\tlabel\tmark\tsentence",
        ("sentence",),
        "label",
        _ZERO_ONE,
        ("unacceptable", "acceptable"),
        ("sentence",),
    ),
    "sst2": Published(
        "SST-2", "sentence\tlabel", ("sentence",), "label", _ZERO_ONE, ("negative", "positive"), ("sentence",)
    ),
    "mrpc": Published(
        "MRPC",
        "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String",
        ("#1 String", "#2 String"),
        "Quality",
        _ZERO_ONE,
        ("not_equivalent", "equivalent"),
        _PAIR,
    ),
    "stsb": Published(
        "STS-B",
        "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore",
        _PAIR,
        "score",
        ("0.000", "2.500", "5.000"),
        (),
        _PAIR,
    ),
    "qqp": Published(
        "QQP",
        "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate",
        ("question1", "question2"),
        "is_duplicate",
        _ZERO_ONE,
        ("not_duplicate", "duplicate"),
        ("question1", "question2"),
    ),
    "mnli": Published(
        "MNLI",
        _MNLI,
        _PAIR,
        "gold_label",
        _NLI,
        _NLI,
        ("premise", "hypothesis"),
        ("dev_matched", "dev_mismatched"),
        ("validation_matched", "validation_mismatched"),
    ),
    "qnli": Published(
        "QNLI",
        "index\tquestion\tsentence\tlabel",
        ("question", "sentence"),
        "label",
        _ENTAILS,
        _ENTAILS,
        ("question", "sentence"),
    ),
    "rte": Published("RTE", _PLAIN, _PAIR, "label", _ENTAILS, _ENTAILS, _PAIR),
    "wnli": Published("WNLI", _PLAIN, _PAIR, "label", _ZERO_ONE, ("not_entailment", "entailment"), _PAIR),
}
"""By the names that the tasks have in `preset:glue/NAME`."""

NUM_TRAIN, NUM_DEV = 36, 12


def write_glue(folder: Path, *tasks: str) -> Path:
    """The files of these tasks, by default of all, as in the zip archives of GLUE."""
    for name in tasks or GLUE:
        task = GLUE[name]
        (folder / task.folder).mkdir(parents=True, exist_ok=True)
        header = name != "cola"
        train = task.text(task.rows(NUM_TRAIN), header=header)
        if name == "qqp":
            train += "7\t8\t9\tcut off\n"  # as in the original
        (folder / task.folder / "train.tsv").write_text(train, encoding="utf-8")
        for part in task.dev:
            dev = task.text(task.rows(NUM_DEV, start=100), header=header)
            (folder / task.folder / f"{part}.tsv").write_text(dev, encoding="utf-8")
    return folder


def write_sample(folder: Path, name: str) -> Path:
    """A sample of a task in JSON: an object of rows by number."""
    task = GLUE[name]
    first, second = task.texts
    (folder / task.folder).mkdir(parents=True, exist_ok=True)
    for part, count, start in (("train", NUM_TRAIN, 0), ("dev", NUM_DEV, 100)):
        rows = {
            str(number): {"text_a": row[first], "text_b": row[second], "label": row[task.label]}
            for number, row in enumerate(task.rows(count, start))
        }
        (folder / task.folder / f"{part}.json").write_text(json.dumps(rows, allow_nan=False), encoding="utf-8")
    return folder


def write_hub(folder: Path) -> Path:
    """A data set with the configurations, splits, columns and class names of `nyu-mll/glue`, as a folder."""
    import datasets

    configs = []
    for name, task in GLUE.items():
        kind = datasets.ClassLabel(names=list(task.names)) if task.names else datasets.Value("float32")
        features = {**dict.fromkeys(task.hub_texts, datasets.Value("string")), "label": kind}
        configs.append(f"- config_name: {name}\n  data_files:")
        for split in ("train", *task.hub_dev):
            rows = task.rows(NUM_TRAIN) if split == "train" else task.rows(NUM_DEV, start=100)
            labels = [row[task.label] for row in rows]
            columns: dict[str, list[object]] = {
                text: [row[own] for row in rows] for own, text in zip(task.texts, task.hub_texts, strict=True)
            }
            columns["label"] = [task.labels.index(label) if task.names else float(label) for label in labels]
            (folder / name).mkdir(parents=True, exist_ok=True)
            table = datasets.Dataset.from_dict(columns, features=datasets.Features(features))
            table.to_parquet(str(folder / name / f"{split}.parquet"))
            configs.append(f"  - split: {split}\n    path: {name}/{split}.parquet")
    (folder / "README.md").write_text("---\nconfigs:\n" + "\n".join(configs) + "\n---\n", encoding="utf-8")
    return folder
