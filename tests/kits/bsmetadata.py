"""The published configuration of bsmetadata and its DeepSpeed file, and a folder of shards for them."""

import gzip
import json
from pathlib import Path
from typing import Any

from textune.adapters.bsmetadata.convert import convert_bsmetadata
from textune.adapters.foreign import Foreign

V2 = Path(__file__).parents[1] / "adapters" / "bsmetadata" / "v2.yaml"
V2_ZERO = V2.with_suffix(".json")
TEST_FILE = "c4-en-html_cc-main-2019-18_pq00-000.jsonl.gz"


def v2(*words: str, **options: Any) -> Foreign:
    """The published files with words; where they disagree, DeepSpeed's numbers count."""
    return convert_bsmetadata(V2, words, **{"deepspeed": V2_ZERO, "prefer": "deepspeed", **options})


def value(foreign: Foreign, key: str) -> Any:
    """The value of a dotted key; None where there is no such line."""
    found = [line.value for line in foreign.lines if line.key == key]
    assert len(found) <= 1, f"{key} has several lines"
    return found[0] if found else None


def zero_file(folder: Path, **changes: Any) -> Path:
    """The published DeepSpeed file with other values, by dotted key; None removes one."""
    tree = json.loads(V2_ZERO.read_text(encoding="utf-8"))
    for key, new in changes.items():
        *parents, last = key.split(".")
        table = tree
        for part in parents:
            table = table.setdefault(part, {})
        table.pop(last, None)
        if new is not None:
            table[last] = new
    path = folder / "changed.json"
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def shards(folder: Path, *names: str, rows: int = 4) -> Path:
    """A folder of gzipped shards, each with a few documents with metadata in columns."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names):
        with gzip.open(folder / name, "wt", encoding="utf-8") as file:
            for row in range(rows):
                text = f"Document {row} of shard {number} is about apples and pears. " * 3
                tag = {"key": "html", "type": "local", "value": "b", "char_start_idx": 0, "char_end_idx": 8}
                tag |= {"relative_start_pos": 0, "relative_end_pos": 0, "html_attrs": {"attrs": [], "values": []}}
                title = {"key": "title", "type": "global", "value": f"Shard {number}"}
                document = {"text": text, "metadata_html": [tag], "metadata_title": [title] if row % 2 else []}
                file.write(json.dumps(document) + "\n")
    return folder
