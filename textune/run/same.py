"""Whether a run that is resumed is still the same run: its configuration key by key, data and backbone by their
content."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from textune.config import SET_ASIDE_KINDS, Role, format_value, role_of
from textune.data import full_names, problem_of
from textune.errors import RunError
from textune.jsontext import finite
from textune.metadata import RENDERING_VERSION
from textune.model import TextModel, processor
from textune.owncode import fingerprint
from textune.run.parts import Parts
from textune.run.state import FROZEN_WEIGHTS, RENDERING, Identity, RunState, content_in_words, machine_in_words
from textune.training import MODEL, Checkpoint, depends_on_the_end, sharing_kind
from textune.wording import listing, without_passwords

if TYPE_CHECKING:
    from pydantic import JsonValue

CODE = "code."
"""Before the name of a class of the user's own: the hash of its file."""
_OPTION_OF_A_TRACKER = re.compile(r"track\.\d+\.options\.")
"""Its value may be a password."""
_CURRICULUM = "metadata.sampling.curriculum"
_NOT_COMPUTED = {"transformers_version", "architectures", "dtype", "torch_dtype", "id2label", "label2id", "use_cache"}
"""Keys of a backbone's configuration that change nothing of what is learnt."""


FROM_HERE_ON = " from here on"
"""The end of a sentence about a change that takes effect where a run resumes."""


def compare(saved: Mapping[str, object], now: Mapping[str, object], *, where: str) -> list[str]:
    """Sentences about harmless changes between two resolved configurations; RunError names the others."""
    before, after = flat(saved), flat(now)
    may_last_longer = not depends_on_the_end(before) and not depends_on_the_end(after)
    harmless = [
        *(f"data.evaluations.{name} is evaluated" for name in _taken_away(after, before)),
        *(f"data.evaluations.{name} is not evaluated" for name in _taken_away(before, after)),
        *(f"{tracker} hears of the run" for tracker in _trackers_of_one(after, before)),
        *(f"{tracker} does not hear of the run" for tracker in _trackers_of_one(before, after)),
    ]
    refused: list[str] = []
    for key in sorted(before.keys() | after.keys()):
        role = role_of(key)
        if (
            before.get(key) == after.get(key) or role is Role.LOCATED
        ):  # `compare_identity` compares what is found there
            continue
        if key == "tokens.max_length" and "auto" in (
            before.get(key),
            after.get(key),
        ):  # `compare_identity` has the numbers
            continue
        change = f"{key} was {_shown(before, key)} and is {_shown(after, key)}"
        # With a schedule that falls towards the end of the run, the rates would have differed from the start.
        free = role is Role.COMPUTED or (key == "train.duration" and may_last_longer)
        if free and key == "train.duration" and before.get(_CURRICULUM):
            change += f" ({_CURRICULUM} stays with the documents of the first length)"
        (harmless if free else refused).append(change)
    if refused:
        raise RunError(
            f"{where} was trained with another configuration: {'; '.join(refused)}.",
            hint="Resume with the values of its config.toml, choose another folder with --run, or start another run"
            " from its"
            ' model: model.pretrained = "RUN/best".',
            place=str(where),
            reason="; ".join(refused),
        )
    return [f"{change}{FROM_HERE_ON}" for change in harmless]


