"""`python -m bench.sides.firstrun SPEC.json`: a first run from rows to a saved model with `transformers.Trainer`;
none of textune's code.

The specification has what another system's own code would compute: its batches, padding, schedule, and how often it
evaluates and saves. The last line of the output is JSON: the accuracy on the validation rows.
"""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import transformers
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

Json = dict[str, Any]


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


def main() -> None:
    """Train, evaluate, save."""
    spec = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    transformers.set_seed(spec["arguments"]["seed"])
    tokenizer = AutoTokenizer.from_pretrained(spec["model"])
    model = AutoModelForSequenceClassification.from_pretrained(spec["model"], num_labels=2)
    sets = {name: read_rows(Path(spec[name])) for name in ("train", "validation")}
    if spec["tokenises"] == "in the collator":
        collator: Any = InCollator(tokenizer, spec["max_length"])
    else:
        collator = DataCollatorWithPadding(tokenizer)
        for rows in sets.values():
            for row in rows:
                padding = spec["padding"] == "max_length" and "max_length"
                row |= tokenizer(row.pop("text"), truncation=True, max_length=spec["max_length"], padding=padding)
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


if __name__ == "__main__":
    main()
