"""Dates as records write them, to a year and a month: ISO 8601, digits alone, or seconds since 1970; always in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime

MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
"""In English whatever the locale."""
_DIGITS = re.compile(r"(\d{9,19})(?:\.\d*)?", re.ASCII)
_DAY_OR_MONTH = re.compile(r"\d{4}-\d{2}(?:-\d{2})?", re.ASCII)
_MOMENT = re.compile(r"\d{4}-?\d{2}-?\d{2}[T ]\d{2}.*", re.ASCII)
_SINCE_1970 = {9: 1, 10: 1, 11: 1_000, 12: 1_000, 13: 1_000, 15: 10**6, 16: 10**6, 18: 10**9, 19: 10**9}
"""Number of digits to units a second: seconds, and their thousandths, millionths and milliardths."""


def parse_timestamp(text: str) -> tuple[int, int] | None:
    """Year and month of a date in UTC; None for anything else. Without an offset, a time is taken to be in UTC.

    `2018-12-10T13:45:00.000Z`, `2018-12-10 13:45:00+01:00`, `2018-12-10`, `2018-12`, `20181210`, `20181210134500`, and
    seconds, milliseconds, microseconds or nanoseconds since 1970, which their number of digits tells apart.
    """
    text = text.strip()
    try:
        digits = _DIGITS.fullmatch(text)
        if digits and len(digits[1]) in _SINCE_1970:
            moment = datetime.fromtimestamp(int(digits[1]) // _SINCE_1970[len(digits[1])], UTC)
        elif text.isdecimal() and text.isascii() and len(text) == 14:
            moment = datetime.strptime(text, "%Y%m%d%H%M%S")
        elif text.isdecimal() and text.isascii() and len(text) == 8:
            moment = datetime.strptime(text, "%Y%m%d")
        elif _DAY_OR_MONTH.fullmatch(text):
            moment = datetime.fromisoformat(text if len(text) == 10 else f"{text}-01")
        elif _MOMENT.fullmatch(text):
            moment = datetime.fromisoformat(text)
        else:
            return None
        moment = moment.astimezone(UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError):
        return None
    return moment.year, moment.month
