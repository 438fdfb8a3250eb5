"""The presets that say how to train, for more time or less, whatever the data: `--preset fast`, `balanced` or `best`.

They are files of `textune/presets` like all others; here they are laid over a config by their short name, and refused
where their settings are not meant for what is trained. They name no backbone: a config's own stays.
"""

from __future__ import annotations

from collections.abc import Mapping

from textune.config.overrides import EXTENDS, Overrides, listed
from textune.config.presets import PREFIX
from textune.config.schema import Experiment, ModelSection
from textune.config.taskkinds import ConditionalLmTask
from textune.config.toml import shorten
from textune.errors import ConfigError
from textune.wording import listing, nearest

QUALITIES = ("fast", "balanced", "best")
"""From the least time to the most."""


def laid_over(overrides: Overrides, preset: str | None) -> Overrides:
    """Overrides of either form with the preset below them: over the config, and under every other override.

    ConfigError for a name that is none of `QUALITIES`.
    """
    if preset is None:
        return overrides
    name = f"{PREFIX}{require_quality(preset)}"
    if not isinstance(overrides, Mapping):
        return [f"{EXTENDS}={name}", *listed("overrides", overrides)]
    own = overrides.get(EXTENDS, [])
    return {**overrides, EXTENDS: [name, *(own if isinstance(own, list | tuple) else [own])]}


def require_quality(preset: object) -> str:
    """The short name of a preset, which may be given with its prefix; ConfigError for any other word."""
    name = preset.removeprefix(PREFIX) if isinstance(preset, str) else ""
    if name in QUALITIES:
        return name
    near = nearest(name, QUALITIES)
    meant = f"Did you mean {near}? " if near else ""
    raise ConfigError(
        f"preset = {shorten(repr(preset))}: expected one of {listing(QUALITIES)}.",
        hint=f"{meant}Any other preset is laid over a config by extends=preset:NAME; `textune presets` lists them.",
        key="preset",
        value=preset,
        reason="there is no such preset",
    )


def require_suitable(experiment: Experiment, preset: str | None) -> None:
    """ConfigError where a preset was laid over what its rates and epochs are not meant for: a language model, or
    adapters."""
    if preset is None:
        return
    if experiment.metadata is not None or isinstance(experiment.task, ConditionalLmTask):
        what = "documents of a language model" if isinstance(experiment.task, ConditionalLmTask) else "documents"
        key, hint = "task.kind", "Leave it out, and set train.duration and train.optimizer.lr yourself."
    elif isinstance(experiment.model, ModelSection) and experiment.model.lora is not None:
        what, key = "adapters (model.lora), which need higher rates", "model.lora"
        hint = "Leave one of them out: --unset model.lora trains all weights."
    else:
        return
    raise ConfigError(
        f"preset = {preset!r} is for training all weights on labelled texts, not for {what}.",
        hint=hint,
        key="preset",
        value=preset,
        place=key,
        reason=f"not for {what}",
    )
