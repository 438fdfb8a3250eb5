"""A plain Hugging Face folder from a run: its best model, or the model of a checkpoint from any kind of learner."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from textune.atomic import write_folder
from textune.config import Model, PythonModel, load_tree, user_path
from textune.errors import ConfigError, ModelError, RunError
from textune.inside import require_inside
from textune.model import (
    CARD_NAME,
    Device,
    FullTable,
    Kept,
    Recipe,
    TextModel,
    complete_model,
    load_model,
    load_tokenizer,
    prepare,
    skeleton,
)
from textune.owncode import require_allowed
from textune.prediction import read_card
from textune.run import state_of
from textune.training import KEPT_IDS, MANIFEST, MODEL, Checkpoint, newest, open_checkpoint, require_whole, weights_of


@dataclass(frozen=True)
class Exported:
    """What was written."""

    folder: Path
    step: int | None
    """Optimizer steps behind the model; None if its card does not say."""
    source: Path


def export(source: str | Path, target: str | Path, *, code: str | Sequence[str] = ()) -> Exported:
    """Write a model as a plain folder: the best one of a run, or that of its newest checkpoint if it has not evaluated
    yet, or that of one checkpoint.

    The folder is complete or absent. `code`: as in `textune.prediction.load`, for the model of a checkpoint. Raises
    RunError if there is no model, if the checkpoint is damaged, or if `target` exists.
    """
    source, target = user_path(source), user_path(target)
    if target.exists():
        raise RunError(
            f"--out {target} exists; nothing is ever overwritten.",
            hint="Choose another name.",
            key="out",
            value=str(target),
        )
    if not source.is_dir():
        raise RunError(
            f"{source} does not exist.",
            hint="Give a run folder, or a checkpoint such as runs/x/checkpoints/step-120.",
            place=str(source),
        )
    model = source if (source / CARD_NAME).is_file() else complete_model(source)
    if model is not None:
        if (model / MANIFEST).is_file():  # a checkpoint that holds only a model
            require_whole(model)
        write_folder(target, lambda folder: _copy_model(model, folder))
        return Exported(target, read_card(model).step, model)
    checkpoint = _find_checkpoint(source)
    written = _rebuild(checkpoint, [code] if isinstance(code, str) else code)
    write_folder(target, lambda folder: _save(written, checkpoint, folder))
    return Exported(target, checkpoint.step, checkpoint.folder)


def _find_checkpoint(source: Path) -> Checkpoint:
    if not (source / "checkpoints").is_dir():
        return open_checkpoint(source)
    found, passed = newest(source / "checkpoints")
    if found is None:
        raise RunError(
            " ".join([*passed, f"{source} has neither a best model nor a complete checkpoint."]),
            hint="Continue training with --resume.",
            place=str(source),
        )
    return found


def _copy_model(model: Path, folder: Path) -> None:
    """Links are followed only within the folder: it may come from anyone, and the copy may go to anyone."""
    for path in model.iterdir():
        try:
            require_inside(model, path)
        except ValueError as error:
            raise RunError(f"{model} is refused: {error}.", hint="Replace the link with the file itself.") from error
        if path.is_file() and path.name != MANIFEST:
            shutil.copy2(path, folder / path.name)


def _rebuild(checkpoint: Checkpoint, code: Sequence[str]) -> TextModel:
    """The model of a checkpoint, on the CPU, with the full table of token embeddings."""
    small = checkpoint.folder / "model"
    section = read_card(small).opened_in(small, compile="off")
    if isinstance(section, PythonModel):
        require_allowed([section.object], code, where=str(small / CARD_NAME))
    hf, config = skeleton(section)
    if KEPT_IDS in checkpoint.names:
        with torch.no_grad():
            hf.get_input_embeddings().weight.copy_(_full_table(checkpoint, config.num_labels))
    pooling = read_card(small).window_pooling
    model = TextModel(hf, pad_id=0, attention="auto" if pooling else "padded", compile="off")
    if pooling is not None:
        model.pool_windows(pooling)
    kept = Kept(checkpoint.read(KEPT_IDS).numpy()) if KEPT_IDS in checkpoint.names else FullTable("")
    prepare(model, Recipe(Device(torch.device("cpu"), "fp32"), vocabulary=kept))
    if KEPT_IDS in checkpoint.names:
        known = state_of(checkpoint).identity.token_embeddings
        if model.left_out_fingerprint != known:
            name = _backbone_of(checkpoint).pretrained
            raise ModelError(
                f"the token embeddings of {name} changed since the checkpoint {checkpoint.folder} was written, which"
                f" holds only"
                " those that the run trained.",
                hint="Restore the original backbone.",
                place=str(checkpoint.folder),
            )
    with torch.no_grad():
        for name, tensor in weights_of(model).items():
            tensor.copy_(checkpoint.read(MODEL + name))
    return model


def _full_table(checkpoint: Checkpoint, num_logits: int) -> torch.Tensor:
    """Every token embedding as the backbone of the run has it."""
    section = _backbone_of(checkpoint)
    card = read_card(checkpoint.folder / "model")
    try:
        tokenizer = load_tokenizer(section)
        model = load_model(section, tokenizer, label_maps=card.label_maps, num_logits=num_logits, seed=0)
    except (ModelError, ConfigError) as error:
        raise RunError(
            f"the checkpoint {checkpoint.folder} holds only the token embeddings that the run trained; the others are"
            f" read from"
            f" its backbone: {error.message}",
            hint="Put the backbone back where it was.",
        ) from error
    table: torch.Tensor = model.hf.get_input_embeddings().weight
    return table


def _backbone_of(checkpoint: Checkpoint) -> Model:
    """The backbone that the run was configured with."""
    return load_tree(dict(state_of(checkpoint).config), base=Path.cwd()).experiment.model


def _save(model: TextModel, checkpoint: Checkpoint, folder: Path) -> None:
    model.save(folder)
    for path in sorted((checkpoint.folder / "model").iterdir()):
        if f"model/{path.name}" not in checkpoint.files:  # no manifest vouches for it
            continue
        if path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copy2(path, folder / path.name)
    card = read_card(folder).model_copy(update={"step": checkpoint.step})
    (folder / CARD_NAME).write_text(card.model_dump_json(indent=2) + "\n", encoding="utf-8")
