"""Presets: found by name, layered with files and the command line, with parameters; `extends` of several."""

from pathlib import Path

import pytest
from kits.errors import refused

from textune.config import presets
from textune.config.explain import show
from textune.config.load import load_config
from textune.config.parents import read_layers
from textune.config.presets import name_of_preset, preset_names, read_preset
from textune.config.toml import read_toml
from textune.errors import ConfigError

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "textune" / "presets"


def write(name: str, text: str) -> None:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    Path(name).write_text(text, encoding="utf-8")


@pytest.mark.every_day(5)
@pytest.mark.parametrize("name", preset_names())
def test_a_preset_loads_and_says_what_it_is_for(name: str) -> None:
    line = presets.described_presets()[name]
    assert 20 < len(line) < 119 and line[0].isupper() and line.endswith((".", "?"))
    loaded = load_config(f"preset:{name}")
    assert loaded.path is None and loaded.name == name.replace("/", "-")
    assert f"of preset:{name}: " in show(loaded)
    for layer in read_layers(f"preset:{name}")[0]:
        assert layer.origin.label.startswith("preset:") and layer.origin.folder == Path.cwd()


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.toml")), ids=lambda path: path.stem)
def test_a_preset_builds_on_presets_alone(path: Path) -> None:
    parents = read_toml(path, shown=path.name).get("extends", [])
    assert all(name.startswith("preset:") for name in ([parents] if isinstance(parents, str) else parents))


def test_files_presets_and_the_command_line_are_layered() -> None:
    write("conf/base.toml", '[train]\nseed = 5\nbatch_size = 64\n[data]\nfolder = "rows"')
    write("conf/config.toml", 'extends = ["preset:tiny", "base.toml"]\n[train]\nseed = 6')
    loaded = load_config("conf/config.toml", ["extends=preset:cpu", "train.prefetch=0"])
    train, origins = loaded.experiment.train, loaded.origins
    assert (train.seed, train.batch_size, train.device, train.prefetch) == (6, 64, "cpu", 0)
    assert str(train.duration) == "12 epochs"
    named = {"seed": "config.toml", "batch_size": "base.toml", "device": "preset:cpu", "duration": "preset:tiny"}
    named |= {"prefetch": "command line", "order": "default"}
    assert {key: origins[f"train.{key}"] for key in named} == named
    assert loaded.experiment.data.folder == str(Path("conf/rows").absolute())


def test_what_the_command_line_extends_is_laid_over_the_file_and_under_its_own_words() -> None:
    write("config.toml", '[train]\ndevice = "cuda"\nseed = 1\n[train.distributed]\nkind = "fsdp"')
    write("more.toml", "[train]\nseed = 2\nbatch_size = 2")
    words = ["train.batch_size=3", "extends=preset:cpu", "extends=more.toml"]
    for given in (words, {"train.batch_size": 3, "extends": ["preset:cpu", "more.toml"]}):
        train = load_config("config.toml", given).experiment.train
        assert (train.device, train.seed, train.batch_size, train.distributed.kind) == ("cpu", 2, 3, "ddp")
    listed = load_config("config.toml", ["extends=['preset:cpu', 'more.toml']"], ["train.seed"])
    assert (listed.experiment.train.device, listed.experiment.train.seed) == ("cpu", 0)
    assert listed.origins["train.batch_size"] == "more.toml"


def test_a_dictionary_can_build_on_a_preset() -> None:
    loaded = load_config({"extends": "preset:tiny", "train": {"seed": 9}})
    assert loaded.experiment.train.seed == 9 and loaded.origins["data.columns.text"] == "preset:tiny"


def test_a_layer_that_several_build_on_counts_once_where_it_comes_first() -> None:
    write("root.toml", "[train]\nseed = 1\nbatch_size = 1")
    write("left.toml", 'extends = "root.toml"\n[train]\nseed = 2')
    write("right.toml", 'extends = "./root.toml"\n[train]\nprefetch = 0')
    write("config.toml", 'extends = ["left.toml", "right.toml"]')
    train = load_config("config.toml").experiment.train
    assert (train.seed, train.batch_size, train.prefetch) == (2, 1, 0)


