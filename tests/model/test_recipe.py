"""The order in which a loaded model is prepared, and that no step changes what it computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kits.models import build, lay_out, random_rows

from textune.errors import ConfigError
from textune.model import recipe as module
from textune.model.backbone import TextModel
from textune.model.budget import TokenBudget
from textune.model.device import Device
from textune.model.recipe import FullTable, Kept, Occurring, Recipe, prepare
from textune.model.vocabulary import CompactEmbedding

FP32 = Device(torch.device("cpu"), "fp32")


def test_every_step_is_taken_in_the_one_valid_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []

    def spy(owner: Any, name: str, step: str) -> None:
        real = getattr(owner, name)

        def called(*arguments: Any, **named: Any) -> Any:
            taken.append(step)
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, called)

    for name, step in (
        ("freeze", "freeze"),
        ("compact_vocabulary", "compact"),
        ("put_table_on_disk", "store"),
        ("to", "place"),
        ("speed_up", "kernels"),
    ):
        spy(TextModel, name, step)
    spy(module, "checkpoint_gradients", "recompute")
    spy(TextModel, "compile_steps", "compile")

    def measure(model: TextModel) -> TokenBudget:
        taken.append("measure")
        return TokenBudget(64, "measured")

    built = build("bert", tmp_path / "bert")
    ids = np.concatenate([np.array(row) for row in random_rows(built)])
    training = Recipe(
        FP32,
        "training",
        vocabulary=Occurring([ids], "on", ""),
        table_folder=lambda: tmp_path,
        recompute=True,
        num_steps=3,
    )
    prepared = prepare(built.model, training, measure=measure)
    assert taken == ["freeze", "compact", "store", "place", "kernels", "recompute", "measure", "compile"]
    assert prepared.budget == TokenBudget(64, "measured") and "token embeddings trained" in prepared.vocabulary


@pytest.mark.parametrize("use", ["training", "prediction", "export"])
def test_what_is_prepared_computes_what_was_loaded(tmp_path: Path, use: Any) -> None:
    built = build("bert", tmp_path / "bert")
    batch = lay_out(built, random_rows(built))
    with torch.no_grad():
        before = built.model.eval()(batch)
    ids = np.concatenate([np.array(row) for row in random_rows(built)])
    vocabulary = Occurring([ids], "on", "") if use == "training" else FullTable("")
    prepare(built.model, Recipe(FP32, use, vocabulary=vocabulary))
    with torch.no_grad():
        torch.testing.assert_close(built.model.eval()(batch), before, rtol=1e-5, atol=1e-6)


def test_kept_token_embeddings_are_those_of_the_run(tmp_path: Path) -> None:
    built, again = build("bert", tmp_path / "bert"), build("bert", tmp_path / "bert")
    ids = np.concatenate([np.array(row) for row in random_rows(built)])
    prepare(built.model, Recipe(FP32, "training", vocabulary=Occurring([ids], "on", "")))
    kept = built.model.kept_ids
    assert kept is not None
    prepare(again.model, Recipe(FP32, vocabulary=Kept(kept.numpy())))
    assert isinstance(again.model.hf.get_input_embeddings(), CompactEmbedding)
    assert again.model.left_out_fingerprint == built.model.left_out_fingerprint
    ours, theirs = built.model.state_dict(), again.model.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_step_that_cannot_be_taken_is_refused(tmp_path: Path) -> None:
    built = build("bert", tmp_path / "bert")
    with pytest.raises(ConfigError, match="compact_vocabulary"):
        prepare(
            built.model, Recipe(FP32, "training", vocabulary=Occurring([], "on", "the rule needs the whole table"))
        )
