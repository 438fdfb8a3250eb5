"""bsmetadata's own commands: where `train.py --config-name NAME` finds its configuration."""

from __future__ import annotations

from pathlib import Path

from textune.adapters.hydra import find_config

_FOLDER = "hydra_configs"


def named_config(script: str, name: str | None, *, path: str | None = None) -> Path | None:
    """The YAML file that `SCRIPT --config-name NAME --config-path PATH` reads; None without a name, since the defaults
    are in the code then.

    It is looked for in the folder `hydra_configs` beside the script, or in `path` (seen from the script, then from the
    current folder); then in `bsmetadata/hydra_configs` and the current folder. ConfigError says where it was looked
    for.
    """
    if name is None:
        return None
    beside = Path(script).parent
    given = [] if path is None else [beside / path, Path(path)]
    usual = [beside / _FOLDER, Path("bsmetadata") / _FOLDER, Path()]
    return find_config(name, list(dict.fromkeys(given or usual)))
