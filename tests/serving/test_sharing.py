"""Adapter folders of one backbone are opened over the same weights in memory."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from kits.adapterfolders import Adapters, write_adapters

from textune.exports import export
from textune.model.adapters import is_adapter
from textune.prediction.load import load, load_scorer
from textune.prediction.scorer import Scorer
from textune.serving.sharing import share_backbone

pytest.importorskip("peft", reason="peft is not installed")

TEXTS = ["a good film", "the worst movie of the year", "a dull and boring and poor plot"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    """Of a backbone of 28 MB."""
    wide = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 4, "num_attention_heads": 6}
    return write_adapters(tmp_path_factory.mktemp("adapters"), num=4, **wide)


def frozen(scorer: Scorer) -> dict[str, torch.Tensor]:
    return {
        name: weight
        for name, weight in scorer.model.named_parameters()
        if ".encoder." in name and not is_adapter(name) and weight.ndim == 2
    }


def addresses(scorer: Scorer) -> dict[str, int]:
    return {name: weight.data_ptr() for name, weight in frozen(scorer).items()}


def test_each_answers_as_its_folder_opened_alone(trained: Adapters) -> None:
    alone = [load(folder).score(TEXTS) for folder in trained.folders]
    predictors = [load(folder) for folder in trained.folders]
    scorers = [predictor.scorer for predictor in predictors]
    freed = [share_backbone(scorer, scorers[:place]) for place, scorer in enumerate(scorers)]
    assert freed[0] == 0 and all(more >= sum(w.nbytes for w in frozen(scorers[0]).values()) for more in freed[1:])
    assert len({tuple(addresses(scorer).values()) for scorer in scorers}) == 1
    for predictor, known in zip(predictors, alone, strict=True):
        assert np.array_equal(predictor.score(TEXTS), known)
    assert not np.array_equal(alone[0], alone[1])


def test_adapters_of_another_backbone_share_nothing(trained: Adapters, tmp_path: Path) -> None:
    """Not even the weights that happen to be the same in both: each backbone is whole."""
    other = write_adapters(tmp_path, num=1, seed=7)
    scorers = [load_scorer(folder) for folder in (*trained.folders[:1], *other.folders)]
    before = addresses(scorers[1])
    assert share_backbone(scorers[1], scorers[:1]) == 0
    assert addresses(scorers[1]) == before


def test_whole_models_are_left_as_they_are(trained: Adapters, tmp_path: Path) -> None:
    export(trained.folders[0], tmp_path / "whole", form="merged")
    scorers = [load_scorer(folder) for folder in (trained.folders[0], tmp_path / "whole")]
    assert share_backbone(scorers[1], scorers[:1]) == share_backbone(scorers[0], scorers[1:]) == 0


GROWTH = """
import gc, json, sys
from textune.prediction.load import load
from textune.serving.sharing import share_backbone

def resident():
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096

opened, grown = [], []
for folder in sys.argv[1:]:
    before = resident()
    predictor = load(folder)
    share_backbone(predictor.scorer, [other.scorer for other in opened])
    opened.append(predictor)
    predictor.score(["a good film", "the worst movie of the year"])
    grown.append(resident() - before)
print(json.dumps(grown))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read as Linux tells it")
def test_memory_grows_by_little_for_each_further_adapter(trained: Adapters) -> None:
    size = (trained.backbone / "model.safetensors").stat().st_size
    done = subprocess.run(
        [sys.executable, "-c", GROWTH, *map(str, trained.folders)], capture_output=True, text=True, check=True
    )
    first, *further = json.loads(done.stdout)
    assert first > size > 25e6
    assert all(more < size / 5 for more in further), further
