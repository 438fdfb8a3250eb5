"""What a checkpoint keeps of a run beside tensors: everything that decides how the run continues, under names that
stay.

`state.json` is read and written here alone. Runs of version 0.1.0 wrote sentences for some names; they are translated
once, as the file is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING

from textune.config import LONG_ROWS
from textune.errors import RunError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.training import Checkpoint, Numbers


RENDERING = "rendering"
"""The entry of `Identity.content` for the version of the rules by which documents become tokens."""
FROZEN_WEIGHTS = "frozen_weights"
"""The entry of `Identity.content` for the weights that the run does not train, as its backbone's files have them."""


@dataclass
class Progress:
    """How far a run has come."""

    step: int = 0
    """Optimizer steps done."""
    evaluated: bool = False
    """Whether the evaluation that is due at this step is done."""
    evaluated_sets: list[str] = field(default_factory=list)
    """The sets that an evaluation at this step has done already, while others are still to come."""
    stopped: bool = False
    """Whether early stopping has ended the training."""
    losses: list[float] = field(default_factory=list)
    """Losses since the last logged step."""
    tokens: int = 0
    rows: int = 0
    """Real tokens and rows since then."""
    since_logged: float = 0.0
    """Seconds of training in which they were computed."""
    seconds: float = 0.0
    """Wall time of the training loop in all sessions together, evaluations included."""


@dataclass(frozen=True)
class Identity:
    """What tells whether it is still the same run on the same kind of machine, beyond its configuration."""

    content: Mapping[str, JsonValue]
    """Fingerprints and sizes of what the run reads: `data.train`, `rows.train`, `labels`, `tokenizer`, ..."""
    machine: Mapping[str, JsonValue]
    """What decides the last bits of a sum: `torch`, `device`, `vectors`, `kernels`, `world`, `sharing`."""
    backbone: Mapping[str, JsonValue]
    """The backbone's configuration, as far as it decides what is learnt."""

    @property
    def token_embeddings(self) -> JsonValue:
        """Fingerprint of the backbone's token embeddings that the run does not train; None where it trains them
        all."""
        return self.content.get("token_embeddings")

    @property
    def frozen_weights(self) -> JsonValue:
        """Hash of the weights of the backbone that the checkpoint leaves out; empty where it holds all, None where an
        earlier version wrote it, which always did."""
        return self.content.get(FROZEN_WEIGHTS)

    @property
    def rendering(self) -> JsonValue:
        """Version of the rules by which documents become tokens; None for labelled texts."""
        return self.content.get(RENDERING)

    @property
    def data(self) -> dict[str, JsonValue]:
        """Hashes of the sources of rows, by set."""
        start = "data."
        return {name.removeprefix(start): one for name, one in self.content.items() if name.startswith(start)}

    @property
    def kernels(self) -> str | None:
        """The way in which a model computes what stands between its matrix products."""
        way = self.machine.get("kernels")
        return None if way is None else str(way)


