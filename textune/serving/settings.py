"""What a server is told at its start: where it listens, what it refuses, how models are opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from textune.config import DeviceName, PredictionPrecision, Switch
from textune.errors import ConfigError

LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@dataclass(frozen=True)
class Settings:
    """How a server listens and what it refuses; ConfigError for numbers that cannot be."""

    host: str = "127.0.0.1"
    """The address it listens on; only this machine reaches the usual one."""
    port: int = 8080
    """0: any that is free."""
    token: str | None = field(default=None, repr=False)
    """What requests must carry as `Authorization: Bearer TOKEN`; None: nothing."""
    max_queue_tokens: int = 262_144
    """Tokens that wait or are computed, for each model; a request beyond is refused with 429."""
    max_batch: int = 256
    """Most texts of a request."""
    max_body: int = 2_000_000
    """Most bytes of a request's body; of `/batch`, of a line."""
    max_connections: int = 1000
    """Most connections at a time, those without a request too; requests beyond are refused with 503."""
    timeout: float = 60.0
    """Seconds from a request to its answer, and for a body to arrive."""
    drain: float = 30.0
    """Seconds that requests in flight have when the server is asked to stop."""
    batch_tokens: int | None = None
    """Tokens of texts that are computed together; None: 1,024 on a processor, as many as the model's run elsewhere."""
    follow: float = 0.0
    """Seconds between two looks at whether a model's files changed, which is then opened again; 0: never."""

    def __post_init__(self) -> None:
        for name in ("max_queue_tokens", "max_batch", "max_body", "max_connections"):
            _require(name, getattr(self, name), 1)
        for name in ("port", "follow"):
            _require(name, getattr(self, name), 0)
        for name in ("timeout", "drain"):
            _require(name, getattr(self, name), 0.001)
        if self.batch_tokens is not None:
            _require("batch_tokens", self.batch_tokens, 1)
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token.strip()):
            raise ConfigError(
                "the token is empty, or has characters that a header of HTTP cannot carry.",
                hint="Use letters and digits, such as those of `openssl rand -hex 16`.",
                key="token",
            )

    @property
    def is_open(self) -> bool:
        """Whether other machines reach it, and no token keeps them out."""
        return self.host not in LOOPBACK and self.token is None


def _require(name: str, value: float, least: float) -> None:
    if not least <= value < float("inf"):
        option = f"--{name.replace('_', '-')}"
        raise ConfigError(
            f"{option} {value}: it is a number from {least:g} on.", hint="Use another.", key=name, value=value
        )


@dataclass(frozen=True)
class LoadOptions:
    """How the models of a server are opened: as in `textune.prediction.load`."""

    device: DeviceName = "auto"
    precision: PredictionPrecision = "auto"
    max_tokens: int | None = None
    compile: Switch = "auto"
    code: tuple[str, ...] = ()
    decision: bool = True


def read_token(path: Path) -> str:
    """The token in a file, whose first line it is; ConfigError for a file that cannot be read or is empty."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the file of the token cannot be read: {path}.", hint="Check the path and its rights.", key="token_file"
        ) from error
    if not lines or not lines[0].strip():
        raise ConfigError(f"the file of the token is empty: {path}.", hint="Write it in one line.", key="token_file")
    return lines[0].strip()
