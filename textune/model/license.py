"""The licence that a backbone states, where its files are at hand: nothing is fetched for it."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

README = "README.md"
"""The page of a model on the hub; what stands between its first two lines `---` is for programs."""
MAX_BYTES = 1 << 20
_IDENTIFIER = re.compile(r"[a-z0-9][a-z0-9.+-]{0,40}")
"""How the hub names licences; it refuses a page with another word, such as `MIT License`."""


def stated_license(backbone: str) -> str:
    """What the page of a backbone, a folder or a name on the hub, says under `license`, such as `apache-2.0`.

    Empty where it says nothing that the hub takes, or where the page is neither in the folder nor in the hub's cache.
    """
    page = _page_of(backbone)
    if page is None or page.stat().st_size > MAX_BYTES:
        return ""
    header = _front_matter(page.read_text(encoding="utf-8", errors="replace"))
    said = header.get("license")
    return said.strip() if isinstance(said, str) and _IDENTIFIER.fullmatch(said.strip()) else ""


def _front_matter(page: str) -> dict[str, object]:
    """The keys before the text of a page in Markdown; empty where there are none, or no YAML."""
    lines = page.lstrip("\ufeff").splitlines()
    if not lines or lines[0].strip() != "---":
        return {}
    end = next((number for number, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    if end is None:
        return {}
    try:
        found = yaml.safe_load("\n".join(lines[1:end]))
    except yaml.YAMLError:
        return {}
    return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}


def _page_of(backbone: str) -> Path | None:
    if not backbone:
        return None
    folder = Path(backbone)
    if folder.is_dir():
        return folder / README if (folder / README).is_file() else None
    try:
        cached = try_to_load_from_cache(backbone, README)
    except HFValidationError:
        return None
    return Path(cached) if isinstance(cached, str) else None
