"""The type `website_desc`: what a table says about the host of the address."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from textune.errors import DataError
from textune.metadata.taggers.lookup import read_table
from textune.metadata.taggers.page import Kind, Page, about_text
from textune.metadata.taggers.url import parts_of

WORDS = (5, 50)
"""A description of fewer or more words is none."""
_LEFTOVER = re.compile(r"refers? to.?:|\[\[\w*:")
"""Of a page that only lists others, or of a wiki's markup."""


class WebsiteDescriptions:
    """A sentence about each host."""

    name = "website_desc"
    reads = "url"
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_website_desc": "global"}

    def __init__(self, by_host: Mapping[str, str]) -> None:
        self._by_host = {host_name(host): text for host, text in by_host.items()}

    @classmethod
    def of_file(cls, path: str) -> WebsiteDescriptions:
        """A file with the columns `domain` and `description`; DataError names the line without a domain."""
        by_host = dict[str, str]()
        columns = ("domain", "description")
        for place, row in read_table(path, columns, needed=columns, option="descriptions"):
            domain, text = row.get("domain"), row.get("description")
            if not isinstance(domain, str) or not host_name(domain):
                raise DataError(
                    f"{place}: the description has no domain.",
                    hint="Give it one in the column domain, such as example.org, or remove the line.",
                    key="descriptions",
                    value=domain,
                    place=place,
                    reason="the description has no domain",
                )
            by_host.setdefault(host_name(domain), text if isinstance(text, str) else "")
        return cls(by_host)

    def tag(self, page: Page) -> dict[str, Any]:
        """PageError where the address cannot be read."""
        return {"metadata_website_desc": described(self._by_host.get(host_name(parts_of(page).netloc)))}


def described(text: str | None) -> list[dict[str, Any]]:
    """The entry for a description; none where it says nothing about a website."""
    text = " ".join((text or "").split())
    says_something = WORDS[0] <= len(text.split()) <= WORDS[1] and not _LEFTOVER.search(text)
    return [about_text("website_description", text)] if says_something else []


def host_name(host: str) -> str:
    """Without `www.`, a port and a user."""
    return host.strip().lower().rpartition("@")[2].partition(":")[0].removeprefix("www.")
