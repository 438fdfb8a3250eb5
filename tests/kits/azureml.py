"""The AzureML component as others start it: its documentation as a table, and the words of its command."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer

from kits.backbones import tiny_backbone
from kits.runs import reviews, write_jsonl
from textune.adapters.azureml.finetune import convert_finetune, read_finetune
from textune.adapters.foreign import Foreign

SEED = Path(__file__).parents[2].parent / "shared" / "seeds" / "002_c14caad0c86c44ec.txt"
"""The component's documentation; beside the repository, or absent."""
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_PORT = re.compile(r"\$\{\{\s*(inputs|outputs)\.(\w+)\s*\}\}")


def documented_inputs() -> dict[str, dict[str, str]]:
    """The rows of the tables of inputs in the documentation, by name: cells by column."""
    text = SEED.read_text(encoding="utf-8").partition("## Outputs")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    columns: list[str] = []
    found = {}
    for row in rows:
        if row[0] == "Name":
            columns = row
        elif not set(row[0]) <= set("- "):
            found[row[0]] = dict(zip(columns, row, strict=True))
    return found


def component_words(component: str, ports: Mapping[str, object]) -> list[str]:
    """The words that AzureML starts for the text of a component file and values of its inputs and outputs: a part in
    `$[[...]]` is left out where its input has neither a value nor a default."""
    tree = yaml.safe_load(component)
    values = {name: one["default"] for name, one in tree["inputs"].items() if "default" in one} | dict(ports)

    def optional(match: re.Match[str]) -> str:
        return match[1] if all(name in values for _, name in _PORT.findall(match[1])) else ""

    command = _OPTIONAL.sub(optional, tree["command"])
    return shlex.split(_PORT.sub(lambda match: str(values[match[2]]), command))


def stage_folders(home: Path, *, num_rows: int = 24, validation: bool = True, **args: Any) -> dict[str, str]:
    """What the stages before the component write: a tiny model as `model_selector_output`, and rows encoded with its
    tokenizer as `preprocess_output`; their paths by input. `args`: further keys of `preprocess_args.json`."""
    model = home / "selected" / "tiny"
    if not model.is_dir():
        model.parent.mkdir(parents=True)
        tiny_backbone("bert", model)
        write_json(model.parent / "model_selector_args.json", {"model_name": "tiny", "model_type": "bert"})
    folder = home / f"preprocessed{num_rows}{'' if validation else '-alone'}"
    folder.mkdir()
    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.save_pretrained(folder)
    names = ["neg", "pos"]
    for file, number in (("train.jsonl", num_rows), ("valid.jsonl", num_rows // 2))[: 1 + validation]:
        rows = reviews(number, seed=number)
        made = [{**tokenizer(row["text"], truncation=True, max_length=24), "text": row["text"]} for row in rows]
        labelled = [one | {"labels": names.index(row["label"])} for one, row in zip(made, rows, strict=True)]
        write_jsonl(folder / file, labelled)
    write_json(folder / "class_names.json", {"class_names": names})
    write_json(
        folder / "preprocess_args.json",
        {
            "encoded_train_data_fname": "train.jsonl",
            "sentence1_key": "text",
            "label_key": "label",
            "max_seq_length": 24,
            "model_type": "bert",
            **({"encoded_validation_data_fname": "valid.jsonl"} if validation else {}),
            **args,
        },
    )
    return {"preprocess_output": str(folder), "model_selector_output": str(model.parent)}


def write_json(path: Path, tree: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(tree), encoding="utf-8")
    return path


def as_words(inputs: Mapping[str, object]) -> list[str]:
    """Inputs as words of a command line."""
    return [word for name, value in inputs.items() for word in (f"--{name}", str(value))]


def finetune(folders: Mapping[str, str], given: Mapping[str, object] | None = None, **options: Any) -> Foreign:
    """What the component's inputs become, for two processes and a machine without bf16."""
    inputs = read_finetune({**folders, **(given or {})})
    return convert_finetune(inputs, **{"processes": 2, "half": "fp16", **options})