def test_paths_of_a_preset_start_where_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "_FOLDER", tmp_path / "presets")
    write("presets/rows.toml", '# Rows.\n[data.train]\nfiles = "rows.csv"')
    write("presets/outer.toml", '# Rows of another.\nextends = "preset:rows"')
    write("conf/config.toml", 'extends = "preset:outer"')
    assert load_config("conf/config.toml").experiment.data.train.files == (str(tmp_path / "conf/rows.csv"),)
    assert load_config("preset:outer").experiment.data.train.files == (str(tmp_path / "rows.csv"),)
    moved = load_config("preset:outer", ["data.folder=sets"]).experiment
    assert moved.data.train.files == (str(tmp_path / "sets/rows.csv"),)


def test_parameters_are_filled_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presets, "_FOLDER", tmp_path / "presets")
    write(
        "presets/speech.toml",
        '# Of languages.\n[parameters]\nlanguage = "en"\ntrained = "fr"\n[data.train]\nfiles = ["{trained}.csv"]\n'
        '[data.train.where]\nlanguage = "{trained}"\n[data.columns]\ntemplate = "{text} {language}"',
    )
    data = load_config("preset:speech").experiment.data
    assert data.train.files == (str(tmp_path / "fr.csv"),) and data.train.where == {"language": ("fr",)}
    assert data.columns.template == "{text} en"
    loaded = load_config("preset:speech:language=de,trained=sw")
    assert loaded.experiment.data.train.files == (str(tmp_path / "sw.csv"),) and loaded.name == "speech"
    assert loaded.origins["data.columns.template"] == "preset:speech:language=de,trained=sw"
    with pytest.raises(ConfigError) as caught:
        read_preset("preset:speech:langage=de")
    assert caught.value.place == "preset:speech:langage=de" and "language" in caught.value.hint
    for wrong in ("language", "language=", "=de", "x=1,language=de"):
        with refused(ConfigError, key="extends", value=wrong.partition(",")[0]):
            read_preset(f"preset:speech:{wrong}")
    write("presets/plain.toml", "# Plain.")
    with refused(ConfigError, value="x=1"):
        read_preset("preset:plain:x=1")


@pytest.mark.parametrize(
    ("name", "meant"),
    [("tinny", "tiny"), ("one-gpu", "one_gpu"), ("gpu", "gpus"), ("mrpc", "glue/mrpc"), ("mrcp", "glue/mrpc")],
)
def test_an_unknown_preset_names_the_nearest(name: str, meant: str) -> None:
    write("config.toml", f'extends = "preset:{name}"')
    for config, words in (("config.toml", []), (f"preset:{name}", []), (None, [f"extends=preset:{name}"])):
        with pytest.raises(ConfigError) as caught:
            load_config(config, words)
        assert (caught.value.key, caught.value.value) == ("extends", f"preset:{name}")
        assert f'"preset:{meant}"' in caught.value.hint and "textune presets" in caught.value.hint


@pytest.mark.parametrize(("name", "meant"), [("tiny", "tiny"), ("glue/mrpc", "glue/mrpc"), ("mrpc", "glue/mrpc")])
def test_a_preset_without_its_prefix_is_recognised(name: str, meant: str) -> None:
    write("config.toml", f'extends = "{name}"')
    for config, words in ((name, []), ("config.toml", []), (None, [f"extends={name}"])):
        with pytest.raises(ConfigError) as caught:
            load_config(config, words)
        assert f"preset:{meant}?" in caught.value.hint
    write("confg.toml", "")
    for missing in ("config.tml", "hub"):  # several presets end in /hub
        with pytest.raises(ConfigError) as other:
            load_config(missing)
        assert "preset:" not in other.value.hint
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_text("[train]\nseed = 7\n")  # a file of that name is what it was
    assert load_config("config.toml").experiment.train.seed == 7


@pytest.mark.parametrize("name", ["", "../config/schema", "tiny.toml", "/etc/passwd", "glue/../tiny"])
def test_a_name_is_not_a_path(name: str) -> None:
    with refused(ConfigError, key="extends"):
        load_config(f"preset:{name}")


def test_the_name_of_a_run() -> None:
    assert name_of_preset("preset:glue/mrpc") == "glue-mrpc"
    assert name_of_preset("preset:xnli:language=de/ch") == "xnli"
    assert load_config({}).name == "model"
    write("mine.toml", 'extends = "preset:tiny"')
    assert load_config("mine.toml").name == "mine"
