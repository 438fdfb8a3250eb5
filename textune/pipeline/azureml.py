"""What the AzureML component does around a run: 16 bits as this machine has them, and the MLflow model at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from textune.atomic import write_text
from textune.config import FilesSource, user_path
from textune.data import read_source
from textune.errors import DataError, RunError
from textune.exports import Exported, kind_of
from textune.pipeline import convert_model

_NOTE = "foreign/mlflow_model_folder.txt"
"""Of the run folder: where it wrote its MLflow model."""


def half_precision() -> Literal["bf16", "fp16", "fp32"]:
    """What `precision = 16` is on this machine: bf16 where a GPU, or the processor, has it, else fp16 on a GPU; fp32
    on a processor without bf16, where 16 bits would be slower and less exact."""
    import torch

    from textune.model import prefers_bf16

    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    return "bf16" if prefers_bf16(torch.device("cpu")) else "fp32"


def text_columns(file: str, *, label: str) -> tuple[str, ...]:
    """The columns of a file of rows beside that of the label; DataError where there is no such column, or no other."""
    names = read_source(FilesSource(files=(str(user_path(file)),)), key="training_data").table.column_names
    if label not in names or len(names) < 2:
        reason = f"it has no column {label}" if label not in names else "it has no column beside the label"
        raise DataError(
            f"--training_data = {file}: {reason}.",
            hint=f"Its columns are {', '.join(names)}.",
            key="label_column_name",
            value=label,
            place=file,
            reason=reason,
        )
    return tuple(name for name in names if name != label)


def require_mlflow_folder(run: str | Path, folder: str | Path) -> None:
    """Whether `mlflow_model_folder` can be written once the run is complete; asked before anything is trained.

    ExportError without MLflow, RunError for a folder that holds something else than the MLflow model of this run.
    """
    folder = user_path(folder)
    kind_of("mlflow")
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())) or _is_written(user_path(run), folder):
        return
    what = "an MLflow model that is not of this run" if (folder / "MLmodel").is_file() else "something else"
    raise RunError(
        f"--mlflow_model_folder = {folder} holds {what}; nothing is ever overwritten.",
        hint="Name a folder that is empty or does not exist, or write --save_as_mlflow_model false.",
        key="mlflow_model_folder",
        value=str(folder),
        place=str(folder),
        reason="it is not empty",
    )


def write_mlflow_folder(run: str | Path, folder: str | Path) -> Exported | None:
    """`mlflow_model_folder`: the best model of a complete run as an MLflow model; None where it is there already.

    A folder that exists and is empty is filled. Errors as of `textune.export` and `require_mlflow_folder`.
    """
    run, folder = user_path(run), user_path(folder)
    require_mlflow_folder(run, folder)
    if _is_written(run, folder):
        return None
    folder.parent.mkdir(parents=True, exist_ok=True)
    written = convert_model({"pytorch_model_folder": str(run), "mlflow_model_folder": str(folder)})
    (run / _NOTE).parent.mkdir(exist_ok=True)
    write_text(run / _NOTE, f"{folder.absolute()}\n")
    return written


def _is_written(run: Path, folder: Path) -> bool:
    """Whether the run noted that it wrote this MLflow model."""
    note = run / _NOTE
    there = note.is_file() and (folder / "MLmodel").is_file()
    return there and note.read_text(encoding="utf-8") == f"{folder.absolute()}\n"
