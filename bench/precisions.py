"""One trained model in every precision: its main metric on its test rows, and how far probabilities move from those of fp32.

`python -m bench.precisions RUN TEXTS` takes a run folder with test rows and a file of texts, one a line. A precision that this
processor lacks is left out.
"""

from __future__ import annotations

import argparse
import platform
from pathlib import Path
from typing import Literal

import numpy as np
import torch

import textune
from textune.errors import TextuneError

PRECISIONS: tuple[Literal["fp32", "bf16", "int8"], ...] = ("fp32", "bf16", "int8")


def main() -> None:
    """Evaluate, score and print one line for each precision."""
    parser = argparse.ArgumentParser(prog="python -m bench.precisions", description=__doc__)
    parser.add_argument("run", help="run folder")
    parser.add_argument("texts", type=Path, help="file of texts, one a line")
    arguments = parser.parse_args()
    try:
        texts = arguments.texts.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"{arguments.texts} cannot be read: {error}")
    print(f"{platform.processor() or platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, {len(texts):,} texts")
    exact: np.ndarray | None = None
    for precision in PRECISIONS:
        try:
            scores = textune.load(arguments.run, device="cpu", precision=precision).score(texts)
            value = textune.evaluate(arguments.run, device="cpu", precision=precision).value
        except TextuneError as error:
            print(f"{precision}: {error}")
            continue
        exact = scores if exact is None else exact
        moved, turned = np.abs(scores - exact), scores.argmax(1) != exact.argmax(1)
        print(
            f"{precision}: main metric {value:.4f}; from fp32 {moved.max():.4f} at most, {moved.mean():.5f} on average;"
            f" {turned.sum()} of {len(texts):,} labels turned"
        )


if __name__ == "__main__":
    main()
