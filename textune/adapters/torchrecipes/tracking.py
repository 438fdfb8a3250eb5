"""Loggers and callbacks of a run of torchrecipes: trackers, checkpoints, early stopping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from textune.adapters.foreign import LeftOut, Line
from textune.adapters.torchrecipes.given import Settings
from textune.adapters.torchrecipes.model import dotted
from textune.adapters.torchrecipes.training import steps
from textune.config import Problem, parse_key, refuse

LOGGER, CALLBACKS = "trainer.logger", "trainer.callbacks"
_LIGHTNING = ("pytorch_lightning.", "lightning.pytorch.", "lightning.")
_METRICS = {"acc": "accuracy", "f1": "f1_macro", "loss": "loss"}
_SHOWN = (
    "LearningRateMonitor",
    "TQDMProgressBar",
    "RichProgressBar",
    "ProgressBar",
    "ModelSummary",
    "RichModelSummary",
    "DeviceStatsMonitor",
    "GPUStatsMonitor",
    "Timer",
)
"""Callbacks of Lightning that say what metrics.jsonl has anyway, or what the terminal shows."""


@dataclass
class Watched:
    """What loggers and callbacks become."""

    lines: list[Line] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    tracks: list[dict[str, object]] = field(default_factory=list)
    origins: list[str] = field(default_factory=list)
    folder: str | None = None
    """Where TensorBoard's files would be."""

    def all_lines(self) -> Iterator[Line]:
        """The trackers as one line, and the others."""
        if self.tracks:
            yield Line("track", tuple(self.tracks), "; ".join(self.origins))
        yield from self.lines


def watched_of(settings: Settings) -> Watched:
    """ConfigError for a logger or callback that cannot be had."""
    watched = Watched()
    for key, logger in _each(settings, LOGGER):
        _add_logger(watched, settings, key, logger)
    _checkpoints(watched, settings)
    for key, callback in _each(settings, CALLBACKS):
        _add_callback(watched, settings, key, callback)
    return watched


def _each(settings: Settings, key: str) -> Iterator[tuple[str, Any]]:
    """One, or those of a list or of a table by names, as lightning-hydra configurations have them."""
    found = settings[key]
    if isinstance(found, list):
        yield from ((key, one) for one in found)
    elif isinstance(found, dict) and "_target_" not in found:
        yield from ((f"{key}.{name}", one) for name, one in found.items() if one is not None)
    elif found is not None:
        yield key, found


def _kind(settings: Settings, key: str, table: Any) -> tuple[str, dict[str, Any]]:
    """The class of a table, without Lightning's modules, and its options; ConfigError for anything else."""
    if not isinstance(table, dict) or "_target_" not in table:
        refuse([settings.problem(key, "it names no class", "Write a table with _target_: package.module.Name.")])
    target = str(table["_target_"])
    options = {name: value for name, value in table.items() if name != "_target_"}
    is_lightning = target.startswith(_LIGHTNING)
    return (target.rpartition(".")[2] if is_lightning else target), options


def _add_logger(watched: Watched, settings: Settings, key: str, logger: Any) -> None:
    if logger is False:
        return
    if logger is True:
        watched.tracks.append({"kind": "tensorboard"})
        watched.origins.append(settings.origin(LOGGER))
        return
    kind, options = _kind(settings, key, logger)
    if kind == "TensorBoardLogger":
        watched.folder = options.get("save_dir")
        watched.tracks.append({"kind": "tensorboard"})
    elif kind == "CSVLogger":
        watched.left_out.append(LeftOut(f"{key} = {kind}", "metrics.jsonl has all numbers"))
        return
    elif kind == "MLFlowLogger":
        track = {"kind": "mlflow", "uri": options.get("tracking_uri") or "sqlite:///mlflow.db"}
        track["experiment"] = options.get("experiment_name") or "lightning_logs"
        watched.tracks.append(track | ({"run_name": name} if (name := options.get("run_name")) else {}))
    elif kind in ("WandbLogger", "CometLogger"):
        name = "wandb" if kind == "WandbLogger" else "comet_ml"
        project = options.get("project") or options.get("project_name") or "lightning_logs"
        watched.tracks.append({"kind": "accelerate", "name": name, "project": project})
    elif "." in kind:
        place = dotted(settings, f"{key}._target_", kind)
        watched.tracks.append({"kind": "python", "object": place, "options": options})
    else:
        hint = (
            "Known are TensorBoardLogger, MLFlowLogger, WandbLogger, CometLogger, CSVLogger, and classes of your own."
        )
        refuse([settings.problem(key, f"there is no {kind} here", hint)])
    watched.origins.append(f"{key} = {kind}")


def _checkpoints(watched: Watched, settings: Settings) -> None:
    """What is saved where no callback says it."""
    for key in ("trainer.checkpoint_callback", "trainer.enable_checkpointing"):
        if settings[key] is False:
            watched.lines.append(Line("train.checkpoint.every", "never", settings.origin(key)))
            return
    if any(isinstance(one, dict) and _is(one, "ModelCheckpoint") for _, one in _each(settings, CALLBACKS)):
        return
    own = settings["_target_"] is not None
    said = "save_top_k = -1 of the application's callback" if own else "Lightning's ModelCheckpoint keeps the last"
    watched.lines.append(Line("train.checkpoint.every", "1 epoch", "Lightning saves after each epoch"))
    watched.lines.append(Line("train.checkpoint.keep", "all" if own else 1, said))


def _is(table: dict[str, Any], name: str) -> bool:
    target = str(table.get("_target_", ""))
    return target.startswith(_LIGHTNING) and target.rpartition(".")[2] == name


