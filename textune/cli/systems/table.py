"""Other systems by name: the words of `textune` that stand for their scripts and programs, and `textune convert NAME`.

To add a system, write its commands in a module beside this one, and a row in `SYSTEMS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field

import click


@dataclass(frozen=True)
class System:
    """The commands of one system, all in one module, which is imported when one of them is used."""

    module: str
    """Its module beside this one."""
    convert: str = ""
    """The name there of the command of `textune convert`; empty if there is none."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Words of `textune`, and the name there of the command that each stands for. Users may write a word as a path,
    with any folders before it, and with `.py` behind it. A word that is also one of textune's verbs has its folder
    with it, such as `bsmetadata/train`."""

    def command(self, name: str) -> click.Command:
        """A command of the module."""
        found = getattr(importlib.import_module(f"textune.cli.systems.{self.module}"), name)
        assert isinstance(found, click.Command)
        return found


SYSTEMS: dict[str, System] = {
    "bsmetadata": System(
        "bsmetadata",
        convert="convert_bsmetadata",
        words={"bsmetadata/train": "train_as_bsmetadata", "bsmetadata/evaluation": "evaluate_as_bsmetadata"},
    ),
    "training-wizard": System(
        "trainingwizard",
        convert="convert_training_wizard",
        words={
            "training-wizard": "train_as_training_wizard",
            "training_wizard": "train_as_training_wizard",
            "generator": "generator",
            "count-parameters": "count_parameters",
            "lora-info": "lora_info",
            "find-all-linear-names": "find_all_linear_names",
            "merge-adapter-main-models": "merge_adapter_main_models",
        },
    ),
    "azureml": System(
        "azureml",
        convert="convert_azureml",
        words={
            "text_classification_finetune": "finetune",
            "nlp_textclassification_multiclass": "multiclass",
            "nlp_textclassification_multilabel": "multilabel",
        },
    ),
    "huggingface": System(
        "huggingface",
        convert="convert_huggingface",
        words={name: name for name in ("run_glue", "run_glue_no_trainer", "run_classification", "run_xnli")},
    ),
    "azureml stages": System(
        "azuremlstages",
        words={
            "text_classification_model_import": "import_model",
            "text_classification_preprocess": "preprocess",
            "text_classification_datapreprocess": "preprocess",
            "text_classification_convert": "convert_model",
            "text_classification_pipeline": "pipeline",
        },
    ),
    "torchrecipes": System(
        "torchrecipes", convert="convert_torchrecipes", words={"torchrecipes": "train_as_torchrecipes"}
    ),
}
"""By the name that `textune convert` knows."""
OPTIONS_FIRST = {"torchrecipes": ("--config-name", "-cn", "--config-path", "-cp", "--config-dir")}
"""Programs that have no name: the options that one may begin with instead, by the word that stands for it."""


def with_its_word(words: list[str]) -> list[str]:
    """The words of a command, with the word of the program before options that are one's own."""
    first = words[0].partition("=")[0] if words else ""
    return [*(word for word, options in OPTIONS_FIRST.items() if first in options), *words]


def command_called(word: str) -> click.Command | None:
    """The command that a script or program of another system stands for, such as `bsmetadata/train.py`; None for any
    other word."""
    parts = word.replace("\\", "/").removesuffix(".py").split("/")
    for system in SYSTEMS.values():
        for known, name in system.words.items():
            if parts[-1 - known.count("/") :] == known.split("/"):
                return system.command(name)
    return None


def words_of_systems() -> list[str]:
    """Every word that stands for a script or program of another system."""
    return [word for system in SYSTEMS.values() for word in system.words]
