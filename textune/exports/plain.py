"""From a run to a plain Hugging Face folder, which every export begins with: the best model of the run, or that of a
checkpoint from any kind of learner; below `exporting.py`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import torch

from textune.config import Model, ModelSection, PythonModel, Quantize, load_config, load_tree
from textune.errors import ConfigError, ModelError, RunError
from textune.inside import require_inside
from textune.model import (
    CARD_NAME,
    Adapting,
    Device,
    FullTable,
    Kept,
    Recipe,
    TextModel,
    complete_model,
    find_pretrained,
    language_skeleton,
    load_language_model,
    load_model,
    load_tokenizer,
    merging_change,
    prepare,
    read_config,
    skeleton,
)
from textune.owncode import require_allowed
from textune.prediction import (
    ModelCard,
    Probe,
    Scorer,
    load_scorer,
    read_card,
    read_probe,
    settle_copy,
    write_card,
)
from textune.run import Identity, state_of
from textune.training import (
    KEPT_IDS,
    MANIFEST,
    MODEL,
    Checkpoint,
    newest,
    open_checkpoint,
    require_whole,
    weights_of,
)

Form: TypeAlias = Literal["merged", "adapter"]
"""Whole weights, or adapters and what was trained beside them."""


@dataclass(frozen=True)
class Source:
    """A model that can be exported, and how it becomes a plain folder."""

    folder: Path
    """Its model folder, or its checkpoint."""
    card: ModelCard
    form: Form
    step: int | None
    """Optimizer steps behind the model; None if its card does not say."""
    is_plain: bool
    """Whether `folder` is already what `write` would write."""
    probe: Probe | None
    """The rows beside the model, or beside the best model of the checkpoint's run."""
    is_rescored: bool
    """Whether the scores of the probe are those of another model: what is written has to be asked first."""
    write: Callable[[Path], None]
    """Writes the plain folder, which must exist."""


def find_source(source: Path, *, code: Sequence[str], form: Form | None) -> Source:
    """The model of a run (its best, or its newest checkpoint's if it has not evaluated yet), of a checkpoint or of a
    model folder. Errors as `export`; nothing is written."""
    if not source.is_dir():
        raise RunError(
            f"{source} does not exist.",
            hint="Give a run folder, or a checkpoint such as runs/x/checkpoints/step-120.",
            place=str(source),
        )
    model = source if (source / CARD_NAME).is_file() else complete_model(source)
    return _of_checkpoint(source, code, form) if model is None else _of_model(source, model, code, form)


def _of_model(source: Path, model: Path, code: Sequence[str], form: Form | None) -> Source:
    if (model / MANIFEST).is_file():  # a checkpoint that holds only a model
        require_whole(model)
    card = read_card(model)
    if card.exported is not None:
        raise RunError(
            f"{model} was exported as {card.exported.kind}: it no longer holds the weights that an export is made of.",
            hint="Export the run that it came from.",
            place=str(model),
            reason=f"exported as {card.exported.kind}",
        )
    chosen = _form(form, None if card.adapters is None else card.adapters.merge, source, model)
    is_merged = card.adapters is not None and chosen == "merged"

    def write(folder: Path) -> None:
        if not is_merged:
            _copy_model(model, folder)
            return
        scorer = load_scorer(model, device="cpu", precision="fp32", compile="off", code=code)
        _save_merged(scorer, card, folder)

    few_bits = card.adapters is not None and card.adapters.quantize is not None
    return Source(
        folder=model,
        card=card,
        form=chosen,
        step=card.step,
        is_plain=not is_merged,
        probe=read_probe(model),
        is_rescored=few_bits,  # numbers of few bits are other ones on other devices, and in fp32
        write=write,
    )


def _of_checkpoint(source: Path, code: Sequence[str], form: Form | None) -> Source:
    checkpoint = _find_checkpoint(source)
    written = _rebuild(checkpoint, code)
    merge = None if written.adapters is None else written.adapters.lora.merge
    chosen = _form(form, merge, source, checkpoint.folder)
    best = complete_model(checkpoint.folder.absolute().parent.parent)
    return Source(
        folder=checkpoint.folder,
        card=read_card(checkpoint.folder / "model"),
        form=chosen,
        step=checkpoint.step,
        is_plain=False,
        probe=None if best is None else read_probe(best),
        is_rescored=True,
        write=lambda folder: _save(written, checkpoint, folder, chosen),
    )


