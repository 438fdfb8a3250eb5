"""A checkpoint of transformers.Trainer, of which a run takes over what no safetensors file holds: its step, and the
state of its optimizer by the name of each weight.

    checkpoint-500/
      trainer_state.json   the step, and how many there were to be
      optimizer.pt         the optimizer's state by number: its weights are counted group by group
      scheduler.pt         the rates of the next step
      scaler.pt            the loss scale of fp16, where there is one
      model.safetensors    the weights; `model.pretrained` reads them

`open_adopted` reads the first four, `state_for` finds the weight of each number.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from textune.config import ModelSection, Optimizer
from textune.errors import RunError
from textune.jsontext import parse_json
from textune.model import TextModel, backbone_outline
from textune.training.rules import rule_of
from textune.training.state import OPTIMIZER, OptimizerState, trained_in
from textune.wording import count, listing

_WEIGHTS_ALONE = "Leave --unpickle out: then its weights are taken, and a new optimizer begins at step 0."
_NOT_DECAYED = re.compile(r"bias|layernorm|rmsnorm|(?:^|\.)norm(?:$|\.)|_norm(?:$|\.)")
_SCALER = ("scale", "growth_factor", "backoff_factor", "growth_interval", "_growth_tracker")
_ROWS = ".rows.weight"
"""How the name of an embedding ends of which only some rows are trained."""


@dataclass(frozen=True)
class Adopted:
    """What was read of such a folder."""

    folder: Path
    step: int
    """Optimizer steps done."""
    total_steps: int | None
    """How many there were to be."""
    epochs: float | None
    """How often it had gone through its rows by then."""
    rates: tuple[float, ...]
    """Those of the next step, by group; empty where nothing says so."""
    best: float | None
    """The metric of its best model so far."""
    groups: tuple[Mapping[str, Any], ...]
    """Of the optimizer: `params` are numbers; beside them what the group is updated with."""
    state: Mapping[int, Mapping[str, Any]]
    """Of the optimizer: by the number of a weight."""
    scaler: dict[str, float] | None
    """The loss scale of fp16, in the form of `torch.amp.GradScaler`."""
    unpickled: tuple[str, ...]
    """Files for which PyTorch's reading of plain tensors was not enough."""


# --- reading ---------------------------------------------------------------------------------------------------------


def open_adopted(folder: Path) -> Adopted:
    """Read such a folder; RunError where a file is missing or is not what Trainer writes.

    Files are read as plain tensors and numbers (`weights_only`). Only where that is refused are they unpickled, which
    runs what they say.
    """
    about = _trainer_state(folder)
    unpickled: list[str] = []
    optimizer = _loaded(folder / "optimizer.pt", unpickled)
    try:
        groups = tuple(
            {**group, "params": [int(number) for number in group["params"]]} for group in optimizer["param_groups"]
        )
        state = {int(number): dict(values) for number, values in optimizer["state"].items()}
        step, planned = int(about["global_step"]), int(about.get("max_steps") or 0)
        best = None if about.get("best_metric") is None else float(about["best_metric"])
        epochs = None if about.get("epoch") is None else float(about["epoch"])
        rates: tuple[float, ...] = ()
        scaler: dict[str, float] | None = None
        if (folder / "scheduler.pt").is_file():
            rates = tuple(float(rate) for rate in _loaded(folder / "scheduler.pt", unpickled).get("_last_lr", ()))
        if (folder / "scaler.pt").is_file():
            scaler = _of_scaler(_loaded(folder / "scaler.pt", unpickled))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        reason = f"its files are not those of Trainer ({type(error).__name__}: {error})"
        raise _refusal(folder, reason) from error
    return Adopted(folder, step, planned or None, epochs, rates, best, groups, state, scaler, tuple(unpickled))


