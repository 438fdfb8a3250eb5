"""The flags of bsmetadata's `evaluation.py`, and what each becomes of `textune evaluate RUN --by-metadata`."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from textune.adapters.foreign import LeftOut

NUM_IN_TEST = 10
"""Documents of `--test`."""
_TYPES = "html,entity_paragraph,website_desc,generation_datasource,timestamp,title,generation_length_text"
_SUBFOLDER = "checkpoint-2500step"


@dataclass(frozen=True)
class Flag:
    """One flag."""

    default: Any
    """Its type is that of the values; a flag whose default is false takes none."""
    becomes: str = ""
    """What it does here, in words."""
    unused: str = ""
    """Why it does nothing."""

    @property
    def help(self) -> str:
        """For whoever asks."""
        return self.becomes or f"Not used: {self.unused}."


FLAGS: dict[str, Flag] = {
    "repo_id": Flag("bs-modeling-metadata/checkpoints_all_04_23", "RUN: the folder of a run or a model."),
    "subfolder": Flag(_SUBFOLDER, "A folder within it."),
    "config_file_path": Flag("", unused="textune.json of the model says how documents are rendered"),
    "output_file": Flag("evaluation.txt", "--out; as Markdown, unless it ends in .json."),
    "no_cuda": Flag(False, "--device cpu."),
    "save_data": Flag(False, unused="losses of single tokens are not written"),
    "test": Flag(False, f"--max-documents {NUM_IN_TEST}."),
    "max_n_examples": Flag(1500, "--max-documents."),
    "metadata_to_test": Flag(_TYPES, "--type, once for each."),
    "test_aforesaid_metadata_together": Flag(
        False, unused="documents that have all of the types are a group of their own in any case"
    ),
    "include_chunked_examples": Flag(False, "--chunks first."),
    "dedupe": Flag(False, "--dedupe."),
    "untrained": Flag(False, "--untrained, beside the trained model."),
    "untrained_model_name": Flag("gpt2-xl", "The name that --untrained gets."),
    "prompt": Flag(False, "--prompt, beside the usual prefix."),
}
"""By name."""


@dataclass(frozen=True)
class Evaluation:
    """A call of `textune evaluate`."""

    words: tuple[str, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    """What is done otherwise, as sentences."""


def read_flags(given: Mapping[str, Any]) -> Evaluation:
    """The call for these flags; `given`: those that were, by name."""
    flags = {name: given.get(name, flag.default) for name, flag in FLAGS.items()}
    notes: list[str] = []
    out, _, ending = str(flags["output_file"]).rpartition(".")
    if ending not in ("md", "json"):
        flags["output_file"] = f"{out or ending}.md"
        notes.append(f"The result is written to {flags['output_file']}, as Markdown.")
    words = [_model(flags, given), "--by-metadata", "--out", flags["output_file"]]
    words += ["--max-documents", str(NUM_IN_TEST if flags["test"] else flags["max_n_examples"])]
    for name in filter(None, (name.strip() for name in flags["metadata_to_test"].split(","))):
        words += ["--type", name]
    if flags["include_chunked_examples"]:
        words += ["--chunks", "first"]
    else:
        notes.append("Documents of several chunks are scored as a whole; there they are left out.")
    if flags["untrained"]:
        words += ["--untrained", flags["untrained_model_name"]]
    words += ["--dedupe"] * flags["dedupe"] + ["--prompt"] * flags["prompt"]
    words += ["--device", "cpu"] if flags["no_cuda"] else []
    left_out = [LeftOut(f"--{name}", flag.unused) for name, flag in FLAGS.items() if flag.unused and given.get(name)]
    return Evaluation(tuple(words), tuple(left_out), tuple(notes))


def _model(flags: Mapping[str, Any], given: Mapping[str, Any]) -> str:
    """The folder of the model; the usual subfolder belongs to the usual repository alone."""
    repository, subfolder = str(flags["repo_id"]), str(flags["subfolder"])
    return repository if "repo_id" in given and "subfolder" not in given else os.path.join(repository, subfolder)
