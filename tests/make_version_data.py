"""Writes tests/data-of-versions/VERSION: a stopped run, its data and backbone, as this version of textune leaves them.

Run once for each release, by hand: `python tests/make_version_data.py`. Later versions must load, evaluate and resume
it (R20).
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from kits.backbones import tiny_backbone
from kits.runs import reviews, signal_after, write_csv

import textune
from textune.errors import Preempted
from textune.prediction.load import load
from textune.training.checkpoint import checkpoints_in
from textune.training.tensorfile import facts_of

PLACE = "/place"
"""Stands for the folder that all this was made in."""
TEXTS = ["a great and charming film", "the movie is dull", "a boring plot and a poor story", "fine"]
STOP = 29
CONFIG = """
[data.train]
files = "rows.csv"
[data.validation]
ratio = 0.25
[tokens]
max_length = 24
cache = "cache"
[model]
pretrained = "backbone"
compile = "off"
[train]
duration = "9 epochs"
batch_size = 15
precision = "fp32"
device = "cpu"
log_every = "1 steps"
evaluate_every = "3 steps"
[train.optimizer]
lr = 1e-2
[train.checkpoint]
every = "2 steps"
[evaluate]
bootstrap = 0
mistakes = 3
"""


def main() -> None:
    """Make it; an existing folder is never replaced."""
    target = Path(__file__).parent / "data-of-versions" / textune.__version__
    if target.exists():
        sys.exit(f"{target} is there already: what a version wrote stays as it is.")
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch) / "place"
        place.mkdir()
        write_csv(place / "rows.csv", reviews(80))
        (place / "config.toml").write_text(CONFIG.lstrip(), encoding="utf-8")
        keys = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
        tiny_backbone("bert", place / "backbone", **keys, max_position_embeddings=32)
        whole = textune.train(place / "config.toml", run=Path(scratch) / "whole")
        assert whole is not None
        stop(place)
        predictions = load(place / "run" / "best").predict(TEXTS)
        expected = {
            "stopped_at": STOP,
            "steps": whole.steps,
            "texts": TEXTS,
            "labels": [prediction.label for prediction in predictions],
            "scores": [round(prediction.score, 6) for prediction in predictions],
            "losses": losses(whole.run),
            "metrics": whole.reports["validation"].to_dict()["metrics"],
        }
        (place / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
        shutil.rmtree(place / "cache")
        (place / "run" / "lock").unlink()
        take_place_out(place)
        shutil.copytree(place, target)
    print(f"{target}: {sum(path.stat().st_size for path in target.rglob('*') if path.is_file()):,} bytes")


def stop(place: Path) -> None:
    """Train, and stop as a scheduler does."""
    try:
        textune.train(place / "config.toml", run=place / "run", after_step=signal_after({STOP: [signal.SIGTERM]}))
    except Preempted:
        return
    sys.exit("the run was not stopped")


def losses(run: Path) -> list[float]:
    """The loss of every step."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "step"]


def take_place_out(place: Path) -> None:
    """Nothing may tell where, or on what machine, this was made."""
    for path in place.rglob("*"):
        if path.suffix in (".json", ".toml", ".jsonl", ".md") and path.is_file():
            path.write_text(path.read_text(encoding="utf-8").replace(str(place), PLACE), encoding="utf-8")
    manifest = json.loads((place / "run" / "manifest.json").read_text())
    manifest |= {
        "machine": {"system": "Linux"},
        "git": {},
        "command": ["textune", "train", "config.toml", "--run", "run"],
    }
    (place / "run" / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    for _, checkpoint in checkpoints_in(place / "run" / "checkpoints"):
        tree = json.loads((checkpoint / "manifest.json").read_text())
        tree["files"] = {name: facts_of(checkpoint / name).to_dict() for name in tree["files"]}
        (checkpoint / "manifest.json").write_text(json.dumps(tree, indent=2) + "\n")


if __name__ == "__main__":
    main()
