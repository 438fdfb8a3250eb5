"""The page to try texts, `GET /` in a browser: one answer that loads nothing and asks only its own server."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib import resources

from fastapi import APIRouter
from fastapi.responses import HTMLResponse


def router() -> APIRouter:
    """The page's route. It needs no token: the page holds nothing of the models, and asks for the token itself."""
    routes = APIRouter(tags=["server"])

    @routes.get("/", response_class=HTMLResponse)
    async def try_a_text() -> HTMLResponse:
        """A page to try texts, for a browser."""
        return HTMLResponse(_page(), headers=_headers())

    return routes


@cache
def _page() -> str:
    page = _file("page.html")
    return page.replace("{style}", _file("style.css")).replace("{script}", _file("page.js"))


@cache
def _headers() -> dict[str, str]:
    """What the browser may do with the page: apply its style, run its script, ask this server; its empty
    icon is data."""
    style, script = (_digest(_file(name)) for name in ("style.css", "page.js"))
    policy = (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {
        "content-security-policy": policy,
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


@cache
def _file(name: str) -> str:
    return resources.files("textune.serving").joinpath("template", name).read_text(encoding="utf-8")
