"""Where a run starts: anew, where it stopped, or from a checkpoint of another; and whether that is still the same run.

--resume            the run folder's newest whole checkpoint
--resume auto       the same where there is one, else a new run: what a scheduler starts again and again
--resume PATH       the newest checkpoint of another run folder, or one checkpoint; with --run, into a folder of its own
(nothing)           a new run; but a run that a signal had stopped (Ctrl+C, a scheduler) goes on
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import torch

from textune.config import Experiment, TrainSection, experiment_from_dict, format_value, load_config, user_path
from textune.errors import RunError
from textune.inside import require_inside
from textune.jsontext import finite
from textune.model import complete_model, processor
from textune.prediction import read_card
from textune.run.folder import RunFolder, read_manifest
from textune.run.parts import Ingredients
from textune.training import Checkpoint, Learner, models_in, newest, open_checkpoint
from textune.wording import listing

LATEST, AUTO = "latest", "auto"

HARMLESS = (
    "train.log_every",
    "train.evaluate_every",
    "train.evaluate_first",
    "train.early_stopping",
    "train.prefetch",
    "train.checkpoint",
    "train.distributed",
    "train.device",
    "train.max_tokens",
    "train.gradient_checkpointing",
    "tokens.cache",
    "tokens.cache_size_gb",
    "model.attention",
    "model.compile",
    "evaluate.max_tokens",
    "evaluate.bootstrap",
    "evaluate.mistakes",
)
"""Keys, or the tables that hold them, that may change when a run goes on: they say how and where it is computed, watched and
saved. Every other key decides what is learnt, and a changed one is refused."""

_SOURCE = r"data\.(train|validation|test)(\.sources\.\d+)*"
BY_CONTENT = re.compile(
    rf"data\.folder|{_SOURCE}\.(files|label_files|folder|name|revision)|data\.labels\.names_file"
    r"|model\.(pretrained|tokenizer|revision)"
)
"""Keys that say where something stands: what is found there is compared (`compare_facts`), wherever it stands now."""

_NOT_COMPUTED = {"transformers_version", "architectures", "dtype", "torch_dtype", "id2label", "label2id", "use_cache"}
"""Keys of a backbone's configuration that change nothing of what is learnt."""


@dataclass(frozen=True)
class Start:
    """How a run begins."""

    kind: Literal["new", "resumed", "complete"]
    """`complete`: the run is over, and nothing is left to do."""
    checkpoint: Checkpoint | None = None
    """Where it goes on; None from the first step."""
    notices: list[str] = field(default_factory=list)
    seen: tuple[object, ...] = ()
    """What stood in the run folder when this was planned (`RunFolder.witness`)."""

    @property
    def step(self) -> int:
        """Optimizer steps done already."""
        return self.checkpoint.step if self.checkpoint else 0

    @property
    def way(self) -> str | None:
        """How the run had computed what stands between its matrix products; None where it has to choose."""
        return None if self.checkpoint is None else self.checkpoint.state["machine"].get("kernels")

    def bound(self, section: TrainSection) -> int | None:
        """The tokens computed at once that the run had found out; None where it has to find out, or is told, anew."""
        if self.checkpoint is None or self.checkpoint.state["config"]["train"]["max_tokens"] != section.max_tokens:
            return None
        return int(self.checkpoint.state["loader"]["max_tokens"])


def plan_start(folder: RunFolder, experiment: Experiment, resume: str | None) -> Start:
    """What `--resume` means for this run folder; RunError where it cannot be, or where the run is another one by now."""
    seen = folder.witness()
    start = _planned(folder, experiment, resume)
    if start.kind != "complete":
        folder.require_writable()
    return replace(start, seen=seen)


def _planned(folder: RunFolder, experiment: Experiment, resume: str | None, *, branch_from: Checkpoint | None = None) -> Start:
    """`branch_from`: the checkpoint that the command names, and at which the run in this folder began."""
    if resume == "":
        raise RunError("--resume= names nothing.", hint="Write --resume, --resume auto, or the path of a run or checkpoint.")
    if resume is not None and resume not in (LATEST, AUTO):
        return _start_elsewhere(folder, experiment, user_path(resume))
    if not (folder.path / "manifest.json").is_file():
        if resume == LATEST and not folder.was_killed_early:
            raise RunError(
                f"there is no run in {folder.path} to resume.", hint="Start it without --resume, or with --resume auto."
            )
        if resume is None or not folder.was_killed_early:
            folder.require_free()
        return Start("new")
    manifest = read_manifest(folder.path)
    status = manifest.get("status")
    if resume is None and status not in ("preempted", "interrupted"):
        folder.require_free()
    checkpoint, passed = newest(folder.checkpoints)
    if checkpoint is None and manifest.get("from_checkpoint"):
        # Only the command names files outside of the run folder; what lies in it may come from anybody.
        if branch_from is None:
            raise RunError(
                f"{folder.path} began at a checkpoint of another run ({manifest['from_checkpoint']}) and has none of its own.",
                hint="Name that checkpoint again: --resume PATH.",
            )
        checkpoint = branch_from  # it was stopped before it had a checkpoint of its own
    if status == "complete" and checkpoint is None and models_in(folder.checkpoints):  # it has saved models only
        return Start("complete", notices=[f"{folder.path} is complete: nothing is left to do."])
    start = _resumed(folder, experiment, checkpoint, passed)
    # Where `compare` let another duration pass, the run is no longer complete.
    duration = experiment.train.model_dump(mode="json")["duration"]
    if status == "complete" and (start.checkpoint is None or start.checkpoint.state["config"]["train"]["duration"] == duration):
        return Start("complete", notices=[f"{folder.path} is complete: nothing is left to do."])
    return start


