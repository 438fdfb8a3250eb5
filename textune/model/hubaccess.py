"""Whether the Hugging Face hub can be reached, and what its cache on this machine holds; before `pretrained.py`, and
free of torch and transformers."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request

import huggingface_hub
from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub before only the cache is used; transformers' own retries would take most of a minute."""


def hub_answers() -> bool:
    """Whether the Hugging Face hub can be reached within `HUB_TIMEOUT`."""
    if huggingface_hub.constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(huggingface_hub.constants.ENDPOINT, method="HEAD")
    try:
        urllib.request.urlopen(request, timeout=HUB_TIMEOUT).close()
    except urllib.error.HTTPError:
        return True
    except urllib.error.URLError as error:
        # Certificates that only the hub's own client may know: let that client try.
        return isinstance(error.reason, ssl.SSLError)
    except OSError:
        return False
    return True


def is_cached(repository: str, files: tuple[str, ...]) -> bool:
    """Whether the hub's cache on this machine holds all of these files of a repository."""
    try:
        return all(isinstance(try_to_load_from_cache(repository, file), str) for file in files)
    except HFValidationError:
        return False
