"""Texts and backbones to measure with, the pipe between the processes, and the questions themselves in their tiniest
form."""

import ast
import csv
import io
import json
import os
import pkgutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.questions import QUESTIONS
from bench.sides.examples import LabelScheme, read_example
from bench.sides.textune import facts, opened
from bench.sides.trainer import build_model, with_adapters
from bench.speed import backbones, texts, training
from bench.speed.adapters import LORA
from bench.speed.backbones import SHAPES, encoder_parameters, product_shapes, shape_config
from bench.speed.measure import Comparison, shared_order
from bench.speed.processes import step_seconds
from bench.speed.race import Plan
from bench.speed.work import Settings, Task, short_task, write_config
from bench.worker import Channel, Skip, Worker, WorkerError, peak_memory
from textune.config.load import load_config

ROOT = Path(__file__).parents[2]
OURS = {"textune.py", "kernels.py", "static.py", "rendering.py", "languages.py", "evaluating.py"}


def test_peers_share_no_code_with_textune() -> None:
    imported = set()
    for path in (path for path in (ROOT / "bench" / "sides").glob("*.py") if path.name not in OURS):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            imported |= {name for name in names if name.split(".")[0] in {"textune", "bench"}}
    assert imported == {"bench.machine", "bench.worker", "bench.sides.examples"}


# --- data and shapes -------------------------------------------------------------------------------------------------


def test_generated_texts_have_the_lengths_of_sst2() -> None:
    rows = texts.generated(5000)
    lengths = sorted(len(text.split()) for text, _, _ in rows)
    assert 8.5 < sum(lengths) / len(lengths) < 10.5 and lengths[2500] in (6, 7, 8) and lengths[-1] <= 52
    assert {label for _, _, label in rows} == {"0", "1"}
    assert rows == texts.generated(5000)
    assert {len(text.split()) for text, _, _ in texts.generated(200, words=(5, 6))} == {5, 6}


def test_generated_words_are_all_different() -> None:
    assert len({texts.word(number) for number in range(texts.NUM_WORDS)}) == texts.NUM_WORDS


def test_sst2_is_read_from_a_folder_and_repeated_where_it_is_too_small(tmp_path: Path) -> None:
    folder = tmp_path / "glue" / "SST-2"
    folder.mkdir(parents=True)
    (folder / "train.tsv").write_text('sentence\tlabel\na "quoted film \t1\nbad\t0\n', encoding="utf-8")
    found = texts.short_texts(5, tmp_path)
    assert [text for text, _, _ in found.examples] == [
        'a "quoted film',
        "bad",
        'a "quoted film',
        "bad",
        'a "quoted film',
    ]
    assert found.name == "SST-2 train (its 2 rows repeated), 5 rows"
    with pytest.raises(Skip, match=r"must hold glue/SST-2/train\.tsv"):
        texts.short_texts(5, tmp_path / "elsewhere")


def test_a_part_of_texts_is_a_whole_number_of_batches() -> None:
    some = texts.Texts("x", [(str(number), None, "0") for number in range(100)])
    assert some.first(70, multiple_of=32).name == "x, 64 rows"
    assert some.first(1000, multiple_of=32).examples[-1][0] == "95"
    assert [text for text, _, _ in some.last(2).examples] == ["98", "99"]


