"""Memory that preparing and auditing rows takes: so many bytes a row, whatever else the machine does."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

MAX_BYTES_A_ROW = 260
"""Of texts of 34 characters, which are 60 bytes a row in Arrow with their label and number. 210 where this was
made."""

PREPARE = """
import resource, sys
from textune.config.schema import DataSection
from textune.data.inspect.audit import audit_data
from textune.data.prepare import prepare_data

halves = {"kind": "split", "ratio": 0.1}
train = {"kind": "files", "files": [sys.argv[1]]}
section = DataSection.model_validate({"train": train, "validation": halves, "test": halves})
findings = audit_data(prepare_data(section, kind="auto"))
assert {finding.level for finding in findings} == {"note"}, findings
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024))
"""


def write_rows(path: Path, num: int) -> Path:
    words = ["a", "fine", "film", "with", "a", "dull", "plot", "and", "very", "good", "acting"]
    with path.open("w", encoding="utf-8") as file:
        if path.suffix == ".csv":
            file.write("id,text,label\n")
        for number in range(num):
            text = f"{' '.join(words[number % 5 : number % 5 + 6])} {number}"
            label = "pos" if number % 2 else "neg"
            if path.suffix == ".csv":
                file.write(f"{number},{text},{label}\n")
            else:
                file.write(json.dumps({"id": number, "text": text, "label": label}) + "\n")
    return path


def peak_bytes(path: Path) -> int:
    done = subprocess.run([sys.executable, "-c", PREPARE, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_a_million_more_rows_take_so_much_more_memory(tmp_path: Path, ending: str) -> None:
    few, many = (peak_bytes(write_rows(tmp_path / f"{num}.{ending}", num)) for num in (1_000_000, 2_000_000))
    a_row = (many - few) / 1_000_000
    print(f"{ending}: {few / 1e6:,.0f} MB, {many / 1e6:,.0f} MB, {a_row:.0f} bytes a row")
    assert 60 < a_row < MAX_BYTES_A_ROW
