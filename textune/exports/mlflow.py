"""`--to mlflow`: a folder that `mlflow.pyfunc` opens, `mlflow models serve` serves and `spark_udf` applies to tables.

MLmodel, conda.yaml, requirements.txt ...   MLflow's own: signature, an example, packages with their versions
pyfuncscript.py, code/textune/              what predicts: the model is code, and nothing is pickled
artifacts/model/                            our plain model folder
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa

from textune.data import text_columns
from textune.errors import RunError
from textune.exports.pyfuncform import ALL_SCORES, CONFIG, DECISION, MODEL, takes_lists
from textune.imports import quietly
from textune.prediction import ModelCard, Probe, Scores, no_classifier, prediction_fields, read_card
from textune.run import GOOD_MANNERS, import_client
from textune.version import __version__
from textune.wording import listing

PACKAGES = (
    "mlflow",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "huggingface_hub",
    "fsspec",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "pyyaml",
    "jinja2",
    "lazy-loader",
)
"""What a prediction imports, besides what these bring along."""
EXAMPLE = "a text"
ROWS_AT_ONCE = 8
SCRIPT = "pyfuncscript.py"
MODEL_FOLDER = f"artifacts/{MODEL}"


def write(model: Path, folder: Path, *, on_notice: Callable[[str], None], **_: object) -> None:
    """Write the plain model folder `model` as an MLflow model into `folder`, which is empty.

    Raises RunError for a model that needs code of the user's own, ModelError for a language model.
    """
    card = read_card(model)
    if card.is_language_model:
        raise no_classifier()
    if card.code:
        raise RunError(
            f"--to mlflow: the model is made of code of your own ({listing(card.code)}), which would have to travel"
            " with it.",
            hint="Export it with --to hf, and give that code where it is loaded: textune.load(FOLDER, code=[...]).",
            key="to",
            value="mlflow",
            place=str(model),
            reason="code of the user's own",
        )
    import_client()  # before anything else of MLflow's: without its telemetry
    with GOOD_MANNERS, quietly("mlflow"):
        _save(model, folder, card)


def _save(model: Path, folder: Path, card: ModelCard) -> None:
    from mlflow.pyfunc import save_model

    save_model(
        path=str(folder),
        python_model=str(Path(__file__).with_name(SCRIPT)),
        artifacts={MODEL: str(model)},
        code_paths=[str(Path(__file__).parents[1])],
        signature=_signature(card),
        input_example=_example(card),
        pip_requirements=requirements(),
        model_config=CONFIG,
        metadata={"textune": __version__, "problem": card.problem, "labels": list(card.names)},
    )
    _settle_paths(folder)


def _settle_paths(folder: Path) -> None:
    """Let `MLmodel` name files as they lie in the folder: MLflow keeps where they were on this machine, and calls our
    folder as it was called there."""
    from mlflow.models import Model

    saved = Model.load(str(folder))
    flavour = saved.flavors["python_function"]
    artefact = flavour["artifacts"][MODEL]
    (folder / artefact["path"]).rename(folder / MODEL_FOLDER)
    artefact["path"] = artefact["uri"] = MODEL_FOLDER
    flavour["model_code_path"] = SCRIPT
    saved.save(str(folder / "MLmodel"))


def requirements() -> list[str]:
    """Each of `PACKAGES` in the version that is here, such as `torch==2.13.0`; without what only tells builds of one
    version apart (`+cpu`), which PyPI does not have."""
    return [f"{name}=={version(name).partition('+')[0]}" for name in PACKAGES]


def _signature(card: ModelCard) -> Any:
    """What MLflow holds rows and parameters against before the model sees them."""
    from mlflow.models import ModelSignature
    from mlflow.types import DataType, ParamSchema, ParamSpec, Schema
    from mlflow.types.schema import ColSpec

    fields = () if card.metadata is None else card.metadata.columns
    named = [ColSpec("string", name) for name in text_columns(card.columns)]
    named += [ColSpec("string", name, required=False) for name in fields if name not in text_columns(card.columns)]
    given = [ColSpec("string")] if takes_lists(card) else named
    answers = [ColSpec(_type(field.type), field.name) for field in prediction_fields(card, all_scores=False)]
    params = ParamSchema([ParamSpec(ALL_SCORES, DataType.boolean, False), ParamSpec(DECISION, DataType.boolean, True)])
    return ModelSignature(inputs=Schema(given), outputs=Schema(answers), params=params)


def _type(arrow: pa.DataType) -> Any:
    from mlflow.types.schema import Array, DataType

    if pa.types.is_list(arrow):
        return Array(DataType.string)
    return DataType.double if pa.types.is_floating(arrow) else DataType.string


def _example(card: ModelCard) -> Any:
    """Rows as the signature wants them; none of the data's own."""
    import pandas as pd

    if takes_lists(card):
        return [EXAMPLE]
    fields = () if card.metadata is None else card.metadata.columns
    return pd.DataFrame([dict.fromkeys([*text_columns(card.columns), *fields], EXAMPLE)])


def by_mlflow(folder: Path, probe: Probe, *, alone: bool, code: Sequence[str]) -> Scores:
    """An `Asker` of `textune.exports.table`: `mlflow.pyfunc.load_model(folder).predict`, on the processor."""
    import pandas as pd

    card = read_card(folder / MODEL_FOLDER)
    table = pd.DataFrame([{name: _cell(value) for name, value in row.items()} for row in probe.rows], dtype=object)
    size = 1 if alone else ROWS_AT_ONCE
    import_client()
    with GOOD_MANNERS, quietly("mlflow"):
        from mlflow.pyfunc import load_model

        model = load_model(str(folder), model_config={"device": "cpu"})
        params = {ALL_SCORES: True, DECISION: False}
        parts = [model.predict(table[start : start + size], params=params) for start in range(0, len(table), size)]
    answers = pd.concat(parts)
    return {name: answers[columns].to_numpy("float64") for name, columns in _score_columns(card).items()}


def _cell(value: object) -> str | None:
    """As the signature wants it."""
    return value if value is None or isinstance(value, str) else str(value)


def _score_columns(card: ModelCard) -> dict[str, list[str] | str]:
    """By head, the columns with the scores of its labels, or the one with its numbers."""
    alone = len(card.heads) == 1
    found: dict[str, list[str] | str] = {}
    for name, label_map in card.label_maps.items():
        of_head, of_label = ("", "") if alone else (f"_{name}", f"{name}/")
        labels = [f"score_{of_label}{one}" for one in label_map.names]
        found[name] = labels if label_map.choices else f"predicted_label{of_head}"
    return found
