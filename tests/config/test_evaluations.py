"""Evaluation sets in a configuration: by names of the user's own, merged, located and checked like any other
source."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from kits.errors import refused

from textune.config.evaluations import evaluation_problems, reported_sets, sets_at_each_evaluation, sets_of_rows
from textune.config.explain import show
from textune.config.languages import language_problems
from textune.config.load import load_config, load_tree, require_runnable
from textune.config.schema import Experiment
from textune.config.sources import FilesSource, HubSource, SplitOff
from textune.errors import ConfigError

CONFIG = """
[data.train]
files = "a.csv"
[data.evaluations.news]
files = "news/*.csv"
where = { lang = "en" }
[data.evaluations.share]
kind = "split"
count = 5
[model]
pretrained = "some/backbone"
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.toml"
    path.write_text(CONFIG, encoding="utf-8")
    return path


def test_a_set_is_a_source_of_files_unless_its_kind_says_otherwise(config: Path) -> None:
    experiment = load_config(config).experiment
    assert list(experiment.data.evaluations) == ["news", "share"]
    news = FilesSource(files=(str(config.parent / "news" / "*.csv"),), where={"lang": ("en",)})
    assert experiment.data.evaluations == {"news": news, "share": SplitOff(count=5)}
    require_runnable(experiment)


def test_sets_merge_and_can_be_taken_away(config: Path, tmp_path: Path) -> None:
    child = tmp_path / "child" / "child.toml"
    child.parent.mkdir()
    child.write_text(
        'extends = "../config.toml"\n[data.evaluations.web]\nkind = "hub"\nname = "x/y"\n', encoding="utf-8"
    )
    words = ["data.evaluations.news.take=7", "data.evaluations.share.kind=files", "data.evaluations.share.files=s.csv"]
    loaded = load_config(child, words, ["data.evaluations.news.where"])
    sets = loaded.experiment.data.evaluations
    assert list(sets) == ["news", "share", "web"]
    assert sets["news"] == FilesSource(files=(str(tmp_path / "news" / "*.csv"),), take=7)
    assert sets["share"] == FilesSource(files=(str(Path.cwd() / "s.csv"),))
    assert sets["web"] == HubSource(name="x/y")
    assert loaded.origins["data.evaluations.news.files"] == "../config.toml"
    assert loaded.origins["data.evaluations.news.take"] == "command line"
    assert "share" not in load_config(child, unset=["data.evaluations.share"]).experiment.data.evaluations
    as_files = load_config(child, unset=["data.evaluations.share.kind"]).experiment.data.evaluations
    assert "share" not in as_files  # a kind takes its whole table along, and there is no default to go back to


@pytest.mark.parametrize("diff", [False, True])
def test_what_show_prints_is_the_same_experiment(config: Path, tmp_path: Path, diff: bool) -> None:
    loaded = load_config(config, ["evaluate.train=true", "evaluate.at_end=share"])
    again = tmp_path / "again.toml"
    again.write_text(show(loaded, diff=diff), encoding="utf-8")
    assert load_config(again).experiment == loaded.experiment
    tree = loaded.experiment.model_dump(mode="json")
    assert load_tree(tree, base=tmp_path).experiment == loaded.experiment


def test_which_sets_are_evaluated_when(config: Path) -> None:
    plain = load_config(config).experiment
    assert sets_at_each_evaluation(plain) == ("validation", "news", "share")
    assert reported_sets(plain) == ("validation", "test", "news", "share")
    late = load_config(config, ["evaluate.train=true", 'evaluate.at_end=["share", "train"]']).experiment
    assert sets_at_each_evaluation(late) == ("validation", "news")
    assert reported_sets(late) == ("validation", "test", "train", "news", "share")
    by_share = load_config(config, ["evaluate.best_by=share"]).experiment
    assert sets_at_each_evaluation(by_share) == ("share", "validation", "news")
    assert reported_sets(by_share) == reported_sets(plain)
    alone = load_config(config, ["evaluate.best_by=share", 'evaluate.at_end=["validation", "news"]']).experiment
    require_runnable(alone)
    assert sets_at_each_evaluation(alone) == ("share",)


