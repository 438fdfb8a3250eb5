"""`python -m bench.int8 --data FOLDER --out FILE`: the export `onnx-int8` compared with PyTorch in fp32.

    onnx-int8   the exported folder, opened by textune
    textune     the run that it was exported from, opened by textune: PyTorch, fp32, packed batches
    pytorch     the same weights by `transformers.pipeline`: fp32, padded batches of 32, texts sorted by length
    unsorted    the same, texts as they come

MiniLM learns 8,000 rows of SST-2 first. Then each system predicts the dev set, all of them one after the other in each
round, so all see the same machine. FOLDER holds GLUE's SST-2 (`train.tsv`, `dev.tsv`).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

from bench.machine import processor, versions
from bench.rows import write_json
from bench.worker import ROOT, Json, Worker, run_module

TRAINING = ["train.duration=250 steps", "train.optimizer.lr=1e-4", "train.schedule.warmup=25 steps"]
RATIOS = ("textune", "pytorch", "unsorted")


def make_models(data: Path, folder: Path) -> tuple[Path, Path]:
    """The trained model and its export."""
    config = folder / "sst2.toml"
    files = [f'files = "{data / name}.tsv"' for name in ("train", "dev")]
    config.write_text(
        f'extends = "{ROOT / "examples" / "minilm.toml"}"\n'
        f'[data.train]\nkind = "files"\n{files[0]}\n'
        f'[data.validation]\nkind = "files"\n{files[1]}\n'
        '[data.columns]\ntext = "sentence"\nlabel = "label"\n'
        '[evaluate]\nmetric = "accuracy"\n',
        encoding="utf-8",
    )
    run_module("textune", "train", str(config), "--run", str(folder / "run"), *TRAINING)
    run_module("textune", "export", str(folder / "run"), "--to", "onnx-int8", "--out", str(folder / "int8"))
    return folder / "run" / "best", folder / "int8"


def read_dev(data: Path) -> tuple[list[str], list[str]]:
    """Texts and labels of the dev set."""
    lines = (data / "dev.tsv").read_text(encoding="utf-8").splitlines()[1:]
    pairs = [line.rsplit("\t", 1) for line in lines]
    return [text for text, _ in pairs], [label for _, label in pairs]


def measure(data: Path, rounds: int) -> Json:
    """Rows per second and accuracy of each system, and how many times as fast the export is."""
    texts, labels = read_dev(data)
    rates: dict[str, list[float]] = {}
    accuracy: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        model, exported = make_models(data, Path(name))
        usual: Json = {"device": "cpu", "max_length": 128}
        ours = {"onnx-int8": {"model": str(exported), "precision": "auto"}} | {
            "textune": {"model": str(model), "precision": "fp32"}
        }
        workers = {
            side: stack.enter_context(Worker("bench.sides.textune:predicting", usual | spec))
            for side, spec in ours.items()
        }
        plain = stack.enter_context(Worker("bench.sides.predictors:pipeline", usual | {"model": str(model)}))
        systems = {side: (worker, Json()) for side, worker in workers.items()} | {
            side: (plain, {"batch_size": 32, "by_length": side == "pytorch"}) for side in ("pytorch", "unsorted")
        }
        for turn in range(rounds + 1):  # the first one warms up whatever is made once for each length
            for side, (worker, options) in systems.items():
                reply = worker.ask(texts=texts, **options)
                found = [label.removeprefix("LABEL_") for label in reply["labels"]]
                accuracy[side] = sum(a == b for a, b in zip(found, labels, strict=True)) / len(labels)
                if turn:
                    rates.setdefault(side, []).append(len(texts) / reply["seconds"])
        facts = workers["onnx-int8"].facts
    pairs = {side: [a / b for a, b in zip(rates["onnx-int8"], rates[side], strict=True)] for side in RATIOS}
    return {
        "rows_per_second": {side: round(statistics.median(values), 1) for side, values in rates.items()},
        "times_as_fast_as": {side: round(statistics.median(values), 2) for side, values in pairs.items()},
        "pairs": {side: [round(value, 2) for value in values] for side, values in pairs.items()},
        "accuracy": {side: round(value, 4) for side, value in accuracy.items()},
        "threads": facts["threads"],
    }


def main() -> None:
    """Measure, print, and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    result = measure(options.data.resolve(), options.rounds)
    result |= {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": processor(),
        "versions": versions(("textune", "torch", "transformers", "onnxruntime")),
        "command": f"python -m bench.int8 --rounds {options.rounds}",
    }
    write_json(options.out, result)
    for side, times in result["times_as_fast_as"].items():
        print(f"onnx-int8 is {times:.2f} times as fast as {side}")
    for side, value in result["accuracy"].items():
        print(f"accuracy of {side}: {value:.4f}")


if __name__ == "__main__":
    main()
