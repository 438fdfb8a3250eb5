"""The run folder: the only place, besides the token cache, where a run writes.

runs/x/
  config.toml     the resolved configuration: train it again with `textune train runs/x/config.toml --run runs/y`
  foreign/        of a run from another system's configuration: its files, and its words in words.txt
  manifest.json   versions, machine, git commit, command, data fingerprints, status, result
  metrics.jsonl   one line for every logged step and evaluation
  run.log         what a terminal shows of the run, with the time of each line
  tracking/       how far each tracker of `[[track]]` came: mlflow.json and the like
  best/           the best model: a plain Hugging Face folder plus textune.json
  checkpoints/    all that a run needs to resume where it stopped: step-120/ and the like
  members/        of a run with train.soup: the runs whose models were joined; soup.json: which, and how good each is
  lock            held by the process that is writing here
  report.html     a page to look at: all of the reports, how training went, what the audit found
  plots/          its plots as PNG files, where `evaluate.plots` or `textune report --plots` asks for them
  model-card.md   what the best model is, what it was trained on and what it reaches
  report.json, report.md                  the best model on the validation rows
  report-test.json, report-NAME.json, ... the best model on the test rows, and on each evaluation set
  evaluations/NAME.rows.parquet           every row of the set NAME with its label, the answer and the score; beside
                                          them the reports of `textune evaluate`
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from textune.atomic import replace_folder, settle_folder, write_text
from textune.errors import RunError
from textune.evaluation import ROWS_SUFFIX
from textune.locks import Held, Removed, held
from textune.model import complete_model
from textune.run.manifest import Ending, Manifest, Resumption, now, read_manifest

PAGE = "report.html"
"""The page about a run."""
CARD = "model-card.md"
"""The card of its model, as the Hugging Face hub knows them."""
SOUP = "soup.json"
"""Which runs a model was joined from."""
_MEMBERS = "members"
"""Folder of these runs."""
PLOTS = "plots"
"""Folder of the plots, by set."""
NOTHING: Mapping[str, str] = MappingProxyType({})
_REPORT = "report"
_FIRST = ("validation", "test")
FOREIGN = "foreign"
"""Folder of the files and words of another system that the run's configuration was made from."""
_BEFORE_THE_MANIFEST = {"lock", "config.toml", "config.toml.writing", "manifest.json.writing", _MEMBERS}
_BEFORE_THE_MANIFEST |= {FOREIGN + end for end in ("", ".writing", ".new", ".old")}


