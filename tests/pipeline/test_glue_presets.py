"""Every preset of GLUE, XNLI and SST-2 is run tiny on rows in the published layout."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from kits.backbones import tiny_backbone
from kits.errors import refused
from kits.glue import GLUE, NUM_DEV, NUM_TRAIN, SIDES, write_glue, write_hub, write_sample

import textune
from textune.config.load import load_config
from textune.data.prepare import prepare_data
from textune.errors import DataError
from textune.pipeline.train import TrainResult

DATA = Path(__file__).parents[3] / "shared" / "data"
TINY = ["extends=preset:cpu", "model.pretrained=package:textune/presets/tiny/model", "tokens.max_length=32"]
MEAN = "mean_of_f1_and_accuracy"
METRICS = {"cola": "mcc", "stsb": "mean_of_pearson_and_spearman", "mrpc": MEAN, "qqp": MEAN}
"""The main metric where it is not accuracy."""


def run(preset: str, folder: Path, *words: str, rows: Path | None = None) -> TrainResult:
    overrides = [*TINY, "evaluate.bootstrap=0", f"data.folder={rows or folder}", *words]
    return textune.train(f"preset:{preset}", run=folder / "run", overrides=overrides, fast_dev_run=True)


def require_reports(result: TrainResult, task: str) -> None:
    report = result.reports["validation"]
    assert report.num_rows == NUM_DEV and report.metric == METRICS.get(task, "accuracy")
    assert report.names == GLUE[task].names or (task == "stsb" and report.problem == "regression")
    others = {"mismatched"} if task == "mnli" else set()
    assert set(result.reports) == {"validation"} | others
    assert result.facts is not None and result.facts.rows["train"] == NUM_TRAIN


@pytest.mark.every_day(1)
@pytest.mark.parametrize("task", GLUE)
@pytest.mark.parity("HF-01", "HF-02")
def test_a_task_runs_on_its_published_files(tmp_path: Path, task: str) -> None:
    result = run(f"glue/{task}", write_glue(tmp_path, task))
    require_reports(result, task)
    assert any("left out" in notice for notice in result.notices) == (task == "qqp")


@pytest.mark.every_day(1)
@pytest.mark.parametrize("task", ["mnli", "qnli", "qqp"])
def test_a_task_runs_on_a_sample_in_json(tmp_path: Path, task: str) -> None:
    result = run(f"glue/{task}/sample", write_sample(tmp_path, task))
    assert set(result.reports) == {"validation"}
    assert result.reports["validation"].names == GLUE[task].names


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("datasets")
    return write_hub(tmp_path_factory.mktemp("hub"))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("task", GLUE)
@pytest.mark.parity("HF-01", "HF-04")
def test_a_task_runs_on_the_columns_of_the_hub(tmp_path: Path, hub: Path, task: str) -> None:
    words = [f"data.train.name={hub}", f"data.validation.name={hub}"]
    words += [f"data.evaluations.mismatched.name={hub}"] if task == "mnli" else []
    result = run(f"glue/{task}/hub", tmp_path, *words)
    require_reports(result, task)
    assert not any("is ignored" in notice for notice in result.notices)


def test_quotes_and_numbers_of_published_files_are_plain_characters(tmp_path: Path) -> None:
    write_glue(tmp_path, "mrpc")
    dev = tmp_path / "MRPC" / "dev.tsv"
    content = dev.read_text(encoding="utf-8")
    assert SIDES[4] in content
    dev.write_text(content + '1\t1\t2\t" It opens here .\tand never closes\n', encoding="utf-8")
    assert run("glue/mrpc", tmp_path).reports["validation"].num_rows == NUM_DEV + 1


PUBLISHED = {
    **{
        "glue/cola": (8_551, 1_043),
        "glue/sst2": (67_349, 872),
        "glue/mrpc": (3_668, 408),
        "glue/stsb": (5_749, 1_500),
    },
    **{"glue/rte": (2_490, 277), "glue/wnli": (635, 71)},
    **{f"glue/{name}/sample": (8_999, 1_000) for name in ("mnli", "qnli", "qqp")},
}
"""Rows of the real files."""


@pytest.mark.parametrize("preset", PUBLISHED)
@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not beside the repository")
def test_a_task_reads_all_rows_of_the_real_files(preset: str) -> None:
    rows = DATA / ("glue_10k" if preset.endswith("/sample") else "glue")
    experiment = load_config(f"preset:{preset}", [f"data.folder={rows}"]).experiment
    data = prepare_data(experiment.data, kind=experiment.task.kind)
    assert (data.num_rows["train"], data.num_rows["validation"]) == PUBLISHED[preset]


# --- SST-2 from the archive ------------------------------------------------------------------------------------------


def packed(folder: Path) -> Path:
    """SST-2.zip as it is downloaded, without the unpacked folder."""
    write_glue(folder, "sst2")
    with zipfile.ZipFile(folder / "SST-2.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted((folder / "SST-2").iterdir()):
            archive.write(path, f"SST-2/{path.name}")
    shutil.rmtree(folder / "SST-2")
    return folder


def test_sst2_is_read_from_the_archive_as_downloaded(tmp_path: Path) -> None:
    require_reports(run("glue/sst2", packed(tmp_path)), "sst2")
    assert [path.name for path in tmp_path.iterdir()] == ["SST-2.zip"]


def test_an_archive_of_another_task_is_refused_with_what_it_has(tmp_path: Path) -> None:
    packed(tmp_path)
    with zipfile.ZipFile(tmp_path / "SST-2.zip", "w") as archive:
        archive.writestr("CoLA/train.tsv", "x")
    with refused(DataError, value="SST-2/train.tsv", place="SST-2.zip"):
        run("glue/sst2", tmp_path)


@pytest.mark.every_day(2)
@pytest.mark.parametrize("variant", ["", "/frozen", "/cpu", "/one_gpu", "/gpus"])
@pytest.mark.parity("TR-03", "TR-17")
def test_sst2_with_xlmr_finds_the_archive_where_torchtext_keeps_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    cache = tmp_path / ".torchtext" / "cache" / "SST2"
    cache.mkdir(parents=True)
    packed(cache)
    tiny_backbone("xlm-roberta", tmp_path / "xlmr")
    words = ["train.device=cpu", f"model.pretrained={tmp_path / 'xlmr'}", "evaluate.bootstrap=0"]
    result = textune.train(f"preset:sst2-xlmr{variant}", run=tmp_path / "run", overrides=words, fast_dev_run=True)
    assert result.reports["validation"].names == ("negative", "positive")
    assert result.facts is not None
    head = 32 * 32 + 32 + 32 * 1 + 1 if variant == "/frozen" else 0  # a layer of 32 and the output
    trained = result.facts.parameters_trained
    assert trained < 2 * head if head else trained > 10_000


@pytest.mark.parity("TR-03")
def test_sst2_with_xlmr_runs_on_the_columns_of_the_hub(tmp_path: Path, hub: Path) -> None:
    words = [f"data.train.name={hub}", f"data.validation.name={hub}"]
    require_reports(run("sst2-xlmr/hub", tmp_path, *words), "sst2")


# --- XNLI ------------------------------------------------------------------------------------------------------------

_NLI = ("entailment", "neutral", "contradiction")
_OWN_WORDS = {"en": "the film is fine", "de": "der Film ist gut"}


def write_xnli(folder: Path) -> Path:
    """Training rows in both languages, and dev and test rows of both in one file each, as published."""
    (folder / "XNLI-1.0").mkdir(parents=True)
    (folder / "XNLI-MT-1.0" / "multinli").mkdir(parents=True)
    for language, words in _OWN_WORDS.items():
        lines = ["premise\thypo\tlabel"]
        lines += [f"{words} {n}\t{words} - {n}\t{(*_NLI[:2], 'contradictory')[n % 3]}" for n in range(NUM_TRAIN)]
        path = folder / "XNLI-MT-1.0" / "multinli" / f"multinli.train.{language}.tsv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for part, start in (("dev", 100), ("test", 200)):
        lines = ["language\tgold_label\tsentence1\tsentence2\tgenre"]
        for language, words in _OWN_WORDS.items():
            numbers = range(start, start + NUM_DEV)
            lines += [f"{language}\t{_NLI[n % 3]}\t{words} {n}\t{words}, {n}\tfiction" for n in numbers]
        (folder / "XNLI-1.0" / f"xnli.{part}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


@pytest.mark.every_day(2)
@pytest.mark.parametrize(("trained", "judged"), [("en", "en"), ("en", "de"), ("de", "en")])
@pytest.mark.parity("HF-21")
def test_xnli_trains_in_one_language_and_is_judged_in_another(tmp_path: Path, trained: str, judged: str) -> None:
    result = textune.train(
        f"preset:xnli:language={judged},train_language={trained}",
        run=tmp_path / "run",
        overrides=[*TINY, "train.duration=1 step", f"data.folder={write_xnli(tmp_path / 'rows')}"],
    )
    assert {name: report.num_rows for name, report in result.reports.items()} == {
        "validation": NUM_DEV,
        "test": NUM_DEV,
    }
    report = result.reports["test"]
    assert report.names == _NLI and report.mistakes
    assert all(_OWN_WORDS[judged] in mistake.text for mistake in report.mistakes)
    written = (tmp_path / "run" / "config.toml").read_text(encoding="utf-8")
    assert f"multinli.train.{trained}.tsv" in written


def test_a_language_without_rows_is_refused_with_those_that_have(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'xx' in column 'language'; found there: 'en', 'de'"):
        run("xnli:language=xx", tmp_path, rows=write_xnli(tmp_path / "rows"))
