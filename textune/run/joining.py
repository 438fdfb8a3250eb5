"""Joins the models of several runs into that of this one: a soup of weights (Wortsman et al. 2022, arXiv:2203.05482).

members/seed-0/best ... --score on the rows that choose--> best first --average as long as it is no worse--> best/

A session drives this in place of training: what is averaged, scored, kept and reported are saved folders.
"""

from __future__ import annotations

import contextlib
import json
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from textune.atomic import WRITING, write_text
from textune.config import Soup
from textune.errors import RunError
from textune.evaluation import all_metrics, number
from textune.model import average_models
from textune.prediction import PROBE_NAME, USUAL_NAME, load_scorer, read_card, write_card
from textune.run.best import BestModel, best_of
from textune.run.deciding import GUARANTEES
from textune.run.folder import SOUP
from textune.run.manifest import read_manifest
from textune.run.report import score_rows
from textune.run.setup import Setup
from textune.run.state import Progress
from textune.wording import listing

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.training import StepResult

_OF_ONE_MODEL = (PROBE_NAME, USUAL_NAME, GUARANTEES)
"""Files of a model folder that hold for its own weights alone."""


@dataclass(frozen=True)
class Member:
    """One of the runs that are joined."""

    name: str
    folder: Path
    """Its run folder; the run is complete."""
    seed: int
    """Of its order and dropout."""
    steps: int
    seconds: float


def join_members(members: Sequence[Member], soup: Soup) -> Callable[..., Joining]:
    """What a session drives to join these runs."""

    def drive(
        setup: Setup, progress: Progress, *, kept: BestModel | None, after_step: Callable[[StepResult], None]
    ) -> Joining:
        return Joining(setup, progress, members, soup)

    return drive


