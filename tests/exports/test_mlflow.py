"""A model as a folder of MLflow: written as code, opened by MLflow, asked in every form, and read back by textune."""

from __future__ import annotations

import os
import shutil
import site
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from kits.patience import wait_until

import textune
from textune.config import Columns, ConditionalLmTask, MetadataPrefix, PythonTask
from textune.errors import ModelError, RunError, TextuneError
from textune.exports import export
from textune.exports.mlflow import PACKAGES, requirements, write
from textune.jsontext import parse_json
from textune.prediction import ModelCard, load, predict_table, read_card, write_card
from textune.tasks import Decision

TEXTS = ["a great film", "dull and boring", "the movie is fine", ""]


def changed(model: Path, folder: Path, change: Callable[[ModelCard], ModelCard]) -> Path:
    """A copy of a model folder with another card."""
    shutil.copytree(model, folder)
    write_card(change(read_card(folder)), folder)
    return folder


def with_head(card: ModelCard, **changes: Any) -> ModelCard:
    return card.model_copy(update={"heads": (card.heads[0].model_copy(update=changes),)})


def opened(model: Path, folder: Path, **options: Any) -> Any:
    """The model as MLflow opens what is written of it."""
    folder.mkdir()
    write(model, folder, on_notice=pytest.fail)
    from mlflow.pyfunc import load_model

    return load_model(str(folder), **options)


@pytest.fixture(scope="session")
def best(trained: Any) -> Path:
    result, _ = trained
    return Path(result.run) / "best"


@pytest.fixture(scope="session")
def flavoured(best: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    folder = tmp_path_factory.mktemp("exports") / "flavoured"
    return opened(best, folder), folder


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    return frame.to_dict("records")  # type: ignore[return-value]


def expected(best: Path, table: Any, **options: Any) -> list[dict[str, Any]]:
    return predict_table(load(best, precision="fp32"), table, **options).to_pylist()


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    "form",
    [
        pytest.param(lambda texts: texts, id="list"),
        pytest.param(np.array, id="array"),
        pytest.param(lambda texts: pd.DataFrame({"text": texts}), id="frame"),
        pytest.param(lambda texts: pd.DataFrame({"text": texts, "id": range(len(texts))}), id="frame and more"),
        pytest.param(lambda texts: pd.DataFrame({"text": texts}, index=[7] * len(texts)), id="any index"),
        pytest.param(lambda texts: pd.Series(texts), id="series"),
        pytest.param(lambda texts: pd.Series(texts, name="text"), id="named series"),
        pytest.param(lambda texts: {"text": texts}, id="dictionary of lists"),
        pytest.param(lambda texts: [{"text": text} for text in texts], id="list of dictionaries"),
    ],
)
@pytest.mark.parity("AZ-21")
def test_answers_are_those_of_the_predictor(flavoured: Any, best: Path, form: Any) -> None:
    model, _ = flavoured
    assert records(model.predict(form(TEXTS))) == expected(best, {"text": TEXTS})


def test_one_text_and_an_empty_cell(flavoured: Any, best: Path) -> None:
    model, _ = flavoured
    [of_text], [of_empty] = expected(best, {"text": TEXTS[:1]}), expected(best, {"text": [""]})
    assert records(model.predict(TEXTS[0])) == records(model.predict({"text": TEXTS[0]})) == [of_text]
    assert records(model.predict(pd.DataFrame({"text": [None, TEXTS[0]]}))) == [of_empty, of_text]


def test_all_scores_and_the_usual_decision(best: Path, tmp_path: Path) -> None:
    decided = changed(best, tmp_path / "decided", lambda card: with_head(card, decision=Decision(temperature=3.0)))
    model = opened(decided, tmp_path / "mlflow")
    scores, raw = ({"all_scores": True} | more for more in ({}, {"decision": False}))
    assert records(model.predict(TEXTS, params=scores)) == expected(decided, {"text": TEXTS}, all_scores=True)
    assert records(model.predict(TEXTS, params=raw)) == expected(best, {"text": TEXTS}, all_scores=True)


def test_a_withheld_answer_is_none(best: Path, tmp_path: Path) -> None:
    shy = changed(best, tmp_path / "shy", lambda card: with_head(card, decision=Decision(abstain_below=1.0)))
    answers = opened(shy, tmp_path / "mlflow").predict(TEXTS)
    assert answers["predicted_label"].tolist() == [None] * len(TEXTS)
    assert answers["predicted_score"].between(0.5, 1).all()