def test_pairs_are_as_long_as_mnli(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_reviews", lambda: None)
    pairs = texts.paired_texts(3000, None)
    first = [len(text.split()) for text, _, _ in pairs.examples]
    second = [len((text or "").split()) for _, text, _ in pairs.examples]
    assert 18 < sum(first) / len(first) < 22 and 9 < sum(second) / len(second) < 11
    assert pairs.is_pairs and {label for _, _, label in pairs.examples} == {"0", "1", "2"}


def test_without_the_package_texts_are_generated_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_reviews", lambda: None)
    assert "generated" in texts.short_texts(10, None).name
    assert "generated" in texts.long_texts(10).name
    assert len(texts.long_texts(10).examples) == 10


def test_texts_are_written_as_both_sides_read_them(tmp_path: Path) -> None:
    some = texts.Texts("x", [('a "b", c', "second\nline", "1")])
    path = some.write(tmp_path / "rows.csv")
    with path.open(encoding="utf-8", newline="") as file:
        assert list(csv.reader(file)) == [["text", "text_pair", "label"], ['a "b", c', "second\nline", "1"]]


def test_sentences_are_split_and_very_short_or_long_ones_left_out() -> None:
    text = "This is a good film. Yes!<br /><br />It has a plot and people. " + "word " * 60 + "."
    assert texts.split_sentences(text) == ["This is a good film.", "It has a plot and people."]


@pytest.mark.parametrize("shape", ["bert-base", "xlmr-base", "modernbert-base", "deberta-small", "smollm2"])
def test_encoder_parameters_are_those_of_the_layers_of_a_real_model(shape: str) -> None:
    import transformers

    config = shape_config(shape, tiny=True)
    model = transformers.AutoModel.from_config(config)
    layers = model.layers if shape in ("modernbert-base", "smollm2") else model.encoder.layer
    assert encoder_parameters(config.to_dict()) == sum(p.numel() for p in layers.parameters())


def test_the_products_of_a_layer() -> None:
    assert round(encoder_parameters(SHAPES["bert-base"]) / 1e6, 2) == 85.05
    tiny = SHAPES["bert-base"] | SHAPES["tiny"]
    assert product_shapes(tiny, 40, square=512) == [(40, 32, 32), (40, 64, 32), (40, 32, 64), (512, 512, 512)]


def test_without_the_package_a_backbone_gets_a_tokenizer_of_generated_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import transformers

    def missing() -> Path:
        raise Skip("not installed")

    monkeypatch.setattr(backbones, "minilm", missing)
    backbones.write_tokenizer(tmp_path, has_types=False)
    tokenizer = transformers.BertTokenizer.from_pretrained(tmp_path)
    found = tokenizer(" ".join(texts.word(number) for number in (0, 5, texts.NUM_WORDS - 1)))
    assert found["input_ids"] == [101, 1000, 1005, 1000 + texts.NUM_WORDS - 1, 102]
    assert set(found) == {"input_ids", "attention_mask"}
    assert max(tokenizer.get_vocab().values()) < SHAPES["bert-base"]["vocab_size"]


def test_the_config_is_one_that_textune_reads(tmp_path: Path) -> None:
    keys = {"data.columns.text_pair": "text_pair", "train.batch_size": 8}
    path = write_config(tmp_path / "c.toml", keys, rows=tmp_path / 'a "b".csv', backbone=tmp_path)
    experiment = load_config(path).experiment
    assert (experiment.train.batch_size, experiment.data.columns.text_pair) == (8, "text_pair")
    assert experiment.train.order == "sequential"


def test_step_seconds_are_those_of_the_logged_intervals() -> None:
    """100 rows in batches of 32: 20 rows a second for the first two steps, 36 a second for the remaining 36 rows."""
    lines: list[dict[str, Any]] = [
        {"kind": "step", "step": 2, "rows_per_second": 20.0},
        {"kind": "evaluation", "step": 2},
        {"kind": "step", "step": 4, "rows_per_second": 36.0},
    ]
    assert step_seconds(lines, num_rows=100, batch_size=32) == pytest.approx(64 / 20 + 1.0)


@pytest.mark.every_day(1)
@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")  # peft asks transformers for it
@pytest.mark.parametrize("shape", ["bert-base", "smollm2"])
def test_both_sides_train_the_same_numbers_beside_a_frozen_backbone(shape: str, tmp_path: Path) -> None:
    """peft as its guide has it, and textune by its defaults: adapters beside every linear layer, and the head."""
    pytest.importorskip("peft")
    backbone = backbones.make_backbone(shape, tmp_path / shape, tiny=True)
    rows = texts.generated(16)
    config = replace(short_task(Settings(tmp_path, tiny=True)), texts=texts.Texts("x", rows), backbone=backbone)
    path = replace(config, keys=LORA).write(Settings(tmp_path, tiny=True))
    model = build_model(str(backbone), LabelScheme("single_label_classification", ("0", "1")), seed=0)
    wrapped = with_adapters(model, read_example(path)["model"]["lora"])
    theirs = [p.numel() for p in wrapped.parameters() if p.requires_grad]
    parts = opened(path)
    assert facts(parts)["num_trained"] == sum(theirs)
    ours = [p.numel() for p in parts.model.parameters() if p.requires_grad]
    assert sorted(ours) == sorted(theirs) and len(ours) > 20


# --- the pipe --------------------------------------------------------------------------------------------------------

ECHO = """
from bench.worker import Skip

def numbers(channel, spec):
    if spec.get("skip"):
        raise Skip("the thing is missing")
    print("noise of a library")
    channel.reply(ready=True)
    channel.serve(lambda command: {"seen": 1 / command["number"]})
    return {"more": 1}
"""


@pytest.fixture
def echo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Starts a worker that inverts numbers."""
    (tmp_path / "echo.py").write_text(ECHO, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return lambda **spec: Worker("echo:numbers", spec)


def test_a_worker_answers_command_by_command_whatever_libraries_print(echo: Any) -> None:
    with echo() as worker:
        assert worker.facts == {"ready": True}
        assert [worker.ask(number=number)["seen"] for number in (1, 2)] == [1, 0.5]
        last = worker.close()
    assert last["more"] == 1 and last["peak_memory_mb"] > 1


def test_a_worker_that_cannot_take_part_says_why(echo: Any) -> None:
    with echo(skip=True) as worker, pytest.raises(Skip, match="the thing is missing"):
        _ = worker.facts


def test_a_worker_that_fails_leaves_the_end_of_its_log(echo: Any) -> None:
    with echo() as worker, pytest.raises(WorkerError, match="ZeroDivisionError") as caught:
        worker.ask(number=0)
    assert "echo.py" in str(caught.value)


def test_a_worker_that_waits_ends_with_its_block(echo: Any) -> None:
    with echo() as worker:
        _ = worker.facts
        process = worker._process
    assert process.returncode is not None


def test_a_channel_ends_in_peace_when_nobody_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, seen = os.dup(1), []
    try:
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps({"number": 1}) + "\n"))
        Channel().run(lambda channel, spec: seen.extend([spec, channel.receive()]))
    finally:
        os.dup2(kept, 1)
        os.close(kept)
    assert seen == []  # there was no second command


def test_peak_memory_grows_with_what_is_held() -> None:
    before = peak_memory()["peak_memory_mb"]
    held = bytearray(os.urandom(1024) * 1024 * 300)
    assert peak_memory()["peak_memory_mb"] - before > 100 or before > 1000
    del held


@pytest.mark.slow
def test_matrix_products_have_a_rate() -> None:
    with Worker("bench.sides.products:products", {"device": "cpu"}) as worker:
        rates = worker.ask(shapes=[(32, 32, 32), (64, 16, 8)], time=0.01)["rates"]
        assert set(rates) == {"32 x 32 x 32", "64 x 16 x 8"} and min(rates.values()) > 0
        worker.close()


# --- whole questions -------------------------------------------------------------------------------------------------


class Script(Channel):
    """A pipe whose commands are known, and whose replies are kept."""

    def __init__(self, *commands: dict[str, Any]) -> None:
        self.commands = [*commands, {"do": "close"}]
        self.replies: list[dict[str, Any]] = []

    def receive(self) -> dict[str, Any]:
        return self.commands.pop(0)

    def reply(self, **values: Any) -> None:
        self.replies.append(values)


@pytest.mark.every_day(2)
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")  # of MLflow, on SQLAlchemy
@pytest.mark.parametrize(
    ("side", "commands"),
    [
        ("textune:training", [{"order": [*range(256)]}, {"steps": 2}]),
        ("textune:loops", [{"do": "ours", "steps": 2}, {"do": "plain", "steps": 2}]),
        ("textune:checkpoints", [{"do": "ours", "steps": 2}, {"do": "plain", "steps": 2}]),
        ("textune:tracked", [{"do": "ours", "steps": 2}, {"do": "plain", "steps": 2}]),
        ("textune:token_costs", [{"rows": 64, "length": 16, "steps": 1, "warm_up": 1}]),
        (
            "kernels:layers",
            [{"part": "layers", "type": "float32", "work": "training", "length": 8, "tokens": 16, "time": 0}],
        ),
        ("kernels:attention", [{"precision": "fp32", "dropout": 0.1, "length": 8, "tokens": 16, "time": 0}]),
    ],
)
def test_textunes_sides_fit_its_insides(side: str, commands: list[dict[str, Any]], tmp_path: Path) -> None:
    settings, threads = Settings(tmp_path, tiny=True), torch.get_num_threads()
    config = str(short_task(settings).write(settings))
    spec = {"config": config, "order": [*range(256)], "batches": 2, "folder": str(tmp_path / "saved"), "every": 2}
    channel = Script(*({"config": config, **command} for command in commands))
    try:
        last = pkgutil.resolve_name(f"bench.sides.{side}")(channel, spec)
    except Skip as reason:
        pytest.skip(str(reason))
    finally:
        torch.set_num_threads(threads)
    answered = [reply for reply in channel.replies if "seconds" in reply]
    assert len(answered) == len([command for command in commands if "order" not in command])
    if side == "textune:training":
        assert answered[0]["rows"] == 64 and answered[0]["tokens"] > 64
    if side == "textune:tracked":
        assert [reply["sent"] for reply in answered] == [[2, 2], [2, 2]]
        assert [
            len((tmp_path / "saved" / name).read_text().splitlines()) for name in ("metrics.jsonl", "plain.jsonl")
        ] == [2, 2]
    if side == "textune:checkpoints":
        assert last["bytes"] > 10_000 and len(last["write_seconds"]) == 1


def asked(tmp_path: Path, *words: str) -> list[dict[str, Any]]:
    """The rows of a tiny run of the command."""
    command = [sys.executable, "-m", "bench.speed", *words, "--tiny", "--out", str(tmp_path / "out.json")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    if ": left out, " in done.stdout:
        pytest.skip(done.stdout)
    rows: list[dict[str, Any]] = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    return rows


@pytest.mark.slow
def test_trainer_and_textune_do_the_same_work_where_the_rows_are_through_many_times(tmp_path: Path) -> None:
    """256 rows are eight batches: after the warm-up and three blocks of two both sides begin again, ten times and
    more."""
    segment = asked(tmp_path, "train-best", "--seconds", "20")[0]["details"]["segment"]
    assert segment["steps"] == 2 and segment["segments"] == 15


@pytest.mark.parametrize("name", ["gpu-train", "gpu-limit"])
def test_a_question_about_a_gpu_has_rows_for_its_warm_up(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its full size, which no machine without a GPU measures."""

    def deal(_settings: Settings, task: Task, _sides: Any, plan: Plan) -> None:
        num_rows, size = len(task.texts.examples), task.batch_size
        assert num_rows % size == 0
        limits = {"warm_up": plan.warm_up, "batches": 2 * plan.warm_up}
        shared_order(range(num_rows), batch_size=size, block=plan.block, seed=0, **limits)
        raise Skip("dealt")

    monkeypatch.setattr(Settings, "backbone", lambda *_: tmp_path)
    monkeypatch.setattr(training, "race", deal)
    with pytest.raises(Skip, match="dealt"):
        QUESTIONS[name].answers(Settings(tmp_path, device="cuda"))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, question in QUESTIONS.items() if question.device == "cpu"])
def test_a_question_runs_in_its_tiniest_form(name: str, tmp_path: Path) -> None:
    rows = asked(tmp_path, name)
    assert rows and all(row["ours"] > 0 and row["peer"] > 0 and row["ratio"] > 0 for row in rows)
    for row in (row for row in rows if "pairs" in row["details"]):
        _, _, ratio = Comparison([(ours, peer) for ours, peer in row["details"]["pairs"]]).medians()
        assert row["ratio"] == pytest.approx(ratio, rel=0.01)