def test_steps_to_evaluate_at_need_rows(config: Path) -> None:
    words = ["train.evaluate_at=[1, 500]", "data.validation.kind=none", "data.test.kind=none"]
    require_runnable(load_config(config, words).experiment)
    without = [
        *words,
        "evaluate.at_end=news",
        "data.evaluations.share.kind=files",
        "data.evaluations.share.files=s.csv",
    ]
    with refused(ConfigError, key="train.evaluate_at", value=(1, 500)):
        require_runnable(load_config(config, [*without, 'evaluate.at_end=["news", "share"]']).experiment)
    with refused(ConfigError, key="train.evaluate_at[0]", value=0):
        load_config(config, ["train.evaluate_at=[0]"])


def test_one_step_is_a_list_of_one(config: Path) -> None:
    train = load_config(config, ["train.evaluate_at=5", "train.checkpoint.at_steps=7"]).experiment.train
    assert (train.evaluate_at, train.checkpoint.at_steps) == ((5,), (7,))
    assert load_config(config, {"train.evaluate_at": 5}).experiment.train.evaluate_at == (5,)
    for wrong in (True, "5 steps", 1.5, -1):
        with refused(ConfigError, key="train.evaluate_at[0]" if wrong == -1 else "train.evaluate_at", value=wrong):
            load_config(config, {"train.evaluate_at": wrong})


