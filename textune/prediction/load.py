"""Opens a saved model: a run folder or a model folder in, a `Scorer` or `Predictor` out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

from textune.config import (
    DeviceName,
    PredictionPrecision,
    Switch,
    TrainingPrecision,
    require_count,
    require_words,
    user_path,
)
from textune.errors import ModelError, RunError
from textune.model import (
    CARD_NAME,
    Adapting,
    Device,
    ExportedFiles,
    Recipe,
    TextModel,
    complete_model,
    find_pretrained,
    hint_for_no_run,
    load_language_model,
    load_model,
    load_tokenizer,
    mlflow_model,
    open_exported,
    prefers_bf16,
    prepare,
    read_config,
    require_int8,
    require_low_bits,
    require_opened,
    resolve_device,
)
from textune.owncode import require_allowed
from textune.prediction.card import ExportNote, ModelCard, read_card
from textune.prediction.predictor import Predictor
from textune.prediction.scorer import Scorer
from textune.ranks import ALONE, Ranks


def load(
    folder: str | Path,
    *,
    device: DeviceName = "auto",
    precision: PredictionPrecision = "auto",
    max_tokens: int | None = None,
    compile: Switch = "auto",
    code: str | Sequence[str] = (),
    decision: bool = True,
    ranks: Ranks = ALONE,
    on_notice: Callable[[str], None] = warnings.warn,
) -> Predictor:
    """Open a model that predicts texts; options and errors as in `load_scorer`, and ModelError for one that does
    not."""
    scorer = load_scorer(
        folder,
        device=device,
        precision=precision,
        max_tokens=max_tokens,
        compile=compile,
        code=code,
        decision=decision,
        ranks=ranks,
        on_notice=on_notice,
    )
    return Predictor(scorer)


def load_scorer(
    folder: str | Path,
    *,
    device: DeviceName = "auto",
    precision: PredictionPrecision = "auto",
    max_tokens: int | None = None,
    compile: Switch = "auto",
    code: str | Sequence[str] = (),
    decision: bool = True,
    ranks: Ranks = ALONE,
    on_notice: Callable[[str], None] = warnings.warn,
) -> Scorer:
    """Open a run folder (its best model) or a model folder that textune saved.

    `precision = "auto"` is the one of the model's own run, or fp32 where this machine lacks it or is slower with it;
    `"int8"` gives the backbone's linear layers int8 weights, on the processor; `max_tokens`, the most tokens computed
    at once, is by default that of the run. `compile = "auto"` computes with compiled kernels where the run could and
    they are faster here. `code` names the classes of the user's own that may be imported, as `package.module:Name`:
    others that the card names are refused (CodeError), since a folder may come from anybody. Raises RunError where the
    folder is no such thing, ModelError where its files are broken or the machine lacks the device or precision.
    `decision = False` answers by the usual rule, whatever the card says. `ranks`: processes that each open it and
    share the work. `on_notice` is called where another precision is used,
    where the model takes shorter texts than its card says, and what happens while it predicts.
    """
    require_words(load_scorer, device=device, precision=precision, compile=compile)
    require_count("max_tokens", max_tokens)
    folder = find_model(folder)
    card = read_card(folder)
    card = card if decision else card.undecided()
    require_allowed(card.code, [code] if isinstance(code, str) else code, where=str(folder / CARD_NAME))
    if card.exported is not None:
        return _load_exported(
            folder,
            card,
            card.exported,
            device=device,
            precision=precision,
            max_tokens=max_tokens,
            compile=compile,
            ranks=ranks,
            on_notice=on_notice,
        )
    if precision == "int8":
        _require_whole(card, folder)
        require_int8(device)
        chosen = resolve_device("cpu", "fp32")
    else:
        chosen = _device_of(card, device, precision, on_notice)
    if card.adapters is not None and card.adapters.quantize is not None:
        require_low_bits(card.adapters.quantize, chosen, folder=folder)
    section = card.opened_in(folder, compile=compile)
    tokenizer = load_tokenizer(section)
    task = card.build_task()
    if card.is_language_model:
        model = load_language_model(section, tokenizer, seed=0, as_saved=True)
    else:
        model = load_model(
            section,
            tokenizer,
            label_maps=task.label_maps,
            num_logits=task.num_outputs,
            seed=0,
            as_saved=True,
            pooling=card.window_pooling,
        )
    int8 = precision == "int8"
    adapting = None if (saved := model.files.saved) is None else Adapting(saved.lora, seed=0)
    quantize = None if card.adapters is None else card.adapters.quantize
    compiled = int8 or card.compiled or compile == "on"
    prepare(model, Recipe(chosen, "prediction", int8=int8, quantize=quantize, adapting=adapting, compiled=compiled))
    card = _within_positions(card, model, folder, on_notice)
    limit = max(max_tokens or card.max_tokens, card.max_length)
    return Scorer(model, tokenizer, task, card, device=chosen, max_tokens=limit, ranks=ranks, on_notice=on_notice)


def _load_exported(
    folder: Path,
    card: ModelCard,
    note: ExportNote,
    *,
    device: DeviceName,
    precision: PredictionPrecision,
    max_tokens: int | None,
    compile: Switch,
    ranks: Ranks,
    on_notice: Callable[[str], None],
) -> Scorer:
    """The same of an export, which another library computes."""
    require_opened(note.kind, folder)
    section = card.opened_in(folder, compile="off")
    tokenizer = load_tokenizer(section)
    task = card.build_task()
    assert isinstance(tokenizer.pad_token_id, int), "every tokenizer gets a pad token"
    files = ExportedFiles(
        folder=folder,
        kind=note.kind,
        file=note.file,
        precision=note.precision,
        config=read_config(find_pretrained(str(folder), section, key="model.pretrained")),
        pad_id=tokenizer.pad_token_id,
        num_logits=task.num_outputs,
        opset=note.opset,
        made_on=note.made_on,
    )
    model = open_exported(files, device=device, precision=precision, compile=compile, on_notice=on_notice)
    limit = max(max_tokens or card.max_tokens, card.max_length)
    # Its batches come from memory and go back there, whatever computes them.
    chosen = resolve_device("cpu", "fp32")
    return Scorer(model, tokenizer, task, card, device=chosen, max_tokens=limit, ranks=ranks, on_notice=on_notice)


def _require_whole(card: ModelCard, folder: Path) -> None:
    """ModelError for adapters, whose layers would not be those with int8 weights."""
    if card.adapters is not None:
        raise ModelError(
            f'precision = "int8": {folder} holds adapters, and int8 weights are made of whole ones.',
            hint=f"Merge them first: `textune export {folder} --merge --out FOLDER`, then predict with that folder.",
            key="precision",
            value="int8",
            place=str(folder),
            reason="adapters",
        )


def _within_positions(card: ModelCard, model: TextModel, folder: Path, on_notice: Callable[[str], None]) -> ModelCard:
    """The card with a `max_length` that the backbone has positions for: earlier versions did not compare the two."""
    limit = model.max_positions
    if limit is None or card.max_length <= limit:
        return card
    on_notice(
        f"{folder / CARD_NAME} says max_length = {card.max_length}, but the backbone has positions for {limit} tokens:"
        f" rows are cut at {limit}"
    )
    return card.model_copy(update={"max_length": limit})


def _device_of(
    card: ModelCard,
    device: DeviceName,
    precision: TrainingPrecision,
    on_notice: Callable[[str], None],
) -> Device:
    if precision != "auto":
        return resolve_device(device, precision)
    exact = resolve_device(device, "fp32")
    try:
        chosen = resolve_device(device, card.precision)
        why = "computes slower" if chosen.precision == "bf16" and not prefers_bf16(chosen.torch) else ""
    except ModelError:
        chosen, why = exact, "lacks"
    if not why:
        return chosen
    on_notice(
        f"the run computed in {card.precision}, which this {exact.torch.type} device {why}: fp32 is used instead"
    )
    return exact


def precision_of(card: ModelCard, device: DeviceName, precision: PredictionPrecision) -> str:
    """The precision that `load` computes in here; ModelError where the machine lacks the device or precision."""
    if precision == "int8" or card.exported is not None:
        return precision
    return _device_of(card, device, precision, lambda _: None).precision


def find_model(folder: str | Path) -> Path:
    """The model folder behind a run folder, a model folder or a folder of MLflow; RunError says what is there
    instead."""
    folder = user_path(folder)
    if not folder.is_dir():
        reason = "is a file" if folder.is_file() else "does not exist"
        raise RunError(
            f"{folder} {reason}; a run folder was expected.",
            hint="Give the folder that `textune train` wrote, such as runs/x.",
            place=str(folder),
            reason=reason,
        )
    for candidate in (folder, complete_model(folder)):
        if candidate is not None and (candidate / CARD_NAME).is_file():
            return candidate
    inside = mlflow_model(folder)
    if inside is not None and (inside / CARD_NAME).is_file():
        return inside
    if inside is not None:
        raise RunError(
            f"{folder} is a folder of MLflow whose model textune did not train: it has no {CARD_NAME}.",
            hint=f'Train from it: model.pretrained = "{folder}".',
            place=str(folder),
            reason=f"no {CARD_NAME}",
        )
    if (folder / "state.json").is_file():
        raise RunError(
            f"{folder} is a training checkpoint, not a model.",
            hint=f"Make a model of it: `textune export {folder} --out FOLDER`.",
            place=str(folder),
            reason="a checkpoint",
        )
    if (folder / "manifest.json").is_file():
        raise RunError(
            f"{folder} is a run that has not saved a model yet.",
            hint=f"Continue with --resume, or make a model of its newest checkpoint: `textune export {folder} --out"
            f" FOLDER`.",
            place=str(folder),
            reason="no model yet",
        )
    raise RunError(
        f"{folder} is not a run folder: it holds neither {CARD_NAME} nor best/{CARD_NAME}.",
        hint=hint_for_no_run(folder),
        place=str(folder),
        reason="not a run folder",
    )
