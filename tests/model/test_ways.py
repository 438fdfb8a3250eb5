"""The faster way is taken, by measurements; a run that goes on keeps the way that it had taken."""

import copy
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from kits.models import build, require_kernels

from textune.config.adapters import Lora
from textune.errors import ModelError
from textune.model import processor, ways
from textune.model.accelerator import PYTORCH
from textune.model.native.kernels import Kernels
from textune.model.native.libraries import available_levels
from textune.model.ways import compare_ways


def times(kernels: list[float], pytorch: list[float]) -> dict[str, list[float]]:
    return {"lengths": [8.0, 64.0], "kernels": kernels, "pytorch": pytorch}


@pytest.fixture
def measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole layers: short rows twice as fast with kernels, long rows half as fast; attention alone: slower."""
    require_kernels()
    mixed, slower = times([1.0, 4.0], [2.0, 2.0]), times([3.0, 3.0], [1.5, 1.5])
    table = [
        {
            "level": level,
            "vendor": vendor,
            "processor": f"a processor of {vendor}",
            "date": "2026-11-29",
            "layers": {"float32": {"training": factor(mixed), "prediction": factor(mixed)}},
            "attention": {"float32": {"training": slower}},
        }
        for level in available_levels()
        for vendor, factor in (("other", dict), (processor.vendor(), dict))
    ]
    (tmp_path / "ways.json").write_text(json.dumps(table))
    monkeypatch.setattr(ways, "TABLE", tmp_path / "ways.json")


def speedup(lengths: list[int] | None, dtype: torch.dtype = torch.float32) -> float | None:
    known = None if lengths is None else np.array(lengths)
    return compare_ways(available_levels()[0], dtype, "layers", "training", known).speedup


def test_lengths_count_by_their_tokens(measured: None) -> None:
    assert speedup([8, 8]) == pytest.approx(2.0) == speedup([3])
    assert speedup([64]) == pytest.approx(0.5) == speedup([500])
    assert speedup([8, 64]) == pytest.approx((8 * 2 + 64 * 2) / (8 * 1 + 64 * 4))
    assert speedup(None) == pytest.approx(4 / 5)
    # Halfway between 8 and 64 by their logarithm.
    assert speedup([23]) == pytest.approx(2 / 2.5, rel=0.02)


def test_what_was_not_measured_is_said_and_runs_on_kernels(measured: None, tmp_path: Path) -> None:
    assert speedup([8], torch.bfloat16) is None
    built = build("bert", tmp_path)
    built.model.speed_up(torch.bfloat16, training=True, lengths=np.array([64]))
    assert built.model.accelerator.kernels is not None
    assert built.model.accelerator.note.endswith("; not measured on this kind of processor")


def test_auto_takes_the_faster_way_and_says_by_how_much(measured: None, tmp_path: Path) -> None:
    where = f"on rows like these (a processor of {processor.vendor()}, 2026-11-29)"
    short = build("bert", tmp_path / "short").model
    short.speed_up(torch.float32, training=True, lengths=np.array([8, 9]))
    assert short.accelerator.way == available_levels()[0]
    assert short.accelerator.note.startswith(
        f"compiled for {short.accelerator.way}: attention, dropout and 2 whole layers; "
    )
    assert short.accelerator.note.endswith(f"times as fast as PyTorch's own {where}")
    long = build("bert", tmp_path / "long").model
    long.speed_up(torch.float32, training=True, lengths=np.array([64]))
    assert long.accelerator.way == PYTORCH
    assert (
        long.accelerator.note
        == f"PyTorch's own: {available_levels()[0]} is 0.5 times as fast as PyTorch's own {where}"
    )
    # Of a family without fused layers, attention counts.
    albert = build("albert", tmp_path / "albert").model
    albert.speed_up(torch.float32, training=True, lengths=np.array([8]))
    assert albert.accelerator.way == PYTORCH


def test_a_comparison_says_that_it_knows_no_adapters(measured: None, tmp_path: Path) -> None:
    pytest.importorskip("peft", reason="the extra `lora` is not installed")
    where = f"on rows like these (a processor of {processor.vendor()}, 2026-11-29), without adapters"
    for dropout, layers in ((0.0, " whole layers; "), (0.1, "PyTorch's own: ")):
        model = build("bert", tmp_path).model
        model.adapt(Lora(dropout=dropout), seed=0)
        model.speed_up(torch.float32, training=True, lengths=np.array([8]))
        assert layers in model.accelerator.note and model.accelerator.note.endswith(where)


def test_on_takes_the_kernels_however_slow(measured: None, tmp_path: Path) -> None:
    built = build("bert", tmp_path, section={"compile": "on"})
    built.model.speed_up(torch.float32, training=True, lengths=np.array([64]))
    assert built.model.accelerator.way == available_levels()[0]


@pytest.mark.parametrize("length", [8, 64])
def test_a_run_goes_on_the_way_that_it_had_taken(measured: None, tmp_path: Path, length: int) -> None:
    """Whatever a table says that was measured meanwhile; where the level is not there, the best one is."""
    for number, (earlier, now) in enumerate(
        [*((level, level) for level in available_levels()), (PYTORCH, PYTORCH), ("aarch64-sve9", None)]
    ):
        model = build("bert", tmp_path / str(number)).model
        model.speed_up(torch.float32, training=True, lengths=np.array([length]), earlier=earlier)
        assert model.accelerator.way == (now or (available_levels()[0] if length == 8 else PYTORCH))


def test_fp16_is_no_precision_of_the_kernels(tmp_path: Path) -> None:
    model = build("bert", tmp_path).model
    model.speed_up(torch.float16, training=True)
    assert model.accelerator.note == "PyTorch's own: they compute in fp32 and bf16, not in fp16"
    with pytest.raises(ModelError, match=r'^model.compile = "on", but .* Choose another precision, or use "auto"'):
        build("bert", tmp_path, section={"compile": "on"}).model.speed_up(torch.float16, training=False)


def test_what_the_table_does_not_know_makes_no_claim(measured: None, tmp_path: Path) -> None:
    """DeBERTa has kernels of its own, which take all rows in one call."""
    model = build("deberta-v2", tmp_path).model
    assert model.group_cost(torch.float32) > 0
    model.speed_up(torch.float32, training=True, lengths=np.array([64]))
    assert model.group_cost(torch.float32) == 0
    found = f"compiled for {available_levels()[0]}: attention, dropout and 2 whole layers; not measured for deberta-v2"
    assert model.accelerator.note == found


def test_on_a_gpu_the_way_is_how_it_computes(tmp_path: Path) -> None:
    accelerator = build("bert", tmp_path).model.accelerator
    assert accelerator.way == PYTORCH
    accelerator._hf = SimpleNamespace(device=torch.device("cuda"))
    accelerator.note = "flash attention of variable length, 12 layers compiled"
    assert accelerator.way == accelerator.note


def test_copies_keep_the_level() -> None:
    require_kernels()
    for level in available_levels():
        assert copy.deepcopy(Kernels(level)).level == level
    foreign = Kernels()
    foreign.level = "of another machine"
    assert copy.deepcopy(foreign).level == available_levels()[0]


def test_the_table_of_the_package_can_be_read() -> None:
    table = ways._read_table(ways.TABLE)
    assert {entry["level"] for entry in table} >= {"x86-64-v3", "x86-64-v4-bf16"}
    for entry in table:
        assert {"level", "vendor", "processor", "date", "layers", "attention"} <= entry.keys()
        for part in ("layers", "attention"):
            for works in entry[part].values():
                for found in works.values():
                    assert len({len(found[name]) for name in ("lengths", "kernels", "pytorch")}) == 1
                    assert min(*found["kernels"], *found["pytorch"]) > 0 and found["lengths"] == sorted(
                        found["lengths"]
                    )
