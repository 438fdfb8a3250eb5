"""What torchrecipes' document classification must be able to do here, line by line (TR-01 to TR-17)."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.cli import runner
from kits.errors import refused
from kits.recipes import (
    APPLICATION,
    CONF,
    CPU_LINE,
    GPU_LINE,
    SEED,
    converted,
    documented_application,
    documented_words,
    value,
    write_hub,
    write_sst2,
    write_xlmr,
)

from textune.adapters.loaded import load_foreign
from textune.adapters.torchrecipes.command import launcher_variables, named_recipe, shipped_names
from textune.adapters.torchrecipes.convert import convert_torchrecipes
from textune.adapters.torchrecipes.keys import KEYS
from textune.config import load_config
from textune.errors import ConfigError, TextuneError

ROOT = Path(__file__).parents[2]
documented = pytest.mark.skipif(not SEED.is_file(), reason="the documentation is not beside the repository")
SMALL = ("trainer.max_epochs=1", "datamodule.batch_size=50", "trainer.limit_train_batches=2")
"""Two steps of the toy."""


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    for name in ("MODE", "CONFIG_MODULE"):
        monkeypatch.delenv(name, raising=False)
    return runner(capsys, monkeypatch, tmp_path)


@pytest.fixture
def sst2(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home with SST-2 and a tiny XLM-R."""
    write_sst2(tmp_path / ".torchtext" / "cache")
    write_xlmr(tmp_path / "xlmr")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


# --- configurations, groups, words -------------------------------------------------------------------------------


def test_tr_01_every_key_and_group_can_be_set_by_a_word() -> None:
    words = ("trainer=multi_gpu", "trainer.gpus=2", "module.optim.lr=3e-5", "datamodule.batch_size=8", "random_seed=7")
    found = converted("train_app", *words, "module/model=xlmrbase_classifier_tiny", "~trainer.callbacks")
    assert value(found, "train.device") == "cuda" and value(found, "train.distributed.devices") == 2
    assert value(found, "train.optimizer.lr") == 3e-5 and value(found, "train.seed") == 7
    assert value(found, "train.batch_size") == 16
    [line] = [line for line in found.lines if line.key == "train.batch_size"]
    assert line.origin.endswith("batch_size 8 x trainer.accumulate_grad_batches 1 x 2 processes = 16 rows")
    assert value(found, "model.options.hidden_size") == 8


@pytest.mark.every_day(5)
@pytest.mark.parametrize(
    ("words", "key", "said"),
    [
        (["trainer.gpu=2"], "trainer.gpu", "Did you mean trainer.gpus?"),
        (["trainr.gpus=2"], "trainr", "Unknown key trainr"),
        (["trainer=multi_gpus"], "trainer", "Did you mean multi_gpu?"),
        (["model=tiny"], "model", "Did you mean module.model?"),
        (["modul/optim=sgd"], "modul/optim", "Did you mean module/optim?"),
        (["trainer.max_epochs=${trainer.epochs}"], "trainer.max_epochs", "there is no key trainer.epochs"),
        (["trainer.deterministic=3"], "trainer.deterministic", "trainer.deterministic = 3"),
        (["datamodule.batch_size=0"], "datamodule.batch_size", "expected at least 1"),
        (["trainer.gpus=2", "trainer.devices=4"], "trainer.gpus", "disagree"),
        (["trainer.precision=64"], "trainer.precision", "there is no such precision"),
        (["trainer.accelerator=tpu"], "trainer.accelerator", "there is no such device"),
        (["trainer.tpu_cores=8"], "trainer.tpu_cores", "there is no TPU"),
        (["trainer.strategy=ddq"], "trainer.strategy", "Did you mean ddp?"),
        (["trainer.auto_lr_find=true"], "trainer.auto_lr_find", "textune sweep"),
        (["trainer.gpus=[1,3]"], "trainer.gpus", "CUDA_VISIBLE_DEVICES=1,3"),
        (["module.optim.lr=fast"], "module.optim.lr", "expected a number"),
        (["module.optim.lrr=1"], "module.optim.lrr", "Did you mean module.optim.lr?"),
        (["module.optim.maximize=true"], "module.optim.maximize", "there is no such rule"),
        (["module.optim._target_=my.Own", "~module.optim.lr"], "module.optim.lr", "Give it: +module.optim.lr=1e-3"),
        (["module.model.encoder_conf.num_encoder_layers=6"], "module.model.encoder_conf.num_encoder_layers", "has 12"),
        (["module.model.encoder_conf.normalize_before=true"], "module.model.encoder_conf.normalize_before", "XLM-R"),
        (["module.model.checkpoint=mine.pt"], "module.model.checkpoint", "pickled"),
        (["trainer.resume_from_checkpoint=last.ckpt"], "trainer.resume_from_checkpoint", "pickled"),
        (["transform.num_labels=3"], "transform.num_labels", "label_names has 2"),
        (["transform.transform.text_column=body"], "transform.transform.text_column", "datamodule.columns"),
        (["trainer.max_epochs=0"], "trainer.max_epochs", "nothing to train"),
        (["~trainer.callbackz"], "trainer.callbackz", "there is no trainer.callbackz to remove"),
        (["trainer.limit_train_batches=2.0"], "trainer.limit_train_batches", "Write a number of batches"),
        (
            ["trainer.val_check_interval=0.5", "trainer.check_val_every_n_epoch=2"],
            "trainer.val_check_interval",
            "Leave one of them out",
        ),
        (["transform.label_transform.label_names=[no,yes]"], "transform.label_transform.label_names", "0 (negative)"),
        (["trainer.limit_train_batches=0.5"], "trainer.limit_train_batches", "Write a number of batches"),
    ],
    ids=lambda one: one[0] if isinstance(one, list) else None,
)  # fmt: skip
def test_tr_01_what_does_not_fit_is_refused_by_key_value_and_place(words: list[str], key: str, said: str) -> None:
    more = ["datamodule/dataset=toy_dataset"] if key.startswith("transform.transform") else []
    with refused(ConfigError, key=key) as caught:
        converted("train_app", *more, *words)
    assert said in f"{caught.value.message} {caught.value.hint}"


