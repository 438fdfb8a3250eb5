"""The AzureML component as others start it: its documentation as a table, and the words of its command."""

import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import yaml

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