class RunFolder:
    """Writes one run; every file is complete or absent."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def best(self) -> Path:
        """Folder of the best model."""
        return self.path / "best"

    @property
    def metrics(self) -> Path:
        """One JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        """What a terminal shows, as text."""
        return self.path / "run.log"

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def members(self) -> Path:
        """Folder of the runs whose models are joined into the best one, where there are such."""
        return self.path / _MEMBERS

    @property
    def evaluations(self) -> Path:
        """Folder of the rows of every reported set, and of the reports of later evaluations."""
        return self.path / "evaluations"

    def evaluated_sets(self) -> list[str]:
        """The sets whose rows it has: `validation`, `test`, then the others."""
        names = [path.name.removesuffix(ROWS_SUFFIX) for path in self.evaluations.glob(f"*{ROWS_SUFFIX}")]
        return sorted(names, key=lambda name: (name not in _FIRST, name != "validation", name))

    def rows_of(self, name: str) -> Path:
        """The file with the rows of a set."""
        return self.evaluations / f"{name}{ROWS_SUFFIX}"

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Held while a process writes here, and released by the system if it dies; RunError where another one writes.

        Where nothing else was written meanwhile, the lock goes, and the folder with it if it was made for that.
        """
        absent = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        with contextlib.ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                stack.enter_context(held(self.path / "lock"))
            except OSError as error:
                raise self._unwritable(error) from error
            except Removed:
                raise self.touched() from None
            except Held as holder:
                raise RunError(
                    f"another process is writing to {self.path} ({holder}).",
                    hint="Wait for it or stop it, or choose another folder with --run.",
                    place=str(self.path),
                    reason="another process is writing",
                ) from None
            try:
                yield
            finally:
                self._remove_lone_lock(absent)

    def _remove_lone_lock(self, made: Sequence[Path]) -> None:
        """Remove the lock where it is all there is, and the folders that were `made` for it, the innermost first."""
        with contextlib.suppress(OSError):  # Windows keeps a file that is open; others may use the outer folders
            if {item.name for item in self.path.iterdir()} == {"lock"}:
                (self.path / "lock").unlink()
                for folder in made:
                    folder.rmdir()

    def touched(self) -> RunError:
        """The error for a folder that changed since this process looked."""
        return RunError(
            f"another process has worked in {self.path} since this one looked.",
            hint="Start the same command again.",
        )

    def _unwritable(self, error: OSError) -> RunError:
        reason = error.strerror or str(error)
        return RunError(
            f"the run folder {self.path} cannot be written: {reason}.",
            hint="Fix that, or choose another with --run.",
            place=str(self.path),
            reason=reason,
        )

    def require_free(self) -> None:
        """RunError where the folder cannot take a new run; writes nothing."""
        if self.path.is_file():
            raise RunError(
                f"--run {self.path} is a file; a new folder was expected.",
                hint="Choose another name.",
                place=str(self.path),
            )
        # A run that was killed before it wrote anything leaves its lock alone.
        if self.path.is_dir() and any(item.name != "lock" for item in self.path.iterdir()):
            holds_run = (self.path / "manifest.json").is_file()
            what = "already holds a run" if holds_run else "is not empty"
            if self.was_killed_early:
                raise RunError(
                    f"the run folder {self.path} holds the remains of a run that was killed as it started.",
                    hint="Start it again with --resume auto.",
                    place=str(self.path),
                    reason="killed as it started",
                )
            raise RunError(
                f"the run folder {self.path} {what}; nothing is ever overwritten.",
                hint=("Resume it with --resume, or choose another" if holds_run else "Choose another")
                + f" with --run, such as --run {self.next_free()}.",
                place=str(self.path),
                reason=what,
            )
        self.require_writable()

    def require_writable(self) -> None:
        """RunError if the folder cannot be made or written to; leaves nothing there.

        Asked before any data is read, which may take long.
        """
        path = self.path.absolute()
        try:
            nearest = next(folder for folder in [path, *path.parents] if os.path.lexists(folder))
            if not nearest.is_dir():
                raise NotADirectoryError(None, f"{nearest} is a file")
            for folder in (nearest, self.checkpoints) if self.checkpoints.is_dir() else (nearest,):
                with tempfile.TemporaryFile(dir=folder):
                    pass
        except OSError as error:
            raise self._unwritable(error) from error

    @property
    def was_killed_early(self) -> bool:
        """Whether the folder holds no more than a run writes before its manifest; the lock comes first."""
        names = {item.name for item in self.path.iterdir()} if self.path.is_dir() else set()
        return "lock" in names and names <= _BEFORE_THE_MANIFEST

    def next_free(self) -> Path:
        """The same path with the first free number appended."""
        path, number = self.path, 2
        if not path.name:  # "." and ".."
            path = path.absolute()
        name = path.name or "run"
        while (candidate := path.parent / f"{name}-{number}").exists():
            number += 1
        return candidate

    def witness(self) -> tuple[object, ...]:
        """What changes when another process works here: the text of the manifest, and the names of the checkpoints."""
        manifest = self.path / "manifest.json"
        text = manifest.read_text(encoding="utf-8") if manifest.is_file() else None
        names = sorted(path.name for path in self.checkpoints.iterdir()) if self.checkpoints.is_dir() else []
        return text, tuple(names)

    def start(self, manifest: Manifest, *, config_text: str, foreign: Mapping[str, str] = NOTHING) -> None:
        """Make the folder, with the configuration, what it was made from, and its manifest."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._keep(foreign)
        write_text(self.path / "config.toml", config_text)
        manifest.write(self.path)
        self.checkpoints.mkdir(exist_ok=True)

    def resume(self, again: Resumption, *, config_text: str, foreign: Mapping[str, str] = NOTHING) -> None:
        """Mark a run that had stopped as running again, with its configuration of now."""
        settle_folder(self.best)
        self._keep(foreign)
        write_text(self.path / "config.toml", config_text)
        before = read_manifest(self.path)
        kept = {name: getattr(before, name) for name in before.model_fields_set - {"finished", "reason"}}
        Manifest(**kept | {"status": "running", "resumed": (*before.resumed, again)}).write(self.path)
        self.checkpoints.mkdir(exist_ok=True)

    def _keep(self, foreign: Mapping[str, str]) -> None:
        """Keep the files that the configuration was made from; without any, those of an earlier session stay."""

        def write(folder: Path) -> None:
            for name, text in foreign.items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                write_text(folder / name, text)

        if foreign:
            replace_folder(self.path / FOREIGN, write)

    def end(self, status: Ending, **results: object) -> None:
        """Mark the run as ended, with fields of its manifest; what was saved stays."""
        ended = {"status": status, "finished": now(), **results}
        read_manifest(self.path).model_copy(update=ended).write(self.path)

    def files(self) -> dict[str, Path]:
        """What the run has left so far, by name: its configuration, manifest and metrics, the best model's folder,
        reports, rows of reported sets; plots and the files of another system by their path in the run folder."""
        found = [self.path / name for name in ("config.toml", "manifest.json", SOUP)]
        found += [self.metrics, self.best, self.path / CARD, *sorted(self.path.glob(f"{_REPORT}*"))]
        found += [self.rows_of(name) for name in self.reports()]
        named = {path.name: path for path in found if path.exists()}
        foreign = [path for path in sorted((self.path / FOREIGN).rglob("*")) if path.is_file()]
        return named | {path.relative_to(self.path).as_posix(): path for path in (*foreign, *self.plots())}

    def plots(self) -> list[Path]:
        """The plots that it has."""
        return sorted((self.path / PLOTS).rglob("*.png"))

    def reports(self) -> dict[str, Path]:
        """The JSON files of its reports by the set that they are about: `validation`, `test`, then the others."""
        found = {
            path.stem.removeprefix(_REPORT).removeprefix("-"): path
            for path in sorted(self.path.glob(f"{_REPORT}*.json"))
        }
        named = {name or "validation": path for name, path in found.items()}
        return {
            name: named[name]
            for name in sorted(named, key=lambda name: (name not in _FIRST, name != "validation", name))
        }

    def keep_reports(self, names: Collection[str]) -> None:
        """Remove the reports of other sets, which an earlier session of the run wrote, and their rows, unless an
        evaluation wrote these since."""
        for name in self.reports().keys() - set(names):
            if not (self.evaluations / f"{name}.json").is_file():
                self.rows_of(name).unlink(missing_ok=True)
            for suffix in ("json", "md"):
                (self.path / f"{report_stem(name)}.{suffix}").unlink(missing_ok=True)

    def save_best(self, write: Callable[[Path], None]) -> None:
        """Replace `best/` by what `write(folder)` writes; RunError where the disk does not take it."""
        try:
            replace_folder(self.best, write)
        except OSError as error:
            kept = " The previous one is still there." if complete_model(self.path) is not None else ""
            raise RunError(
                f"the best model cannot be written to {self.path}: {error.strerror or error}.{kept}",
                hint="Fix that (free space: other runs, their checkpoints), then continue with --resume.",
                place=str(self.path),
                reason=error.strerror or str(error),
            ) from error


def report_stem(name: str) -> str:
    """The name of the report on a set, without its suffix."""
    return _REPORT if name == "validation" else f"{_REPORT}-{name}"