def _refuse_models(run: Path) -> None:
    """RunError where a run without a checkpoint to go on from has saved models."""
    if models := models_in(run / "checkpoints"):
        raise RunError(
            f"{run} has saved only models (train.checkpoint.save_only_model = true) and cannot resume.",
            hint=f'Start another run from the last one: model.pretrained = "{models[-1]}".',
        )


def _resumed(folder: RunFolder, experiment: Experiment, checkpoint: Checkpoint | None, passed: list[str]) -> Start:
    if checkpoint is None:
        _refuse_models(folder.path)
    if checkpoint is None and passed:
        raise RunError(
            f"no checkpoint of {folder.path} can be resumed: {' '.join(passed)}",
            hint=f"Restore one of them from a copy, or remove {folder.checkpoints} to start from the first step.",
        )
    if checkpoint is None:
        before = load_config(folder.path / "config.toml").experiment
        where = "no checkpoint was complete when it stopped: it starts from its first step"
    else:
        where = f"resumes from {checkpoint.folder.name} ({checkpoint.folder.parent.parent})"
        # Keys that a later version has added get the defaults that they stand for.
        before = experiment_from_dict(checkpoint.state["config"], base=Path.cwd())
    saved = before.model_dump(mode="json")
    changes = compare(saved, experiment.model_dump(mode="json"), where=str(folder.path))
    return Start("resumed", checkpoint, [*passed, where, *changes])


def _start_elsewhere(folder: RunFolder, experiment: Experiment, path: Path) -> Start:
    """From a checkpoint, or the newest of a run folder, into this run folder."""
    passed: list[str] = []
    if (path / "checkpoints").is_dir() or ((path / "config.toml").is_file() and (path / "metrics.jsonl").is_file()):
        found, passed = newest(path / "checkpoints")
        if found is None:
            _refuse_models(path)
            raise RunError(
                " ".join([*passed, f"{path} has no whole checkpoint to resume from."]), hint="Start a new run without --resume."
            )
    else:
        found = open_checkpoint(path)
    source = found.folder.parent.parent
    if source.resolve() != folder.path.resolve():
        if _is_branch_of(folder, found):
            return _planned(folder, experiment, LATEST, branch_from=found)
        folder.require_free()
        return _resumed(folder, experiment, found, passed)
    last = newest(folder.checkpoints)[0]
    if last is not None and last.step > found.step:
        raise RunError(
            f"{found.folder} is not the newest checkpoint of its run: {last.folder.name} came after it and would be lost.",
            hint="Name a folder of its own for what follows, with --run.",
        )
    return _resumed(folder, experiment, found, passed)


def _is_branch_of(folder: RunFolder, checkpoint: Checkpoint) -> bool:
    """Whether a run folder holds a run that began at this checkpoint: then the same command goes on with it."""
    if not (folder.path / "manifest.json").is_file():
        return False
    return read_manifest(folder.path).get("from_checkpoint") == str(checkpoint.folder.resolve())


# --- is it the same run? ----------------------------------------------------------------------------------------------


def compare(saved: Mapping[str, Any], now: Mapping[str, Any], *, where: str) -> list[str]:
    """Sentences about harmless changes between two resolved configurations; RunError names the others."""
    before, after = flat(saved), flat(now)
    schedule_is_flat = before.get("train.schedule.kind") == "constant" == after.get("train.schedule.kind")
    harmless: list[str] = []
    refused: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        if before.get(key) == after.get(key) or BY_CONTENT.fullmatch(key):
            continue
        if key == "tokens.max_length" and "auto" in (before.get(key), after.get(key)):  # `compare_facts` has the numbers
            continue
        change = f"{key} was {_shown(before, key)} and is {_shown(after, key)}"
        free = any(key == name or key.startswith(name + ".") for name in HARMLESS)
        # A schedule that falls to the end of the run would have had other rates from the start.
        free = free or (key == "train.duration" and schedule_is_flat)
        (harmless if free else refused).append(change)
    if refused:
        raise RunError(
            f"{where} was trained with another configuration: {'; '.join(refused)}.",
            hint="Resume with the values of its config.toml, choose another folder with --run, or start another run from its"
            ' model: model.pretrained = "RUN/best".',
        )
    return [f"{change} from here on" for change in harmless]


