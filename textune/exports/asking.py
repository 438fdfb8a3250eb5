"""`python -m textune.exports.asking FOLDER`: the process of the gate that opens an export and answers; started by
`parity.py`, which puts `request.json` and the rows there and finds the answers."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from textune.atomic import write_text
from textune.errors import TextuneError
from textune.exports.table import asker_of
from textune.jsontext import parse_json
from textune.prediction import read_probe

REQUEST = "request.json"
REFUSAL = "refusal.json"
REFUSED = 3
"""Exit code where an asker says why it cannot answer."""


def main(place: Path) -> int:
    """Answer every request of the folder; the exit code."""
    told = parse_json((place / REQUEST).read_text(encoding="utf-8"))
    probe = read_probe(place)
    assert probe is not None
    for number, asked in enumerate(told["asked"]):
        try:
            found = asker_of(asked["function"])(
                Path(told["folder"]), probe, alone=asked["alone"], code=tuple(told["code"])
            )
        except TextuneError as error:
            said = {"number": number, "message": error.message, "hint": error.hint}
            write_text(place / REFUSAL, json.dumps(said, allow_nan=False))
            return REFUSED
        arrays = {f"scores_{index}": np.asarray(of_head) for index, of_head in enumerate(found.values())}
        np.savez(place / f"answers-{number}.npz", heads=np.array(list(found)), **arrays)  # type: ignore[arg-type]
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
