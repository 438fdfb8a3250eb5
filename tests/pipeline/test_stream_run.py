"""Whole runs whose training rows are streamed: trained, checked, dry, fast, and refused in a sentence."""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
from kits.resume import end_of, same_end
from kits.runs import Listener, reviews, signal_after, write_config, write_jsonl
from kits.streams import web_server

import textune
from textune.cli import main
from textune.errors import Preempted

CONFIG = """
[data.train]
kind = "stream"
files = "part-*.jsonl"
block_rows = 50
num_rows = 234
[data.validation]
kind = "files"
files = "held-out.jsonl"
[data.labels]
names = ["neg", "pos"]
[task]
kind = "binary"
[model]
pretrained = "backbone"
[train]
duration = "4 epochs"
[evaluate]
bootstrap = 20
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stream")
    rows = reviews(240)
    for number in range(4):
        write_jsonl(folder / f"part-{number}.jsonl", rows[number * 60 : (number + 1) * 60 - number])
    write_jsonl(folder / "held-out.jsonl", reviews(60, seed=1))
    return write_config(folder, CONFIG)


def test_a_stream_trains_as_well_as_a_file(home: Path) -> None:
    listener = Listener()
    result = textune.train(home / "config.toml", run=home / "run", tracker=listener)
    assert result is not None and result.steps == 4 * 15
    assert result.reports["validation"].to_dict()["metrics"]["accuracy"] > 0.9
    assert listener.words["rows"] == "234 train, 60 validation; train streamed from 4 shards"
    assert listener.words["vocabulary"].startswith("full table: which tokens occur in a stream is not known")
    assert listener.words["steps"] == "60 of 16 rows (4 epochs of 15 steps)"
    assert "of the first 50 rows" in listener.words["tokens"] and "of the first 50 rows" in listener.words["at once"]
    assert any("first 50 rows" in notice for notice in listener.notices)
    assert not any("num_rows" in notice for notice in listener.notices)
    manifest = json.loads((home / "run" / "manifest.json").read_text())
    assert manifest["rows"] == {"train": 234, "validation": 60}
    assert manifest["truncated"] == {"validation": 0} and len(manifest["data"]["train"]) == 32
    assert [row["epoch"] for row in listener.evaluations] == [1, 2, 3, 4]
    assert textune.load(home / "run").predict(["a great charming film"])[0].label == "pos"


def test_the_other_verbs_know_streams(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = textune.check(home / "config.toml")
    assert result.ok and "measured batches" in result.words["time"]
    assert textune.train(home / "config.toml", dry_run=True, run=home / "dry").dry_run
    fast = textune.train(home / "config.toml", fast_dev_run=True, run=home / "fast")
    assert fast is not None and fast.steps == 1
    assert not (home / "dry").exists() and not (home / "fast").exists()
    with pytest.raises(SystemExit) as ended:
        main(["check", str(home / "config.toml")])
    assert ended.value.code == 0
    assert "streamed from 4 shards" in capsys.readouterr().out


def test_shards_elsewhere_train_the_same_model(home: Path) -> None:
    config, here, there = home / "config.toml", Listener(), Listener()
    one_epoch = ["train.duration=1 epochs", "train.prefetch=0"]
    local = textune.train(config, run=home / "here", overrides=one_epoch, tracker=here)
    with web_server(home) as server:
        urls = [f"{server.url}/part-{number}.jsonl" for number in range(4)]
        remote = textune.train(
            config, run=home / "there", overrides=[*one_epoch, f"data.train.files={urls}"], tracker=there
        )
    assert local is not None and remote is not None
    assert local.reports["validation"].to_dict()["metrics"] == remote.reports["validation"].to_dict()["metrics"]
    weights = [(home / name / "best" / "model.safetensors").read_bytes() for name in ("here", "there")]
    assert weights[0] == weights[1]


CHECKPOINTS = [
    "train.duration=2 epochs",
    "train.evaluate_every=6 steps",
    "train.log_every=2 steps",
    "train.checkpoint.every=never",
]


@pytest.fixture(scope="module")
def uninterrupted(home: Path) -> Path:
    textune.train(home / "config.toml", run=home / "whole", overrides=CHECKPOINTS)
    return home / "whole"


@pytest.mark.every_day(1)
@pytest.mark.parametrize("step", [1, 9, 15, 29])
def test_a_run_that_was_stopped_resumes_as_if_it_had_not(
    home: Path, uninterrupted: Path, tmp_path: Path, step: int
) -> None:
    stop = signal_after({step: [signal.SIGTERM]})
    with pytest.raises(Preempted):
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=CHECKPOINTS, after_step=stop)
    result = textune.train(home / "config.toml", run=tmp_path / "run", overrides=CHECKPOINTS)
    assert result is not None and result.steps == 30
    same_end(end_of(tmp_path / "run"), end_of(uninterrupted))


def test_shards_that_changed_while_a_run_was_stopped_are_refused(
    home: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    checkpoint = sorted((uninterrupted / "checkpoints").glob("step-*"))[-1]
    for change, words in (
        (
            ["data.train.files=part-[012].jsonl", f"data.folder={home}"],
            "the train data of .* changed since it was trained",
        ),
        (["data.train.block_rows=60"], r"data\.train\.block_rows was 50 and is 60"),
    ):
        with pytest.raises(textune.TextuneError, match=words):
            textune.train(
                home / "config.toml",
                run=tmp_path / words[-9:],
                overrides=[*CHECKPOINTS, *change],
                resume=str(checkpoint),
            )


def test_a_run_is_evaluated_without_its_shards(home: Path, uninterrupted: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(uninterrupted, run)
    config = (run / "config.toml").read_text()
    gone = re.sub(r"part-\*", "gone-*", config)
    assert gone != config
    (run / "config.toml").write_text(gone)
    report = textune.evaluate(run, part="validation").to_dict()
    whole = textune.evaluate(uninterrupted, part="validation").to_dict()
    assert report["metrics"] == whole["metrics"]
    with pytest.raises(textune.TextuneError, match="has no test rows"):
        textune.evaluate(run, part="test")
    (run / "config.toml").write_text(gone.replace('"neg", "pos"', '"pos", "neg"'))
    with pytest.raises(textune.TextuneError, match=r"the labels of the data of .* changed since training"):
        textune.evaluate(run)
    write_jsonl(tmp_path / "held-out.jsonl", reviews(61, seed=1))
    (run / "config.toml").write_text(gone.replace(str(home / "held-out.jsonl"), str(tmp_path / "held-out.jsonl")))
    with pytest.raises(textune.TextuneError, match=r"the validation data of .* changed since training"):
        textune.evaluate(run)


def test_a_login_in_a_url_is_kept_out_of_all_but_the_config(home: Path, tmp_path: Path) -> None:
    listener = Listener()
    with web_server(home) as server:
        urls = [f"{server.url}/part-{number}.jsonl?sig=HUSH".replace("//", "//me:S3CRET@") for number in range(4)]
        overrides = ["train.duration=1 steps", f"data.train.files={urls}"]
        textune.train(home / "config.toml", run=tmp_path / "run", overrides=overrides, tracker=listener)
    assert sum("as written, with the user information or query" in notice for notice in listener.notices) == 1
    assert "HUSH" not in " ".join(listener.notices) and "S3CRET" not in " ".join(listener.notices)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert {path.name for path in files if b"S3CRET" in path.read_bytes()} <= {"config.toml", "state.json"}


def test_an_epoch_of_unknown_length(home: Path) -> None:
    listener = Listener()
    overrides = ["train.duration=20 steps", "train.evaluate_every=10 steps", "train.schedule.warmup=2 steps"]
    config = home / "config.toml"
    result = textune.train(
        config, run=home / "unknown", overrides=overrides, unset=["data.train.num_rows"], tracker=listener
    )
    assert result is not None and result.steps == 20
    assert listener.words["rows"] == "unknown number of train, 60 validation; train streamed from 4 shards"
    assert listener.words["steps"] == "20 of 16 rows"
    assert [row["epoch"] for row in listener.evaluations] == [0.5, 1.0]
    assert json.loads((home / "unknown" / "manifest.json").read_text())["rows"]["train"] is None


def test_bad_rows_far_down_stop_the_run_or_are_reported(home: Path) -> None:
    rows = reviews(300)
    lines = [json.dumps(row) for row in rows]
    lines[250] = "{broken"
    lines[251] = json.dumps(rows[251] | {"label": "unsure"})
    (home / "bad.jsonl").write_text("\n".join(lines))
    overrides = ["data.train.files=bad.jsonl", "train.duration=1 epochs", "train.batch_size=32", f"data.folder={home}"]
    with pytest.raises(textune.TextuneError, match=r"bad\.jsonl, line 251: not JSON"):
        textune.train(home / "config.toml", run=home / "bad", overrides=overrides)
    listener = Listener()
    overrides += ["data.on_bad_row=skip", "data.train.num_rows=320"]
    result = textune.train(home / "config.toml", run=home / "skipped", overrides=overrides, tracker=listener)
    assert result is not None and result.steps == 10
    assert any("of the stream skipped so far, such as bad.jsonl, line 251: not JSON" in n for n in listener.notices)
    assert any("num_rows = 320, but the stream has 298 usable rows" in notice for notice in listener.notices)


def test_rows_of_one_class_at_first_are_a_warning(home: Path) -> None:
    """Shards that are sorted by class, read one after the other: the first block shows only one class."""
    rows = sorted(reviews(120), key=lambda row: str(row["label"]))
    write_jsonl(home / "sorted.jsonl", rows)
    overrides = [
        "data.train.files=sorted.jsonl",
        f"data.folder={home}",
        "train.order=sequential",
        "train.duration=1 steps",
    ]
    listener = Listener()
    result = textune.train(home / "config.toml", run=home / "sorted", overrides=overrides, tracker=listener)
    assert result is not None and result.steps == 1
    assert any("only one class: 'neg'" in notice for notice in listener.notices)


def test_a_number_streams_as_a_regression(home: Path) -> None:
    overrides = [
        "task.kind=regression",
        "data.columns.label=number",
        "train.duration=1 epochs",
        "tokens.drop_longer=20",
        "data.labels.names=[]",
    ]
    listener = Listener()
    result = textune.train(home / "config.toml", run=home / "numbers", overrides=overrides, tracker=listener)
    assert result is not None
    assert "of the stream skipped so far: longer than 20 tokens" in " ".join(listener.notices)


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["data.train.files=nowhere-*.jsonl"], "No file matches the pattern"),
        (["data.train.files=nonsense://a/b.jsonl"], "Protocol not known: nonsense"),
        (["data.columns.text=body"], "has no column 'body'"),
        (['data.labels.names=["yes", "no"]'], "is not one of the 2 labels"),
        (['data.labels.names=["a"]'], "only one class"),
        (['data.labels.names=["neg", "pos", "more"]'], "task.kind = binary needs exactly two"),
        (["data.validation.kind=split"], "data.validation is a share of the training rows"),
        (["tokens.max_length=100000"], "has positions for"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(
    home: Path, capsys: pytest.CaptureFixture[str], overrides: list[str], words: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["train", str(home / "config.toml"), "--run", str(home / "never"), *overrides])
    assert ended.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert words in said and "Traceback" not in said
    assert not (home / "never").exists()
