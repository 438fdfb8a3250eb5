"""What the AzureML component does around a run: 16 bits as this machine has them, and the MLflow model at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from textune.config import FilesSource, user_path
from textune.data import read_source
from textune.errors import DataError, RunError
from textune.exports import Exported
from textune.pipeline import convert_model


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


def write_mlflow_folder(run: str | Path, folder: str | Path) -> Exported | None:
    """`mlflow_model_folder`: the best model of a complete run as an MLflow model; None where it is there already.

    A folder that exists and is empty is filled. Errors as of `textune.export`, and RunError for a folder that holds
    something else.
    """
    folder = user_path(folder)
    if (folder / "MLmodel").is_file():
        return None
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError(
            f"--mlflow_model_folder = {folder} holds something else than an MLflow model.",
            hint="Name a folder that is empty or does not exist; the run itself is complete.",
            key="mlflow_model_folder",
            value=str(folder),
            place=str(folder),
            reason="it is not empty",
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    return convert_model({"pytorch_model_folder": str(user_path(run)), "mlflow_model_folder": str(folder)})