def _trainer_state(folder: Path) -> dict[str, Any]:
    missing = [name for name in ("trainer_state.json", "optimizer.pt", "config.json") if not (folder / name).is_file()]
    if missing:
        what = "there is no such folder" if not folder.is_dir() else f"it has no {listing(missing)}"
        why = "A checkpoint of save_only_model, DeepSpeed or FSDP has none. " if "optimizer.pt" in missing else ""
        raise _refusal(folder, what, hint=f"{why}{_WEIGHTS_ALONE}")
    try:
        found = parse_json((folder / "trainer_state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refusal(folder, f"trainer_state.json cannot be read: {error}") from error
    step = found.get("global_step") if isinstance(found, dict) else None
    if not isinstance(step, int) or step is True or step < 1:
        raise _refusal(folder, f"trainer_state.json has no global_step from 1 up, but {step!r}")
    return found  # type: ignore[no-any-return]


def _loaded(file: Path, unpickled: list[str]) -> dict[str, Any]:
    """What PyTorch saved there, on the CPU; notes in `unpickled` where reading plain tensors was not enough."""
    try:
        try:
            found = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            found = torch.load(file, map_location="cpu", weights_only=False)
            unpickled.append(file.name)
    except Exception as error:  # whatever an unpickled file does
        raise _refusal(file.parent, f"{file.name} cannot be read: {type(error).__name__}: {error}") from error
    if not isinstance(found, dict):
        raise _refusal(file.parent, f"{file.name} holds no dictionary")
    return found


def _of_scaler(found: dict[str, Any]) -> dict[str, float] | None:
    """The loss scale of fp16; None where it was switched off. KeyError, TypeError where it is not one."""
    for name in _SCALER if found else ():
        if not isinstance(found[name], int | float):
            raise TypeError(f"{name} of scaler.pt is {found[name]!r}")
    return found or None


def _refusal(folder: Path, reason: str, *, hint: str = _WEIGHTS_ALONE) -> RunError:
    return RunError(
        f"--unpickle: the optimizer of {folder} cannot be taken over: {reason}.",
        hint=hint,
        key="unpickle",
        value=str(folder),
        place=str(folder),
        reason=reason,
    )


# --- by the names of weights -----------------------------------------------------------------------------------------


def state_for(adopted: Adopted, model: TextModel, section: Optimizer) -> OptimizerState:
    """The optimizer's state for the weights of `model`, which are those of the folder.

    RunError where it is of another optimizer, or of other weights: another number, other shapes or other values than
    the folder's own.
    """
    named = _named(adopted)
    _require_same_rule(adopted, section)
    ours = {_plain(name): (name, weight) for name, weight in trained_in(model).items()}
    if odd := sorted(ours.keys() ^ named.keys()):
        where = "the run does not train" if odd[0] in named else "the checkpoint's optimizer does not have"
        raise _refusal(
            adopted.folder, f"{where} {odd[0]}" + (f", and {count(len(odd) - 1, 'other')}" * (len(odd) > 1))
        )
    kept = model.kept_ids
    _require_same_weights(adopted, {name: weight for name, (_, weight) in ours.items()}, kept)
    tensors: dict[str, torch.Tensor] = {}
    numbers: dict[str, dict[str, float]] = {}
    for name, (own, _) in ours.items():
        number, shape = named[name]
        values = adopted.state.get(number, {})
        if values and (lacking := {key for key in ("step", *rule_of(section).moments) if key not in values}):
            raise _refusal(adopted.folder, f"it keeps no {listing(sorted(lacking))} of {name}")
        for key, value in values.items():
            if key == "step" and isinstance(value, int | float):
                numbers.setdefault(own, {})[key] = float(value)
                continue
            _require_sound(adopted, f"{key} of {name}", value, torch.Size() if key == "step" else shape)
            if own.endswith(_ROWS) and kept is not None and value.ndim:
                value = _kept_rows(adopted, name, value, kept)
            tensors[f"{OPTIMIZER}{own}/{key}"] = value
    return OptimizerState(set(tensors), tensors.__getitem__, {"optimizer": numbers, "scaler": adopted.scaler})


def _require_sound(adopted: Adopted, what: str, value: object, shape: torch.Size) -> None:
    """RunError unless `value` is a tensor of that shape whose numbers are finite."""
    if not isinstance(value, torch.Tensor):
        raise _refusal(adopted.folder, f"{what} is {value!r}, no tensor")
    if value.shape != shape:
        raise _refusal(adopted.folder, f"{what} is {list(value.shape)} there and {list(shape)} here")
    if not bool(value.isfinite().all()):
        raise _refusal(adopted.folder, f"{what} has numbers that are not finite: its training had diverged")


def _named(adopted: Adopted) -> dict[str, tuple[int, torch.Size]]:
    """The optimizer's number of each weight and its shape, by the name that transformers has for it.

    Trainer makes two groups, in the order of the model: the weights that are decayed, and the others.
    """
    whole: Any = backbone_outline(ModelSection(pretrained=str(adopted.folder)), kind="sequence-classification")
    shapes, decayed = {name: weight.shape for name, weight in whole.named_parameters()}, decayed_by_trainer(whole)
    order = [[name for name in shapes if (name in decayed) is wanted] for wanted in (True, False)]
    theirs = [group["params"] for group in adopted.groups]
    if [len(group) for group in theirs] != [len(group) for group in order]:
        raise _refusal(
            adopted.folder,
            f"its optimizer has groups of {_counts(theirs)} weights, and Trainer makes groups of {_counts(order)} of"
            " this model: it was trained otherwise, such as with frozen weights or adapters",
        )
    pairs = zip(order, theirs, strict=True)
    return {
        name: (number, shapes[name]) for group, numbers in pairs for name, number in zip(group, numbers, strict=True)
    }


def decayed_by_trainer(model: torch.nn.Module) -> set[str]:
    """The names of the weights that Trainer decays: `get_decay_parameter_names` of transformers 5, which itself wants
    accelerate to be installed."""
    of_norms = {
        f"{path}.{name}"
        for path, module in model.named_modules()
        if isinstance(module, torch.nn.LayerNorm)
        for name, _ in module.named_parameters()
    }
    named = (name for name, _ in model.named_parameters() if not _NOT_DECAYED.search(name.lower()))
    return {name for name in named if name not in of_norms}


def _counts(groups: list[Any]) -> str:
    return listing([str(len(group)) for group in groups])


def _require_same_rule(adopted: Adopted, section: Optimizer) -> None:
    known = rule_of(section).moments
    if not known:
        raise _refusal(
            adopted.folder, f'train.optimizer.kind = "{section.kind}", and only the state of AdamW is carried over'
        )
    found = {key for values in adopted.state.values() for key in values}
    if found != {"step", *known}:
        has = listing(sorted(found)) or "nothing"
        raise _refusal(adopted.folder, f"it is that of another optimizer: it keeps {has}, and AdamW {listing(known)}")


def _plain(own: str) -> str:
    """The name that transformers has for a weight of ours."""
    name = own.removeprefix("hf.")
    return name.removesuffix(_ROWS) + ".weight" if name.endswith(_ROWS) else name


def _kept_rows(adopted: Adopted, name: str, whole_VH: torch.Tensor, kept_K: torch.Tensor) -> torch.Tensor:
    """The rows of a moment that are trained here, and a row of zeros for those that are not, [K + 1, H]."""
    rest = torch.ones(len(whole_VH), dtype=torch.bool).index_fill_(0, kept_K, 0)
    if bool(whole_VH[rest].any()):
        raise _refusal(
            adopted.folder,
            f"its optimizer moves rows of {name} that occur in no text of this run",
            hint='Set train.compact_vocabulary = "off", which trains the whole table.',
        )
    return torch.cat([whole_VH[kept_K], torch.zeros_like(whole_VH[:1])])


def _require_same_weights(adopted: Adopted, ours: Mapping[str, torch.Tensor], kept: torch.Tensor | None) -> None:
    """RunError where a weight is not what the folder holds, such as a head whose labels have another order here."""
    if not any(adopted.folder.glob("*.safetensors")):
        raise _refusal(
            adopted.folder,
            "it has no model.safetensors, and whether the run starts from its weights cannot be told",
            hint="Load and save its model with transformers, which writes model.safetensors.",
        )
    for name, there in _saved_weights(adopted):
        here = ours.get(name)
        if here is None:
            continue
        here = here.detach().cpu()
        if kept is not None and len(here) == len(kept) + 1 and len(there) != len(here):
            here, there = here[:-1], there[kept]
        if here.shape != there.shape or not torch.equal(here, there.to(here.dtype)):
            raise _refusal(
                adopted.folder,
                f"{name} is not what its model.safetensors holds: the run starts from other weights, or its labels"
                " have another order",
            )


def _saved_weights(adopted: Adopted) -> Iterator[tuple[str, torch.Tensor]]:
    for file in sorted(adopted.folder.glob("*.safetensors")):
        try:
            with safe_open(file, "pt") as found:
                for name in found.keys():  # noqa: SIM118
                    yield name, found.get_tensor(name)
        except (OSError, SafetensorError) as error:
            raise _refusal(adopted.folder, f"{file.name} cannot be read: {error}") from error
