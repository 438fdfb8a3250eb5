"""The model card: its header is what the hub reads, and nothing in the data can break it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml
from huggingface_hub import ModelCard
from kits.reports import ATTACK, PAGES, classes_report, story

from textune.evaluation.render.modelcard import model_card


@pytest.mark.parametrize("kind", PAGES)
def test_the_hub_reads_its_header(kind: str) -> None:
    report = PAGES[kind]()
    card = ModelCard(model_card({"test": report}, replace(story(), backbone="google-bert/bert-base-cased")))
    assert card.data.library_name == "transformers"
    assert card.data.base_model == "google-bert/bert-base-cased"
    (result,) = card.data.eval_results or []
    assert (result.metric_type, result.dataset_split) == (report.metric, "test")
    assert result.metric_value == pytest.approx(report.value, abs=1e-6)
    assert "<script" not in card.text


def test_a_backbone_of_this_machine_is_not_named_as_one_of_the_hub() -> None:
    text = model_card({"test": classes_report(2, 60)}, replace(story(), backbone="/models/own"))
    assert "base_model" not in yaml.safe_load(text.split("---\n")[1])


def test_it_says_what_the_run_was_and_what_it_does_not_say() -> None:
    known = replace(story(), labels=("neg", ATTACK), fingerprints={"train": "f00d"})
    report = replace(classes_report(2, 60), notes=("a note",), warnings=("a warning",))
    text = model_card({"test": report, "validation": report}, known)
    for said in ("a note", "a warning", "2 labels: neg", "`f00d`", "textune train", "| validation | accuracy |"):
        assert said in text