class Joining:
    """The drive of a run that joins others; signals end it at once, and the next session begins it anew."""

    def __init__(self, setup: Setup, progress: Progress, members: Sequence[Member], soup: Soup) -> None:
        self.progress = progress
        self._setup = setup
        self._members = members
        self._soup = soup
        self._judge = setup.parts.settings.evaluate.best_by
        self._metrics: dict[tuple[str, ...], Mapping[str, float]] = {}
        """By the names of the members that a model is the mean of."""
        self._scratch = Path()

    def run(self) -> float:
        """Choose members, keep their mean as the best model, and write `soup.json`; returns the seconds of all members
        and of this together."""
        setup, started = self._setup, time.perf_counter()
        setup.interruption.at_once = True
        if setup.interruption.signal:
            setup.interruption.stop(setup.interruption.signal)
        for member in self._members:
            self._require_same_rows(member)
        self.progress.step = sum(member.steps for member in self._members)
        with self._scratch_folder() as self._scratch:
            ranked = self._ranked()
            chosen = self._greedy(ranked) if self._soup.kind == "greedy" else self._uniform(ranked)
            metrics, step = self._metrics[_names(chosen)], self.progress.step
            value = metrics[setup.parts.metric.name]
            setup.best.update(value, step)
            if setup.learner.ranks.is_first:
                setup.folder.save_best(lambda folder: self._write(chosen, folder, value=value))
        setup.learner.ranks.wait()
        epoch = setup.parts.plan.epochs_at(step)
        main = setup.parts.metric.name
        setup.tracker.evaluation(
            {"set": self._judge, "step": step, "epoch": epoch, "main": main, "is_best": True, "metrics": dict(metrics)}
        )
        self._say(ranked, chosen)
        return sum(member.seconds for member in self._members) + time.perf_counter() - started

    def _require_same_rows(self, member: Member) -> None:
        """RunError where the files of the rows have changed since this member learned from them."""
        then, now = read_manifest(member.folder).data, self._setup.parts.data.fingerprints
        changed = [name for name in ("train", self._judge) if then.get(name) != now.get(name)]
        if changed:
            raise RunError(
                f"{listing([f'data.{name}' for name in changed])} changed since {member.name} was trained"
                f" ({member.folder}): runs that learned from other rows are not joined.",
                hint=f"Restore the files as they were, or remove {self._setup.folder.path} and train anew.",
                key=f"data.{changed[0]}",
                place=str(member.folder),
                reason="changed since it was trained",
            )

    # --- which members -----------------------------------------------------------------------------------------------

    def _ranked(self) -> list[Member]:
        """The members, the best first; of equal ones the first."""
        values = {member.name: self._signed([member]) for member in self._members}
        return sorted(self._members, key=lambda member: -values[member.name])

    def _greedy(self, ranked: Sequence[Member]) -> list[Member]:
        """The best member, and each other one, from the best down, that does not make the mean worse."""
        chosen, best = [ranked[0]], self._signed(ranked[:1])
        for member in ranked[1:]:
            value = self._signed([*chosen, member])
            if value >= best:
                chosen, best = [*chosen, member], value
        return chosen

    def _uniform(self, ranked: Sequence[Member]) -> list[Member]:
        """All members; the best one alone where their mean is worse."""
        return list(ranked) if self._signed(ranked) >= self._signed(ranked[:1]) else list(ranked[:1])

    def _signed(self, members: Sequence[Member]) -> float:
        """The main metric of the mean of these members, signed so that larger is better; one that is not a number is
        the worst."""
        value = self._scored(members)[self._setup.parts.metric.name]
        if value != value:
            return float("-inf")
        return value if self._setup.parts.metric.higher_is_better else -value

    def _scored(self, members: Sequence[Member]) -> Mapping[str, float]:
        """The metrics of the mean of these members on the rows that choose; computed once."""
        names = _names(members)
        if names not in self._metrics:
            self._metrics[names] = self._score(members)
        return self._metrics[names]

    def _score(self, members: Sequence[Member]) -> Mapping[str, float]:
        setup, ranks = self._setup, self._setup.learner.ranks
        folder = self._scratch / "-".join(str(member.seed) for member in members)
        if len(members) == 1:
            folder = _model_of(members[0])
        elif ranks.is_first:
            folder.mkdir()
            self._write(members, folder, value=None)
        ranks.wait()
        parts, judge = setup.parts, self._judge
        device: Literal["cpu", "cuda"] = "cuda" if parts.device.torch.type == "cuda" else "cpu"
        scorer = load_scorer(
            folder,
            device=device,
            precision=parts.device.precision,
            code=parts.card.code,
            decision=False,
            ranks=ranks,
            on_notice=lambda said: None,
        )
        scored = score_rows(
            scorer,
            parts.rows[judge],
            setup.tracker,
            place=parts.data.splits[judge].examples.place,
            stage=f"evaluating {judge} with {' + '.join(_names(members))}",
            with_losses=parts.metric.needs_losses,
        )
        assert scored is not None, "nothing stops it"
        return all_metrics(scored, parts.metric)

    # --- what is kept ------------------------------------------------------------------------------------------------

    def _write(self, members: Sequence[Member], folder: Path, *, value: float | None) -> None:
        """The mean of these members as a model folder."""
        average_models([_model_of(member) for member in members], folder, without=_OF_ONE_MODEL)
        kept = None if value is None or value != value else value
        write_card(read_card(folder).model_copy(update={"step": self.progress.step, "value": kept}), folder)

    @contextlib.contextmanager
    def _scratch_folder(self) -> Iterator[Path]:
        """A folder that all ranks see and that is removed again, where a run that is killed is cleaned up behind."""
        ranks = self._setup.learner.ranks
        with contextlib.ExitStack() as stack:
            name = ""
            if ranks.is_first:
                parent = self._setup.folder.checkpoints
                name = stack.enter_context(tempfile.TemporaryDirectory(suffix=WRITING, dir=parent))
            yield Path(ranks.broadcast(name))
            ranks.wait()

    def _say(self, ranked: Sequence[Member], chosen: Sequence[Member]) -> None:
        """Write `soup.json`, and say which members were joined and what that is worth."""
        metric, main = self._setup.parts.metric, self._setup.parts.metric.name
        values = {member.name: self._scored([member])[main] for member in ranked}
        value = self._scored(chosen)[main]
        told: dict[str, JsonValue] = {
            "kind": self._soup.kind,
            "set": self._judge,
            "metric": main,
            "higher_is_better": metric.higher_is_better,
            "value": _json(value),
            "members": [
                {
                    "name": member.name,
                    "seed": member.seed,
                    "steps": member.steps,
                    "value": _json(values[member.name]),
                    "chosen": member in chosen,
                }
                for member in self._members
            ],
        }
        if self._setup.learner.ranks.is_first:
            text = json.dumps(told, indent=2, ensure_ascii=False, allow_nan=False)
            write_text(self._setup.folder.path / SOUP, text + "\n")
        kept = f"the mean of {listing(_names(chosen))}" if len(chosen) > 1 else f"that of {chosen[0].name} alone"
        each = ", ".join(f"{name} {number(one)}" for name, one in values.items())
        self._setup.tracker.notice(
            f"soup ({self._soup.kind}): the model is {kept}; {main} on {self._judge}: {number(value)}, of the runs"
            f" alone: {each}"
        )


def _names(members: Sequence[Member]) -> tuple[str, ...]:
    return tuple(member.name for member in members)


def _model_of(member: Member) -> Path:
    found = best_of(member.folder)
    assert found is not None, f"{member.folder} is complete"
    return found.folder


def _json(value: float) -> float | None:
    return None if value != value else value
