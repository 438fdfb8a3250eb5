"""Packages that a kind of `[[track]]` needs."""

from __future__ import annotations

from importlib.util import find_spec

from textune.errors import ConfigError


def require_installed(package: str, *, key: str, value: str, install: str = "") -> None:
    """ConfigError where a package that a tracker needs is not installed; `install`: what pip is told, by default the
    extra of that name."""
    if find_spec(package) is None:
        install = install or f'"textune[{package}]"'
        raise ConfigError(
            f"{key} = {value!r}: the package {package} is not installed.",
            hint=f"Run `pip install {install}`.",
            key=key,
            value=value,
            reason=f"{package} is not installed",
        )
