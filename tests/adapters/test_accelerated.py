"""What `accelerate config` wrote beside another system's configuration, and the rows of a run that goes on."""

from pathlib import Path

import pytest
from kits.backbones import tiny_backbone
from kits.runs import Listener, reviews, write_csv

import textune
from textune.adapters import Foreign, as_accelerated, load_foreign
from textune.adapters.foreign import BatchLine, Line
from textune.adapters.trainer.batch import batch_line
from textune.config import Here, differences_to
from textune.errors import ConfigError, RunError

STARTED = {"ACCELERATE_MIXED_PRECISION": "no"}
DEFAULT = "fp16 = false (default of TrainingArguments), bf16 = false (default of TrainingArguments)"


def values(*lines: Line, **environment: str) -> dict[str, tuple[object, str]]:
    found = as_accelerated(Foreign("other", (), lines), {**STARTED, **environment})
    return {line.key: (line.value, line.origin) for line in found.lines}


def test_its_own_defaults_add_nothing() -> None:
    lines = (Line("train.precision", "fp32", DEFAULT), Line("train.seed", 3, "seed = 3"))
    assert as_accelerated(Foreign("other", (), lines), STARTED) == Foreign("other", (), lines)
    assert as_accelerated(Foreign("other", (), lines), {}) == Foreign("other", (), lines)


def test_its_precision_counts_where_the_other_system_says_none() -> None:
    said = {"ACCELERATE_MIXED_PRECISION": "bf16", "ACCELERATE_USE_CPU": "true"}
    found = values(Line("train.precision", "fp32", DEFAULT), **said)
    assert found["train.precision"] == ("bf16", "mixed_precision of accelerate")
    assert found["train.device"] == ("cpu", "use_cpu of accelerate")
    own = Line("train.precision", "fp16", "fp16 = true (config.toml, line 4)")
    assert values(own, **said)["train.precision"] == ("fp16", own.origin)


def test_sharding_becomes_lines_which_accelerate_then_agrees_with() -> None:
    said = {
        "ACCELERATE_USE_FSDP": "true",
        "FSDP_OFFLOAD_PARAMS": "true",
        "FSDP_ACTIVATION_CHECKPOINTING": "true",
        "ACCELERATE_MIXED_PRECISION": "no",
    }
    loaded = _loaded(as_accelerated(Foreign("other", (), (Line("model.pretrained", "x", "model"),)), said))
    assert loaded.train.distributed.kind == "fsdp" and loaded.train.gradient_checkpointing
    assert differences_to(said, Here(loaded, "cpu", "fp32")) == ([], [])


def test_what_the_system_says_of_sharding_stays_as_it_is() -> None:
    own = Line("train.distributed.kind", "fsdp", "fsdp = full_shard (config.toml, line 9)")
    found = values(own, ACCELERATE_USE_DEEPSPEED="true", ACCELERATE_DEEPSPEED_ZERO_STAGE="3")
    assert found == {"train.distributed.kind": ("fsdp", own.origin)}


def test_a_deepspeed_file_gives_its_stage_and_its_offloading(tmp_path: Path) -> None:
    file = tmp_path / "ds.json"
    file.write_text('{"zero_optimization": {"stage": 3, "offload_param": {"device": "cpu"}}}', encoding="utf-8")
    said = {"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}
    found = {key: value for key, (value, _) in values(**said).items()}
    assert found == {
        "train.distributed.kind": "deepspeed",
        "train.distributed.config": str(file),
        "train.distributed.stage": 3,
        "train.distributed.cpu_offload": True,
    }
    for text, reason in (("{", "it is no JSON"), (None, "No such file")):
        file.unlink() if text is None else file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=reason) as caught:
            values(**said)
        assert caught.value.key == "deepspeed_config_file" and caught.value.place == str(file)


