"""Runs of torchrecipes for tests: the application of its documentation, and a folder that has what it needs."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Any

import transformers

from textune.adapters.foreign import Foreign
from textune.adapters.torchrecipes.command import named_recipe
from textune.adapters.torchrecipes.convert import Recipe, convert_torchrecipes

SEED = Path(__file__).parents[2].parent / "shared" / "seeds" / "001_d5c2ea0cb9a44fcf.txt"
"""The documentation of the recipe, where it lies beside the repository."""
CONF = "torchrecipes/text/doc_classification/conf"
APPLICATION = """
import torchx.specs as specs

ARGS = ["-m", "run", "--config-name", "train_app", "--config-path", "torchrecipes/text/doc_classification/conf"]

def torchx_app(image: str = "run.py:latest", *job_args: str) -> specs.AppDef:
    env = {"CONFIG_MODULE": "torchrecipes.text.doc_classification.conf", "MODE": "prod", "HYDRA_FULL_ERROR": "1"}
    role = specs.Role(name="run", image=image, entrypoint="python", args=[*ARGS, *job_args], env=env)
    return specs.AppDef(name="run", roles=[role])
"""
"""An application of the same form, written here."""
CPU_LINE = ("+tb_save_dir=tb",)
GPU_LINE = ("trainer=multi_gpu", "trainer.gpus=2", "+tb_save_dir=tb")


def documented_application() -> str:
    """The source of `torchx_app.py` in the documentation."""
    blocks = re.findall(r"```\n(.*?)```", SEED.read_text(encoding="utf-8"), re.DOTALL)
    [source] = [block for block in blocks if "def torchx_app" in block]
    return str(source)


def documented_words() -> list[tuple[str, ...]]:
    """Hydra's words of each `torchx run` in the documentation."""
    text = SEED.read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"```\n(torchx run.*?)```", text, re.DOTALL):
        words = re.sub(r"`#.*?`", "", block).replace("\\\n", " ").split()
        found.append(tuple(words[words.index("torchrecipes/launcher/torchx_app.py:torchx_app") + 1 :]))
    return found


def converted(name: str = "train_app", *words: str, **options: Any) -> Recipe:
    """A configuration that comes with textune, with words."""
    return convert_torchrecipes(named_recipe(name, CONF), words, **options)


def value(foreign: Foreign, key: str) -> Any:
    """The value of a line; None where there is no such line."""
    found = [line.value for line in foreign.lines if line.key == key]
    assert len(found) <= 1, f"{key} has several lines"
    return found[0] if found else None


def write_sst2(root: Path, rows: int = 24) -> None:
    """SST-2.zip where torchtext keeps it, below `root`."""
    header = "sentence\tlabel\n"
    lines = [f"a {'good' if row % 2 else 'bad'} film , number {row} \t{row % 2}\n" for row in range(rows)]
    folder = root / "SST2"
    folder.mkdir(parents=True)
    with zipfile.ZipFile(folder / "SST-2.zip", "w") as archive:
        archive.writestr("SST-2/train.tsv", header + "".join(lines))
        archive.writestr("SST-2/dev.tsv", header + "".join(lines[: rows // 3]))


def write_xlmr(folder: Path) -> Path:
    """A tiny XLM-R, built from the class of its configuration, with weights and tokenizer."""
    package = Path(__file__).parents[2] / "textune" / "presets" / "tiny" / "xlmr"
    tokenizer = transformers.AutoTokenizer.from_pretrained(package)
    config = transformers.XLMRobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    transformers.set_seed(0)
    transformers.XLMRobertaModel(config).save_pretrained(folder)
    tokenizer.model_max_length = 512
    tokenizer.save_pretrained(folder)
    return folder


def write_hub(cache: Path, name: str = "FacebookAI/xlm-roberta-base") -> None:
    """The tiny XLM-R in a cache of the hub, as if that name had been downloaded."""
    repository = cache / f"models--{name.replace('/', '--')}"
    write_xlmr(repository / "snapshots" / "0123456789abcdef0123456789abcdef01234567")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123456789abcdef0123456789abcdef01234567")
