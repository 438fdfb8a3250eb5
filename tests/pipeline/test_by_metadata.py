"""What metadata is worth to a language model: groups of documents, arms over the same characters, other renderings and
models beside it; and plain reports on documents."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.cli import runner
from kits.errors import refused
from kits.languagefolders import saved_language_model
from kits.languages import plain_language, tiny_language_model
from kits.ranks import on_ranks, torchrun
from torch.nn import functional

import textune
from textune.data.labels.map import LABEL
from textune.errors import ConfigError, DataError, ModelError, RunError
from textune.evaluation.comparison import Comparison
from textune.evaluation.metrics import METRICS
from textune.evaluation.reduction import scored_rows
from textune.metadata.heldout import Written
from textune.pipeline.bymetadata import Choice, _compared, evaluate_by_metadata
from textune.pipeline.reportdocuments import documents_of_files, scored_set
from textune.prediction.load import load_scorer
from textune.prediction.scorer import Scorer
from textune.ranks import Ranks
from textune.run.tracking.tracker import SilentTracker

ARMS = ("with", "without", "same-context")
WORDS = ("a good film", "with a very", "good plot", "and the scene", "is boring", "more", "like this")


def record(number: int) -> dict[str, Any]:
    """Documents of 4 to 70 words; two of three have a title, half of them a url, and every fifth some HTML."""
    words = np.random.default_rng(number).choice(WORDS, 4 + 22 * (number % 4))
    row: dict[str, Any] = {"text": " ".join(words)}
    if number % 3:
        row["metadata_title"] = [{"key": "title", "type": "global", "value": f"Film {number}"}]
    if number % 2:
        row["metadata_url"] = [{"key": "url", "type": "global", "value": f"https://x.org/{number}"}]
    if number % 5 == 0:
        span = {"char_start_idx": 0, "char_end_idx": len(words[0])}
        row["metadata_html"] = [{"key": "html", "type": "local", "value": "b", **span}]
    return row


NUM = 24
RECORDS = [record(number) for number in range(NUM)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("language")
    saved_language_model(folder)
    lines = [json.dumps(row) for row in RECORDS]
    (folder / "pages.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "texts.jsonl").write_text('{"text": "a good film"}\n', encoding="utf-8")
    return folder


def compared(place: Path, **options: Any) -> Comparison:
    options = {"data": place / "pages.jsonl", "device": "cpu", "bootstrap": 0} | options
    return evaluate_by_metadata(place / "best", **options)


def groups(comparison: Comparison) -> dict[str, Any]:
    return {group.group: group for group in comparison.groups}


# --- numbers ---------------------------------------------------------------------------------------------------------


def test_groups_have_the_documents_with_their_types(place: Path) -> None:
    found = groups(compared(place))
    assert {name: group.documents for name, group in found.items()} == {
        "all": NUM,
        "title": sum(number % 3 > 0 for number in range(NUM)),
        "url": NUM // 2,
        "html": 5,
    } | {"together": sum(number % 3 > 0 and number % 2 > 0 and number % 5 == 0 for number in range(NUM))}
    for group in found.values():
        assert list(group.arms) == list(ARMS) and list(group.gains) == list(ARMS[1:])
        assert 0 < group.characters <= group.bytes
        best = group.arms["with"].bits_per_character
        for arm, gain in group.gains.items():
            assert gain.value == pytest.approx(group.arms[arm].bits_per_character - best)


def test_all_documents_together_are_what_python_scores(place: Path) -> None:
    scores = textune.load(place / "best", device="cpu").score(RECORDS)
    group = groups(compared(place))["all"]
    characters = sum(one.characters for one in scores)
    assert (group.characters, group.bytes) == (characters, sum(one.bytes for one in scores))
    for arm, nats, tokens in (
        ("with", -sum(one.log_likelihood for one in scores), sum(one.tokens for one in scores)),
        ("without", -sum(one.log_likelihood_without for one in scores), sum(one.tokens_without for one in scores)),
    ):
        assert group.arms[arm].tokens == tokens
        assert group.arms[arm].bits_per_character == pytest.approx(nats / characters / math.log(2), rel=1e-6)


def test_perplexities_are_those_of_a_loop_of_one_chunk_at_a_time(place: Path) -> None:
    """By plain transformers, in float64: exp of the losses weighted by their tokens. Of equal losses they are the same
    to the last digits."""
    plain = plain_language(place / "best").double()
    scorer = load_scorer(place / "best", device="cpu")
    chosen = documents_of_files(
        place / "pages.jsonl", scorer.card.columns, scorer, on_bad_row="error", tracker=SilentTracker()
    )
    arms = scored_set(chosen.sets[0], scorer, SilentTracker(), how=Written())
    group = groups(compared(place))["all"]
    for arm, rows in zip(ARMS, arms.rows.values(), strict=True):
        losses, lengths, store = [], [], rows.store.whole()
        for row in rows.rows.tolist():
            here = slice(*store.offsets[row : row + 2].tolist())
            ids, mask = torch.from_numpy(store.ids[here].astype(np.int64)), store.columns["mask"][here]
            labels = torch.where(torch.from_numpy(mask == 0), ids, -100)
            with torch.no_grad():
                logits_LV = plain(input_ids=ids[None]).logits[0]
            losses.append(float(functional.cross_entropy(logits_LV[:-1], labels[1:])))
            lengths.append(int((mask[1:] == 0).sum()))
        expected = math.exp(sum(loss * size for loss, size in zip(losses, lengths, strict=True)) / sum(lengths))
        assert group.arms[arm].perplexity == pytest.approx(expected, rel=1e-5)
        assert group.arms[arm].tokens == sum(lengths)
        nats = np.array(losses) * np.array(lengths)
        scored = scored_rows(scorer.task.head, rows.targets[LABEL], nats).by_document(rows.documents)
        assert METRICS["perplexity"].of(scored) == pytest.approx(expected, rel=1e-12)


@pytest.mark.every_day(1)
@pytest.mark.parametrize("world", [2, 3])
def test_ranks_find_the_same_bits(place: Path, world: int) -> None:
    opened = [load_scorer(place / "best", device="cpu", max_tokens=200) for _ in range(world)]

    def work(ranks: Ranks) -> dict[str, Any]:
        one = opened[ranks.rank]
        scorer = Scorer(
            one.model, one.tokenizer, one.task, one.card, device=one.device, max_tokens=one.max_tokens, ranks=ranks
        )
        chosen = documents_of_files(
            place / "pages.jsonl", scorer.card.columns, scorer, on_bad_row="error", tracker=SilentTracker()
        )
        choice = Choice(("title", "url"), None, "all", False, False)
        return _compared(chosen, {"trained": scorer}, choice, 60, SilentTracker()).to_dict()

    (alone,) = on_ranks(1, work)
    assert all(found == alone for found in on_ranks(world, work))
    assert alone["groups"][0]["gains"]["without"]["interval"] is not None


@pytest.mark.slow
def test_processes_of_torchrun_print_what_one_does(place: Path, run: Any, tmp_path: Path) -> None:
    words = ("evaluate", place / "best", "--data", place / "pages.jsonl", "--by-metadata", "--device", "cpu", "--json")
    alone = json.loads(run(*words).out)
    done = torchrun(2, "-m", "textune", *words, home=tmp_path)
    assert done.code == 0, done.err
    assert json.loads(done.out) == alone


def test_a_gain_has_an_interval_over_documents(place: Path) -> None:
    """Around the value, and narrower than the bits themselves vary from document to document."""
    gain = groups(compared(place, bootstrap=200))["all"].gains["without"]
    assert gain.interval is not None and gain.interval[0] <= gain.value <= gain.interval[1]
    few = groups(compared(place, bootstrap=200, max_documents=3))["title"].gains["without"]
    assert few.interval is None and "only 3 documents" in few.reason


# --- which documents, and how they are written -----------------------------------------------------------------------


def test_only_the_first_chunk_counts_where_that_is_asked_for(place: Path) -> None:
    """Documents of 70 words have several; the others count as before."""
    whole, first = groups(compared(place))["all"], groups(compared(place, chunks="first"))["all"]
    assert first.documents == whole.documents
    assert 0 < first.characters < whole.characters
    short = place / "short.jsonl"
    short.write_text("".join(json.dumps(row) + "\n" for row in RECORDS if len(row["text"]) < 60), encoding="utf-8")
    one, other = (groups(compared(place, data=short, chunks=chunks)) for chunks in ("all", "first"))
    assert one == other


def test_groups_may_be_smaller_and_fewer(place: Path) -> None:
    found = compared(place, max_documents=3, types="url")
    assert {name: group.documents for name, group in groups(found).items()} == {"all": 3, "url": 3}
    assert found.options["types"] == ("url",)


def test_a_type_that_is_named_twice_is_one_group(place: Path) -> None:
    assert [group.group for group in compared(place, types=["title", "title"]).groups] == ["all", "title"]


def test_a_type_whose_documents_have_nothing_to_score_is_left_out(place: Path) -> None:
    """One word alone: nothing predicts it. The other groups are compared."""
    rows = [{**RECORDS[1], "text": "good"}, *(row for row in RECORDS if "metadata_url" not in row)]
    file = place / "unscored.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = compared(place, data=file)
    assert "url" not in groups(found) and {"all", "title", "html"} <= set(groups(found))
    assert "url: no document has a token to score" in found.notes


def test_equal_texts_may_count_once(place: Path) -> None:
    twice = place / "twice.jsonl"
    rows = [*RECORDS, RECORDS[3], {**RECORDS[5], "text": RECORDS[5]["text"].upper() + " !"}]
    twice.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    found = compared(place, data=twice, dedupe=True)
    assert groups(found) == groups(compared(place))
    assert found.notes == ("2 documents with the text of an earlier one left out",)
    assert groups(compared(place, data=twice))["all"].documents == NUM + 2


def test_prompts_stand_beside_tags(place: Path) -> None:
    found = compared(place, prompt=True, types=("title", "html")).groups
    assert [(group.group, group.style) for group in found] == [
        (name, style) for name in ("all", "title", "html", "together") for style in ("tags", "prompt")
    ]
    by_style = {group.style: group for group in found if group.group == "all"}
    assert by_style["prompt"].arms["with"] != by_style["tags"].arms["with"]
    # Without tags in the text, all of its tokens are the same ones in both arms.
    arms = by_style["prompt"].arms
    assert arms["with"].tokens == arms["without"].tokens


def test_a_backbone_as_it_came_scores_the_same_rows(place: Path) -> None:
    """The folder holds the weights of its backbone, so both are the same to the last bit; another one is not."""
    found = compared(place, untrained=str(place / "backbone"), types="title").groups
    models: dict[str, list[Any]] = {}
    for group in found:
        models.setdefault(group.model, []).append((group.group, group.arms, group.characters))
    trained, untrained = models.values()
    assert list(models) == ["trained", str(place / "backbone")] and trained == untrained
    other = tiny_language_model("gpt2", place / "other", seed=5)
    different = compared(place, untrained=str(other), types="title").groups
    assert different[0].arms != different[1].arms and different[0].characters == different[1].characters


def test_a_backbone_may_be_called_as_the_trained_model_is(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_language_model("gpt2", tmp_path / "trained", seed=5)
    monkeypatch.chdir(tmp_path)
    found = compared(place, untrained="trained", types="title").groups
    assert [group.model for group in found] == ["trained", "./trained"] * 2
    assert found[0] == compared(place, types="title").groups[0] and found[1].arms != found[0].arms


# --- what is refused -------------------------------------------------------------------------------------------------


def test_types_must_be_known_and_there(place: Path) -> None:
    with refused(ConfigError, key="types", value="urll"):
        compared(place, types=["urll"])
    with refused(DataError, key="types", value="timestamp"):
        compared(place, types="timestamp")
    with refused(DataError, key="data", reason="no document has metadata"):
        compared(place, data=place / "texts.jsonl")


def test_a_backbone_has_the_same_tokenizer(place: Path) -> None:
    llama = tiny_language_model("llama", place / "llama")
    with refused(ModelError, key="untrained", value=str(llama), reason="another tokenizer"):
        compared(place, untrained=str(llama))
    (llama / "model.safetensors").unlink()
    with refused(ModelError, key="untrained", value=str(llama)):
        compared(place, untrained=str(llama))


def test_a_backbone_has_positions_for_the_rows(place: Path) -> None:
    short = tiny_language_model("gpt2", place / "short", n_positions=16)
    with refused(ModelError, key="untrained", value=str(short), reason="too few positions"):
        compared(place, untrained=str(short))


def test_where_the_result_goes_is_checked_first(place: Path) -> None:
    for out in (place / "result.txt", place / "nowhere" / "result.md"):
        with refused(ConfigError, key="out", value=str(out)):
            compared(place, out=out)


def test_a_model_folder_alone_has_no_documents_of_its_own(place: Path) -> None:
    with refused(RunError):
        compared(place, data=None)
    with refused(RunError):
        textune.evaluate(place / "best", device="cpu")


# --- the command -----------------------------------------------------------------------------------------------------


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path) -> Any:
    return runner(capsys, monkeypatch, place)


def test_the_command_prints_and_writes_what_python_gets(run: Any, place: Path) -> None:
    words = ("evaluate", "best", "--data", "pages.jsonl", "--by-metadata", "--type", "url", "--chunks", "first")
    expected = compared(place, types="url", chunks="first", bootstrap=1000)
    told = json.loads(run(*words, "--json", "--out", "result.json").out)
    assert expected.to_dict() == json.loads((place / "result.json").read_text(encoding="utf-8"))
    assert told == {"ok": True} | expected.to_dict()
    answer = run(*words, "--out", "result.md")
    page = (place / "result.md").read_text(encoding="utf-8")
    for said in (answer.out, page):
        assert "same context" in said and "url" in said
        assert f"{expected.groups[0].arms['with'].bits_per_character:.4f}" in said
    assert f"{expected.groups[1].arms['without'].perplexity:.4f}" in page


def test_options_of_the_comparison_need_it(run: Any) -> None:
    for words in (("--prompt",), ("--untrained", "x"), ("--type", "url"), ("--out", "x.md"), ("--chunks", "first")):
        answer = run("evaluate", "best", "--data", "pages.jsonl", *words)
        assert answer.code == 2 and words[0] in answer.err and "--by-metadata" in answer.err
    assert run("evaluate", "best", "--data", "pages.jsonl", "--by-metadata", "--metric", "perplexity").code == 2


def test_a_plain_report_is_about_documents(run: Any, place: Path) -> None:
    report = json.loads(run("evaluate", "best", "--data", "pages.jsonl", "--json").out)
    group = groups(compared(place))["all"]
    assert report["rows"] == NUM and report["baseline"] is None and report["mistakes"] == []
    assert report["amounts"]["characters"] == group.characters
    assert report["metrics"]["bits_per_character"] == group.arms["with"].bits_per_character
    assert report["hardest"][0]["place"].startswith("pages.jsonl, line ")
    printed = run("evaluate", "best", "--data", "pages.jsonl", "--metric", "perplexity").out
    assert [line.split()[0] for line in printed.splitlines() if line.startswith("  ")].count("perplexity") == 1


def test_a_classifier_has_no_documents(place: Path) -> None:
    words = ["train.device=cpu", "train.duration=1 step", "data.test.kind=none"]
    trained = textune.train("preset:tiny", run=place / "classifier", overrides=words)
    with refused(ModelError, reason="a classifier"):
        evaluate_by_metadata(trained.run, device="cpu")
