"""The models that a server answers with, by name: opened, looked up by requests, opened again; after `engine.py`."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fastapi import Request

from textune.batches import RowTexts, make_row_store
from textune.config import user_path
from textune.errors import ConfigError, RunError
from textune.model import CARD_NAME
from textune.prediction import ModelCard, Predictor, UsualRows, find_model, load, read_usual
from textune.serving.engine import Engine
from textune.serving.refusals import Refusal
from textune.serving.settings import LoadOptions, Settings
from textune.serving.sharing import share_backbone
from textune.serving.watcher import Watcher
from textune.wording import listing

Open = Callable[[Path, LoadOptions], Predictor]
"""Opens a run folder or a model folder."""
Stamp = tuple[int, int]
"""What tells one state of a model's files from another."""


@dataclass(frozen=True)
class Served:
    """One model as it is served now."""

    name: str
    folder: Path
    """As it was given: a run folder stays one, so that its best model can be opened again."""
    predictor: Predictor
    engine: Engine
    stamp: Stamp
    usual: UsualRows | None
    """What its validation rows looked like; None where that is not known."""

    @property
    def card(self) -> ModelCard:
        """What `textune.json` says of it."""
        return self.predictor.card


class Models:
    """Name -> `Served`, in the order they were given; the first answers where a request names none.

    A look-up and the call of its engine must not be parted by an `await`: a model that is replaced answers what it was
    given, and is closed.
    """

    def __init__(
        self,
        folders: Mapping[str, Path],
        settings: Settings,
        options: LoadOptions | None = None,
        *,
        watchers: Sequence[Watcher] = (),
        open_model: Open | None = None,
        on_notice: Callable[[str], None] = warnings.warn,
    ) -> None:
        """Open each folder; errors as of `textune.prediction.load`, ModelError also for a language model."""
        self.settings: Final = settings
        self.options: Final = options or LoadOptions()
        self.watchers: Final = list(watchers)
        """Told of all answers; more may be added before the first request."""
        self.on_notice: Final = on_notice
        self._open: Final = open_model or self._load
        self._reloading = asyncio.Lock()
        self._closing: set[asyncio.Task[None]] = set()
        self._served: dict[str, Served] = {}
        for name, folder in folders.items():
            self._served[name] = self._serve(name, folder)

    def __iter__(self) -> Iterator[Served]:
        return iter(list(self._served.values()))

    def __len__(self) -> int:
        return len(self._served)

    @property
    def default(self) -> Served:
        """The first one."""
        return next(iter(self._served.values()))

    def get(self, name: str | None) -> Served:
        """The model of that name; Refusal `unknown` where there is none."""
        if name is None:
            return self.default
        if name not in self._served:
            raise Refusal("unknown", f"There is no model {name!r:.80}; there are: {listing(self._served)}.")
        return self._served[name]

    def of(self, request: Request) -> Served:
        """The model that the path of a request names, else the first."""
        return self.get(request.path_params.get("model"))

    def refused(self, reason: str) -> None:
        """Tell watchers of a refusal."""
        for watcher in self.watchers:
            watcher.refused(reason)

    async def reload(self, name: str) -> Served:
        """Open a model's folder again and put it in the place of the one that was served, which answers what it was
        given before it is closed. Where it cannot be opened, the old one stays; errors as of the constructor."""
        async with self._reloading:
            folder = self.get(name).folder
            new = await asyncio.get_running_loop().run_in_executor(None, self._serve, name, folder)
            old, self._served[name] = self._served[name], new
        closing = asyncio.create_task(old.engine.close())
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        return new

    def changed(self) -> list[str]:
        """Names of the models whose files are others than when they were opened."""
        return [one.name for one in self if _stamp(one.folder) not in {one.stamp, None}]

    async def close(self) -> None:
        """Answer what is in flight, as long as the settings allow, and end."""
        await asyncio.gather(*(one.engine.close(self.settings.drain) for one in self))

    def _serve(self, name: str, folder: Path) -> Served:
        stamp = _stamp(folder) or (0, 0)  # before it is read: a change meanwhile is seen later
        predictor = self._open(folder, self.options)
        usual = self._usual(folder)
        share_backbone(predictor.scorer, [one.predictor.scorer for one in self])
        self._warm(name, predictor)
        settings = self.settings
        engine = Engine(
            name,
            predictor,
            max_queue_tokens=settings.max_queue_tokens,
            timeout=settings.timeout,
            batch_tokens=settings.batch_tokens,
            watchers=self.watchers,
        )
        return Served(name, folder, predictor, engine, stamp, usual)

    def _warm(self, name: str, predictor: Predictor) -> None:
        """Score a text, so that no request waits for what is imported and made once. A failure is said, and no more:
        requests with other texts may fare better."""
        pairs = None if predictor.card.columns.text_pair is None else ["a"]
        try:
            predictor.scorer.score_store(make_row_store(RowTexts.given(["a"], pairs, str), predictor.encoder))
        except Exception as error:
            self.on_notice(f"{name} could not score a first text: {error}")

    def _usual(self, folder: Path) -> UsualRows | None:
        """What the validation rows of a model looked like. A file that cannot be read is said, and no more: without it
        everything is answered as with it."""
        try:
            return read_usual(find_model(folder))
        except RunError as error:
            self.on_notice(str(error))
            return None

    def _load(self, folder: Path, options: LoadOptions) -> Predictor:
        return load(
            folder,
            device=options.device,
            precision=options.precision,
            max_tokens=options.max_tokens,
            compile=options.compile,
            code=options.code,
            decision=options.decision,
            on_notice=self.on_notice,
        )


def _stamp(folder: Path) -> Stamp | None:
    """None where there is no model at the moment, as while a run replaces it."""
    try:
        found = (find_model(folder) / CARD_NAME).stat()
    except Exception:  # whatever is wrong is said when it is opened
        return None
    return found.st_mtime_ns, found.st_ino


def named_folders(words: Sequence[str]) -> dict[str, Path]:
    """Folders by name, from words such as `tone=runs/first` or `runs/first`, whose name is `first`. ConfigError for a
    name that is used twice or that no address can have."""
    folders: dict[str, Path] = {}
    for word in words:
        name, equals, rest = word.partition("=")
        if not equals or "/" in name:
            name, rest = "", word
        folder = user_path(rest)
        name = name or (folder.parent.name if folder.name == "best" else folder.name) or folder.resolve().name
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii():
            raise ConfigError(
                f"{name!r} cannot name a model in an address.",
                hint=f"Give it another: NAME={rest}, of letters, digits, '-', '_' and '.'.",
                key="name",
                value=name,
            )
        if name in folders:
            raise ConfigError(
                f"two models have the name {name!r}.", hint=f"Name one of them: NAME={rest}.", key="name", value=name
            )
        folders[name] = folder
    return folders
