"""Loading: merging, precedence, origins, kinds, overrides, dictionaries, and what a run needs."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from kits.errors import refused

from textune.config.load import Loaded, load_config, load_tree, require_runnable
from textune.config.schema import Experiment
from textune.config.sources import ConcatSource, FilesSource, FoldOff, HubSource, SplitOff
from textune.config.taskkinds import BinaryTask
from textune.config.updaterules import ConstantSchedule, LinearSchedule
from textune.config.values import Duration
from textune.errors import ConfigError


def write(name: str, text: str) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def override(*overrides: str, unset: tuple[str, ...] = (), file: str | None = None) -> Experiment:
    return load_config(file, overrides, unset).experiment


# --- merging and precedence ------------------------------------------------------------------------------------------


def test_no_file_gives_the_defaults() -> None:
    loaded = load_config(None)
    assert loaded.experiment == Experiment()
    assert loaded.path is None
    assert set(loaded.origins.values()) == {"default"}


def test_precedence_is_defaults_then_parent_then_file_then_command_line() -> None:
    write("base.toml", "[train]\nseed = 1\nbatch_size = 1\nmax_tokens = 1")
    write("config.toml", 'extends = "base.toml"\n[train]\nseed = 2\nbatch_size = 2')
    loaded = load_config("config.toml", ["train.seed=3"])
    train = loaded.experiment.train
    assert (train.seed, train.batch_size, train.max_tokens, train.prefetch) == (3, 2, 1, 2)
    origins = [loaded.origins[f"train.{key}"] for key in ("seed", "batch_size", "max_tokens", "prefetch")]
    assert origins == ["command line", "config.toml", "base.toml", "default"]
    assert loaded.path == Path("config.toml").absolute()


def test_every_value_has_an_origin() -> None:
    write(
        "config.toml", '[data.train]\nkind = "concat"\n[[data.train.sources]]\nfiles = "a.csv"\n[model.config]\na = 1'
    )
    origins = load_config("config.toml").origins
    assert origins["data.train.sources[0].files"] == "config.toml"
    assert origins["data.train.sources[0].format"] == "default"
    assert origins["model.config.a"] == "config.toml"
    assert origins["data.validation.ratio"] == "default"


def test_a_chain_of_parents_in_other_folders() -> None:
    write("common/root.toml", '[train]\nseed = 1\n[data.train]\nfiles = ["root.csv"]')
    write("common/middle.toml", 'extends = "root.toml"\n[tokens]\nmax_length = 64')
    write("runs/config.toml", 'extends = "../common/middle.toml"\n[train]\nbatch_size = 4')
    loaded = load_config("runs/config.toml")
    assert (loaded.experiment.train.seed, loaded.experiment.tokens.max_length) == (1, 64)
    assert loaded.experiment.data.train.files == (str(Path("common/root.csv").absolute()),)
    assert loaded.origins["train.seed"] == "../common/root.toml"


def test_tables_merge_and_lists_replace() -> None:
    write("base.toml", '[data.labels]\nnames = ["a", "b", "c"]\n[model.config]\nx = 1\ninner = {p = 1, q = 2}')
    write("config.toml", 'extends = "base.toml"\n[data.labels]\nnames = ["d"]\n[model.config]\ny = 2\ninner = {q = 3}')
    loaded = load_config("config.toml")
    assert loaded.experiment.data.labels.names == ("d",)
    assert loaded.experiment.model.config == {"x": 1, "inner": {"p": 1, "q": 3}, "y": 2}
    assert loaded.origins["model.config.inner"] == "base.toml + config.toml"


def test_schema_key_of_editors_is_dropped() -> None:
    write("config.toml", '"$schema" = "textune.schema.json"\n[train]\nseed = 1')
    assert override(file="config.toml").train.seed == 1


def test_a_byte_order_mark_and_windows_line_ends_are_read() -> None:
    Path("config.toml").write_bytes("\ufeff[train]\r\nseed = 4\r\n".encode())
    assert override(file="config.toml").train.seed == 4


# --- kinds -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reverse", [False, True])
def test_a_changed_kind_replaces_its_table_in_any_order_of_overrides(reverse: bool) -> None:
    write("config.toml", "[data.validation]\nratio = 0.3\nseed = 7")
    words = ["data.validation.kind=hub", "data.validation.name=org/set", "data.validation.take=5"]
    validation = override(*(reversed(words) if reverse else words), file="config.toml").data.validation
    assert validation == HubSource(name="org/set", take=5)


def test_a_kind_that_stays_keeps_its_table() -> None:
    write("config.toml", "[data.validation]\nratio = 0.3")
    assert override(
        "data.validation.kind=split", "data.validation.seed=2", file="config.toml"
    ).data.validation == SplitOff(ratio=0.3, seed=2)


def test_a_schedule_keeps_its_warmup_whatever_its_kind() -> None:
    write("config.toml", '[train.schedule]\nkind = "polynomial"\npower = 2\nwarmup = "10 steps"')
    for kind, more in (("cosine", []), ("inverse_sqrt", ["train.schedule.timescale=7"])):
        loaded = load_config("config.toml", [f"train.schedule.kind={kind}", *more])
        schedule = loaded.experiment.train.schedule
        assert (schedule.kind, schedule.warmup) == (kind, Duration(10, "steps"))
        assert loaded.origins["train.schedule.warmup"] == "config.toml" and loaded.notes == ()
    other = override("train.schedule.kind=constant", "train.schedule.warmup=2 steps", file="config.toml")
    assert other.train.schedule == ConstantSchedule(warmup=Duration(2, "steps"))
    unset = load_config("config.toml", unset=["train.schedule.kind"])
    assert unset.experiment.train.schedule == LinearSchedule(warmup=Duration(10, "steps"))
    assert "train.schedule.power" not in unset.origins


def test_an_end_of_a_polynomial_that_is_no_fall_is_refused() -> None:
    tree = {"model": {"pretrained": "x"}, "data": {"train": {"files": ["a.csv"]}}}
    words = ["train.schedule={kind = 'polynomial', power = 1, lr_end = 1e-4}"]
    require_runnable(load_config(tree, [*words, "train.optimizer.lr=2e-4"]).experiment)
    with refused(ConfigError, key="train.schedule.lr_end", value=1e-4):
        require_runnable(load_config(tree, words).experiment)


def test_values_that_a_changed_kind_leaves_behind_are_told() -> None:
    write("config.toml", "[task]\nlabel_smoothing = 0.1")
    loaded = load_config("config.toml", ["task.kind=binary"])
    assert loaded.experiment.task == BinaryTask()
    [note] = loaded.notes
    assert "task.label_smoothing (config.toml)" in note and '"binary" (command line)' in note
    assert load_config("config.toml", ["task.kind=binary", "task.label_smoothing=0.2"]).notes == ()
    assert load_config("config.toml", ["task.kind=auto"]).notes == ()


def test_sources_without_kind_are_files() -> None:
    train = override(
        "data.train={kind = 'concat', sources = [{files = 'a.csv'}, {kind = 'hub', name = 'x/y'}]}"
    ).data.train
    assert isinstance(train, ConcatSource)
    assert train.sources == (FilesSource(files=(os.path.abspath("a.csv"),)), HubSource(name="x/y"))


# --- overrides and unset ---------------------------------------------------------------------------------------------


@pytest.mark.parity("overrides")
def test_overrides_are_converted_by_the_type_of_the_key() -> None:
    experiment = override(
        "train.optimizer.lr=3e-5",
        "train.batch_size=5",
        "data.train.shuffle=true",
        "train.duration=2 epochs",
        "model.revision=2024",
        "data.columns.text=true",
        "data.train.take=7",
        "task.kind=binary",
        "task.num_logits=1",
        "data.train.delimiter=\\t",
    )
    assert experiment.train.optimizer.lr == 3e-5
    assert (experiment.train.batch_size, experiment.train.duration) == (5, Duration(2, "epochs"))
    assert (experiment.model.revision, experiment.data.columns.text) == ("2024", "true")
    assert experiment.data.train == FilesSource(shuffle=True, take=7, delimiter="\t")
    assert experiment.task == BinaryTask(num_logits=1)


def test_lists_and_tables_are_toml_but_text_keys_stay_text() -> None:
    experiment = override(
        'data.labels.names=["no", "yes"]',
        'data.train.where={ source = "imdb", year = [2020, "2021"] }',
        "data.columns.template={title}\n{body}",
        "data.train.pattern=[a-z]+(?P<text>.*)",
    )
    assert experiment.data.labels.names == ("no", "yes")
    assert experiment.data.train.where == {"source": ("imdb",), "year": ("2020", "2021")}
    assert experiment.data.columns.template == "{title}\n{body}"
    assert isinstance(experiment.data.train, FilesSource) and experiment.data.train.pattern == "[a-z]+(?P<text>.*)"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.2", 0.2),
        ("3", 3),
        ("true", True),
        ("gelu", "gelu"),
        ('"3"', "3"),
        ("nan", "nan"),
        ("-inf", "-inf"),
        ("2024-01-01", "2024-01-01"),
        ("[1, 2]", [1, 2]),
        ("a = 1", "a = 1"),
        ("1\nb = 2", "1\nb = 2"),
    ],
)
def test_free_tables_take_toml_scalars_where_that_works(text: str, value: object) -> None:
    found = override(f"model.config.key={text}").model.config["key"]
    assert found == value and type(found) is type(value)


def test_both_ways_to_set_a_free_table() -> None:
    write("config.toml", "[model.config]\nold = 1")
    assert override("model.config={new = 0.2}", file="config.toml").model.config == {"old": 1, "new": 0.2}
    assert override("model.config.new=0.2", file="config.toml").model.config == {"old": 1, "new": 0.2}


def test_a_table_of_class_weights_replaces_the_word() -> None:
    task = override("task.class_weights.pos=2.0", 'task.class_weights."a.b"=3').task
    assert task.class_weights == {"pos": 2.0, "a.b": 3.0}
    write("config.toml", "[task.class_weights]\npos = 3")
    assert override("task.class_weights=balanced", file="config.toml").task.class_weights == "balanced"
    assert load_config(None, ['task.class_weights."a.b"=3']).origins['task.class_weights."a.b"'] == "command line"


def test_the_later_of_two_overrides_of_a_key_counts() -> None:
    assert override("train.seed=1", "train.seed=2").train.seed == 2


def test_unset_takes_a_key_back_to_its_default() -> None:
    write(
        "base.toml",
        '[data.columns]\ntext_pair = "b"\n[train]\nseed = 5\n[task.class_weights]\na = 1\n[data.validation]\nratio ='
        " 0.4",
    )
    write("config.toml", 'extends = "base.toml"')
    loaded = load_config(
        "config.toml", ["task.class_weights.b=2"], ["data.columns.text_pair", "train.seed", "task.class_weights"]
    )
    assert loaded.experiment.data.columns.text_pair is None
    assert loaded.experiment.train.seed == 0
    assert loaded.origins["train.seed"] == "default"
    assert loaded.experiment.task.class_weights == {"b": 2.0}
    assert override(unset=("data.validation",), file="config.toml").data.validation == SplitOff()
    assert override(
        "data.validation.seed=1", unset=("data.validation",), file="config.toml"
    ).data.validation == SplitOff(seed=1)


def test_unset_of_a_kind_takes_its_table_along_only_if_it_was_changed() -> None:
    write(
        "config.toml",
        '[data.validation]\nkind = "files"\nfiles = "v.csv"\n[data.train]\nkind = "files"\nfiles = "t.csv"',
    )
    data = override(unset=("data.validation.kind", "data.train.kind"), file="config.toml").data
    assert data.validation == SplitOff()
    assert data.train == FilesSource(files=(os.path.abspath("t.csv"),))


def test_unset_of_an_entry_of_a_free_table() -> None:
    write("config.toml", "[model.config]\na = 1\nb = 2")
    assert override(unset=("model.config.a",), file="config.toml").model.config == {"b": 2}
    with refused(ConfigError, key="model.config.c"):
        override(unset=("model.config.c",), file="config.toml")


def test_environment_variables_play_no_part() -> None:
    code = "from textune.config import *; assert load_config(None).experiment == Experiment()"
    environment = {**os.environ, "TRAIN_SEED": "5", "TEXTUNE_TRAIN_SEED": "5", "train.seed": "5", "SEED": "5"}
    root = str(Path(__file__).parents[2])
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, cwd=root)


# --- dictionaries and runs -------------------------------------------------------------------------------------------


def test_a_dictionary_follows_the_rules_of_a_file(folder: Path) -> None:
    tree = {
        "data": {
            "train": {"files": [Path("a.csv")]},
            "validation": HubSource(name="x/y", take=3),
            "columns": {"text_pair": None},
        },
        "train": {"duration": Duration(5, "steps"), "seed": None},
        "task": {"class_weights": {0: 1, 1: 2.5}},
    }
    experiment = load_tree(tree, base=folder / "base").experiment
    assert experiment.data.train == FilesSource(files=(str(folder / "base/a.csv"),))
    assert experiment.data.validation == HubSource(name="x/y", take=3)
    assert experiment.train.duration == Duration(5, "steps") and experiment.train.seed == 0
    assert experiment.task.class_weights == {"0": 1.0, "1": 2.5}
    with refused(ConfigError, key="train.seed", value=-1):
        load_tree({"train": {"seed": -1}}, base=folder)
    nested = ConcatSource(sources=(HubSource(name="x/y"), ConcatSource(sources=(FilesSource(files=("/a",)),))))
    assert load_tree({"data": {"train": nested}}, base=folder).experiment.data.train == nested


def test_what_a_run_needs() -> None:
    with pytest.raises(ConfigError) as caught:
        require_runnable(Experiment())
    assert "model.pretrained is not set" in str(caught.value)
    assert "data.train.files is not set" in str(caught.value)
    runnable = override("model.pretrained=x/y", "data.train.files=a.csv")
    require_runnable(runnable)
    with refused(ConfigError, key="data.validation.files"):
        require_runnable(override("model.pretrained=x/y", "data.train.files=a.csv", "data.validation.kind=files"))
    nested = "data.train={kind = 'concat', sources = [{files = 'a'}, {}]}"
    with refused(ConfigError, key="data.train.sources[1].files"):
        require_runnable(override("model.pretrained=x/y", nested))
    both = ["model.pretrained=x/y", "data.train.files=a.csv", "data.labels.names=a", "data.labels.names_file=b"]
    with refused(ConfigError, key="data.labels"):
        require_runnable(override(*both))


def test_loaded_is_plain_data() -> None:
    assert Loaded(Experiment(), {}, None).notes == ()


# --- in Python -------------------------------------------------------------------------------------------------------


def test_overrides_as_a_dictionary() -> None:
    by_key = {
        "train.optimizer.lr": 3e-5,
        "train.duration": "2 epochs",
        "data.labels.names": ["no", "yes"],
        "train.max_tokens": None,
    }
    nested = {
        "train": {"optimizer.lr": 3e-5, "duration": Duration(2, "epochs")},
        "data": {"labels": {"names": ("no", "yes")}},
    }
    words = ["train.optimizer.lr=3e-5", "train.duration=2 epochs", 'data.labels.names=["no", "yes"]']
    wanted = override(*words)
    for overrides in (by_key, nested, (word for word in words)):
        assert load_config(None, overrides).experiment == wanted
    assert load_config(None, by_key).origins["train.optimizer.lr"] == "overrides"


def test_a_config_as_a_dictionary_or_an_experiment(folder: Path) -> None:
    tree = {"data": {"train": {"files": "a.csv"}}, "train": {"seed": 4}}
    write("config.toml", '[data.train]\nfiles = "a.csv"\n[train]\nseed = 4\n')
    wanted = load_config("config.toml").experiment
    assert load_config(tree).experiment == load_config(wanted).experiment == wanted
    changed = load_config(tree, {"train.seed": 5})
    assert (
        changed.experiment.train.seed == 5 and changed.origins["data.train.files"] == "config" and changed.path is None
    )
    assert (
        load_config(
            wanted.model_copy(update={"train": wanted.train.model_copy(update={"seed": 6})})
        ).experiment.train.seed
        == 6
    )


@pytest.mark.parametrize(
    ("config", "options", "message"),
    [
        (3, {}, "config is 3, which is not a config. Give the name of a TOML file, or a dictionary."),
        ({"train": {"sed": 1}}, {}, "Unknown key train.sed (config). Did you mean train.seed?"),
        (
            None,
            {"overrides": "train.seed=1"},
            "overrides = 'train.seed=1' is a single string. Put it in a list: overrides=['train.seed=1'].",
        ),
        (
            None,
            {"unset": "train.seed"},
            "unset = 'train.seed' is a single string. Put it in a list: unset=['train.seed'].",
        ),
        (None, {"overrides": [3]}, "overrides[0] is 3, not text."),
        (None, {"overrides": {"train.sed": 1}}, "Unknown key train.sed (overrides). Did you mean train.seed?"),
        (None, {"overrides": {"train..seed": 1}}, "The override 'train..seed' is not a dotted key."),
        (None, {"overrides": {"train.seed": "x"}}, 'train.seed = "x" (overrides): expected a whole number'),
    ],
)
def test_what_python_gets_wrong_is_a_sentence(config: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config, **options)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_a_tree_from_elsewhere_names_its_origin(tmp_path: Path) -> None:
    loaded = load_tree(
        {"train": {"seed": 7}, "data": {"train": {"files": "a.csv"}}}, origin="the launch line", base=tmp_path
    )
    assert loaded.experiment.train.seed == 7 and loaded.path is None
    assert loaded.origins["train.seed"] == loaded.origins["data.train.files"] == "the launch line"
    assert loaded.origins["train.batch_size"] == "default"
    assert loaded.experiment.data.train.files == (str(tmp_path / "a.csv"),)  # type: ignore[union-attr]
    with pytest.raises(ConfigError) as caught:
        load_tree({"train": {"seed": -1}}, origin="the launch line", base=tmp_path)
    assert "train.seed" in str(caught.value) and "the launch line" in str(caught.value)


def test_a_fold_is_one_of_its_folds() -> None:
    fold = load_config(None, ["data.validation={ kind = 'fold', fold = 2, folds = 3 }"]).experiment.data.validation
    assert fold == FoldOff(fold=2, folds=3)
    for words, key, value in [
        ("fold = 3, folds = 3", "data.validation.fold", 3),
        ("fold = 7", "data.validation.fold", 7),
        ("fold = -1", "data.validation.fold", -1),
        ("fold = 0, folds = 1", "data.validation.folds", 1),
        ("folds = 3", "data.validation.fold", None),
    ]:
        with refused(ConfigError, key=key, value=value):
            load_config(None, [f"data.validation={{ kind = 'fold', {words} }}"])
    with refused(ConfigError, key="data.validation.ratio"):
        load_config(None, ["data.validation={ kind = 'fold', fold = 2, ratio = 0.1 }"])


def test_what_was_loaded_keeps_where_it_came_from_under_other_values() -> None:
    before = replace(
        load_config({"train": {"batch_size": 8, "max_tokens": 64}}),
        origins={"train.batch_size": "--per_device_train_batch_size", "train.max_tokens": "default of theirs"},
        run="their/out",
        kept={"c.toml": "x"},
        notes=("a note",),
        rows_a_process=4,
    )
    after = load_config(before, {"train.max_tokens": 128})
    assert after.experiment.train.max_tokens == 128 and after.experiment.train.batch_size == 8
    assert after.origins["train.batch_size"] == "--per_device_train_batch_size"
    assert after.origins["train.max_tokens"] == "overrides"
    assert (after.run, after.kept, after.rows_a_process) == ("their/out", {"c.toml": "x"}, 4)
    assert "a note" in after.notes
    assert load_config(before, ["train.batch_size=2"]).rows_a_process is None
