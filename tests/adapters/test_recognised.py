"""Whose configuration a file is, and what `textune train FILE` and `textune FILE` make of it."""

import json
from pathlib import Path
from typing import Any

import pytest
from kits.bsmetadata import V2
from kits.cli import runner
from kits.errors import refused

from textune.adapters.foreign import kept_files
from textune.adapters.recognised import SCRIPTS, SYSTEMS, load_any, script_of, system_of
from textune.cli import commands
from textune.cli.systems.table import SYSTEMS as COMMANDS
from textune.errors import ConfigError, DataError
from textune.pipeline.check import check

FILES: dict[str, tuple[str, str | None]] = {
    "ours.toml": ("[train]\nseed = 1\n", None),
    "ours.json": (json.dumps({"extends": "preset:tiny", "train": {"seed": 1}}), None),
    "unknown.toml": ("[trian]\nseed = 1\n", None),
    "wizard.toml": (
        'spec_class = "training_wizard.recipes.modular.ModularTrainingSpec"\n[training_args_spec]\noutput_dir = "o"\n',
        "training-wizard",
    ),
    "older.toml": ('recipe_class = "training_wizard.recipes.modular.ModularTrainingSpec"\n', "training-wizard"),
    "wizard.json": (json.dumps({"dataset_spec": {}, "wizard_module": {}}), "training-wizard"),
    "glue.json": (json.dumps({"model_name_or_path": "m", "task_name": "mrpc"}), "the scripts of transformers"),
    "v2.yaml": (V2.read_text(encoding="utf-8"), "bsmetadata"),
    "train_app.yaml": ("defaults:\n  - trainer: cpu\n", "torchrecipes"),
    "component.yaml": ("name: text_classification_finetune\ncommand: python x\ninputs: {}\n", "AzureML"),
    "pipeline.yml": ("type: pipeline\njobs: {}\n", "AzureML"),
    "zero.json": (json.dumps({"zero_optimization": {"stage": 2}, "train_batch_size": 8}), "DeepSpeed"),
    "accelerate.yaml": ("compute_environment: LOCAL_MACHINE\nmixed_precision: bf16\n", "accelerate"),
}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Everything runs in a folder with a file of each kind."""
    monkeypatch.chdir(tmp_path)
    for name, (text, _) in FILES.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, folder: Path) -> Any:
    return runner(capsys, monkeypatch, folder)


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_told_by_its_keys(name: str) -> None:
    assert system_of(Path(name)) == FILES[name][1]


def test_every_system_is_told_apart_from_the_others() -> None:
    assert {system for _, system in FILES.values() if system} == SYSTEMS.keys()


@pytest.mark.parametrize("name", [name for name, (_, system) in FILES.items() if system and not SYSTEMS[system].read])
def test_what_does_not_train_by_itself_is_a_sentence_that_says_what_to_do(run: Any, name: str) -> None:
    with refused(ConfigError, place=name, reason=f"a file of {FILES[name][1]}") as caught:
        load_any(name)
    assert caught.value.hint
    if system_of(Path(name)) != SCRIPTS:  # whose files go to a script
        answer = run(name)
        assert answer.code == 2 and f"{name} is a file of" in answer.err


@pytest.mark.parametrize(
    ("flags", "script"),
    [
        ({"task_name": "mrpc"}, "run_glue"),
        ({"text_column_names": "a,b", "train_file": "rows.csv"}, "run_classification"),
        ({"language": "de", "do_train": True}, "run_xnli"),
        ({"task_name": "mrpc", "learning_rte": 1e-5}, "run_glue"),
    ],
)
def test_flags_in_a_file_go_to_the_script_that_knows_them(
    flags: dict[str, Any], script: str, run: Any, folder: Path
) -> None:
    (folder / "args.json").write_text(json.dumps(flags | {"model_name_or_path": "nowhere"}), encoding="utf-8")
    assert script_of(Path("args.json")) == script
    by_name, by_file = run(f"{script}.py", "args.json"), run("args.json")
    assert by_file.code == by_name.code == 2 and by_file.err == by_name.err
    assert ("Did you mean learning_rate?" in by_file.err) == ("learning_rte" in flags)


def test_flags_that_several_scripts_know_need_its_name(run: Any, folder: Path) -> None:
    (folder / "args.json").write_text(json.dumps({"model_name_or_path": "m", "train_file": "a.csv"}), encoding="utf-8")
    answer = run("args.json")
    assert answer.code == 2 and "args.json could be for run_glue.py or run_classification.py" in answer.err


@pytest.mark.parametrize("words", [("train", "v2.yaml"), ("v2.yaml",)], ids=" ".join)
def test_a_foreign_file_is_trained_in_the_folder_that_it_names(run: Any, words: tuple[str, ...]) -> None:
    """The backbone is not there, so it ends where that would be read."""
    answer = run(*words)
    assert answer.code == 2 and "note: metadata_list names url" in answer.err and "gpt2" in answer.err
    loaded = load_any("v2.yaml", ["train.seed=7"], processes=2)
    assert loaded.run == "metadata_outputs/" and set(loaded.kept) == {"v2.yaml", "words.txt"}
    assert loaded.experiment.train.seed == 7 and loaded.origins["train.seed"] == "command line"
    assert loaded.experiment.train.batch_size == 8 * 16 * 2
    assert "per_device_train_batch_size" in loaded.origins["train.batch_size"]


def test_check_and_show_take_it_too(run: Any) -> None:
    with pytest.raises(DataError, match="bs-modeling-metadata/c4-en-html-with-metadata"):
        check("v2.yaml")
    shown = run("show", "v2.yaml", "--json")
    assert json.loads(shown.out)["origins"]["train.seed"] == "seed = 42"


def test_a_config_of_ours_is_a_word_for_train_and_one_that_is_missing_is_named(run: Any) -> None:
    assert run("ours.json", "--dry-run", "--run", "r").code == 0
    unused = run("ours.json", "--processes", 2)
    assert unused.code == 2 and "--processes is for files of other systems" in unused.err
    missing = run("ourz.toml")
    assert missing.code == 2 and "Did you mean ours.toml?" in missing.err
    unknown = run("unknown.toml")
    assert unknown.code == 2 and "trian" in unknown.err


@pytest.mark.parametrize(
    ("word", "meant"),
    [("trian", "'train'"), ("bsmetadata/evalution.py", "bsmetadata/evaluation"), ("x/evaluatoin.py", "evaluation")],
)
def test_a_word_that_nobody_knows_is_answered_with_the_nearest(run: Any, word: str, meant: str) -> None:
    answer = run(word)
    assert answer.code == 2 and f"No such command '{word}'" in answer.err
    assert meant in answer.err.rpartition("id you mean ")[2]


def test_no_word_of_another_system_is_hidden_by_a_verb() -> None:
    words = [word for system in COMMANDS.values() for word in system.words]
    assert [word for word in words if word in commands.commands] == []
    for system in COMMANDS.values():
        for name in (*system.words.values(), *filter(None, [system.convert])):
            assert system.command(name).help


def test_files_of_one_name_are_kept_with_as_many_folders_as_tell_them_apart(folder: Path) -> None:
    files = [folder / "conf" / "default.yaml", folder / "conf" / "trainer" / "default.yaml"]
    files[1].parent.mkdir(parents=True)
    for number, file in enumerate(files):
        file.write_text(str(number), encoding="utf-8")
    assert kept_files([*files, files[0]]) == {"default.yaml": "0", "trainer/default.yaml": "1"}
    around = folder / "conf" / "trainer" / ".." / "default.yaml"
    assert kept_files([files[1], around]) == {"default.yaml": "1", "conf/default.yaml": "0"}


@pytest.mark.parametrize("word", ["~nobodyhere/args.json", "~nobodyhere/ours.tolm"])
def test_the_home_of_nobody_is_a_sentence(word: str, run: Any) -> None:
    answer = run(word)
    assert answer.code == 2 and answer.err.splitlines()[-1].startswith("Error: ") and "internal" not in answer.err


@pytest.mark.parametrize("word", ["ours.tolm", "./ours.tmol"])
def test_a_misspelt_config_is_no_verb_and_gets_its_name(word: str, run: Any) -> None:
    answer = run(word)
    assert answer.code == 2 and f"No such command '{word}'. Did you mean the config ours.toml?" in answer.err
