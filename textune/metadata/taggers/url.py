"""The type `url`: the address of the page, as its column has it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import SplitResult, urlsplit

from textune.metadata.taggers.page import Kind, Page, PageError, about_text


class Url:
    """The address as it is."""

    name = "url"
    reads = "url"
    columns: ClassVar[Mapping[str, Kind]] = {"metadata_url": "global"}

    def tag(self, page: Page) -> dict[str, Any]:
        """PageError where there is none."""
        url = page.url()
        return {"metadata_url": [about_text("url", url)] if url else []}


def parts_of(page: Page) -> SplitResult:
    """Its address in parts; PageError where it is none."""
    url = page.url()
    try:
        return urlsplit(url)
    except ValueError as error:
        raise PageError(f"the url {url[:200]!r} cannot be read: {error}") from error