def _taken_away(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The evaluation sets of rows of their own that only the first of two configurations has, whose keys are taken
    out of it: nothing is learned of them."""
    start = "data.evaluations."
    inside = {key: key.removeprefix(start).split(".") for key in before if key.startswith(start)}
    sets = {key: names[0] for key, names in inside.items() if len(names) > 1}
    still = {name for name in sets.values() if any(key.startswith(f"{start}{name}.") for key in after)}
    shares = {name for name in sets.values() if before.get(f"{start}{name}.kind") in SET_ASIDE_KINDS}
    gone = sorted(set(sets.values()) - still - shares)
    for key, name in sets.items():
        if name in gone:
            del before[key]
    return gone


def _trackers_of_one(before: dict[str, object], after: dict[str, object]) -> list[str]:
    """The tables of `track` that only the first of two configurations has, whose keys are taken out of it."""
    numbers = {key.split(".")[1] for key in before if key.startswith("track.")}
    gone = sorted(number for number in numbers if f"track.{number}.kind" not in after)
    named = [f"track[{number}] ({before[f'track.{number}.kind']})" for number in gone]
    for key in [key for key in before if key.startswith("track.") and key.split(".")[1] in gone]:
        del before[key]
    if gone and after.get("track") == []:
        del after["track"]
    return named


def flat(tree: Mapping[str, object], start: str = "") -> dict[str, object]:
    """A nested table as dotted keys; lists of tables by number."""
    found: dict[str, object] = {}
    for name, value in tree.items():
        key = f"{start}{name}"
        if isinstance(value, Mapping) and value:
            found |= flat(value, key + ".")
        elif isinstance(value, list | tuple) and value and isinstance(value[0], Mapping):
            found |= flat({str(index): item for index, item in enumerate(value)}, key + ".")
        elif value is not None and value != {}:
            found[key] = list(value) if isinstance(value, tuple) else value
    return found


def _shown(values: Mapping[str, object], key: str) -> str:
    if key in values and _OPTION_OF_A_TRACKER.match(key):
        return "set"
    if key not in values:
        return "not set"
    said = format_value(values[key], one_line=True)
    return without_passwords(said) if key.startswith("track.") else said


def compare_identity(saved: Identity, now: Identity, *, where: str) -> list[str]:
    """What the configuration does not show; RunError that names data or a backbone of other content.

    Sentences about the machine, whose last bits may differ, so that a person knows why results do.
    """
    _require_rendering(saved, now, where=where)
    _require_frozen_weights(saved, now, where=where)
    gone, new = (_only_of(one, other) for one, other in ((saved, now), (now, saved)))
    changed = [name for name, value in saved.content.items() if now.content.get(name) != value]
    other = [
        content_in_words(name) for name in changed if not name.startswith(CODE) and name.partition(".")[2] not in gone
    ]
    if new and saved.token_embeddings != now.token_embeddings:
        raise RunError(
            f"{listing(new)}: these rows have tokens whose embeddings {where} does not train, as they did not occur in"
            " its data.",
            hint="Leave them out, and evaluate the finished model on them: textune evaluate RUN --data FILE.",
            key="data.evaluations",
            value=new,
            place=str(where),
        )
    # Another version of transformers may know more keys, or fewer.
    shared = saved.backbone.keys() & now.backbone.keys()
    other += [f"the backbone's {name}" for name in shared if saved.backbone[name] != now.backbone[name]]
    if other:
        raise RunError(
            f"{listing(sorted(other), 6)} of {where} changed since it was trained.",
            hint="Restore the files as they were, or start a new run; to train a model further, name it in"
            " model.pretrained.",
            place=str(where),
            reason="changed since it was trained",
        )
    # A mistake in it may be why the run stopped.
    notes = [
        f"{name.removeprefix(CODE)} is other code than before: it is used as it is now"
        for name in changed
        if name.startswith(CODE)
    ]
    differing = [
        f"{machine_in_words(name)} was {value}, is {now.machine.get(name)}"
        for name, value in saved.machine.items()
        if now.machine.get(name) != value
    ]
    if not differing:
        return notes
    return [
        *notes,
        f"this machine differs ({'; '.join(differing)}): the run continues, but results are no longer bit-identical",
    ]


def _require_rendering(saved: Identity, now: Identity, *, where: str) -> None:
    """RunError where this version of textune makes other tokens of documents than the one that began the run."""
    then, here = saved.rendering, now.rendering
    if then is not None and here is not None and then != here:
        raise RunError(
            f"documents are rendered by other rules than when {where} began: those were version {then}, and this"
            f" textune has version {here}, which makes other tokens of the same documents.",
            hint="Resume with the version of textune that began it (its manifest.json names it), or start a new run.",
            key="metadata",
            value=here,
            place=str(where),
            reason=f"the rules were version {then} and are version {here}",
        )


def _require_frozen_weights(saved: Identity, now: Identity, *, where: str) -> None:
    """RunError where the backbone has other weights than those that the run left as they are."""
    then, here = saved.frozen_weights, now.frozen_weights
    if then is not None and then != here:
        raise RunError(
            f"the weights of the backbone that {where} does not train changed since: their hash was {then} and is"
            f" {here}.",
            hint="Restore the backbone's files as they were, or start a new run.",
            key="model.pretrained",
            value=here,
            place=str(where),
            reason=f"the hash was {then} and is {here}",
        )


def identity_at(checkpoint: Checkpoint, state: RunState, model: TextModel) -> Identity:
    """What a checkpoint says of its run; `model` is the one that resumes.

    Those of earlier versions hold the frozen weights themselves, which are compared with the backbone's by the hash of
    what is held. RunError where some are missing.
    """
    identity = state.identity
    if identity.frozen_weights is not None:
        return identity
    try:
        held = model.frozen_weights.fingerprint(read=lambda name: checkpoint.read(MODEL + name))
    except KeyError as error:
        raise not_fitting(checkpoint, error) from error
    return replace(identity, content=dict(identity.content) | {FROZEN_WEIGHTS: held})


def not_fitting(checkpoint: Checkpoint, error: Exception) -> RunError:
    """The refusal of a checkpoint whose tensors are not those of the model."""
    return RunError(
        f"the checkpoint {checkpoint.folder} does not fit the model of this configuration: {error}.",
        hint="Resume with the backbone and the configuration that it was made with.",
    )


def _only_of(one: Identity, other: Identity) -> list[str]:
    """The splits that only the first of two runs has; `compare` knows which ones may come and go."""
    names = one.content.keys() - other.content.keys()
    return sorted(name.removeprefix("data.") for name in names if name.startswith("data."))


def identity_of(parts: Parts) -> Identity:
    """What a checkpoint keeps for `compare_identity`."""
    splits = parts.data.splits
    content: dict[str, JsonValue] = {f"data.{name}": split.fingerprint for name, split in splits.items()}
    content |= {f"rows.{name}": len(split) for name, split in splits.items()}
    # The integers alone are the same where a file gives them other names.
    named = [(name, split.examples.label_names) for name, split in splits.items() if split.examples.label_names]
    content |= {f"class_names.{name}": list(names) for name, names in named}
    content["labels"] = [problem_of(parts.data.label_maps), *full_names(parts.data.label_maps)]
    content |= {f"{CODE}{path}": fingerprint(path) for path in parts.card.code}
    content["tokenizer"] = parts.encoder.fingerprint()
    if parts.documents is not None:
        content[RENDERING] = RENDERING_VERSION
    content["max_length"] = parts.card.max_length
    content["pair_separator"] = parts.card.pair_separator
    content["token_embeddings"] = parts.model.left_out_fingerprint
    content[FROZEN_WEIGHTS] = parts.model.frozen_weights.fingerprint()
    machine: dict[str, JsonValue] = {
        "torch": torch.__version__,
        "device": str(parts.device),
        "vectors": processor.vectors(),
        "kernels": parts.model.accelerator.way,
        "world": parts.ranks.world,
        "sharing": sharing_kind(parts.settings.train, parts.ranks),
    }
    config = parts.model.hf.config.to_dict()
    backbone = {
        name: value for name, value in config.items() if name not in _NOT_COMPUTED and not name.startswith("_")
    }
    as_stored = json.loads(json.dumps(finite(backbone), default=str, allow_nan=False))
    return Identity(content, machine, as_stored)
