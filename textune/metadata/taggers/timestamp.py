"""The type `timestamp`: the date that the path of the address holds, in full: year, month and day."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import unquote

from textune.metadata.taggers.page import Kind, Page, about_text
from textune.metadata.taggers.url import parts_of

YEARS = (1983, 2099)
"""First and last year of a date; a number beyond is something else."""
LEGACY_YEARS = (1983, 2021)


class Timestamp:
    """The first full date of a path, at midnight UTC.

    A month is a number or an English name, whatever the locale. A number that could be a day as well as a month, and a
    number of any other length (a time in seconds, an id), is no date.
    """

    name = "timestamp"
    reads = "url"
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_timestamp": "global"}

    def __init__(self, *, legacy: bool = False) -> None:
        """`legacy`: separators need not be alike, and no year is after 2021."""
        self._years = LEGACY_YEARS if legacy else YEARS
        self._forms = _LOOSE if legacy else _STRICT

    def tag(self, page: Page) -> dict[str, Any]:
        """PageError where the address cannot be read."""
        date = self.find(unquote(parts_of(page).path, errors="replace"))
        entries = [about_text("timestamp", f"{date.isoformat()} 00:00:00")] if date else []
        return {"metadata_timestamp": entries}

    def find(self, path: str) -> datetime.date | None:
        """The first date of a path."""
        found = ((match.start(), date) for form in self._forms for match, date in self._dates(form, path.lower()))
        return min(found, default=(0, None), key=lambda one: one[0])[1]

    def _dates(self, form: re.Pattern[str], path: str) -> Iterator[tuple[re.Match[str], datetime.date]]:
        """Those of one form, of which only the first counts."""
        for match in form.finditer(path):
            date = _date_of(match.groupdict())
            if date is not None and self._years[0] <= date.year <= self._years[1]:
                yield match, date
                return


_MONTHS = [
    *("january", "february", "march", "april", "may", "june"),
    *("july", "august", "september", "october", "november", "december"),
]
_MONTH_NUMBERS = {name: number for number, name in enumerate(_MONTHS, 1)} | {
    name[:length]: number for number, name in enumerate(_MONTHS, 1) for length in (3, 4)
}
_NAME = "|".join(sorted(_MONTH_NUMBERS, key=len, reverse=True))
_YEAR, _DAY = r"(?P<year>\d{4})", r"(?P<day>\d{1,2})(?:st|nd|rd|th)?"
_MONTH = rf"(?P<month>\d{{1,2}}|{_NAME})"
_END = r"(?![0-9a-z])"
_BEGIN = r"(?<![0-9a-z])"


def _forms(first: str, again: str, after_day: str = "") -> tuple[re.Pattern[str], ...]:
    """Forms of dates: their first separator, the next one, and what must follow a day that comes last."""
    texts = (
        rf"{_BEGIN}{_YEAR}{first}{_MONTH}{again}{_DAY}(?:(?=t\d)|{_END}){after_day}",
        rf"{_BEGIN}{_DAY}{first}(?P<month>{_NAME}){again}{_YEAR}{_END}",
        rf"{_BEGIN}(?P<month>{_NAME}){first}{_DAY}{again}{_YEAR}{_END}",
        rf"{_BEGIN}(?P<one>\d{{1,2}}){first}(?P<other>\d{{1,2}}){again}{_YEAR}{_END}",
        rf"{_BEGIN}(?P<year>\d{{4}})(?P<month>\d\d)(?P<day>\d\d)(?:(?=t\d)|{_END})",
        rf"{_BEGIN}(?P<day>\d{{1,2}})(?P<month>{_NAME}){_YEAR}{_END}",
        rf"{_BEGIN}{_YEAR}(?P<month>{_NAME})(?P<day>\d{{1,2}}){_END}",
    )
    return tuple(re.compile(text, re.ASCII) for text in texts)


_STRICT = _forms(
    r"(?P<separator>(?P<folder>/)|[-_. ,+]{1,2})",
    "(?P=separator)",
    r"(?(folder)(?=[/.]|$)|)",  # in folders the day is one by itself: `/2015/12/5-tips/` is not the fifth
)
_LOOSE = _forms("[-/_. ,+]{1,2}", "[-/_. ,+]{1,2}")


def _date_of(parts: Mapping[str, str | None]) -> datetime.date | None:
    """None where they are no date, or more than one."""
    year = int(parts["year"] or 0)
    if one := parts.get("one"):
        pairs = {(int(one), int(parts["other"] or 0)), (int(parts["other"] or 0), int(one))}
    else:
        month = parts["month"] or ""
        pairs = {(_MONTH_NUMBERS.get(month) or int(month), int(parts["day"] or 0))}
    dates = {date for month_day in pairs if (date := _valid(year, *month_day))}
    return dates.pop() if len(dates) == 1 else None


def _valid(year: int, month: int, day: int) -> datetime.date | None:
    try:
        return datetime.date(year, month, day)
    except ValueError:
        return None