def flat(tree: Mapping[str, Any], start: str = "") -> dict[str, Any]:
    """A nested table as dotted keys; lists of tables by number."""
    found: dict[str, Any] = {}
    for name, value in tree.items():
        key = f"{start}{name}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, key + ".")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            found |= flat({str(index): item for index, item in enumerate(value)}, key + ".")
        elif value is not None and value != {}:
            found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _shown(values: Mapping[str, Any], key: str) -> str:
    return format_value(values[key], one_line=True) if key in values else "not set"


def compare_facts(saved: Mapping[str, Any], now: Mapping[str, Any], *, where: str) -> list[str]:
    """What the configuration does not show: the content of data and backbone; RunError where that is other, by name.

    Sentences about the machine, whose last bits may differ, so that a person knows why figures do.
    """
    other = [name for name, value in saved["content"].items() if now["content"].get(name) != value]
    # Another version of transformers may know more keys, or fewer.
    shared = saved["backbone"].keys() & now["backbone"].keys()
    other += [f"the backbone's {name}" for name in shared if saved["backbone"][name] != now["backbone"][name]]
    if other:
        raise RunError(
            f"{listing(sorted(other), 6)} of {where} changed since it was trained.",
            hint="Restore the files as they were, or start a new run; a model is trained on with model.pretrained.",
        )
    changed = [
        f"{name} was {value}, is {now['machine'].get(name)}"
        for name, value in saved["machine"].items()
        if now["machine"].get(name) != value
    ]
    if not changed:
        return []
    return [f"the machine computes otherwise ({'; '.join(changed)}): what follows is the same run, but not bit for bit"]


def facts_of_run(parts: Ingredients, learner: Learner) -> dict[str, dict[str, Any]]:
    """What a checkpoint notes for `compare_facts`: the content of data and backbone, and what decides the last bits."""
    content: dict[str, Any] = {f"the {part.name} data": part.fingerprint for part in parts.data.parts}
    content |= {f"the number of {part.name} rows": len(part) for part in parts.data.parts}
    # The integers alone are the same where a file gives them other names.
    named = [(part.name, list(part.examples.label_names)) for part in parts.data.parts if part.examples.label_names]
    content |= {f"the class names of the {name} data": names for name, names in named}
    content["the labels"] = [parts.data.label_map.problem, *parts.data.label_map.names]
    content["the tokenizer"] = parts.encoder.fingerprint()
    content["tokens.max_length"] = parts.experiment.tokens.longest
    content["the token embeddings of the backbone"] = parts.model.left_out_fingerprint
    machine = {
        "torch": torch.__version__,
        "device": str(parts.device),
        "processor's vectors": processor.vectors(),
        "kernels": parts.model.accelerator.way,
        "number of processes": parts.ranks.world,
        "way of sharing the work": learner.sharing.name,
    }
    config = parts.model.hf.config.to_dict()
    backbone = {name: value for name, value in config.items() if name not in _NOT_COMPUTED and not name.startswith("_")}
    as_stored = json.loads(json.dumps(finite(backbone), default=str, allow_nan=False))
    return {"content": content, "machine": machine, "backbone": as_stored}


# --- the best model ---------------------------------------------------------------------------------------------------


class BestModel(NamedTuple):
    """The model that a run folder holds as its best."""

    folder: Path
    step: int
    value: float | None
    """The main metric; None where there was no evaluation."""


def best_of(run: Path) -> BestModel | None:
    """The best model of a run folder; None where there is none or it does not say of which step it is."""
    folder = complete_model(run)
    if folder is None:
        return None
    try:
        card = read_card(folder)
    except RunError:
        return None
    return None if card.step is None else BestModel(folder, card.step, card.value)


def bring_best(source: Path, target: RunFolder, *, step: int) -> bool:
    """Copy the best model of another run, as it was at `step`; whether there is one."""
    found = best_of(source)
    if found is None or found.step != step:
        return False

    def copy(folder: Path) -> None:
        try:
            for path in found.folder.rglob("*"):
                require_inside(found.folder, path)
        except ValueError as error:
            raise RunError(f"the best model {found.folder} is refused: {error}.", hint="Put the file itself there.") from error
        shutil.copytree(found.folder, folder, dirs_exist_ok=True)

    target.save_model("best", copy)
    return True
