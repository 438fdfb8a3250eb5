"""Ranks that are real processes: what they exchange comes out whole, and they part when the work is done."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch.distributed
from kits.ranks import on_ranks, torchrun

from textune import ranks as module
from textune.ranks import ALONE, Ranks, joined

SCRIPT = """
import json, sys
import numpy as np
import torch.distributed
from textune import ranks as module
from textune.ranks import joined

module._NUMBERS_AT_ONCE = 3
every = {}
with joined() as ranks:
    for name in ("float64", "float32", "int64", "int32", "uint8", "bool"):
        whole = np.array([[-0.0, 1.5], [3, 200], [0, 1], [7, -1]]).astype(name)
        share = np.zeros_like(whole)
        share[ranks.rank :: ranks.world] = whole[ranks.rank :: ranks.world]
        together = ranks.merge_shares(share)
        every[name] = together is share and together.tobytes() == whole.tobytes()
    every["told"] = ranks.broadcast({"text": ["a", ranks.rank]})
    every["agreed"] = ranks.all_max([ranks.rank, -ranks.rank])
    every["added"] = ranks.total(np.array([1.5, ranks.rank])).tolist()
    with ranks.local_first():
        pass
    if ranks.rank == 1:
        every["rank"] = 1
        print(json.dumps(every))
assert not torch.distributed.is_initialized()
"""


def test_processes_exchange_what_they_should(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    done = torchrun(2, tmp_path / "script.py", home=tmp_path)
    assert done.code == 0, done.err
    types = dict.fromkeys(("float64", "float32", "int64", "int32", "uint8", "bool"), True)
    rest = {"told": {"text": ["a", 0]}, "agreed": [1, 0], "added": [3.0, 1.0], "rank": 1}
    assert json.loads(done.out) == types | rest


@pytest.mark.parametrize("shape", [(0,), (5,), (3, 4), (1, 1)])
@pytest.mark.parametrize("at_once", [1, 5, 100])
def test_shares_are_put_together_in_pieces(
    shape: tuple[int, ...], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_NUMBERS_AT_ONCE", at_once)
    whole = np.random.default_rng(0).normal(size=shape)
    whole[whole < 0] = -0.0

    def work(ranks: Ranks) -> np.ndarray:
        share = np.zeros(shape)
        share[ranks.rank :: ranks.world] = whole[ranks.rank :: ranks.world]
        return ranks.merge_shares(share)

    for world in (1, 2, 3):
        assert all(found.tobytes() == whole.tobytes() for found in on_ranks(world, work))


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with joined() as ranks:
        assert ranks is ALONE and ranks.is_first and ranks.all_max([3]) == [3] and ranks.broadcast("a") == "a"
        assert not torch.distributed.is_initialized()


def test_a_process_alone_leaves_its_group_on_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL complains at the end of a process that has not."""
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(KeyError), joined(group_needed=True, device="cpu"):
        assert torch.distributed.is_initialized()
        raise KeyError
    assert not torch.distributed.is_initialized()


def test_a_group_that_was_there_before_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "join", lambda **_: ALONE)
    torch.distributed.init_process_group("gloo", store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        with joined():
            pass
        assert torch.distributed.is_initialized()
    finally:
        torch.distributed.destroy_process_group()
