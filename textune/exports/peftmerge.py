"""Adapters of peft put into the weights of the model that they stand beside: a plain Hugging Face folder.

A folder that textune wrote goes through `exporting.py`; this is for those of other programs, which have no card.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from textune.atomic import write_folder
from textune.config import user_path
from textune.errors import ModelError, RunError
from textune.exports.exporting import export
from textune.imports import import_quietly, quietly
from textune.jsontext import parse_json
from textune.model import CARD_NAME, quiet_transformers

WEIGHTS = "adapter_model.safetensors"
_HEADS = ("classifier", "score", "classification_head", "head")
_CLASSES = {
    "SEQ_CLS": "AutoModelForSequenceClassification",
    "SEQ_2_SEQ_LM": "AutoModelForSeq2SeqLM",
    "CAUSAL_LM": "AutoModelForCausalLM",
}
"""Classes of transformers by peft's `task_type`."""


def merge_adapters(adapters: str | Path, backbone: str, target: str | Path | None = None) -> Path:
    """Write the model that adapters and their backbone make together, in fp32; its folder.

    `adapters`: a folder of textune or of peft, whose weights are safetensors. `backbone`: a folder or a name on the
    hub. `target`: by default the name of `adapters` with `_merged` behind it. Raises RunError where the target exists
    or the folder holds no adapters, and ModelError where the two do not fit.
    """
    folder = user_path(adapters)
    out = user_path(f"{str(folder).rstrip('/')}_merged" if target is None else target)
    if out.exists():
        raise RunError(
            f"{out} exists; nothing is ever overwritten.", hint="Choose another name with -m.", value=str(out)
        )
    if not (folder / "adapter_config.json").is_file():
        raise RunError(f"{folder} holds no adapters: it has no adapter_config.json.", place=str(folder))
    if (folder / CARD_NAME).is_file():
        return export(folder, out, form="merged", on_notice=warnings.warn).folder
    if not (folder / WEIGHTS).is_file():
        hint = "Save them as safetensors: other files are pickles, which may run code."
        raise RunError(f"{folder} has no {WEIGHTS}.", hint=hint, place=str(folder))
    import_quietly("peft")
    merged, tokenizer = _merged(folder, backbone)

    def write(into: Path) -> None:
        merged.save_pretrained(into)
        tokenizer.save_pretrained(into)

    write_folder(out, write)
    return out


def _merged(folder: Path, backbone: str) -> tuple[Any, Any]:
    import torch
    import transformers
    from peft import PeftModel

    kind = str(parse_json((folder / "adapter_config.json").read_text(encoding="utf-8")).get("task_type"))
    reader = getattr(transformers, _CLASSES.get(kind, _CLASSES["SEQ_CLS"]))
    sizes = list(_head_sizes(folder))
    options: dict[str, Any] = {"num_labels": sizes[-1]} if sizes and reader.__name__.endswith("Classification") else {}
    try:
        with quiet_transformers(), quietly("peft"):
            model = reader.from_pretrained(backbone, dtype=torch.float32, use_safetensors=True, **options)
            tokenizer = transformers.AutoTokenizer.from_pretrained(backbone)
            return PeftModel.from_pretrained(model, str(folder)).merge_and_unload(), tokenizer
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(
            f"The adapters in {folder} do not fit {backbone}: {reason[:300]}",
            hint="Name the backbone that they were trained beside (base_model_name_or_path in adapter_config.json).",
            value=backbone,
            place=str(folder),
            reason=reason,
        ) from error


def _head_sizes(folder: Path) -> Iterator[int]:
    """Outputs of layers that were saved beside the adapters and are called like heads."""
    from safetensors import safe_open

    with safe_open(folder / WEIGHTS, "pt") as file:
        for name in sorted(file.keys()):
            if name.endswith(".weight") and "lora_" not in name and any(head in name for head in _HEADS):
                yield int(file.get_slice(name).get_shape()[0])
