"""URLs of shards: what may be shown of them, what is secret in them, and what is sent to a web server. Below
`far.py`.

Passwords and signatures are in the user information or the query of a URL; neither names the file, so neither is
shown.
"""

from __future__ import annotations

import base64
import netrc
import os
import re
import urllib.parse
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from textune.errors import DataError
from textune.wording import count

_CHAIN = re.compile(r"::(?=[A-Za-z][\w+.-]*(?:://|::))")
"""Between the links of fsspec's chained URLs, such as `zip://a.jsonl::https://example.org/a.zip`."""
_USER = re.compile(r"://(?:([^/?#]*)@|([^/?#:@\[]*:(?!\d*(?:[/?#]|$)).*)@)")
"""User information, even if its password contains `/`, `?` or `#`, which a port cannot."""
_PLACES = ("github", "abfs", "abfss", "az", "adl")
"""Protocols where the part before `@` is a repository or a container."""
_QUERY = re.compile(r"\?(?=[^/]*=)|#")
"""In a store, a question mark by itself is a wildcard."""
_WEB_QUERY = re.compile(r"[?#]")
_URL_IN_TEXT = re.compile(r"[A-Za-z][\w+.-]*://[^\s'\"<>]+")
_NOT_IN_URLS = re.compile(r"[\x00-\x20\x7f]")
_MIN_LETTERS = 4
"""Shorter parts of a secret may be ordinary words."""
HIDDEN = "..."


class _Parts(NamedTuple):
    head: str
    """`scheme://`"""
    user: str
    rest: str
    query: str
    """With the fragment."""


def _parts(link: str) -> _Parts:
    user, head = "", link.partition("://")[0] if "://" in link else ""
    found = _USER.search(link) if head not in _PLACES else None
    if found is not None and found.start() == len(head):
        user = found[1] or found[2] or ""
        link = f"{head}://{link[found.end() :]}"
    pattern = _WEB_QUERY if is_on_the_web(link) else _QUERY
    rest, *query = pattern.split(link, maxsplit=1)
    return _Parts(head, user, rest, "".join(query))


def _links(url: str) -> list[str]:
    return [url] if is_on_the_web(url) else _CHAIN.split(url)


def is_on_the_web(url: str) -> bool:
    """Whether it is on a web server."""
    return url.startswith(("http://", "https://"))


def shown(url: str) -> str:
    """A URL for messages and fingerprints: without user information, query and fragment. A path is unchanged."""
    return "::".join(_parts(link).rest for link in _links(url)) if "://" in url else url


def secrets(url: str) -> set[str]:
    """What `shown` leaves out, whole and in its parts, as written and decoded."""
    found: set[str] = set()
    for link in _links(url) if "://" in url else []:
        _, user, _, query = _parts(link)
        name, _, password = user.partition(":")
        values = [value for _, value in urllib.parse.parse_qsl(query)]
        found |= {password, query} | {text for text in (user, name, *values) if len(text) >= _MIN_LETTERS}
    return {
        text for secret in found for text in (secret, urllib.parse.unquote(secret), urllib.parse.quote(secret)) if text
    }


def scrubbed(text: str, url: str) -> str:
    """A library's message about a URL, without the secrets of that or any other URL."""
    text = text.replace(url, shown(url)) if url else text
    for secret in sorted(secrets(url), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return _URL_IN_TEXT.sub(lambda found: shown(found[0]), text)


def told_of_secrets(urls: Sequence[str]) -> list[str]:
    """The notice that a run folder will hold URLs with user information or a query; empty if there are none."""
    found = [shown(url) for url in urls if shown(url) != url]
    if not found:
        return []
    more = f" and {count(len(found) - 1, 'more URL')}" if len(found) > 1 else ""
    return [
        f"the run folder will hold data.train.files as written, with the user information or query of"
        f" {found[0]}{more}; to keep"
        " a password or key out of it, put it in ~/.netrc (https://), or in the store's credentials or environment,"
        " or in"
        " fsspec's configuration (s3://, gs://, sftp:// and the like)"
    ]


class WebAddress(NamedTuple):
    """What a request needs."""

    url: str
    """Without user information and fragment."""
    authorization: str
    """The value of the Authorization header; empty for none."""


def web_address(url: str) -> WebAddress:
    """A URL taken apart; its user information, or else that of netrc, becomes Basic authorization (RFC 7617).

    DataError if it is not a URL of a web server. In netrc (`$NETRC` or `~/.netrc`) only an entry for exactly this host
    counts.
    """
    host = None
    try:
        if not _NOT_IN_URLS.search(url):
            parts = urllib.parse.urlsplit(url)
            host = parts.hostname if parts.port != 0 else None
    except ValueError:
        host = None
    if host is None:
        raise DataError(
            f"{shown(url)!r} is not a URL of a web server.",
            hint="Check data.train.files. A blank is written %20;"
            " in a user name or password, the characters / ? # @ are %2F %3F %23 %40.",
        )
    user, at, place = parts.netloc.rpartition("@")
    login, _, password = user.partition(":")
    pair = (urllib.parse.unquote(login), urllib.parse.unquote(password)) if at else _from_netrc(host)
    bare = urllib.parse.urlunsplit(parts._replace(netloc=place, fragment=""))
    if pair is None:
        return WebAddress(bare, "")
    return WebAddress(bare, "Basic " + base64.b64encode(":".join(pair).encode()).decode())


def _from_netrc(host: str) -> tuple[str, str] | None:
    path = Path(os.environ.get("NETRC") or "~/.netrc").expanduser()
    if not path.is_file():
        return None
    try:
        entry = netrc.netrc(path).hosts.get(host)
    except netrc.NetrcParseError as error:
        # The original message may contain a password.
        raise DataError(f"{path}, line {error.lineno} is not valid netrc.", hint="Fix the file.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    return (entry[0], entry[2]) if entry is not None else None
