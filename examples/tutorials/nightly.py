"""A nightly job: train on all labelled rows, keep the better model, score the rows of the day.

    python nightly.py FOLDER [NIGHT]

FOLDER holds config.toml, with a file of test rows (`data.test`), and incoming.csv. Each night has its run in
FOLDER/models/NIGHT; FOLDER/models/current leads to the one that is used. The same command again goes on where it was
stopped. It reads the exit codes and the JSON of textune and nothing else, and ends with 0 (done), 2 (somebody has to
mend something) or 75 (try again later).
"""

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

AGAIN = 75


def textune(*words: str | Path) -> dict[str, Any]:
    """The JSON document of a command. Where the command fails, this job ends: with 75 if trying again may help."""
    command = [sys.executable, "-m", "textune", *map(str, words), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    if done.returncode < 0 or not done.stdout:  # killed by the system, as where memory runs out
        print(f"{words[0]}: ended with {done.returncode}")
        sys.exit(AGAIN)
    document: dict[str, Any] = json.loads(done.stdout)
    if not document["ok"]:
        error = document["error"]
        print(f"{words[0]}: {error['message']} {error['hint']}")
        sys.exit(AGAIN if error["try_again"] else 2)
    return document


def is_worse(models: Path, night: str) -> bool:
    """Whether the model of the night is worse than the current one on the same test rows, by more than chance."""
    compared = textune("compare", models / "current", models / night, "--set", "test")["sets"]["test"]
    against = compared["against"][night]
    main = against["main"]
    print(f"compare: {main['metric']} {main['first']:.4f} -> {main['other']:.4f} on the test rows")
    return bool(against["differs"]) and (main["difference"] < 0) == compared["higher_is_better"]


def publish(models: Path, night: str) -> None:
    """Let `current` lead to the run of the night. Whoever opens it sees the old model or the new one, never half."""
    (models / "next").unlink(missing_ok=True)
    (models / "next").symlink_to(night)
    os.replace(models / "next", models / "current")


def main(folder: Path, night: str) -> None:
    models, config = folder / "models", folder / "config.toml"
    for finding in textune("check", config, "--no-timing")["findings"]:
        if finding["level"] == "warning":
            print(f"check: {finding['message']}")
    result = textune("train", config, "--run", models / night, "--resume", "auto")
    score = result["reports"]["test"]["main"]
    print(f"train: {score['metric']} {score['value']:.4f} on the test rows")
    if not (models / "current").exists():
        publish(models, night)
    elif (models / "current").resolve().name != night:
        if is_worse(models, night):
            print("the current model stays")
        else:
            publish(models, night)
    scored = folder / f"scored-{night}.csv"
    done = textune("predict", models / "current", "--data", folder / "incoming.csv", "--output", scored, "--force")
    print(f"predict: {done['rows']} rows")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else datetime.date.today().isoformat())