@pytest.mark.parity("AZ-21")
def test_several_labels_are_a_list(best: Path, tmp_path: Path) -> None:
    several = changed(best, tmp_path / "several", lambda card: with_head(card, problem="multilabel"))
    model = opened(several, tmp_path / "mlflow")
    assert records(model.predict(TEXTS)) == expected(several, {"text": TEXTS})
    assert all(isinstance(label, list) for label in model.predict(TEXTS)["predicted_label"])
    assert "array" in str(model.metadata.signature.outputs).lower()


@pytest.mark.parametrize("nothing", [None, np.nan, pd.NA], ids=["None", "NaN", "NA"])
def test_a_cell_with_nothing_is_an_empty_text(flavoured: Any, best: Path, nothing: object) -> None:
    model, _ = flavoured
    rows = pd.DataFrame({"text": pd.Series([nothing, TEXTS[0]], dtype=object)})
    assert records(model.predict(rows)) == expected(best, {"text": ["", TEXTS[0]]})


@pytest.mark.parametrize("kind", ["object", "str"])
def test_no_rows_get_no_answers(flavoured: Any, kind: str) -> None:
    model, _ = flavoured
    answers = model.predict(pd.DataFrame({"text": pd.Series([]).astype(kind)}))
    assert len(answers) == 0 and list(answers.columns) == model.metadata.signature.outputs.input_names()
    assert len(model.predict({"text": []})) == 0


def test_pairs_and_fields_are_asked_by_their_columns(best: Path, tmp_path: Path) -> None:
    pairs = changed(
        best,
        tmp_path / "pairs",
        lambda card: card.model_copy(update={"columns": Columns(text="one", text_pair="two")}),
    )
    rows = pd.DataFrame({"two": TEXTS, "one": TEXTS[::-1], "id": range(4)})
    model = opened(pairs, tmp_path / "mlflow")
    assert records(model.predict(rows)) == expected(pairs, rows)
    with pytest.raises(Exception, match=r"missing inputs.*'two'"):
        model.predict(pd.DataFrame({"one": TEXTS}))
    with pytest.raises(Exception, match="not equally long: one has 2, two has 1"):
        model.predict({"one": ["a", "b"], "two": ["c"]})


def test_a_field_may_be_missing(best: Path, tmp_path: Path) -> None:
    prefix = MetadataPrefix(columns=("source",))
    fielded = changed(best, tmp_path / "fielded", lambda card: card.model_copy(update={"metadata": prefix}))
    model = opened(fielded, tmp_path / "mlflow")
    rows = pd.DataFrame({"text": TEXTS, "source": ["imdb"] * 4})
    assert records(model.predict(rows)) == expected(fielded, rows)
    with pytest.warns(UserWarning, match="source"):
        assert len(model.predict(rows[["text"]])) == 4


def test_rows_that_cannot_be_read_get_a_sentence(flavoured: Any) -> None:
    from mlflow.exceptions import MlflowException

    model, _ = flavoured
    with pytest.raises(MlflowException, match=r"reads the column 'text', and the first one given is 'id'") as caught:
        model.predict(pd.DataFrame({"id": ["7"], "text": ["fine"]}))
    assert caught.value.get_http_status_code() == 400
    with pytest.raises(MlflowException, match="Can not safely convert"):
        model.predict([1, 2])


def test_the_folder_is_opened_as_asked(best: Path, flavoured: Any, tmp_path: Path) -> None:
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import load_model

    _, folder = flavoured
    with pytest.raises(MlflowException, match="precision"):
        load_model(str(folder), model_config={"precision": "fp1"})
    assert len(load_model(str(folder), model_config={"max_tokens": 64, "compile": "off"}).predict(TEXTS)) == 4


def test_a_table_in_parts_as_spark_takes_it(flavoured: Any, best: Path) -> None:
    """`spark_udf` gives a model each part of a table as a frame, and takes the columns of the signature's outputs."""
    model, _ = flavoured
    outputs = model.metadata.signature.outputs.input_names()
    table = pd.DataFrame({"text": TEXTS * 5})
    parts = [model.predict(table[start : start + 6])[outputs] for start in range(0, 20, 6)]
    assert records(pd.concat(parts)) == expected(best, {"text": TEXTS * 5})


def test_nothing_in_the_folder_is_pickled_or_of_this_machine(flavoured: Any, best: Path) -> None:
    _, folder = flavoured
    paths = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    assert not {path.suffix for path in paths} & {".pkl", ".pickle", ".joblib", ".bin", ".pt", ".pth"}
    assert not [path for path in paths if path.read_bytes()[:1] == b"\x80"]
    for path in paths:
        if path.suffix in {"", ".yaml", ".txt", ".json"}:
            text = path.read_text(encoding="utf-8")
            assert str(best.parent.parent) not in text and str(Path(textune.__file__).parent) not in text, path
    assert {path.name for path in (folder / "artifacts" / "model").iterdir()} == {path.name for path in best.iterdir()}
    assert (folder / "code" / "textune" / "py.typed").exists() == (Path(textune.__file__).parent / "py.typed").exists()


