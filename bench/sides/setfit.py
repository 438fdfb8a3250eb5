"""SetFit's own loop on the rows of one point of `bench.few`: `python -m bench.sides.setfit FOLDER BACKBONE SEED`.

Its settings are those of Tunstall et al. 2022 (arXiv:2209.11055): 20 pairs of each kind a row, one epoch, batches of
16 pairs, learning rate 2e-5, a logistic regression. Runs in an environment that has SetFit, so nothing of textune
is imported.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd


def main(folder: Path, backbone: str, seed: int) -> None:
    """Train and score; the last line printed is the result."""
    import transformers
    from transformers import training_args

    # SetFit 1.2.0 still imports what transformers 5 has taken away; neither changes what it computes.
    for module in (transformers, training_args, transformers.utils):
        if not hasattr(module, "default_logdir"):
            module.default_logdir = lambda: "logs"
    from datasets import Dataset
    from setfit import SetFitModel, Trainer, TrainingArguments

    train, test = (pd.read_csv(folder / f"{name}.csv", dtype=str, na_filter=False) for name in ("train", "test"))
    names = sorted(train.label.unique())
    ids = {name: index for index, name in enumerate(names)}
    rows = Dataset.from_dict({"text": list(train.text), "label": [ids[name] for name in train.label]})
    started = time.perf_counter()
    model = SetFitModel.from_pretrained(backbone)
    arguments = TrainingArguments(
        output_dir=str(folder / "setfit"),
        batch_size=16,
        num_epochs=1,
        num_iterations=20,
        body_learning_rate=2e-5,
        seed=seed,
        sampling_strategy="oversampling",
        report_to="none",
        save_strategy="no",
        show_progress_bar=False,
    )
    Trainer(model=model, args=arguments, train_dataset=rows).train()
    trained = time.perf_counter()
    given = [names[int(index)] for index in model.predict(list(test.text))]
    accuracy = sum(a == b for a, b in zip(given, test.label, strict=True)) / len(test)
    ended = time.perf_counter()
    packages = ("setfit", "sentence-transformers", "transformers", "torch")
    result = {
        "accuracy": accuracy,
        "seconds": round(ended - started, 1),
        "training_seconds": round(trained - started, 1),
        "versions": {name: version(name) for name in packages},
    }
    print(json.dumps(result, allow_nan=False))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
