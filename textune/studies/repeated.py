"""What came of a repeated configuration, and how it is shown; below `repeat.py`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textune.evaluation import Report, number
from textune.studies.runs import RunResult, exit_code_of
from textune.studies.spread import Spread
from textune.wording import count, listing

if TYPE_CHECKING:
    from pydantic import JsonValue

HEAD = ("metric", "mean", "deviation", "lowest", "highest", "95 % interval of the mean")
_POOLED = "all held-out rows"
_OVER_FOLDS = (
    "The interval of the validation rows is for the mean score of models trained on so many other rows like these."
    " Folds share their training rows, so it is corrected (Nadeau and Bengio 2003), and wider than that of independent"
    " runs."
)
_OVER_SEEDS = "The interval of {sets} is for the mean over other seeds, with the rows as they are."


@dataclass(frozen=True)
class SetSpread:
    """How the metrics of one set spread over the runs."""

    name: str
    """`validation`, `test`, or that of an evaluation set."""
    metric: str
    """The main metric."""
    higher_is_better: bool
    runs: tuple[str, ...]
    """The runs that the values of each spread are of, in their order."""
    spreads: dict[str, Spread]
    """By metric."""

    @property
    def main(self) -> Spread:
        """That of the main metric."""
        return self.spreads[self.metric]


@dataclass(frozen=True)
class RepeatResult:
    """The runs of one configuration on several folds and seeds, and what they say together."""

    study: Path
    """The folder of the runs."""
    folds: int | None
    """None where the configuration's own validation rows were used."""
    seeds: tuple[int, ...]
    runs: tuple[RunResult, ...]
    """Fold after fold, of one seed after the other."""
    sets: dict[str, SetSpread]
    """By the name of the set; of the runs that are complete."""
    report: Report | None
    """On the held-out rows of all folds; None without folds, and where a run is missing."""
    notes: tuple[str, ...] = ()
    """What a reader should know of the figures."""

    @property
    def exit_code(self) -> int:
        """0 if every run is complete, else that of a run that is not."""
        return exit_code_of(self.runs)

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "study": str(self.study),
            "folds": self.folds,
            "seeds": list(self.seeds),
            "runs": [
                {"name": run.name, "run": str(run.folder), "complete": run.error is None, "reason": run.reason}
                for run in self.runs
            ],
            "sets": {
                one.name: {
                    "main": one.metric,
                    "higher_is_better": one.higher_is_better,
                    "runs": list(one.runs),
                    "metrics": {metric: spread.to_dict() for metric, spread in one.spreads.items()},
                }
                for one in self.sets.values()
            },
            "held_out": None if self.report is None else self.report.to_dict(),
            "notes": list(self.all_notes()),
        }

    def title(self) -> str:
        """What was repeated over what."""
        over = [] if self.folds is None else [count(self.folds, "fold")]
        over += [count(len(self.seeds), "seed")]
        return f"{count(len(self.runs), 'run')} over {' and '.join(over)}"

    def head(self, name: str) -> tuple[str, ...]:
        """The columns of the table of a set."""
        return (*HEAD, _POOLED) if self._has_pooled(name) else HEAD

    def lines(self, name: str) -> list[tuple[str, ...]]:
        """The table of a set: a line for each metric of all rows, the main one first."""
        found = self.sets[name]
        metrics = sorted(found.spreads, key=lambda metric: metric != found.metric)
        return [self._line(found, metric) for metric in metrics if "/" not in metric]

    def _line(self, found: SetSpread, metric: str) -> tuple[str, ...]:
        spread = found.spreads[metric]
        limits = "-" if spread.interval is None else " to ".join(map(number, spread.interval))
        cells = (metric, *map(number, (spread.mean, spread.deviation, spread.low, spread.high)), limits)
        if not self._has_pooled(found.name) or self.report is None:
            return cells
        return (*cells, number(self.report.metrics[metric]) if metric in self.report.metrics else "-")

    def _has_pooled(self, name: str) -> bool:
        return name == "validation" and self.report is not None

    def all_notes(self) -> list[str]:
        """How the table is to be read, and which runs failed and why."""
        with_interval = [one.name for one in self.sets.values() if one.main.interval is not None]
        over_seeds = [name for name in with_interval if self.folds is None or name != "validation"]
        found = [*self.notes]
        if "validation" in with_interval and self.folds is not None:
            found.append(_OVER_FOLDS)
        if over_seeds:
            found.append(_OVER_SEEDS.format(sets=" and ".join(over_seeds)))
        failed: dict[str, list[str]] = {}
        for run in self.runs:
            if run.error is not None:
                failed.setdefault(run.reason, []).append(run.name)
        return [*found, *(f"{listing(names, 5)} failed: {reason}" for reason, names in failed.items())]

    def markdown(self) -> str:
        """The tables and notes as a document."""
        parts = [f"# {self.title()}"]
        for name in self.sets:
            head = self.head(name)
            rule = ["---", *["---:"] * (len(head) - 1)]
            table = "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *self.lines(name)))
            parts.append(f"## {name}\n\n{table}")
        if notes := self.all_notes():
            parts.append("\n".join(f"- {note}" for note in notes))
        return "\n\n".join(parts) + "\n"