def test_requirements_are_exact_and_those_of_the_package(flavoured: Any) -> None:
    _, folder = flavoured
    written = (folder / "requirements.txt").read_text(encoding="utf-8").split()
    assert written == requirements()
    assert all(line.count("==") == 1 and "+" not in line for line in written)
    project = (Path(textune.__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    needed = {
        line.strip(' ",').partition(">")[0] for line in project.partition("dependencies = [")[2].split("]")[0].split()
    }
    only_for_the_command_line = {"rich", "click"}
    assert needed - {""} - only_for_the_command_line <= set(PACKAGES)


@pytest.mark.parametrize(
    ("task", "error", "match"),
    [
        pytest.param(PythonTask(object="mine:Task"), RunError, "code of your own", id="own code"),
        pytest.param(ConditionalLmTask(), ModelError, "language model", id="language model"),
    ],
)
def test_a_model_that_cannot_go_is_refused(
    best: Path, tmp_path: Path, task: Any, error: type[TextuneError], match: str
) -> None:
    other = changed(best, tmp_path / "other", lambda card: with_head(card, task=task))
    (tmp_path / "mlflow").mkdir()
    with pytest.raises(error, match=match):
        write(other, tmp_path / "mlflow", on_notice=pytest.fail)
    assert not list((tmp_path / "mlflow").iterdir())


# --- served ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def served(flavoured: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`mlflow models serve` where textune is not installed: its address."""
    _, folder = flavoured
    place = tmp_path_factory.mktemp("served")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # Without `site` nothing is read from .pth files, which is how a source tree is installed.
    program = place / "uvicorn"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -S -m uvicorn "$@"\n')
    program.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "MLFLOW"))}
    environment |= {
        "PATH": f"{place}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(site.getsitepackages()),
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    absent = [sys.executable, "-S", "-c", "import textune"]
    assert subprocess.run(absent, cwd=place, env=environment, capture_output=True).returncode == 1
    command = ["-S", "-m", "mlflow", "models", "serve", "-m", str(folder), "-h", "127.0.0.1", "-p", str(port)]
    with (
        (place / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, *command, "--env-manager", "local"],
            cwd=place,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        ) as process,
    ):
        try:
            wait_until(lambda: process.poll() is not None or answers(port))
            assert process.poll() is None, (place / "log").read_text(encoding="utf-8")
            yield f"http://127.0.0.1:{port}/invocations"
        finally:
            os.killpg(process.pid, 15)


def answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/ping", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def post(address: str, body: str) -> tuple[int, Any]:
    request = urllib.request.Request(address, body.encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, parse_json(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.code, parse_json(error.read().decode())


@pytest.mark.slow  # MLflow and PyTorch are imported three times over
def test_a_server_of_mlflow_answers_without_textune(served: str, best: Path) -> None:
    wanted = expected(best, {"text": ["a great film", "dull"]})
    for body in (
        '{"inputs": ["a great film", "dull"]}',
        '{"dataframe_split": {"columns": ["text"], "data": [["a great film"], ["dull"]]}}',
        '{"dataframe_records": [{"text": "a great film"}, {"text": "dull"}]}',
    ):
        assert post(served, body) == (200, {"predictions": wanted})
    status, answer = post(served, '{"inputs": ["dull"], "params": {"all_scores": true}}')
    assert (status, set(answer["predictions"][0])) == (
        200,
        {"predicted_label", "predicted_score", "score_neg", "score_pos"},
    )
    status, answer = post(served, '{"dataframe_records": [{"id": "7", "text": "dull"}]}')
    assert status == 400 and "the model reads the column 'text'" in answer["message"]


# --- read back -------------------------------------------------------------------------------------------------------


def test_textune_opens_what_it_wrote(flavoured: Any, best: Path) -> None:
    _, folder = flavoured
    assert textune.load(folder).predict(TEXTS) == textune.load(best).predict(TEXTS)


# --- through the gate ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_export_passes_the_gate(trained: Any, tmp_path: Path) -> None:
    done = export(trained[0].run, tmp_path / "mlflow", to="mlflow")
    assert done.parity.difference < 1e-5
    assert textune.load(tmp_path / "mlflow").predict(TEXTS) == textune.load(trained[0].run).predict(TEXTS)