@pytest.mark.parametrize(
    ("changes", "key", "value", "remedy"),
    [
        ({"data.evaluations.test.files": "x.csv"}, "data.evaluations.test", "data.test", "another name"),
        ({"data.evaluations.Train.files": "x.csv"}, "data.evaluations.Train", "data.train", "another name"),
        ({"data.evaluations.News.files": "x.csv"}, "data.evaluations.News", "news", "another name"),
        ({'data.evaluations."a/b".files': "x.csv"}, 'data.evaluations."a/b"', "a/b", "letters"),
        ({'data.evaluations."".files': "x.csv"}, "data.evaluations.", "''", "letters"),
        ({"data.evaluations.web.kind": "files"}, "data.evaluations.web.files", "not set", "Name the data"),
        ({"evaluate.at_end": ["nows"]}, "evaluate.at_end", "nows", "news"),
        ({"evaluate.at_end": ["train"]}, "evaluate.at_end", "evaluate.train", "news"),
        ({"evaluate.at_end": ["validation"]}, "evaluate.at_end", "validation", "news"),
        ({"evaluate.at_end": ["test"]}, "evaluate.at_end", "test", "news"),
        ({"evaluate.best_by": "nows"}, "evaluate.best_by", "not a set", 'Did you mean "news"?'),
        ({"evaluate.best_by": "test"}, "evaluate.best_by", "final report only", "news"),
        ({"evaluate.best_by": "train"}, "evaluate.best_by", "evaluate.train = true", "validation, news, share"),
        ({"evaluate.best_by": "news", "evaluate.at_end": ["news"]}, "evaluate.best_by", "at the end only", "share"),
        ({"evaluate.best_by": "news/f1"}, "evaluate.best_by", "news/f1", 'Did you mean "news"?'),
    ],
)
def test_names_that_cannot_be_are_said(
    config: Path, changes: dict[str, Any], key: str, value: str, remedy: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        require_runnable(load_config(config, changes).experiment)
    assert key in caught.value.message and value in caught.value.message and remedy in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "key", "value"),
    [
        ({"data.evaluations": "news.csv"}, "data.evaluations", "news.csv"),
        ({"data.evaluations.web": "news.csv"}, "data.evaluations.web", "news.csv"),
        ({"data.evaluations.web.kind": "stream"}, "data.evaluations.web.kind", "stream"),
        ({"data.evaluations.news.file": "x.csv"}, "data.evaluations.news.file", "data.evaluations.news.files"),
        ({"data.evaluations.news.take": 0}, "data.evaluations.news.take", "0"),
        ({"evaluate.train": "yes please"}, "evaluate.train", "yes please"),
    ],
)
def test_wrong_values_are_said_where_they_are(config: Path, changes: dict[str, Any], key: str, value: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(config, changes)
    assert key in str(caught.value) and value in str(caught.value)


def test_a_stream_has_no_rows_to_set_aside_and_none_to_evaluate(config: Path) -> None:
    words = [
        "data.train.kind=stream",
        "data.train.files=a.jsonl",
        "data.train.num_rows=100",
        "data.validation.kind=none",
    ]
    words += ["task.kind=binary", 'data.labels.names=["no", "yes"]', "evaluate.train=true"]
    with pytest.raises(ConfigError) as caught:
        require_runnable(load_config(config, words).experiment)
    assert "data.evaluations.share" in str(caught.value) and "evaluate.train = true" in str(caught.value)
    assert "data.evaluations.news" not in str(caught.value)


# --- sets of documents -----------------------------------------------------------------------------------------------


def documents(name: str = "news", **evaluate: Any) -> Experiment:
    """`name`: of another set than `validation`."""
    return Experiment.model_validate(
        {
            "data": {
                "train": {"kind": "files", "files": "a.jsonl"},
                "validation": {"kind": "files", "files": "v.jsonl", "by_type": ["url"]},
                "evaluations": {name: {"kind": "files", "files": "n.jsonl"}},
            },
            "task": {"kind": "conditional_lm"},
            "metadata": {"types": ["url"]},
            "evaluate": evaluate,
        }
    )


def test_documents_have_sets_by_type_and_arms() -> None:
    of_validation = ["validation", "validation-without", "validation-url", "validation-url-without"]
    of_validation += ["validation-no-metadata"]
    assert sets_at_each_evaluation(documents()) == (*of_validation, "news", "news-without")
    assert reported_sets(documents())[:6] == (*of_validation, "test")
    both = sets_of_rows(documents(arms=["same-context", "without"]), "news")
    assert both == ("news", "news-same-context", "news-without")
    assert sets_of_rows(documents(arms=[]), "validation") == (
        "validation",
        "validation-url",
        "validation-no-metadata",
    )


def test_any_set_of_documents_may_choose_the_best_model_or_wait_for_the_end() -> None:
    experiment = documents(best_by="validation-url", at_end=["validation", "news-without"])
    assert not evaluation_problems(experiment)
    sets = sets_at_each_evaluation(experiment)
    assert sets[0] == "validation-url" and not {"validation", "news-without"} & set(sets)
    for evaluate in ({"best_by": "news-url"}, {"at_end": ["news-same-context"]}):
        (problem,) = evaluation_problems(documents(**evaluate))
        assert problem.place[0] == "evaluate"


def test_an_arm_has_a_name_of_its_own() -> None:
    (problem,) = evaluation_problems(documents("validation-without"))
    assert problem.place == ("evaluate", "arms")
    assert not evaluation_problems(documents("validation-without", arms=[]))


def test_only_documents_with_metadata_have_arms() -> None:
    classifier = Experiment.model_validate({"evaluate": {"arms": ["same-context"]}, "task": {"kind": "binary"}})
    assert sets_of_rows(classifier, "validation") == ("validation",)
    assert [problem.place for problem in language_problems(classifier)] == [("evaluate", "arms")]
    compared = Experiment.model_validate({"data": {"on_shared_text": "report"}, "task": {"kind": "binary"}})
    assert [problem.place for problem in language_problems(compared)] == [("data", "on_shared_text")]
    plain = Experiment.model_validate({"task": {"kind": "conditional_lm"}})
    assert sets_of_rows(plain, "validation") == ("validation",)
