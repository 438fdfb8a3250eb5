"""Every tagger by the name of its type. To add one, write a file for it and a row of `TAGGERS`, after those that it
reads from: they run in this order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from textune.errors import ConfigError
from textune.metadata.taggers.datasource import Datasource
from textune.metadata.taggers.entityparagraph import EntityParagraphs
from textune.metadata.taggers.gazetteer import Gazetteer
from textune.metadata.taggers.html import Html
from textune.metadata.taggers.length import SentenceLengths, TextLength
from textune.metadata.taggers.own import OwnTagger
from textune.metadata.taggers.page import PageColumns, Tagger
from textune.metadata.taggers.paragraph import Paragraphs
from textune.metadata.taggers.timestamp import Timestamp
from textune.metadata.taggers.title import Title
from textune.metadata.taggers.url import Url
from textune.metadata.taggers.website import WebsiteDescriptions
from textune.wording import listing, nearest


@dataclass(frozen=True)
class TagSettings:
    """What is found on pages, and by what."""

    columns: PageColumns = field(default_factory=PageColumns)
    only: Sequence[str] = ()
    """Names of the taggers to use; none for all that have what they need."""
    without: Sequence[str] = ()
    """Names of taggers to leave out."""
    legacy: bool = False
    """As the original system found them, with its faults."""
    gazetteer: str | None = None
    """A file of entities."""
    descriptions: str | None = None
    """A file of descriptions of websites."""
    own: Sequence[str] = ()
    """Classes of the user's own, as `package.module:Name`."""


TAGGERS: dict[str, Callable[[TagSettings], Tagger | None]] = {
    "html": lambda settings: Html(),
    "url": lambda settings: Url(),
    "timestamp": lambda settings: Timestamp(legacy=settings.legacy),
    "title": lambda settings: Title(legacy=settings.legacy),
    "website_desc": lambda settings: (
        WebsiteDescriptions.of_file(settings.descriptions) if settings.descriptions else None
    ),
    "generation_datasource": lambda settings: Datasource(legacy=settings.legacy),
    "generation_length_text": lambda settings: TextLength(),
    "generation_length_sentence": lambda settings: SentenceLengths(legacy=settings.legacy),
    "paragraph": lambda settings: Paragraphs(legacy=settings.legacy),
    "entity": lambda settings: Gazetteer.of_file(settings.gazetteer) if settings.gazetteer else None,
    "entity_paragraph": lambda settings: EntityParagraphs(legacy=settings.legacy),
}
_NEEDS = {
    "website_desc": "--descriptions FILE, or a class of yours",
    "entity": "--gazetteer FILE, or a class of yours",
    "entity_paragraph": "entities: --gazetteer FILE, or a class of yours",
}
"""What the others need to be used."""


def build_taggers(settings: TagSettings) -> list[Tagger]:
    """The taggers of these settings in order; ConfigError, DataError or CodeError where one cannot be made."""
    own = [OwnTagger(path) for path in settings.own]
    _require_known(settings, own)
    wanted = settings.only or [*TAGGERS, *(tagger.name for tagger in own)]
    names = [name for name in wanted if name not in settings.without]
    by_name = _made(settings, own, names)
    order = [*TAGGERS, *(tagger.name for tagger in own if tagger.name not in TAGGERS)]
    if not settings.only and "entity" not in by_name:
        by_name.pop("entity_paragraph", None)
    for name in settings.only:
        if name in names and name not in by_name:
            raise _refused("tagger", name, f"it needs {_NEEDS[name]}", "Give that as well.")
    if not by_name:
        raise _refused("tagger", listing(settings.without), "no tagger is left", "Leave fewer out.")
    return [by_name[name] for name in order if name in by_name]


def needed_columns(taggers: Sequence[Tagger], columns: PageColumns) -> dict[str, str]:
    """Columns of the rows by what they are to the taggers; a text that a tagger finds is not needed."""
    reads = {tagger.reads for tagger in taggers}
    if any("text" in tagger.columns for tagger in taggers):
        reads.discard("text")
    return {name: getattr(columns, name) for name in ("html", "url", "text") if name in reads}


def _made(settings: TagSettings, own: Sequence[OwnTagger], names: Sequence[str]) -> dict[str, Tagger]:
    """The taggers of these names that have what they need; one of the user's own takes the place of another."""
    by_name: dict[str, Tagger] = {tagger.name: tagger for tagger in own if tagger.name in names}
    files = {"entity": settings.gazetteer, "website_desc": settings.descriptions}
    for name in names:
        if name in by_name and files.get(name):
            raise _refused("own_tagger", name, "two taggers find it", f"Leave {files[name]} or the class out.")
        if name in TAGGERS and name not in by_name and (made := TAGGERS[name](settings)) is not None:
            by_name[name] = made
    return by_name


def _require_known(settings: TagSettings, own: Sequence[OwnTagger]) -> None:
    known = [*TAGGERS, *(tagger.name for tagger in own)]
    for option, names in (("tagger", settings.only), ("without", settings.without)):
        for name in names:
            if name not in known:
                close = nearest(name, known)
                hint = f"Did you mean {close!r}?" if close else f"Known are {listing(known, 20)}."
                raise _refused(option, name, "there is no such tagger", hint)
    if twice := [tagger.name for index, tagger in enumerate(own) if tagger.name in known[len(TAGGERS) :][:index]]:
        raise _refused("own_tagger", twice[0], "two classes find it", "Leave one of them out.")


def _refused(option: str, name: str, reason: str, hint: str) -> ConfigError:
    said = f"--{option.replace('_', '-')} {name}: {reason}."
    return ConfigError(said, hint=hint, key=option, value=name, reason=reason)
