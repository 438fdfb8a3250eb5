"""TOML that a person gets wrong the first time: what is said names the mistake and shows the line as it should be."""

from pathlib import Path

import pytest

from textune.config.load import load_config
from textune.errors import ConfigError


def refusal(text: str) -> str:
    Path("config.toml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config("config.toml")
    assert str(caught.value).startswith("config.toml") and "\t" not in str(caught.value)
    return str(caught.value).removeprefix("config.toml")


@pytest.mark.parametrize(
    ("line", "place", "mended"),
    [
        ("files = [tickets.csv]", ", line 2, column 10: `tickets.csv`", 'files = ["tickets.csv"]'),
        ("files = tickets.csv", ", line 2, column 9: `tickets.csv`", 'files = "tickets.csv"'),
        ("files = [a.csv, b.csv]  # both", ", line 2, column 10: `a.csv`", 'files = ["a.csv", "b.csv"]'),
        ('files = ["a.csv", 2024-b.csv]', ", line 2, column 23: `2024-b.csv`", 'files = ["a.csv", "2024-b.csv"]'),
        ("files = [\n  a.csv,\n]", ", line 3, column 3: `a.csv`", '"a.csv"'),
        ("files = D:\\data\\a.csv", ", line 2, column 9: `D:\\data\\a.csv`", "files = 'D:\\data\\a.csv'"),
        ("log_every = 3 steps", ", line 2, column 15: `3 steps`", 'log_every = "3 steps"'),
        ("where = { source = imdb }", ", line 2, column 20: `imdb`", 'where = { source = "imdb" }'),
    ],
)
def test_text_without_quotes(line: str, place: str, mended: str) -> None:
    assert refusal(f"[data.train]\n{line}\n") == f"{place} has no quotes. Text needs quotes: {mended}."


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('[data.train]\nfiles = ["a"]\nfiles = ["b"]\n', "`files` is set twice in [data.train] (lines 2 and 3)."),
        (
            '[data.train]\nfiles = [\n  "a",\n]\n\nfiles = "b"\n',
            "`files` is set twice in [data.train] (lines 2 and 6).",
        ),
        ("x = 1\r\nx = 2\r\n", "`x` is set twice (lines 1 and 2)."),
        ("[a]\nx = 1\n[b]\nx = 2\nx = 3\n", "`x` is set twice in [b] (lines 4 and 5)."),
        ("[[a]]\nx = 1\n[[a]]\nx = 2\nx = 3\n", "`x` is set twice in [a] (lines 4 and 5)."),
        ("[a]\nx = 1\n[b]\n[a]\ny = 1\n", "[a] appears twice (lines 1 and 4)."),
        ("[a]\nb = 1\n[a.b]\nc = 2\n", "`a.b` is set as a value and as a table (lines 2 and 3)."),
        ("a = { x = 1, x = 2 }\n", "`x` is set twice in one table (line 1)."),
        ("a.b = 1\n[a]\nc = 2\n", "`a.b` (line 1) and [a] (line 2) set the same key."),
    ],
)
def test_what_is_set_twice(text: str, sentence: str) -> None:
    assert refusal(text).startswith(f": {sentence} ")


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("shuffle = True", "Write true, in lower case."),
        ("take = None", "TOML has no such value: to leave a key unset, remove it."),
        ("ratio = 0,5", "A number has a decimal point, not a comma."),
        ("files = ‘a.csv’", "Use straight quotes: \"text\" or 'text'."),
        ('files = "C:\\users"', "Write a path or pattern with backslashes in single quotes."),
        ("ratio : 0.5", "A setting is written key = value."),
        ('files = "a.csv', "The closing quote is missing."),
    ],
)
def test_other_slips_get_a_hint(line: str, hint: str) -> None:
    assert refusal(f"[data.train]\n{line}\n").endswith(f" {hint}")


def test_control_characters_of_a_path_are_escapes_that_nobody_meant() -> None:
    sentence = '"D:\\tickets\\new.csv" does not exist, and contains a tab.'
    hint = "Write a path with backslashes in single quotes: 'D:\\tickets\\new.csv'."
    for files in ('"D:\\tickets\\new.csv"', '["D:\\tickets\\new.csv"]'):
        Path("config.toml").write_text(f"[data.train]\nfiles = {files}\n")
        with pytest.raises(ConfigError) as caught:
            load_config("config.toml")
        assert str(caught.value) == f"data.train.files (config.toml): {sentence} {hint}"


def test_a_file_whose_name_holds_a_tab_is_read() -> None:
    Path("a\tb.csv").touch()
    Path("config.toml").write_text('[data.train]\nfiles = ["a\\tb.csv", "a\\t*.csv"]\n')
    assert len(load_config("config.toml").experiment.data.train.files) == 2  # type: ignore[union-attr]


@pytest.mark.parametrize("word", ['train.log_every="1 steps"', "train.log_every='1 steps'", "train.log_every=1 steps"])
def test_quotes_that_reach_the_command_are_those_of_toml(word: str) -> None:
    assert str(load_config(None, [word]).experiment.train.log_every) == "1 step"


def test_quotes_on_the_command_line_can_be_part_of_a_text() -> None:
    columns = load_config(
        None, ["""data.columns.template='"{title}"'""", 'data.columns.text="body"']
    ).experiment.data.columns
    assert (columns.template, columns.text) == ('"{title}"', "body")
    assert (
        load_config(None, ['data.columns.template="{a}" by "{b}"']).experiment.data.columns.template
        == '"{a}" by "{b}"'
    )
    with pytest.raises(ConfigError, match=r"is not valid quoted text: Unescaped '\\' in a string"):
        load_config(None, [r'data.train.files="D:\quarter"'])


def test_one_config_at_a_time() -> None:
    Path("semi.cfg").touch()
    for second in ("semi.toml", "semi.cfg"):
        with pytest.raises(ConfigError) as caught:
            load_config(None, [second])
        assert str(caught.value) == (
            f"{second} is a second file; expected a setting (KEY=VALUE). To lay it over the first, write"
            f" extends={second}."
        )