def test_the_fields_of_deepspeed_become_lines() -> None:
    found = values(
        Line("train.max_grad_norm", 1.0, "max_grad_norm = 1.0 (default of TrainingArguments)"),
        ACCELERATE_USE_DEEPSPEED="true",
        ACCELERATE_DEEPSPEED_ZERO_STAGE="1",
        ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE="cpu",
        ACCELERATE_GRADIENT_CLIPPING="0.5",
    )
    assert found["train.distributed.stage"][0] == 1 and found["train.distributed.cpu_offload"][0] is True
    assert found["train.max_grad_norm"] == (0.5, "gradient_clipping of accelerate")


@pytest.mark.parametrize(("steps", "settled"), [("4", True), ("auto", True), ("2", False)])
def test_accumulation_is_settled_where_the_rows_were_counted_with_as_many_steps(steps: str, settled: bool) -> None:
    batch = BatchLine("train.batch_size", 32, "8 x 4 x 1 process = 32 rows", accumulation=4, processes=1)
    said = {**STARTED, "ACCELERATE_GRADIENT_ACCUMULATION_STEPS": steps}
    foreign = as_accelerated(Foreign("other", (), (batch, Line("model.pretrained", "x", "model"))), said)
    refused, _ = differences_to(said, Here(_loaded(foreign), "cpu", "fp32"), foreign.settled)
    assert [found.asked for found in refused] == [f"{steps} steps of gradient accumulation"] * (not settled)


def _loaded(foreign: Foreign):  # type: ignore[no-untyped-def]
    return load_foreign(foreign).experiment


# --- a run that goes on with another number of processes -------------------------------------------------------------


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("home")
    tiny_backbone("bert", folder / "backbone")
    write_csv(folder / "rows.csv", reviews(16))
    textune.train(load_foreign(counted(folder, processes=2)))
    return folder


def counted(folder: Path, *, processes: int, rows: int = 2) -> Foreign:
    size = rows * 2 * processes
    given = {
        "data.train.files": str(folder / "rows.csv"),
        "data.validation.kind": "none",
        "tokens.cache": str(folder / "cache"),
        "model.pretrained": str(folder / "backbone"),
        "train.duration": "2 steps",
        "train.device": "cpu",
        "train.precision": "fp32",
        "evaluate.bootstrap": 0,
    }
    origin = f"rows {rows} x accumulation 2 x {processes} processes = {size} rows"
    lines = [Line(key, value, "said") for key, value in given.items()]
    batch = BatchLine("train.batch_size", size, origin, accumulation=2, processes=processes)
    return Foreign("other", (), (*lines, batch), run=str(folder / "run"))


def test_a_run_keeps_its_own_rows_of_a_step_on_another_number_of_processes(home: Path) -> None:
    listener = Listener()
    resumed = textune.train(load_foreign(counted(home, processes=3)), resume="latest", tracker=listener)
    assert resumed.complete_before
    [said] = [note for note in resumed.notices if "train.batch_size" in note]
    assert said == (
        "train.batch_size stays 8, with which this run began; this command, in as many processes as were started,"
        " would make it rows 2 x accumulation 2 x 3 processes = 12 rows"
    )


def test_a_branch_keeps_the_rows_of_the_run_that_it_comes_from(home: Path, tmp_path: Path) -> None:
    checkpoint = next((home / "run" / "checkpoints").glob("step-*"))
    loaded = load_foreign(counted(home, processes=1))
    result = textune.train(loaded, run=tmp_path / "branch", resume=str(checkpoint), dry_run=True)
    assert any(note.startswith("train.batch_size stays 8") for note in result.notices)


def test_rows_that_somebody_changed_are_refused_as_ever(home: Path) -> None:
    with pytest.raises(RunError, match=r"train\.batch_size"):
        textune.train(load_foreign(counted(home, processes=1, rows=3)), resume="latest")


def test_arguments_of_trainer_count_their_rows_so() -> None:
    line = batch_line(8, 4, 3)
    assert (line.value, line.rows, line.accumulation) == (96, 32, 4)