@dataclass(frozen=True)
class RunState:
    """The state of a run after a step."""

    progress: Progress
    best: Mapping[str, float | int | None]
    """The best evaluation and early stopping, as `BestTracker` keeps them."""
    loader: Mapping[str, JsonValue]
    """Where the batches are, and how many tokens are computed at once."""
    learner: Numbers
    """Numbers of the optimizer and the loss scale."""
    config: Mapping[str, JsonValue]
    """The resolved configuration."""
    trackers: Mapping[str, JsonValue]
    """What the trackers keep, such as how long metrics.jsonl is."""
    identity: Identity
    folder: str = ""
    """The run folder of then, as an absolute path, beside which the backbone may have moved; empty where an earlier
    version wrote it."""

    @property
    def best_step(self) -> int | None:
        """Step of the best evaluation so far; None before the first."""
        found = self.best["best_step"]
        return None if found is None else int(found)

    @property
    def max_tokens(self) -> int:
        """Tokens computed at once."""
        return int(str(self.loader["max_tokens"]))

    @property
    def max_length(self) -> int:
        """Longest row in tokens, whatever `tokens.max_length = "auto"` stood for in the version that began the run.

        Version 0.1.0 did not write it down; its `auto` was 256, or what the backbone has positions for.
        """
        section = self.config["tokens"]
        written = section["max_length"] if isinstance(section, dict) else None
        known = self.identity.content.get("max_length", LONG_ROWS if written == "auto" else written)
        return int(str(known))

    @property
    def pair_separator(self) -> str | None:
        """What stands between the texts of pairs; None where `tokens.pair_separator` says it.

        Version 0.1.0 had no such key, and put nothing there.
        """
        section = self.config["tokens"]
        had_key = isinstance(section, dict) and "pair_separator" in section
        known = self.identity.content.get("pair_separator", None if had_key else "")
        return None if known is None else str(known)

    @property
    def metrics_bytes(self) -> int:
        """Length of metrics.jsonl when the checkpoint was made."""
        return int(str(self.trackers.get("metrics_bytes", 0)))

    def to_dict(self) -> dict[str, JsonValue]:
        """As `state.json` holds it."""
        tree: dict[str, JsonValue] = {"step": self.progress.step, "progress": vars(self.progress)}
        tree["folder"] = self.folder
        for name in ("best", "loader", "learner", "config", "trackers"):
            tree[name] = dict(getattr(self, name))
        for name in ("content", "machine", "backbone"):
            tree[name] = dict(getattr(self.identity, name))
        return tree


def state_of(checkpoint: Checkpoint) -> RunState:
    """The state that a checkpoint holds, whatever version wrote it; RunError where something is missing."""
    tree = checkpoint.state
    try:
        known = {item.name for item in fields(Progress)}
        return RunState(
            progress=Progress(**{name: value for name, value in tree["progress"].items() if name in known}),
            best=tree["best"],
            loader=tree["loader"],
            learner=tree["learner"],
            config=tree["config"],
            trackers=tree["trackers"],
            identity=Identity(
                content={_content_id(name): value for name, value in tree["content"].items()},
                machine={
                    _MACHINE.get(name, name): _SHARING.get(value, value) for name, value in tree["machine"].items()
                },
                backbone=tree["backbone"],
            ),
            folder=str(tree.get("folder", "")),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(
            f"the checkpoint {checkpoint.folder} is damaged: state.json: {type(error).__name__}: {error}.",
            hint="Resume from an earlier checkpoint, or train again.",
        ) from error


# --- the sentences of version 0.1.0 ----------------------------------------------------------------------------------

_CONTENT = {
    "the labels": "labels",
    "the tokenizer": "tokenizer",
    "tokens.max_length": "max_length",
    "tokens.pair_separator": "pair_separator",
    "the token embeddings of the backbone": "token_embeddings",
}
_OF_SPLITS = {
    "data": ("the ", " data"),
    "rows": ("the number of ", " rows"),
    "class_names": ("the class names of the ", " data"),
}
"""The words around the name of a split, the most general first."""
_MACHINE = {"processor's vectors": "vectors", "number of processes": "world", "way of sharing the work": "sharing"}
_SHARING = {"Learner": "alone", "DataParallelLearner": "ddp", "ShardedLearner": "fsdp", "ZeroLearner": "deepspeed"}


def _content_id(name: str) -> str:
    """The name that stays, of one that may be a sentence."""
    if name in _CONTENT:
        return _CONTENT[name]
    for kind, (before, after) in reversed(_OF_SPLITS.items()):
        if name.startswith(before) and name.endswith(after):
            return f"{kind}.{name.removeprefix(before).removesuffix(after)}"
    return name


def content_in_words(name: str) -> str:
    """An entry of `Identity.content`, for people."""
    kind, _, split = name.partition(".")
    if split and kind in _OF_SPLITS:
        before, after = _OF_SPLITS[kind]
        return f"{before}{split}{after}"
    return {there: word for word, there in _CONTENT.items()}.get(name, name)


def machine_in_words(name: str) -> str:
    """An entry of `Identity.machine`, for people."""
    return {there: word for word, there in _MACHINE.items()}.get(name, name)
