"""Verbs that Python calls by the name of a run: predict, show, schema, presets, convert, serve; overrides of every
form."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.csv
import pytest
from kits.errors import refused
from kits.runs import reviews, write_csv

import textune
from textune.config import load_config
from textune.config.overrides import override_words
from textune.errors import ConfigError, DataError, InputError, ModelError, RunError

ROWS = reviews(20)


@pytest.fixture(scope="module")
def run(home: Path, trained: Any) -> Path:
    return home / "runs" / "first"


def test_rows_of_every_form_are_predicted_into_a_table(run: Path) -> None:
    frame = pd.DataFrame(ROWS)
    table = textune.predict(run, frame, device="cpu")
    assert table.column_names == ["predicted_label", "predicted_score"] and table.num_rows == 20
    texts = [row["text"] for row in ROWS]
    for data in (texts, iter(texts), frame["text"], ROWS, {"text": texts}):
        assert textune.predict(run, data, device="cpu").equals(table)
    renamed = frame.rename(columns={"text": "body"})
    assert textune.predict(run, renamed, columns={"text": "body"}, device="cpu").equals(table)
    single = textune.predict(run, texts[0], all_scores=True, device="cpu")
    assert single.column_names[2:] == ["score_neg", "score_pos"] and single.num_rows == 1


def test_what_cannot_be_predicted_is_a_sentence(run: Path, tmp_path: Path) -> None:
    with refused(InputError, key="output", reason="a file without an output"):
        textune.predict(run, tmp_path / "new.csv")
    write_csv(tmp_path / "new.csv", ROWS)
    with refused(InputError, key="output"):
        textune.predict(run, str(tmp_path / "new.csv"))
    with refused(InputError, key="data", reason="rows in memory with an output"):
        textune.predict(run, pd.DataFrame(ROWS), output=tmp_path / "out.csv")
    with pytest.raises(DataError, match="no column 'text'"):
        textune.predict(run, pd.DataFrame(ROWS).rename(columns={"text": "body"}))
    with pytest.raises(InputError, match="data is an int"):
        textune.predict(run, 3)
    with pytest.raises(ConfigError, match="names no columns"):
        textune.predict(run, ROWS, columns={"txet": "body"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new.csv"]


@pytest.mark.slow  # starts a process
def test_files_are_predicted_into_an_output(run: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "new.csv", ROWS)
    done = textune.predict(run, str(tmp_path / "new.csv"), output=tmp_path / "out.csv", device="cpu")
    assert done.rows == 20
    labels = pyarrow.csv.read_csv(tmp_path / "out.csv")["predicted_label"]
    assert labels.equals(textune.predict(run, ROWS, device="cpu")["predicted_label"])


def test_an_evaluation_takes_rows_that_fit_and_names_those_that_do_not(run: Path) -> None:
    frame = pd.DataFrame(ROWS)
    report = textune.evaluate(run, data=frame, device="cpu")
    assert report.num_rows == 20
    renamed = frame.rename(columns={"label": "stars"})
    again = textune.evaluate(run, data=renamed, columns={"label": "stars"}, device="cpu")
    assert again.metrics == report.metrics
    for column in ("text", "label"):
        with refused(DataError, key=f"data.columns.{column}"):
            textune.evaluate(run, data=frame.rename(columns={column: "other"}), device="cpu")


def test_a_result_and_its_reports_show_themselves(trained: Any) -> None:
    result = trained[0]
    shown = repr(result)
    assert shown.startswith(f"<TrainResult {result.run}: {result.steps} steps in ") and len(shown) < 500
    for name, report in result.reports.items():
        assert f"{name}: {report.headline()}" in shown
    cell = result._repr_html_()
    assert cell.count("<table>") >= 2 and "<b>test</b>" in cell


def test_configurations_are_shown_described_and_listed() -> None:
    shown = textune.show({"train": {"seed": 3}}, overrides={"train.batch_size": 8}, diff=True)
    assert "seed = 3" in shown and "batch_size = 8" in shown
    schema: Any = textune.schema()
    assert schema["properties"]["train"] and json.dumps(schema)
    assert "tiny" in textune.presets()


def test_what_is_no_other_systems_configuration_is_said(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_text("[train]\nseed = 1\n")
    for name in ("own.toml", "absent.toml"):
        with refused(ConfigError, place=str(tmp_path / name), reason="no configuration of another system"):
            textune.convert(tmp_path / name)


def test_another_systems_file_is_converted_by_its_name(tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text("data_config: {}\n")
    with pytest.raises(ConfigError) as caught:
        textune.convert(file)
    assert caught.value.reason != "no configuration of another system"  # its adapter has read it


def test_a_server_gets_models_by_name_and_its_settings(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def serve(models: Any, settings: Any, *, on_start: Any) -> None:
        asked.append(([one.name for one in models], settings.port, settings.token))
        on_start("http://127.0.0.1:1")

    monkeypatch.setattr("textune.serving.server.serve", serve)
    monkeypatch.setattr("textune.serving.serve", serve, raising=False)
    addresses: list[str] = []
    textune.serve({"tone": run}, port=0, token="secret", device="cpu", on_start=addresses.append)
    textune.serve(run, port=0, device="cpu", on_start=addresses.append)
    assert asked == [(["tone"], 0, "secret"), (["first"], 0, None)] and len(addresses) == 2
    with pytest.raises(RunError, match="does not exist"):
        textune.serve("nowhere", device="cpu")


def test_a_classifier_does_not_generate(run: Path) -> None:
    with pytest.raises(ModelError, match="no language model"):
        textune.generate(run, "once", device="cpu")


def test_overrides_as_words_say_the_same_as_a_dictionary() -> None:
    values = {"train.seed": 3, "train.duration": "2 epochs", "data.train.files": ["a.csv", "b.csv"]}
    words = override_words(values)
    assert load_config(None, words).experiment == load_config(None, values).experiment
    assert override_words(["train.seed=3"]) == ("train.seed=3",)
    with refused(ConfigError, key="train.seed"):
        override_words({"train.seed": None})
