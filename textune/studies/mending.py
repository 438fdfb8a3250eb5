"""`textune doctor --apply`: trained as the data is and with corrections, compared on the same untouched rows.

apply_corrections("config.toml", "corrections.csv") -> Mended
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from textune.config import Config, Overrides, load_config, user_path
from textune.data import Corrections, read_corrections, write_corrections
from textune.errors import ConfigError
from textune.evaluation import SetComparison, number
from textune.run import RunFolder
from textune.studies.compare import compare
from textune.studies.folder import Study, opened_study
from textune.studies.runs import PlannedRun, Watch, carry_out
from textune.wording import count

if TYPE_CHECKING:
    from pydantic import JsonValue

    from textune.config import Loaded

KEY = "data.corrections"


@dataclass(frozen=True)
class Mended:
    """A model trained on corrected rows beside one trained on the rows as they are."""

    before: Path
    """The run folders."""
    after: Path
    num_lines: int
    """Lines of the file."""
    compared: SetComparison

    @property
    def regained(self) -> float:
        """What the main metric gains on the same rows; below 0 if it loses."""
        main = self.compared.against[0].main
        return main.difference if self.compared.higher_is_better else -main.difference

    def sentence(self) -> str:
        """What came of it."""
        versus, found = self.compared.against[0], self.compared
        main = versus.main
        said = f"{found.metric} on {count(found.num_rows, f'{found.name} row')}: {number(main.first)} before,"
        said += f" {number(main.other)} after {count(self.num_lines, 'correction')}"
        if main.interval is not None:
            low, high = (f"{end:+.4f}" for end in main.interval)
            said += f" ({main.difference:+.4f}, 95 % interval {low} to {high})"
        if not versus.differs:
            return f"{said}: no difference that chance would not make."
        return f"{said}: {'regained' if self.regained > 0 else 'lost'}."

    def to_dict(self) -> dict[str, JsonValue]:
        """As a JSON object."""
        return {
            "version": 1,
            "before": str(self.before),
            "after": str(self.after),
            "corrections": self.num_lines,
            "regained": self.regained,
            "compared": self.compared.to_dict(),
            "sentence": self.sentence(),
        }


def apply_corrections(
    config: Config | None,
    corrections: str | Path,
    *,
    run: str | Path | None = None,
    overrides: Overrides = (),
    unset: Iterable[str] = (),
    least_worth: float = 0.0,
    jobs: int = 1,
    keep_going: bool = False,
    watch: Watch | None = None,
) -> Mended:
    """Train before and after the corrections of a file, and compare both on rows that neither changes.

    Only those of `least_worth` or more are applied.

    These are the test rows, or without any the validation rows. The runs are in `run/mending` (by default
    `runs/<name of the config>-doctor/mending`): `before`, and `after-` with a number for what the corrections do, so a
    file that was changed gets a run of its own. A copy of what is applied stands beside them. Runs that are complete
    are not repeated.
    """
    loaded = load_config(config, overrides, unset)
    require_uncorrected(loaded)
    path = user_path(corrections)
    read = read_corrections(path)
    if not read.lines:
        raise ConfigError(
            f"{path} has no lines: there is nothing to apply.", key="apply", value=str(path), place=str(path)
        )
    folder = (user_path(run) if run is not None else default_folder(loaded)) / "mending"
    kept = read if least_worth <= 0 else _worth_it(read, least_worth)
    applied = folder / f"corrections-{kept.fingerprint}.csv"
    planned = [
        PlannedRun("before", loaded, folder / "before"),
        PlannedRun("after", loaded, folder / f"after-{kept.fingerprint}", {KEY: str(applied.absolute())}),
    ]
    with opened_study(folder, Study("doctor", loaded.resolved, {})):
        write_corrections(kept.lines, applied)
        before, after = carry_out(planned, jobs=jobs, keep_going=keep_going, watch=watch)
    for one in (before, after):
        if one.error is not None:
            raise one.error
    evaluated = RunFolder(before.folder).evaluated_sets()
    name = "test" if "test" in evaluated else "validation"
    compared = compare([before.folder, after.folder], sets=name).sets[name]
    return Mended(before.folder, after.folder, len(kept.lines), compared)


def _worth_it(read: Corrections, least: float) -> Corrections:
    """The corrections that are worth so much; ConfigError where there is none."""
    kept = read.worth_at_least(least)
    if not kept.lines:
        most = max(line.worth for line in read.lines)
        raise ConfigError(
            f"no correction of {read.source} is worth {least:g} or more: the most is {most:.4g}.",
            hint="Lower --least-worth.",
            key="least_worth",
            value=least,
            place=read.source,
        )
    return kept


def default_folder(loaded: Loaded) -> Path:
    """Where a study of this configuration is, unless another folder is named."""
    return Path("runs") / f"{loaded.name}-doctor"


def require_uncorrected(loaded: Loaded) -> None:
    """ConfigError where the configuration already names corrections."""
    found = loaded.experiment.data.corrections
    if found is not None:
        raise ConfigError(
            f"{KEY} = {found!r}: rows are examined, and corrected, as they are in the data.",
            hint=f"Leave {KEY} out (--unset {KEY}); a new file of corrections takes the place of the old one.",
            key=KEY,
            value=str(found),
            reason="the configuration names corrections already",
        )
