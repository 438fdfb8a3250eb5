"""What wrong input gets: one sentence for each problem, with key, value, origin and what to do."""

import contextlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kits.errors import refused

from textune.config.fields import all_keys, annotations_at
from textune.config.load import load_config, load_tree
from textune.config.problems import _OTHER_NAMES
from textune.errors import ConfigError


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(*overrides: str, unset: tuple[str, ...] = (), file: str | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(file, overrides, unset)
    assert caught.value.exit_code == 2
    assert "pydantic" not in str(caught.value) and "dict[" not in str(caught.value)
    return str(caught.value)


def test_a_missing_file() -> None:
    write("config.toml", "")
    message = refusal(file="confg.toml")
    assert "confg.toml: there is no such config file" in message and "Did you mean config.toml?" in message
    assert "textune init" in refusal(file="elsewhere/zzz")
    assert "Give the config first" in refusal(file="train.optimizer.lr=1e-4")


def test_a_folder_instead_of_a_file() -> None:
    write("conf/config.toml", "")
    assert "conf is a folder" in (message := refusal(file="conf")) and "conf/config.toml" in message


@pytest.mark.parametrize(
    ("text", "place", "hint"),
    [
        ("[train]\nprecision = bf16\n", "line 2, column 13", 'Text needs quotes: precision = "bf16".'),
        ("[train\nseed = 1", "line 1, column 7", ""),
        ('[data]\nfolder = "C:\\users"\n', "line 2", "single quotes"),
        ("a = [1,", "line 1, column 8", ""),
    ],
)
def test_a_syntax_error_has_line_and_column(text: str, place: str, hint: str) -> None:
    write("config.toml", text)
    message = refusal(file="config.toml")
    assert message.startswith(f"config.toml, {place}") and hint in message


def test_other_files_than_toml() -> None:
    Path("config.toml").write_bytes(b'[data.columns]\ntext = "\xe9"\n')
    assert "config.toml, line 2: this is not UTF-8 text" in refusal(file="config.toml")
    write("reviews.csv", "text,label\nfine,1\n")
    assert "textune init reviews.csv" in refusal(file="reviews.csv")
    write("deep.toml", "a = " + "[" * 5000)
    assert "nested too deeply" in refusal(file="deep.toml")
    write("long.toml", "a = " + "9" * 5000)
    assert "long.toml" in refusal(file="long.toml")


def test_parents_that_cannot_be() -> None:
    write("a.toml", 'extends = "b.toml"')
    write("b.toml", 'extends = "a.toml"')
    assert "a.toml -> b.toml -> a.toml" in refusal(file="a.toml")
    write("c.toml", 'extends = "gone.toml"')
    assert 'c.toml: extends = "gone.toml"' in refusal(file="c.toml")
    write("d.toml", "extends = 3")
    assert "d.toml: extends = 3: expected a file" in refusal(file="d.toml")
    assert 'command line: extends = [""]: expected a file' in refusal("extends=")
    write("e.toml", 'extends = "f.toml"')
    write("f.toml", "x = ")
    assert "f.toml, line 1" in refusal(file="e.toml")
    assert 'command line: extends = "gone.toml"' in refusal("extends=gone.toml")


@pytest.mark.parametrize(
    ("key", "suggestion"),
    [
        ("train.max_length", "tokens.max_length"),
        ("train.lr", "train.optimizer.lr"),
        ("lr", "train.optimizer.lr"),
        ("train.optimizer.rl", "train.optimizer.lr?"),
        ("train.optimizer.weigth_decay", "train.optimizer.weight_decay"),
        ("trian.seed", "train?"),
        ("data.columns.lable", "data.columns.label"),
        ("train.warmup", "train.schedule.warmup"),
        ("learning_rate", "train.optimizer.lr"),
        ("tokens.pad_to_max_length", "tokens.pad"),
        ("train.pad_to_multiple_of", "tokens.pad_multiple"),
        ("train.full_determinism", "train.deterministic"),
        ("train.epochs", "train.duration"),
        ("evaluate.metrics", "evaluate.metric"),
        ("data.train.tkae", "data.train.take"),
        ("seed", "train.seed"),
    ],
)
@pytest.mark.parity("unknown-keys")
def test_an_unknown_key_gets_the_nearest_one(key: str, suggestion: str) -> None:
    message = refusal(f"{key}=1")
    assert f"Unknown key {key.split('.')[0]}" in message and "(command line)" in message
    assert "Did you mean" in message and suggestion in message


def test_names_of_other_tools_lead_to_keys_that_exist() -> None:
    for target in _OTHER_NAMES.values():
        assert annotations_at(tuple(target.split("."))), target


@pytest.mark.parametrize(
    ("table", "name", "ours"),
    [
        ("optimizer", "adamw_torch", "adamw"),
        ("optimizer", "adamw_torch_fused", "adamw"),
        ("optimizer", "adamw_bnb_8bit", "adamw_8bit"),
        ("optimizer", "paged_adamw_32bit", "adamw"),
        ("optimizer", "lion_32bit", "lion"),
        ("optimizer", "AdamW", "adamw"),
        ("optimizer", "Muon", "muon"),
        ("optimizer", "schedule_free_adamw", "schedule_free"),
        ("schedule", "cosine_with_hard_restarts", "cosine_with_restarts"),
        ("schedule", "cosine_with_min_lr", "cosine"),
        ("schedule", "constant_with_warm_up", "constant_with_warmup"),
    ],
)
def test_a_kind_in_the_words_of_other_tools_gets_ours(table: str, name: str, ours: str) -> None:
    assert f'Did you mean "{ours}"?' in refusal(f"train.{table}.kind={name}")
    assert f'Did you mean train.{table}.kind = "{ours}"?' in refusal(f"train.{table}={name}")


def test_a_kind_that_is_like_none_of_ours_gets_no_guess() -> None:
    for words in ("train.optimizer.kind=rmsprop", "train.schedule.kind=reduce_lr_on_plateau", "data.train=file.csv"):
        assert "Did you mean" not in refusal(words)


def test_a_schedule_has_its_own_parameters_alone() -> None:
    with refused(ConfigError, key="train.schedule.power"):
        load_config(None, ["train.schedule.kind=polynomial"])
    with pytest.raises(ConfigError, match='num_cycles belongs to kind = "cosine_with_restarts"'):
        load_config(None, ["train.schedule.kind=cosine", "train.schedule.num_cycles=2"])
    with pytest.raises(ConfigError, match="a share of the run cannot say how long the run is"):
        load_config(None, ["train.duration=10 %"])


def test_a_key_of_another_kind_names_that_kind() -> None:
    message = refusal("data.validation.files=v.csv")
    assert 'data.validation has kind = "split"; files belongs to kind = "files"' in message


def test_an_unknown_kind_lists_the_kinds() -> None:
    message = refusal("data.validation.kind=spilt")
    assert 'data.validation.kind = "spilt" (command line): expected one of "split", "fold", "none"' in message
    assert 'Did you mean "split"?' in message
    assert "data.train.sources[0].kind = 3" in refusal("data.train={kind='concat', sources=[{kind=3}]}")


@pytest.mark.parametrize(
    ("word", "start"),
    [
        ("train.batch_size=many", 'train.batch_size = "many" (command line): expected a whole number of at least 1.'),
        ("train.batch_size=0", 'train.batch_size = "0" (command line): expected a whole number of at least 1.'),
        ("train.optimizer.lr=-1", 'train.optimizer.lr = "-1" (command line): expected a number above 0.'),
        ("train.optimizer.lr=nan", 'train.optimizer.lr = "nan" (command line): expected a number above 0.'),
        ("train.optimizer.lr=inf", 'train.optimizer.lr = "inf" (command line): expected a number above 0.'),
        (
            "data.validation.ratio=1",
            'data.validation.ratio = "1" (command line): expected a number above 0 and below 1.',
        ),
        ("data.train.take=3.5", 'data.train.take = "3.5" (command line): expected a whole number of at least 1.'),
        ("data.train.shuffle=maybe", 'data.train.shuffle = "maybe" (command line): expected true or false.'),
        (
            "train.precision=fp8",
            'train.precision = "fp8" (command line): expected one of "auto", "fp32", "bf16", "fp16".',
        ),
        ("train.duration=3", 'train.duration = "3" (command line): a duration is a number and a unit'),
        ("train.log_every=0 steps", 'train.log_every = "0 steps" (command line): the duration must be above zero.'),
        ("data.train.delimiter=ab", 'data.train.delimiter = "ab" (command line): expected one character.'),
        ("data.train.encoding=utf9", 'data.train.encoding = "utf9" (command line): no such text encoding'),
        ("data.train.pattern=(", 'data.train.pattern = "(" (command line): not a regular expression'),
        ("data.train.files=", 'data.train.files[0] = "" (command line): expected a path.'),
        ("data.train.rename={a = 1}", "data.train.rename.a = 1 (command line): expected text."),
        (
            "data.train.where=x",
            'data.train.where = "x" (command line): expected a table of texts or of lists of texts.',
        ),
        (
            "task.class_weights=heavy",
            'task.class_weights = "heavy" (command line): expected "none", "balanced" or a table of',
        ),
        ("task.class_weights.a=x", 'task.class_weights.a = "x" (command line): expected a number of at least 0.'),
        ("train.seed.x=1", 'train.seed = { x = "1" } (command line): expected a whole number'),
        ("train.seed=none", 'train.seed = "none" (command line): expected a whole number'),
        (
            "train.optimizer=adamw",
            'train.optimizer = "adamw" (command line): train.optimizer is a section, not a value.',
        ),
        (
            "data.validation=none",
            'data.validation = "none" (command line): data.validation is a section, not a value.',
        ),
        (
            "data.train.kind=hub",
            'data.train.name is not set; data.train has kind = "hub", which needs it: Data set name',
        ),
        (
            "data.train={kind='concat', sources=[]}",
            "data.train.sources = [] (command line): expected a list of tables.",
        ),
        (
            "data.train={kind='concat', sources='a'}",
            'data.train.sources = "a" (command line): expected a list of tables.',
        ),
        (
            "metadata={types='html', wraps={html=['<']}}",
            'metadata.wraps.html = ["<"] (command line): expected a list of 2 texts.',
        ),
        (
            "data.metadata={columns=[]}",
            "data.metadata.columns = [] (command line): expected text or a list of texts, at least 1.",
        ),
        ("train.seed", "The setting train.seed has no `=`. Settings are written KEY=VALUE, such as"),
        (
            "=3",
            "The override '=3' does not start with a dotted key. Settings are written KEY=VALUE, such as",
        ),
        (
            "train..seed=3",
            "The override 'train..seed=3' does not start with a dotted key. One dot is between two names: train.seed=",
        ),
        ("train.seed=\udcff", "The override 'train.seed=\\udcff' does not start"),
        ("data.labels.names=[no, yes]", "data.labels.names=[no, yes] (command line) is not a TOML list or table"),
        ("data.train.files=a\0b", "data.train.files (command line): a path cannot hold a NUL character."),
    ],
)
def test_a_wrong_value_gets_one_sentence(word: str, start: str) -> None:
    message = refusal(word)
    assert message.startswith(start), message
    assert "\n" not in message


def test_wrong_types_in_a_file_name_the_file() -> None:
    write("base.toml", "[train]\nseed = true")
    write(
        "config.toml", 'extends = "base.toml"\n[tokens]\nmax_length = "long"\n[train]\nshuffel = 1\n[data]\ntrain = 3'
    )
    message = refusal(file="config.toml")
    lines = message.splitlines()
    assert lines[0] == "The configuration has 4 problems:" and all(line.startswith("  - ") for line in lines[1:])
    assert "train.seed = true (base.toml): expected a whole number" in message
    assert 'tokens.max_length = "long" (config.toml): expected a whole number of at least 2' in message
    assert "Unknown key train.shuffel (config.toml)" in message
    assert "data.train = 3 (config.toml): data.train is a section" in message


def test_places_in_lists_are_shown_without_the_names_of_variants() -> None:
    message = refusal(
        "data.train={kind='concat', sources=[{files='a'}, {kind='concat', sources=[{kind='hub', name='x', take=0}]}]}"
    )
    assert message.startswith(
        "data.train.sources[1].sources[0].take = 0 (command line): expected a whole number of at least 1."
    )


def test_unset_of_what_cannot_be_unset() -> None:
    assert "Did you mean train.seed?" in refusal(unset=("train.sed",))
    assert "Unknown key train.seed.x" in refusal(unset=("train.seed.x",))
    assert "not a dotted key" in refusal(unset=("train..seed",))
    write("config.toml", '[data.train]\nkind = "hub"\nname = "x/y"')
    message = refusal(unset=("data.train.name",), file="config.toml")
    assert message.startswith("--unset data.train.name: data.train.name is not set") and "needs it" in message
    assert "both set and unset" in refusal("train.seed=1", unset=("train.seed",))


def test_contradictory_overrides() -> None:
    assert "as a value and as a table" in refusal("task.class_weights=balanced", "task.class_weights.a=1")
    assert "as a value and as a table" in refusal("task.class_weights.a=1", "task.class_weights=balanced")


# --- nothing but a ConfigError, whatever comes in --------------------------------------------------------------------

words = sorted({part for key in all_keys() for part in key.place} | {"kinds", "0", "", "a.b"})
values = st.recursive(
    st.sampled_from(
        ["files", "concat", "hub", "none", "~", "package:x/y", "[1", "{a = 1}", "2 epochs", "nan", "", "\0"]
    )
    | st.integers()
    | st.floats()
    | st.booleans()
    | st.dates()
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(words), inner, max_size=3),
    max_leaves=6,
)
sections = st.sampled_from(
    [("data",), ("data", "train"), ("data", "validation"), ("task",), ("model",), ("train",), ()]
)


@settings(max_examples=150, deadline=None)
@given(section=sections, table=st.dictionaries(st.sampled_from(words), values, max_size=4))
def test_any_tree_is_loaded_or_refused(section: tuple[str, ...], table: dict[str, object]) -> None:
    tree: dict[str, object] = table
    for name in reversed(section):
        tree = {name: tree}
    with contextlib.suppress(ConfigError):
        load_tree(tree, base=Path("/nowhere"))


keys = st.lists(st.sampled_from(words) | st.text(max_size=2), min_size=1, max_size=4).map(".".join)
any_word = st.builds("{}={}".format, keys, st.text(max_size=8) | st.sampled_from(["[]", "{}", "[{}]", "{a=[1]}"]))


@settings(max_examples=150, deadline=None)
@given(overrides=st.lists(any_word | st.text(max_size=6), max_size=3), unset=st.lists(keys, max_size=2))
def test_any_words_are_taken_or_refused(overrides: list[str], unset: list[str]) -> None:
    with contextlib.suppress(ConfigError):
        load_config(None, overrides, unset)