def _form(asked: Form | None, merge: str | None, source: Path, model: Path) -> Form:
    """What is written of `model`, which `source` holds; `merge` is the `model.lora.merge` of its adapters, None where
    it has none."""
    if asked == "adapter" and merge is None:
        raise RunError(
            f"--adapter: {model} has no adapters: it was trained without model.lora, or they are in its weights.",
            hint=_where_adapters_are(source),
            key="form",
            value="adapter",
            place=str(model),
            reason="no adapters",
        )
    return asked or ("adapter" if merge == "off" else "merged")


def _where_adapters_are(source: Path) -> str:
    """What to do where the model of a run, or of any folder, has no adapters of its own."""
    kept = 'train with model.lora.merge = "off", which keeps adapters apart'
    if not (source / "config.toml").is_file():
        return f"Leave --adapter out, or {kept}."
    section = load_config(source / "config.toml").experiment.model
    if not (isinstance(section, ModelSection) and section.lora is not None):
        return "Leave --adapter out: the run was trained without model.lora."
    saved, _ = newest(source / "checkpoints")
    if saved is None:
        return f"Leave --adapter out, or {kept}."
    return f"A checkpoint still has them: `textune export {saved.folder} --adapter --out FOLDER`."


def _save_merged(scorer: Scorer, card: ModelCard, folder: Path) -> None:
    scorer.save(folder, merge=True)
    change = read_card(folder).merge_change
    write_card(card.model_copy(update={"adapters": None, "merge_change": change}), folder)


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
    settle_copy(model, folder)


def _rebuild(checkpoint: Checkpoint, code: Sequence[str]) -> TextModel:
    """The model of a checkpoint, on the CPU, with the full table of token embeddings, and with its adapters beside the
    weights of its backbone."""
    state, leans = state_of(checkpoint), KEPT_IDS in checkpoint.names
    run = load_tree(dict(state.config), base=Path.cwd()).experiment
    section = _as_it_lies(run.model, checkpoint, state.folder)
    lora = section.lora if isinstance(section, ModelSection) else None
    quantize = _as_in_run(section, checkpoint)
    if leans or state.identity.frozen_weights or lora is not None:
        model = _on_backbone(checkpoint, section, code, seed=run.train.seed)
    else:
        model = _from_skeleton(checkpoint, code)
    kept = Kept(checkpoint.read(KEPT_IDS).numpy()) if leans else FullTable("")
    adapting = None if lora is None else Adapting(lora, run.train.seed)
    recipe = Recipe(Device(torch.device("cpu"), "fp32"), quantize=quantize, adapting=adapting, vocabulary=kept)
    prepare(model, recipe)
    if model.low_bits is not None and quantize is None:  # how far merging moves logits is seen from the run
        model.low_bits.compute_in(read_card(checkpoint.folder / "model").precision)
    held = _require_backbone_of(checkpoint, model, state.identity, name=section.name)
    with torch.no_grad():
        for name, tensor in held.items():
            tensor.copy_(checkpoint.read(MODEL + name))
    return model


def _as_it_lies(section: Model, checkpoint: Checkpoint, run: str) -> Model:
    """The section with its backbone where it was, or else where it lies as seen from the run folder, which was `run`
    when the checkpoint was written: both may have moved together."""
    was = Path(section.pretrained)
    if not (run and was.is_absolute()) or was.is_dir():
        return section
    near = os.path.normpath(checkpoint.folder.resolve().parent.parent / os.path.relpath(was, run))
    return section.model_copy(update={"pretrained": near}) if Path(near).is_dir() else section


def _as_in_run(section: Model, checkpoint: Checkpoint) -> Quantize | None:
    """How the weights of few bits of a run were made and computed; None where it had none."""
    quantize = section.quantize if isinstance(section, ModelSection) else None
    if quantize is None or quantize.compute != "auto":
        return quantize
    return quantize.model_copy(update={"compute": read_card(checkpoint.folder / "model").precision})


