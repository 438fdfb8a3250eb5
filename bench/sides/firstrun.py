"""`python -m bench.sides.firstrun SPEC.json [STAGE]`: a first run from rows to a saved model with
`transformers.Trainer`; none of textune's code.

The specification has what another system's own code would compute: its batches, padding, schedule, and how often it
evaluates and saves. The last line of the output is JSON: the accuracy on the validation rows.

    import       copy the model, once its configuration and tokenizer can be opened
    preprocess   tokenise the rows and write them
    finetune     train on the rows that were written

Without a stage, one process does all of it. AzureML's component runs the stages as three jobs.
"""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

Json = dict[str, Any]

SETS = ("train", "validation")


def read_rows(path: Path) -> list[Json]:
    """Texts and numbers of labels; columns `text` and `label`, tab-separated."""
    with path.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [{"text": row["text"], "labels": int(row["label"])} for row in found]


class InCollator:
    """Tokenises each batch when it is needed, as training-wizard does."""

    def __init__(self, tokenizer: Any, max_length: int) -> None:
        self._tokenizer, self._max_length = tokenizer, max_length

    def __call__(self, rows: list[Json]) -> Any:
        texts = [row["text"] for row in rows]
        batch = self._tokenizer(texts, truncation=True, max_length=self._max_length, padding=True, return_tensors="pt")
        import torch

        batch["labels"] = torch.tensor([row["labels"] for row in rows])
        return batch


def accuracy(output: Any) -> dict[str, float]:
    """As the other systems count it."""
    return {"accuracy": float((np.argmax(output.predictions, -1) == output.label_ids).mean())}


def encode(spec: Json, name: str, tokenizer: Any) -> list[Json]:
    """A set with token ids in place of its texts."""
    padding = spec["padding"] == "max_length" and "max_length"
    rows = read_rows(Path(spec[name]))
    for row in rows:
        row |= tokenizer(row.pop("text"), truncation=True, max_length=spec["max_length"], padding=padding)
    return rows


def import_model(spec: Json) -> None:
    """The first stage."""
    AutoConfig.from_pretrained(spec["model"], num_labels=2)
    AutoTokenizer.from_pretrained(spec["model"])
    shutil.copytree(spec["model"], "imported")


def preprocess(spec: Json) -> None:
    """The second stage."""
    tokenizer = AutoTokenizer.from_pretrained("imported")
    for name in SETS:
        lines = [json.dumps(row, allow_nan=False) for row in encode(spec, name, tokenizer)]
        Path(f"encoded-{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def read_encoded(name: str) -> list[Json]:
    """What the second stage wrote."""
    return [json.loads(line) for line in Path(f"encoded-{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def train(spec: Json, *, staged: bool) -> None:
    """Train, evaluate, save. `staged`: the model and the rows are those of the stages before."""
    transformers.set_seed(spec["arguments"]["seed"])
    source = "imported" if staged else spec["model"]
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=2)
    collator: Any = DataCollatorWithPadding(tokenizer)
    if staged:
        sets = {name: read_encoded(name) for name in SETS}
    elif spec["tokenises"] == "in the collator":
        collator = InCollator(tokenizer, spec["max_length"])
        sets = {name: read_rows(Path(spec[name])) for name in SETS}
    else:
        sets = {name: encode(spec, name, tokenizer) for name in SETS}
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            spec["out"],
            use_cpu=True,
            report_to="none",
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            **spec["arguments"],
        ),
        train_dataset=sets["train"],
        eval_dataset=sets["validation"],
        data_collator=collator,
        processing_class=tokenizer,
        compute_metrics=accuracy,
    )
    trainer.train()
    found = trainer.evaluate()
    trainer.save_model()
    print(json.dumps({"accuracy": found["eval_accuracy"]}, allow_nan=False))


def main(file: str, stage: str = "") -> None:
    """Do a stage, or all of it in one go."""
    spec = json.loads(Path(file).read_text(encoding="utf-8"))
    if stage == "import":
        import_model(spec)
    elif stage == "preprocess":
        preprocess(spec)
    else:
        train(spec, staged=stage == "finetune")


if __name__ == "__main__":
    main(*sys.argv[1:])