def _add_callback(watched: Watched, settings: Settings, key: str, callback: Any) -> None:
    kind, options = _kind(settings, key, callback)
    if kind == "ModelCheckpoint":
        _saving(watched, settings, key, options)
    elif kind == "EarlyStopping":
        _stopping(watched, settings, key, options)
    elif kind in _SHOWN:
        watched.left_out.append(
            LeftOut(f"{key} = {kind}", "metrics.jsonl and every tracker have the rate of each step")
        )
    elif "." in kind:
        place = dotted(settings, f"{key}._target_", kind)
        watched.tracks.append({"kind": "python", "object": place, "options": options})
        watched.origins.append(f"{key} = {kind}")
    else:
        hint = (
            "Known are ModelCheckpoint, EarlyStopping, LearningRateMonitor and what shows progress; a class of your"
            " own is a tracker: docs/tracking.md says what it must have."
        )
        refuse([settings.problem(key, f"there is no {kind} here", hint)])


def _require_options(settings: Settings, key: str, options: dict[str, Any], known: tuple[str, ...]) -> None:
    unknown = [name for name in options if name not in known]
    if unknown:
        refuse([settings.problem(key, f"{unknown[0]} is not known", f"Known are {', '.join(known)}.")])


def _saving(watched: Watched, settings: Settings, key: str, options: dict[str, Any]) -> None:
    """ModelCheckpoint: how often, and how many are kept."""
    moved = (
        "dirpath",
        "filename",
        "auto_insert_metric_name",
        "verbose",
        "save_last",
        "save_on_train_epoch_end",
        "enable_version_counter",
        "has_user_data",
        "ttl_days",
    )
    known = ("monitor", "mode", "save_top_k", "every_n_epochs", "every_n_train_steps", "save_weights_only", *moved)
    _require_options(settings, key, options, known)
    for name in moved:
        if options.get(name) is not None:
            reason = "checkpoints are in the run folder, and the newest is always kept"
            watched.left_out.append(LeftOut(f"{key}: ModelCheckpoint.{name}", reason))
    count, epochs = options.get("every_n_train_steps"), options.get("every_n_epochs") or 1
    every = steps(max(1, count)) if count else f"{epochs} {'epoch' if epochs == 1 else 'epochs'}"
    monitored = options.get("monitor")
    keep = options.get("save_top_k", 1)
    if keep == 0:
        every = "never"
    watched.lines.append(Line("train.checkpoint.every", every, f"{key}: ModelCheckpoint"))
    if monitored is not None:
        _choose_by(watched, settings, key, str(monitored), options.get("mode", "min"))
    if keep == -1:
        watched.lines.append(Line("train.checkpoint.keep", "all", "ModelCheckpoint.save_top_k = -1"))
    elif monitored is not None and isinstance(keep, int) and keep > 0:
        watched.lines.append(Line("train.checkpoint.keep_best", keep, f"ModelCheckpoint.save_top_k = {keep}"))
    if options.get("save_weights_only"):
        watched.lines.append(Line("train.checkpoint.save_only_model", True, "ModelCheckpoint.save_weights_only"))


def _stopping(watched: Watched, settings: Settings, key: str, options: dict[str, Any]) -> None:
    known = (
        "monitor",
        "mode",
        "patience",
        "min_delta",
        "verbose",
        "strict",
        "check_finite",
        "check_on_train_epoch_end",
        "log_rank_zero_only",
    )
    _require_options(settings, key, options, known)
    patience = options.get("patience", 3)
    if isinstance(patience, bool) or not isinstance(patience, int) or patience < 0:
        refuse([settings.problem(key, f"patience = {patience}: expected a whole number of evaluations")])
    _choose_by(watched, settings, key, str(options.get("monitor")), options.get("mode", "min"))
    said = f"EarlyStopping.patience = {patience}"
    # Lightning counts before it compares: 0 stops, like 1, at the first evaluation that is no better.
    watched.lines.append(Line("train.early_stopping.patience", max(1, patience), said))
    delta = options.get("min_delta")
    if delta:
        watched.lines.append(
            Line("train.early_stopping.threshold", abs(float(delta)), f"EarlyStopping.min_delta = {delta}")
        )


def _choose_by(watched: Watched, settings: Settings, key: str, monitored: str, mode: str) -> None:
    """The metric that chooses the best model; ConfigError for one that the recipe does not log, or contradictory
    ones."""
    part, _, name = monitored.partition("_")
    metric = _METRICS.get(name)
    if metric is None or part not in ("val", "train", "test"):
        hint = f"It logs {', '.join(f'val_{one}' for one in _METRICS)}."
        refuse([settings.problem(key, f"monitor = {monitored}: the recipe logs no such number", hint)])
    wanted = "min" if metric == "loss" else "max"
    if mode != wanted:
        reason = f"mode = {mode} would choose the worst model by {monitored}"
        refuse([settings.problem(key, reason, f"Set mode to {wanted}.")])
    line = Line("evaluate.metric", metric, f"monitor = {monitored}")
    earlier = next((one for one in watched.lines if one.key == line.key), None)
    if earlier is not None and earlier.value != metric:
        message = f"{key}: {earlier.origin} and {line.origin} disagree: one metric chooses the best model."
        refuse([Problem(parse_key(key), message, "Monitor the same in both.", monitored)])
    if earlier is None:
        watched.lines.append(line)


def default_metric(watched: Watched) -> Iterator[Line]:
    """The metric where no callback names one."""
    if not any(line.key == "evaluate.metric" for line in watched.lines):
        yield Line("evaluate.metric", "accuracy", "val_acc, which the recipe logs")