@pytest.mark.parametrize("name", shipped_names())
def test_tr_02_every_configuration_is_complete_and_every_value_knows_where_it_comes_from(name: str) -> None:
    loaded = load_foreign(converted(name))
    assert not [key for key, origin in loaded.origins.items() if origin == ""]
    assert "Three defaults of the recipe are kept" in "\n".join(loaded.notes)


def test_tr_02_a_tiny_model_trains_on_rows_that_come_along_and_the_run_keeps_its_configuration(call: Any) -> None:
    done = call("--config-name", "toy_config", *SMALL, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    run = Path(result["run"])
    assert run.parent.name == "runs" and run.name.startswith("toy_config-") and result["steps"] == 2
    assert set(result["reports"]) == {"validation", "test"}
    kept = run / "foreign"
    assert "override datamodule/dataset: toy_dataset" in (kept / "toy_config.yaml").read_text(encoding="utf-8")
    assert "trainer.max_epochs=1" in (run / "config.toml").read_text(encoding="utf-8")
    again = call("--config-name", "toy_config", *SMALL, "--json")
    assert json.loads(again.out)["complete_before"] and json.loads(again.out)["run"] == str(run)


def test_tr_02_converted_or_direct_it_is_the_same_configuration(call: Any, tmp_path: Path) -> None:
    assert call("convert", "torchrecipes", "--config-name", "toy_config", *SMALL, "--out", "c.toml").code == 0
    ours = load_config(tmp_path / "c.toml").experiment
    assert ours == load_foreign(converted("toy_config", *SMALL)).experiment


def test_tr_03_sst2_with_xlm_r_is_the_recipe_of_train_app(sst2: Path) -> None:
    found = converted("train_app")
    assert value(found, "model.pretrained") == "FacebookAI/xlm-roberta-base"
    assert value(found, "data.train.files") == ("~/.torchtext/cache/SST2/SST-2/train.tsv",)
    assert value(found, "tokens.max_length") == 256 and value(found, "train.batch_size") == 16
    shutil.rmtree(sst2 / ".torchtext")
    elsewhere = converted("train_app")
    assert value(elsewhere, "data.train.kind") == "hub" and value(elsewhere, "data.train.name") == "nyu-mll/glue"
    assert "is not here, so SST-2 comes from the hub" in " ".join(elsewhere.notes)


OWN = """
import torch

class Words(torch.nn.Module):
    def __init__(self, *, num_outputs, vocab_size, pad_id, width):
        super().__init__()
        self.embeddings, self.out = torch.nn.Embedding(vocab_size, width), torch.nn.Linear(width, num_outputs)

    def forward(self, ids, mask):
        return self.out((self.embeddings(ids) * mask.unsqueeze(2)).sum(1))

def reviews(rows):
    made = [("0" if row % 2 else "1", f"text {row}") for row in range(rows)]
    return made, made[:8], made[8:12]

class Careful(torch.optim.SGD):
    pass

class Heard:
    def __init__(self, file):
        self.file = file
    def open(self, run):
        return None
    def send(self, records):
        with open(self.file, "a") as file:
            file.writelines(f"{one.kind}\\n" for one in records)
    def finish(self, ended):
        pass
"""


def test_tr_04_an_optimizer_of_ones_own_is_its_class_with_its_options() -> None:
    words = ("module.optim={_target_:my.optim.Own,lr:0.01,momentum:0.5}", "~module.optim.weight_decay")
    found = converted("train_app", *words)
    assert value(found, "train.optimizer.kind") == "python"
    assert value(found, "train.optimizer.object") == "my.optim:Own" and value(found, "train.optimizer.lr") == 0.01
    assert value(found, "train.optimizer.options.momentum") == 0.5
    assert any("whatever the default of my.optim.Own" in note for note in found.notes)
    coupled = converted("train_app", "module/optim=adam", "module.optim.weight_decay=0.1")
    assert value(coupled, "train.optimizer.object") == "torch.optim:Adam"
    assert value(coupled, "train.optimizer.weight_decay") == 0.1
    ams = converted("train_app", "module.optim.amsgrad=true")
    assert value(ams, "train.optimizer.object") == "torch.optim:AdamW"
    assert value(ams, "train.optimizer.options.amsgrad") is True


def test_tr_04_models_optimizers_data_sets_and_callbacks_of_ones_own(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_recipe.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    conf = tmp_path / "conf"
    (conf / "module" / "model").mkdir(parents=True)
    (conf / "module" / "model" / "words.yaml").write_text("_target_: own_recipe.Words\nwidth: 4\n")
    (conf / "mine.yaml").write_text(
        "defaults:\n  - module/model: words\n"
        "  - datamodule: doc_classification_datamodule\n  - transform: doc_classification_transform_tiny\n"
        "  - trainer: cpu\n  - _self_\n"
        "module:\n  optim: {_target_: own_recipe.Careful, lr: 0.001, momentum: 0.5}\n"
        "datamodule:\n  columns: [label, text]\n  dataset: {_target_: own_recipe.reviews, rows: 40}\n"
        "trainer:\n  logger: false\n  callbacks:\n    heard: {_target_: own_recipe.Heard, file: heard.txt}\n"
    )
    done = call("--config-name", "mine", "--config-path", "conf", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["steps"] == 3
    rows = {name: report["rows"] for name, report in result["reports"].items()}
    assert rows == {"validation": 8, "test": 4}
    assert "step" in (tmp_path / "heard.txt").read_text().split()


@pytest.mark.parametrize(
    ("target", "key"),
    [
        ("torchrecipes.optim.Own", "module.optim._target_"),
        ("torchtext.datasets.imdb.IMDB", "datamodule.dataset._target_"),
        ("torchrecipes.other.Model", "module.model._target_"),
        ("my.transform.Words", "transform.transform._target_"),
        ("torchtext.transforms.VocabTransform", "transform.label_transform._target_"),
    ],
)
def test_a_target_that_cannot_be_had_is_refused_before_anything_is_imported(target: str, key: str) -> None:
    with refused(ConfigError, key=key, value=target):
        converted("default_config", f"{key}={target}")


def test_tr_05_fast_dev_run_is_one_batch_of_everything_and_leaves_nothing(call: Any, tmp_path: Path) -> None:
    done = call("--config-name", "toy_config", "trainer.fast_dev_run=true", "datamodule.batch_size=4")
    assert done.code == 0 and "one batch of everything works" in done.out, done.err
    assert not list(tmp_path.rglob("manifest.json"))


def test_tr_06_a_frozen_encoder() -> None:
    assert value(converted("train_app", "module.model.freeze_encoder=true"), "model.freeze") == "backbone"
    assert value(converted("default_config"), "model.freeze") == "roberta.*"


@pytest.mark.parametrize(
    ("words", "device", "number"),
    [
        ((), "cpu", 1),
        (("trainer=single_gpu",), "cuda", 1),
        (("trainer=multi_gpu",), "cuda", 8),
        (("trainer=multi_gpu", "trainer.devices=4"), "cuda", 4),
        (("trainer=multi_gpu", "trainer.gpus=-1"), "cuda", 3),
        (("trainer=multi_gpu", "trainer.gpus=[0,1]"), "cuda", 2),
        (("trainer.accelerator=null", "trainer.gpus=2"), "cuda", 2),
        (("trainer.devices=2", "trainer.strategy=ddp"), "cpu", 2),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else None,
)
def test_tr_07_devices_of_each_trainer(words: tuple[str, ...], device: str, number: int) -> None:
    found = converted("train_app", *words, gpus_here=3)
    assert value(found, "train.device") == device
    assert value(found, "train.distributed.devices") == number
    assert value(found, "train.batch_size") == 16 * number
    assert value(converted("train_app", *words, processes=6, gpus_here=3), "train.batch_size") == 16 * 6


def test_tr_08_tensorboard_beside_the_run_and_other_loggers() -> None:
    found = converted("train_app", "+tb_save_dir=/tmp/x")
    assert value(found, "track") == ({"kind": "tensorboard"},) and found.run.startswith("/tmp/x/train_app-")
    assert value(converted("train_app", "trainer.logger=false"), "track") is None
    own = "trainer.logger={_target_:pytorch_lightning.loggers.WandbLogger,project:p}"
    assert value(converted("train_app", own), "track") == ({"kind": "accelerate", "name": "wandb", "project": "p"},)


def test_tr_09_checkpoints_by_callbacks() -> None:
    saving = "{_target_:pytorch_lightning.callbacks.ModelCheckpoint,monitor:val_f1,mode:max,save_top_k:2}"
    stopping = "{_target_:pytorch_lightning.callbacks.EarlyStopping,monitor:val_f1,mode:max,patience:4}"
    found = converted("train_app", f"trainer.callbacks=[{saving},{stopping}]")
    assert value(found, "evaluate.metric") == "f1_macro"
    assert value(found, "train.checkpoint.keep_best") == 2 and value(found, "train.early_stopping.patience") == 4
    with pytest.raises(ConfigError, match="mode = min would choose the worst"):
        converted("train_app", f"trainer.callbacks=[{saving.replace('max', 'min')}]")
    every = converted("train_app", f"trainer.callbacks=[{saving.replace('save_top_k:2', 'save_top_k:-1')}]")
    assert value(every, "train.checkpoint.keep") == "all"
    # Lightning stops at the first evaluation that is no better with patience 0, as with 1; 0 never stops here.
    at_once = converted("train_app", f"trainer.callbacks=[{stopping.replace('patience:4', 'patience:0')}]")
    assert value(at_once, "train.early_stopping.patience") == 1


@pytest.mark.parametrize("names", ["['0','1']", "['1','0']"])
def test_sst2_of_the_hub_has_the_labels_of_its_files_in_any_order(names: str, tmp_path: Path) -> None:
    words = (f"datamodule.dataset.root={tmp_path}", f"transform.label_transform.label_names={names}")
    found = converted("train_app", *words)
    assert value(found, "data.train.replace.label") == {"negative": "0", "positive": "1"}
    assert list(value(found, "data.labels.names")) == [names[2], names[6]]


def test_tr_10_the_same_command_goes_on_where_it_was_stopped(call: Any, tmp_path: Path) -> None:
    first = converted("toy_config", *SMALL)
    assert converted("toy_config", *SMALL).run == first.run != converted("toy_config", *SMALL, "random_seed=1").run
    words = ("--config-name", "toy_config", *SMALL, "trainer.max_epochs=2", "--json")
    done = call(*words)
    run = Path(json.loads(done.out)["run"])
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    (run / "manifest.json").write_text(json.dumps({**manifest, "status": "interrupted"}), encoding="utf-8")
    again = call(*words)
    assert again.code == 0 and json.loads(again.out)["steps"] == 4, again.err


@pytest.mark.every_day(1)
@pytest.mark.parametrize("mode", ["prod", "train", "test", "predict"])
def test_tr_11_each_mode_of_the_launcher(call: Any, sst2: Path, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    monkeypatch.setenv("MODE", mode)
    # The run that `test` evaluates is one of `prod`: both have a test set.
    words = ("--config-name", "train_app", "module.model.checkpoint=xlmr", "tokens=1")[:3]
    if mode == "test":
        monkeypatch.setenv("MODE", "prod")
        assert call(*words).code == 0
        monkeypatch.setenv("MODE", "test")
    done = call(*words, "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out[: done.out.rindex("}") + 1])
    if mode == "test":
        assert result["rows"] == 8
        return
    assert set(result["reports"]) == ({"validation", "test"} if mode == "prod" else {"validation"})
    written = Path(result["run"]) / "predictions.jsonl"
    assert written.is_file() == (mode == "predict")
    if mode == "predict":
        assert len(written.read_text(encoding="utf-8").splitlines()) == 8


def test_tr_11_an_unknown_mode_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODE", "pord")
    with refused(ConfigError, key="MODE", value="pord", place="environment"):
        launcher_variables()


# --- TorchX --------------------------------------------------------------------------------------------------------


def role_of(source: str, folder: Path, words: tuple[str, ...]) -> Any:
    """The role of an application whose one word `run` is changed."""
    assert source.count('"-m", "run"') == 1
    file = folder / "torchx_app.py"
    file.write_text(source.replace('"-m", "run"', '"-m", "textune"'), encoding="utf-8")
    spec = importlib.util.spec_from_file_location("written_app", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    [role] = module.torchx_app("", *words).roles
    assert role.entrypoint == "python" and role.args[:2] == ["-m", "textune"]
    return role


def as_job(call: Any, role: Any, monkeypatch: pytest.MonkeyPatch, *more: str) -> Any:
    for name, text in role.env.items():
        monkeypatch.setenv(name, text)
    return call(*role.args[2:], *more)


@documented
def test_tr_12_the_documented_application_has_the_form_of_the_one_in_these_tests(tmp_path: Path) -> None:
    assert documented_words() == [
        ("+tb_save_dir=/tmp/",),
        ("trainer=multi_gpu", "trainer.gpus=2", "+tb_save_dir=/tmp/"),
    ]
    theirs, ours = (role_of(source, tmp_path, CPU_LINE) for source in (documented_application(), APPLICATION))
    assert (theirs.args, theirs.env) == (ours.args, ours.env)


def test_tr_12_the_line_for_a_processor_trains(
    call: Any, sst2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = documented_application() if SEED.is_file() else APPLICATION
    role = role_of(source, tmp_path, CPU_LINE)
    done = as_job(call, role, monkeypatch, "module.model.checkpoint=xlmr", "--json")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert set(result["reports"]) == {"validation", "test"} and result["steps"] == 2
    assert list((tmp_path / "tb").glob("train_app-*/tensorboard/events*"))


def test_tr_12_a_name_of_the_hub_stays_one_and_is_a_sentence_where_there_is_no_network(
    call: Any, sst2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = as_job(call, role_of(APPLICATION, tmp_path, CPU_LINE), monkeypatch)
    assert done.code == 2 and "FacebookAI/xlm-roberta-base" in done.err.splitlines()[-1]


@pytest.mark.skipif(torch.cuda.device_count() > 0, reason="there are GPUs")
def test_tr_12_the_line_for_gpus_is_a_sentence_where_there_are_none(
    call: Any, sst2: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    role = role_of(APPLICATION, tmp_path, GPU_LINE)
    monkeypatch.setattr("textune.cli.systems.shared.share_among_devices", lambda section, words: None)
    done = as_job(call, role, monkeypatch, "module.model.checkpoint=xlmr")
    assert done.code == 2 and "cuda" in done.err.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("application", ["documented", "written here", "ours"])
@pytest.mark.parametrize(
    "line", [CPU_LINE, (*GPU_LINE, "trainer.accelerator=cpu")], ids=["processor", "two processes"]
)
def test_tr_12_torchx_runs_both_lines_as_they_stand(tmp_path: Path, application: str, line: tuple[str, ...]) -> None:
    """The weights come from a cache of the hub that has a tiny XLM-R under that name."""
    if application == "documented" and not SEED.is_file():
        pytest.skip("the documentation is not beside the repository")
    write_sst2(tmp_path / ".torchtext" / "cache")
    write_hub(tmp_path / "hub")
    file = ROOT / "textune" / "launch" / "torchx_app.py"
    if application != "ours":
        source = documented_application() if application == "documented" else APPLICATION
        file = tmp_path / "torchrecipes" / "launcher" / "torchx_app.py"
        file.parent.mkdir(parents=True)
        file.write_text(source.replace('"-m", "run"', '"-m", "textune"'), encoding="utf-8")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    environment = os.environ | {
        "HOME": str(tmp_path),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
    }
    words = ("-c", "from torchx.cli.main import main; main()", "run", "--scheduler", "local_cwd")
    done = subprocess.run(
        [sys.executable, *words, f"{file}:torchx_app", *line],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    [run] = (tmp_path / "tb").glob("train_app-*")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["status"] == "complete"
    [batch] = [text for text in (run / "config.toml").read_text().splitlines() if text.startswith("batch_size")]
    assert f"{1 if line == CPU_LINE else 2} process" in batch


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("trainer.strategy=fsdp", {"kind": "fsdp"}),
        ("trainer.plugins=[ddp_fully_sharded_cpu_offload]", {"kind": "fsdp", "cpu_offload": True}),
        ("trainer.plugins=[ddp_find_unused_parameters_false]", {"kind": "ddp"}),
        ("trainer.strategy=deepspeed_stage_3_offload", {"kind": "deepspeed", "stage": 3, "cpu_offload": True}),
    ],
)
def test_tr_13_short_names_of_ways_to_share(word: str, expected: dict[str, object]) -> None:
    found = converted("train_app", "trainer=multi_gpu", "trainer.strategy=null", word).tree["train"]["distributed"]
    assert {key: text for key, text in found.items() if key != "devices"} == expected


def test_tr_13_gradients_of_sixteen_bits_are_refused_with_what_to_write() -> None:
    with refused(ConfigError, key="trainer.plugins", value=["ddp_fp16_compress"]) as caught:
        converted("train_app", "trainer.plugins=[ddp_fp16_compress]")
    assert "trainer.precision=16" in str(caught.value)


def test_tr_15_random_seed_is_that_of_the_run() -> None:
    assert value(converted("train_app", "random_seed=12"), "train.seed") == 12
    unseeded = converted("train_app")
    assert value(unseeded, "train.seed") == 0 and "Without random_seed the seed is 0" in " ".join(unseeded.notes)


def test_tr_16_train_app_ends_with_a_test_and_train_alone_does_not(sst2: Path) -> None:
    assert value(converted("train_app"), "data.test.files") == ("~/.torchtext/cache/SST2/SST-2/dev.tsv",)
    assert value(converted("train_app", mode="train"), "data.test.kind") is None


def test_tr_17_files_by_name_and_a_value_that_is_still_missing() -> None:
    words = ("datamodule/dataset=files_dataset", "datamodule.dataset.train=a.csv", "datamodule.dataset.test=[b.csv]")
    found = converted("default_config", *words)
    assert value(found, "data.train.files") == ("a.csv",) and value(found, "data.test.files") == ("b.csv",)
    assert value(found, "data.validation.kind") == "split"
    with refused(ConfigError, key="datamodule.dataset.train", value="???"):
        converted("default_config", words[0])


# --- the rest of the table of keys -----------------------------------------------------------------------------------


def test_every_key_of_lightnings_trainer_is_mapped_left_out_or_refused() -> None:
    for name, key in KEYS.items():
        mapped = not key.unused and not key.only
        assert mapped + bool(key.unused) + bool(key.only) == 1, name
        assert bool(key.only) == bool(key.instead), name


def test_a_folder_of_ones_own_comes_before_the_groups_that_come_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / CONF / "trainer"
    folder.mkdir(parents=True)
    (folder / "cpu.yaml").write_text("max_epochs: 9\naccelerator: cpu\n")
    (folder.parent / "train_app.yaml").write_text(
        "defaults:\n  - schema/trainer: trainer\n  - trainer: cpu\n  - module/model: xlmrbase_classifier\n"
        "  - module/optim: adamw\n  - datamodule: doc_classification_datamodule\n"
        "  - datamodule/dataset: toy_dataset\n  - transform: doc_classification_transform\n"
        "hydra:\n  searchpath:\n    - pkg://torchrecipes.core.conf\n"
    )
    found = convert_torchrecipes(named_recipe("train_app", CONF), ())
    assert value(found, "train.duration") == "9 epochs"
    with pytest.raises(TextuneError, match="there is no such folder"):
        named_recipe("train_app", "elsewhere/conf")
    with refused(ConfigError, key="--config-name", value="train_ap"):
        named_recipe("train_ap", CONF)
