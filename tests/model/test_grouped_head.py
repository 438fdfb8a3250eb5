"""One head of Hugging Face for several tasks: outputs called TASK/CLASS, kept by these names, and the same in plain
transformers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from kits.backbones import tiny_backbone
from kits.models import ALL, Built, lay_out, plain_copy, plain_inputs, random_rows

from textune.config.schema import ModelSection
from textune.data.labels.bytask import task_maps
from textune.data.labels.map import LabelMap
from textune.model.loading import load_model
from textune.model.tokenizer import load_tokenizer

GROUPS = {"tone": ("neg", "mid", "pos"), "urgent": ("no", "yes")}
OUTPUTS = ["tone/neg", "tone/mid", "tone/pos", "urgent/no", "urgent/yes"]


def load(folder: Path, groups: Any, *, seed: int = 1, **options: Any) -> Built:
    section = ModelSection(pretrained=str(folder))
    tokenizer = load_tokenizer(section)
    maps = task_maps(groups) if isinstance(groups, dict) else {"label": groups}
    num_logits = sum(len(label_map.names) for label_map in maps.values())
    model = load_model(section, tokenizer, label_maps=maps, num_logits=num_logits, seed=seed, **options)
    return Built(model.hf.config.model_type, folder, tokenizer, model.eval())


def fine_tuned(folder: Path, groups: Any, *, family: str = "bert") -> Built:
    """A model whose head has weights unlike those of a new one."""
    tiny_backbone(family, folder / "backbone")
    built = load(folder / "backbone", groups, seed=77)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for name, parameter in built.hf.named_parameters():
            if not name.startswith(built.hf.base_model_prefix + "."):
                parameter.normal_(generator=generator)
    built.model.save(folder)
    built.tokenizer.save_pretrained(folder)
    return Built(family, folder, built.tokenizer, built.model)


def logits(built: Built) -> dict[str, torch.Tensor]:
    with torch.no_grad():
        logits_BC = built.model(lay_out(built, random_rows(built)))
    return dict(zip(built.hf.config.id2label.values(), logits_BC.T, strict=True))


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return torch.allclose(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "gpt2"])
def test_plain_transformers_gives_the_same_logits_under_the_same_names(family: str, tmp_path: Path) -> None:
    assert family in ALL
    built = fine_tuned(tmp_path / "first", GROUPS, family=family)
    plain = plain_copy(built, tmp_path / "plain")
    assert list(plain.config.id2label.values()) == OUTPUTS
    assert plain.config.label2id == {name: index for index, name in enumerate(OUTPUTS)}
    rows = random_rows(built)
    with torch.no_grad():
        theirs, ours = plain(**plain_inputs(built, rows)).logits, built.model(lay_out(built, rows))
    assert same(theirs, ours)


@pytest.mark.slow
def test_a_pipeline_of_transformers_turns_nothing_into_false_probabilities(tmp_path: Path) -> None:
    """In a process without textune: a softmax over all outputs would be one over the classes of different tasks."""
    fine_tuned(tmp_path, GROUPS)
    program = f"""
import sys, torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline
folder = {str(tmp_path)!r}
classify = pipeline("text-classification", model=folder, top_k=None, device="cpu")
found = {{one["label"]: one["score"] for one in classify(["the film is good"])[0]}}
inputs = AutoTokenizer.from_pretrained(folder)("the film is good", return_tensors="pt")
model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
logits = model(**inputs).logits[0]
assert "textune" not in sys.modules
for index, name in model.config.id2label.items():
    assert abs(found[name] - float(logits[index])) < 1e-5, (name, found)
print(len(found))
"""
    ended = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PATH": "", "HOME": str(tmp_path)},
    )
    assert ended.stdout.strip() == "5", ended.stderr


def test_what_is_saved_is_taken_as_it_is(tmp_path: Path) -> None:
    before = fine_tuned(tmp_path, GROUPS)
    for options in ({}, {"as_saved": True}):
        after = load(tmp_path, GROUPS, **options)
        assert not [note for note in after.model.notes if "head" in note]
        assert all(same(value, logits(before)[name]) for name, value in logits(after).items())


def test_only_what_changed_is_new(tmp_path: Path) -> None:
    before = logits(fine_tuned(tmp_path, GROUPS))
    changed = {"urgent": ("no", "yes"), "topic": ("a", "b"), "tone": ("neg", "pos", "mixed")}
    built = load(tmp_path, changed)
    after = logits(built)
    assert list(after) == [f"{task}/{one}" for task, classes in changed.items() for one in classes]
    kept = ["urgent/no", "urgent/yes", "tone/neg", "tone/pos"]
    assert all(same(after[name], before[name]) for name in kept)
    new = ["topic/a", "topic/b", "tone/mixed"]
    assert not any(same(after[name], value) for name in new for value in before.values())
    (notice,) = [note for note in built.model.notes if "head" in note]
    assert "is new for topic/a, topic/b, tone/mixed" in notice and "loses tone/mid" in notice
    assert "task.groups" in notice


@pytest.mark.parametrize(
    ("earlier", "wanted"),
    [
        (LabelMap("multiclass", ("neg", "mid", "pos")), GROUPS),
        (GROUPS, LabelMap("multiclass", ("neg", "mid", "pos"))),
        (GROUPS, LabelMap("regression", ("score",))),
        (LabelMap("regression", ("score",)), GROUPS),
    ],
)
def test_between_one_task_and_several_the_head_is_new(earlier: Any, wanted: Any, tmp_path: Path) -> None:
    before = logits(fine_tuned(tmp_path, earlier))
    built = load(tmp_path, wanted)
    assert not any(same(one, other) for one in logits(built).values() for other in before.values())
    (notice,) = [note for note in built.model.notes if "head" in note]
    assert "the head is new" in notice and "each of 2 tasks" in notice
