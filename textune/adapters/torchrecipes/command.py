"""The recipe's own command line: where its configuration is, and what the variables of its launcher say."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from textune.adapters.hydra import find_config
from textune.errors import ConfigError
from textune.wording import listing, nearest

SHIPPED = Path(__file__).parent / "conf"
"""The groups and configurations of the recipe, which come with textune."""
Mode = Literal["prod", "train", "test", "predict"]
_OWN_FOLDER = "doc_classification/conf"
_OWN_MODULES = "torchrecipes."
DEFAULT = "default_config"


@dataclass(frozen=True)
class Named:
    """A configuration that was found."""

    file: Path
    folders: tuple[Path, ...]
    """Where groups are looked for that its folder lacks."""
    notes: tuple[str, ...] = ()

    @classmethod
    def of_file(cls, file: Path) -> Named:
        """A file that was named itself."""
        return cls(file, (SHIPPED,))

    @property
    def name(self) -> str:
        """Without its ending."""
        return self.file.stem

    @property
    def said(self) -> str:
        """Where it is."""
        return f"{self.file.name} of textune" if self.file.parent == SHIPPED else str(self.file)


def named_recipe(name: str | None, path: str | None = None, module: str = "") -> Named:
    """The configuration of `--config-name NAME --config-path PATH`, with `module` as CONFIG_MODULE has it.

    It is looked for in `path`, seen from the current folder, in the folder of `module`, and among those that come
    with textune. A `path` of the recipe's own that does not exist is that of these. ConfigError says where it was
    looked for.
    """
    folders, notes = [], []
    if path is not None:
        folder = Path(path.removeprefix("file://").replace("pkg://", "").replace(".", "/") if "://" in path else path)
        if folder.is_dir():
            folders.append(folder)
        elif not folder.as_posix().rstrip("/").endswith(_OWN_FOLDER):
            raise ConfigError(
                f"--config-path {path}: there is no such folder.",
                hint=f"Leave it out for the configurations that come with textune: {listing(shipped_names())}.",
                key="--config-path",
                value=path,
                place=str(folder),
            )
    if module:
        of_module = Path(module.replace(".", "/"))
        if of_module.is_dir():
            folders.append(of_module)
        if not module.startswith(_OWN_MODULES):
            notes.append(
                f"CONFIG_MODULE = {module} is not imported: its YAML files are read, and keys that it registers in"
                " Python are not known."
            )
    folders = list(dict.fromkeys([*folders, SHIPPED]))
    file = find_config(name or DEFAULT, folders)
    return Named(file, tuple(folder for folder in folders if folder != file.parent), tuple(notes))


def shipped_names() -> list[str]:
    """The configurations that come with textune."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def launcher_variables() -> tuple[str, Mode]:
    """CONFIG_MODULE and MODE, as `torchx_app.py` sets them for the job; ConfigError for an unknown mode.

    No other code of textune reads them, nor any other variable that says what is trained.
    """
    mode = os.environ.get("MODE", "").strip().lower() or "prod"
    known = get_args(Mode)
    if mode not in known:
        near = nearest(mode, known)
        raise ConfigError(
            f"MODE = {mode} is not known.",
            hint=f"Did you mean {near}?" if near else f"Write one of {listing(known)}.",
            key="MODE",
            value=mode,
            place="environment",
            reason="not one of the modes",
        )
    return os.environ.get("CONFIG_MODULE", ""), cast(Mode, mode)
