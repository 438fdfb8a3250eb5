"""What `textune doctor` found, and how it is shown; below `doctor.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textune.atomic import write_text
from textune.data import Correction, write_corrections
from textune.wording import count, shorten

if TYPE_CHECKING:
    from pydantic import JsonValue

CORRECTIONS = "corrections.csv"
HEAD = ("worth", "row", "label", "proposed", "why", "text")
SHOWN = 20
"""Lines on the terminal."""
_IN_DOCUMENT = 200
_LEFT_OUT = "(leave out)"
WORTH = (
    "Worth counts rows: for a label the probability that it is wrong, for a leak the held-out rows that are known"
    " from this training row."
)


@dataclass(frozen=True)
class Diagnosis:
    """The rows of a training source that are worth a look, the most worthwhile first."""

    study: Path
    """The folder of the study."""
    folds: int | None
    """None where nothing was trained, as for numbers."""
    num_rows: int
    """Rows examined."""
    lines: tuple[Correction, ...]
    """What is proposed, as in `corrections.csv`."""
    counts: Mapping[str, int]
    """Rows by kind of finding; a row may be of several kinds."""
    notes: tuple[str, ...] = ()

    @property
    def corrections(self) -> Path:
        """The file to review."""
        return self.study / CORRECTIONS

    @property
    def worth(self) -> float:
        """Of all lines."""
        return sum(line.worth for line in self.lines)

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "version": 1,
            "study": str(self.study),
            "folds": self.folds,
            "rows": self.num_rows,
            "counts": dict(self.counts),
            "worth": self.worth,
            "corrections": str(self.corrections),
            "lines": [asdict(line) for line in self.lines],
            "notes": list(self.notes),
        }

    def title(self) -> str:
        """How much was found."""
        found = [f"{count(num, 'row')} by {kind}" for kind, num in self.counts.items() if num]
        said = f"{count(len(self.lines), 'proposal')} for {self.num_rows:,} training rows"
        return f"{said}, worth {self.worth:.1f} rows ({', '.join(found)})" if found else said

    def table(self, limit: int = SHOWN) -> list[tuple[str, ...]]:
        """The first lines."""
        return [
            (
                f"{line.worth:.2f}",
                f"{line.row:,}",
                shorten(line.label, 30) if line.label else "",
                shorten(line.proposed, 30) if line.proposed else _LEFT_OUT,
                line.why,
                shorten(line.text, 60),
            )
            for line in self.lines[:limit]
        ]

    def markdown(self) -> str:
        """As a document."""
        head = [HEAD, ("---:", "---:", *["---"] * (len(HEAD) - 2))]
        cells = [tuple(cell.replace("|", "\\|") for cell in line) for line in self.table(_IN_DOCUMENT)]
        table = "\n".join(f"| {' | '.join(line)} |" for line in [*head, *cells])
        beyond = len(self.lines) - len(cells)
        more = [f"{count(beyond, 'more line')} in {CORRECTIONS}."] if beyond > 0 else []
        notes = "\n".join(f"- {note}" for note in (*more, *self.all_notes()))
        return f"# {self.title()}\n\n{table}\n\n{notes}\n"

    @property
    def head(self) -> tuple[str, ...]:
        """The columns of the table."""
        return HEAD

    def all_notes(self) -> list[str]:
        """How the table is to be read, and what was not looked at."""
        return [WORTH, *self.notes]

    def write(self) -> None:
        """Write `doctor.json`, `doctor.md` and the file to review."""
        text = json.dumps(self.to_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        write_text(self.study / "doctor.json", text + "\n")
        write_text(self.study / "doctor.md", self.markdown())
        write_corrections(self.lines, self.corrections)