def _from_skeleton(checkpoint: Checkpoint, code: Sequence[str]) -> TextModel:
    """A model whose weights mean nothing yet, for a checkpoint that holds them all."""
    small = checkpoint.folder / "model"
    card = read_card(small)
    section = card.opened_in(small, compile="off")
    _require_code(section, code, small)
    pooling = card.window_pooling
    hf = skeleton(section) if not card.is_language_model else language_skeleton(section)
    model = TextModel(hf, pad_id=0, attention="auto" if pooling else "padded", compile="off")
    if pooling is not None:
        model.pool_windows(pooling)
    return model


def _on_backbone(checkpoint: Checkpoint, section: Model, code: Sequence[str], *, seed: int) -> TextModel:
    """The model as the run began with it: a checkpoint that holds only what is trained leans on its backbone.

    Code that comes with the backbone is not run, whatever the run allowed: the checkpoint may come from anybody.
    """
    small = checkpoint.folder / "model"
    card = read_card(small)
    _require_code(section, code, small)
    trusted, section = section.trust_remote_code, section.model_copy(update={"trust_remote_code": False})
    try:
        tokenizer = load_tokenizer(section)
        if card.is_language_model:
            return load_language_model(section, tokenizer, seed=seed)
        return load_model(
            section,
            tokenizer,
            label_maps=card.label_maps,
            num_logits=read_config(find_pretrained(str(small), section, key="model.pretrained")).num_labels,
            seed=seed,
            pooling=card.window_pooling,
        )
    except (ModelError, ConfigError) as error:
        hint = error.hint
        if error.value == section.pretrained:  # there is no such folder
            hint = "Put the backbone back where it was (a link to where it is now will do), or move both together."
        elif trusted:
            hint += " An export runs no code that comes with a backbone, although model.trust_remote_code was set."
        raise RunError(
            f"the checkpoint {checkpoint.folder} holds only what the run trained; the other weights are read from its"
            f" backbone: {error.message}",
            hint=hint,
            key="model.pretrained",
            value=section.pretrained,
            place=str(checkpoint.folder),
        ) from error


def _require_code(section: Model, code: Sequence[str], small: Path) -> None:
    if isinstance(section, PythonModel):
        require_allowed([section.object], code, where=str(small / CARD_NAME))


def _require_backbone_of(
    checkpoint: Checkpoint, model: TextModel, known: Identity, *, name: str
) -> dict[str, torch.Tensor]:
    """The tensors of `model` that the checkpoint holds; ModelError where the others, of the backbone `name`, are not
    those that the run had."""
    if KEPT_IDS in checkpoint.names and model.left_out_fingerprint != known.token_embeddings:
        raise ModelError(
            f"the token embeddings of {name} changed since the checkpoint {checkpoint.folder} was written, which holds"
            " only those that the run trained.",
            hint="Restore the original backbone.",
            place=str(checkpoint.folder),
        )
    everything = weights_of(model)
    held = {name: tensor for name, tensor in everything.items() if MODEL + name in checkpoint.names}
    # Earlier versions hold the frozen weights too: they are taken as they are, whatever became of the backbone.
    found = model.frozen_weights.fingerprint(everything.keys() - held.keys())
    if found != (known.frozen_weights or ""):
        raise ModelError(
            f"the weights of {name} changed since the checkpoint {checkpoint.folder} was written, which holds only"
            f" those that the run trained: their hash was {known.frozen_weights} and is {found}.",
            hint="Restore the original backbone.",
            key="model.pretrained",
            value=found,
            place=str(checkpoint.folder),
            reason=f"the hash was {known.frozen_weights} and is {found}",
        )
    return held


def _save(model: TextModel, checkpoint: Checkpoint, folder: Path, form: Form) -> None:
    model.save(folder, merge=form == "merged")
    for path in sorted((checkpoint.folder / "model").iterdir()):
        if f"model/{path.name}" not in checkpoint.files:  # no manifest vouches for it
            continue
        if path.suffix != ".safetensors" and path.name != "config.json":
            shutil.copy2(path, folder / path.name)
    adapters = model.adapter_note(folder, merge=form == "merged")
    card = read_card(folder)
    change = merging_change(model, Device(torch.device("cpu"), card.precision)) if adapters is None else None
    noted = {"step": checkpoint.step, "adapters": adapters, "merge_change": change}
    write_card(card.model_copy(update=noted), folder)
