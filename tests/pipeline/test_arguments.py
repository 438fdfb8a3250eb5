"""What Python functions and options of a trained model are given: every wrong value is a sentence that names it."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from kits.cli import runner
from kits.errors import refused

import textune
from textune.cli.options import as_option
from textune.config.paths import user_path
from textune.errors import ConfigError, DataError, Setting, TextuneError, Words
from textune.run.spoken import counted

LOADED: list[tuple[dict[str, Any], str]] = [
    ({"device": "tpu"}, 'device = \'tpu\': expected one of "auto", "cpu", "cuda".'),
    ({"precision": "int4"}, 'precision = \'int4\': expected one of "auto", "fp32", "bf16", "fp16", "int8".'),
    ({"compile": True}, 'compile = True: expected one of "auto", "on", "off".'),
    ({"max_tokens": 0}, "max_tokens = 0: expected a whole number of at least 1."),
    ({"max_tokens": "5"}, "max_tokens = '5': expected a whole number of at least 1."),
]


@pytest.mark.parametrize(("options", "sentence"), LOADED)
def test_a_wrong_option_is_named_before_anything_is_opened(options: Any, sentence: str) -> None:
    for function in (textune.load, textune.evaluate):
        with pytest.raises(ConfigError) as caught:
            function("nowhere", **options)
        assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"part": 5}, "part = 5 is not the name of a set."),
        ({"on_bad_row": "skp"}, 'on_bad_row = \'skp\': expected one of "error", "skip".'),
        ({"data": "a.csv", "part": "test"}, "part chooses among the run's own rows, but data names other rows."),
    ],
)
def test_evaluate_never_reads_other_rows_than_were_asked_for(options: Any, sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        textune.evaluate("nowhere", **options)
    assert caught.value.message == sentence


@pytest.mark.parametrize("path", [None, 5, True])
def test_what_is_no_path_is_said(path: Any) -> None:
    for function in (textune.load, textune.evaluate):
        with refused(ConfigError, value=path):
            function(path)
    if path is not None:
        with refused(ConfigError, value=path):
            textune.train({}, resume=path)
        with pytest.raises(ConfigError, match="is not a list of words"):
            textune.check({}, overrides=path)


def test_columns_are_given_as_a_dictionary(trained: Any, home: Path, tmp_path: Path) -> None:
    header, *rows = (home / "reviews.csv").read_text().splitlines()[:21]
    (tmp_path / "new.csv").write_text("\n".join([header.replace("label", "stars"), *rows]) + "\n")
    report = textune.evaluate(trained[0].run, data=tmp_path / "new.csv", columns={"label": "stars"})
    assert report.num_rows == 20
    for wrong in ("stars", {"lable": "stars"}, {"label": 5}):
        with refused(ConfigError, key="columns", value=wrong):
            textune.evaluate(trained[0].run, data=tmp_path / "new.csv", columns=wrong)  # type: ignore[arg-type]
    with refused(ConfigError, key="evaluate.metric", value=5):
        textune.evaluate(trained[0].run, data=tmp_path / "new.csv", metric=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["new/..", "new/../", "a/b/../.."])
def test_a_folder_that_is_not_there_hides_no_other(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.toml").write_text("# mine\n")
    assert user_path(name) == Path(".")
    with pytest.raises(TextuneError, match=r"the run folder \. is not empty"):
        textune.train({"model": {"pretrained": "x"}, "data": {"train": {"files": ["y.csv"]}}}, run=name)
    assert (tmp_path / "config.toml").read_text() == "# mine\n"


def test_a_link_on_the_way_up_is_followed(tmp_path: Path) -> None:
    (tmp_path / "deep" / "inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "inner")
    assert user_path(tmp_path / "link" / ".." / "run").resolve() == tmp_path / "deep" / "run"


@pytest.mark.parametrize(
    ("setting", "key", "option"),
    [
        (Setting("delimiter", ";", "set"), 'set delimiter = ";"', "add --delimiter ';'"),
        (Setting("data.on_bad_row", "skip", "Set"), 'Set data.on_bad_row = "skip"', "Add --skip-bad-rows"),
        (Setting("extra_cells", "ignore"), 'extra_cells = "ignore"', "--extra-cells ignore"),
        (Setting("column_names", ("text", "label")), 'column_names = ["text", "label"]', "--column-names text,label"),
        (Setting("skip_lines", 5), "skip_lines = 5", "--skip-lines 5"),
        (Setting("column_names", verb="Set"), "Set column_names", "Set --column-names"),
        (Setting("data.columns.text_pair"), "data.columns.text_pair", "--text-pair"),
        (Setting("data.labels.delimiter", ","), 'data.labels.delimiter = ","', 'data.labels.delimiter = ","'),
    ],
)
def test_a_setting_is_a_key_or_an_option(setting: Setting, key: str, option: str) -> None:
    words = Words("First, ", setting, ".")
    assert words.said() == f"First, {key}." and words.said(as_option) == f"First, {option}."
    error = DataError(Words(setting, " is wrong."), hint=Words("Or ", setting, "."), key=setting.key)
    assert str(error) == f"{key} is wrong. Or {key}."
    error.advise("Or do not.")
    error.name_settings(as_option)
    assert str(error) == f"{option} is wrong. Or {option}. Or do not." and error.hint == f"Or {option}. Or do not."
    error.name_settings(partial(as_option, files=False))
    assert error.message == f"{key} is wrong."


@pytest.mark.slow
def test_options_of_a_trained_model_are_named_as_options(
    trained: Any, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call: Any = runner(capsys, monkeypatch, tmp_path)
    (tmp_path / "semi.csv").write_text("text;label\na good film;pos\n")
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "label": "pos"}\n')
    (tmp_path / "rows.json").write_text('[{"text": "a", "label": "pos"}]')
    (tmp_path / "splits.json").write_text(json.dumps({"a": [{"text": "a", "label": "pos"}] * 4, "b": []}))
    run = trained[0].run.absolute()

    def error(*words: str, stdin: str = "") -> str:
        answer = call(*words, stdin=stdin)
        assert answer.code == 2, answer
        return " ".join(answer.err.split())

    for verb in ("predict", "evaluate"):
        assert error(verb, run, "--data", "semi.csv").endswith("2 columns of the header; add --delimiter ';'.")
        assert "--delimiter ';;': expected" in error(verb, run, "--data", "semi.csv", "--delimiter", ";;")
        assert "--encoding foo: no such text encoding" in error(verb, run, "--data", "semi.csv", "--encoding", "foo")
        assert "--format xls: expected one of" in error(verb, run, "--data", "semi.csv", "--format", "xls")
        for option, value in (
            ("--pattern", "(?P<text>.*)"),
            ("--delimiter", ";"),
            ("--quoting", "none"),
            ("--skip-lines", "1"),
        ):
            said = error(verb, run, "--data", "rows.jsonl", option, value)
            assert (
                f"Error: {option} is for" in said
                and "rows.jsonl is read as jsonl. Leave it out, or add --format" in said
            )
    said = error("predict", run, "--delimiter", ";", stdin="text;label\na;pos\n")
    assert "--delimiter is for csv and tsv files, but standard input is read as text" in said
    assert "one document" in (said := error("predict", run, "--data", "rows.json")) and "an object per line" in said
    assert "--metric foo: there is no such metric" in error("evaluate", run, "--data", "rows.jsonl", "--metric", "foo")
    assert "--set chooses among the run's own rows" in error("evaluate", run, "--data", "rows.jsonl", "--part", "test")
    answer = call("evaluate", run, "--data", "splits.json", "--split", "a", "--json")
    assert answer.code == 0 and json.loads(answer.out)["rows"] == 4


def test_one_row_is_one_row() -> None:
    assert (counted(1, 0), counted(2, 0), counted(1, 3)) == ("1 row", "2 rows", "1/3")


@pytest.mark.slow
def test_the_home_of_a_user_who_is_not_there_is_a_sentence_everywhere(
    trained: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    call: Any = runner(capsys, monkeypatch, tmp_path)
    run, nobody = trained[0].run.absolute(), "~no-such-user/x"
    (tmp_path / "a.csv").write_text("text\na\n")
    for words in (
        ["train", nobody],
        ["check", nobody],
        ["info", nobody],
        ["export", nobody, "--out", "x"],
        ["export", run, "--out", nobody],
        ["predict", nobody],
        ["predict", run, "--data", nobody],
        ["predict", run, "--data", "a.csv", "--output", nobody],
        ["evaluate", nobody],
        ["init", "a.csv", "--out", nobody],
    ):
        answer = call(*words)
        assert answer.code == 2 and "there is no user 'no-such-user'" in answer.err, (words, answer.err)
    answer = call("predict", run, "--data", tmp_path)
    assert answer.code == 2 and "is a folder" in answer.err and "--output" in answer.err
