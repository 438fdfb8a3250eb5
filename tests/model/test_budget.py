"""How much memory there is, and how many tokens fit into it."""

import gc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from kits.batches import store_of
from kits.models import LENGTHS, Built, build, random_rows, require_kernels

from textune.batches.batch import TokenBatch, collate
from textune.batches.store import TokenStore
from textune.config.adapters import Lora
from textune.errors import ModelError
from textune.exitcodes import is_out_of_memory
from textune.model import budget, recompute
from textune.model.budget import available_bytes, measure_budget
from textune.model.device import Device
from textune.model.outofmemory import halved
from textune.model.recompute import checkpoint_gradients

CPU = Device(torch.device("cpu"), "fp32")
BF16 = Device(torch.device("cpu"), "bf16")


def random_store(built: Built, lengths: tuple[int, ...]) -> TokenStore:
    return store_of(lengths, np.concatenate(random_rows(built, lengths)))


# --- out of memory ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
            True,
        ),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error: Exception, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_the_errors_of_real_allocators_count() -> None:
    with pytest.raises(Exception) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)


def test_a_bound_is_halved_down_to_the_longest_row() -> None:
    assert halved(4096, longest=100, hint="") == 2048
    assert halved(150, longest=100, hint="") == 100
    for largest in (100, 90):
        with pytest.raises(ModelError, match=r"row of 100 tokens") as caught:
            halved(largest, longest=100, hint="Do this.")
        assert caught.value.hint == "Do this."


# --- how much there is -----------------------------------------------------------------------------------------------


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


MEMINFO = {"proc/meminfo": "MemTotal:       16000 kB\nMemFree:         1000 kB\nMemAvailable:    8000 kB\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, 8000 * 1024),
        # Version 2; the page cache that the kernel would drop is not in use.
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/step/memory.max": "3000000\n",
                "sys/fs/cgroup/job/step/memory.current": "1000000\n",
                "sys/fs/cgroup/job/step/memory.stat": "anon 500000\ninactive_file 200000\n",
            },
            2_200_000,
        ),
        # The limit stands on the group above.
        (
            {
                "proc/self/cgroup": "0::/job/step\n",
                "sys/fs/cgroup/job/memory.max": "3000000\n",
                "sys/fs/cgroup/job/memory.current": "2500000\n",
                "sys/fs/cgroup/job/step/memory.max": "max\n",
                "sys/fs/cgroup/job/step/memory.current": "1000000\n",
            },
            500_000,
        ),
        # Version 1, and the path of the host inside a container.
        (
            {
                "proc/self/cgroup": "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "3000000\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "1000000\n",
                "sys/fs/cgroup/memory/memory.stat": "inactive_file 7\ntotal_inactive_file 50\n",
            },
            2_000_050,
        ),
        # Version 1 says "no limit" with a huge number; another group's limit is not ours.
        (
            {
                "proc/self/cgroup": "4:memory:/\n0::/\n",
                "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
                "sys/fs/cgroup/memory/memory.usage_in_bytes": "5\n",
                "sys/fs/cgroup/memory/other/memory.limit_in_bytes": "10\n",
                "sys/fs/cgroup/memory/other/memory.usage_in_bytes": "1\n",
            },
            8000 * 1024,
        ),
        # More in use than allowed (the limit was lowered): nothing is left.
        (
            {
                "proc/self/cgroup": "0::/\n",
                "sys/fs/cgroup/memory.max": "10\n",
                "sys/fs/cgroup/memory.current": "20\n",
            },
            0,
        ),
    ],
)
def test_available_memory_is_the_smallest_of_the_systems_and_the_groups(
    tmp_path: Path, files: dict[str, str], expected: int
) -> None:
    assert available_bytes(CPU.torch, root=write(tmp_path, MEMINFO | files)) == expected


def test_systems_without_proc_have_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, size = budget.os.sysconf("SC_PHYS_PAGES"), budget.os.sysconf("SC_PAGE_SIZE")
    assert available_bytes(CPU.torch, root=tmp_path) == pages * size // 2
    monkeypatch.delattr(budget.os, "sysconf_names")
    assert available_bytes(CPU.torch, root=tmp_path) == budget.UNKNOWN_BYTES


def test_this_machine_has_memory() -> None:
    assert 1 << 20 < available_bytes(CPU.torch) < 1 << 50


# --- auto ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build("bert", tmp_path_factory.mktemp("bert"))


def room_of(
    built: Built, available: int, *, to_come: int = 0, device: Device = CPU, lengths: tuple[int, ...] = LENGTHS
) -> int:
    store = random_store(built, lengths)
    return measure_budget(
        built.model, device, store=store, indices=np.arange(len(store)), to_come=to_come, available=available
    ).max_tokens


def test_auto_is_the_power_of_two_that_fits(bert: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of what is left after `to_come`, less what any batch needs, over the bytes of a token."""
    monkeypatch.setattr(budget, "_bytes_needed", lambda *_: (1_000_000, 1000.0))
    assert room_of(bert, 2 * (1_000_000 + 4096 * 1000)) == 4096
    assert room_of(bert, 2 * (1_000_000 + 4096 * 1000) - 10) == 2048
    assert room_of(bert, 2 * (1_000_000 + 8191 * 1000)) == 4096
    assert room_of(bert, 2 * (1_000_000 + 4096 * 1000) + 77, to_come=77) == 4096
    assert room_of(bert, 1 << 50) == budget.MOST_TOKENS["cpu"]
    for little in (0, 1_000_000, 2_000_000):
        assert room_of(bert, little) == max(LENGTHS)
    assert room_of(bert, 1 << 30, to_come=1 << 40) == max(LENGTHS)


def test_auto_says_how_it_came_about(bert: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(budget, "_bytes_needed", lambda *_: (0, 50_000.0))
    store = random_store(bert, LENGTHS)
    room = measure_budget(bert.model, CPU, store=store, indices=np.arange(11), to_come=0, available=400_000_000)
    assert room.max_tokens == 2048
    assert room.reason == "auto: 50 kB per token and 0.2 GB to spare"
    room = measure_budget(bert.model, CPU, store=store, indices=np.arange(11), to_come=0, available=1 << 40)
    assert room.reason.endswith("to spare, more brings nothing")


def test_auto_takes_the_chosen_rows_only(bert: Built) -> None:
    store = random_store(bert, (400, 5, 7))
    for indices, longest in ((np.array([1, 2]), 7), (np.array([0, 1]), 400)):
        assert (
            measure_budget(bert.model, CPU, store=store, indices=indices, to_come=0, available=0).max_tokens == longest
        )


def test_a_token_of_longer_rows_and_lower_precision_is_measured(bert: Built) -> None:
    """Attention saves more for longer rows; bf16 saves half, and the weights once more."""

    def needed(device: Device, lengths: tuple[int, ...]) -> tuple[float, float]:
        store = random_store(bert, lengths)
        order = np.argsort(store.lengths, kind="stable")
        return budget._bytes_needed(bert.model, device, store, order, max(lengths))

    _, short = needed(CPU, (4, 8, 8, 8))
    fixed, long = needed(CPU, (4, 256))
    # Two layers of four heads keep a probability for each pair of tokens, at least.
    assert long - short > 2 * 4 * (256 - 8) * 4
    bf16_fixed, bf16_long = needed(BF16, (4, 256))
    assert bf16_long < 0.8 * long
    assert fixed < bf16_fixed
    assert needed(CPU, (9,))[1] > 0  # one row alone


TRAINED: dict[str, Callable[[Built], None]] = {
    "everything": lambda built: None,
    "adapters": lambda built: built.model.adapt(Lora(r=4), seed=0),
    "some adapters": lambda built: built.model.adapt(Lora(r=4, targets=("query",)), seed=0),
    "the head": lambda built: built.hf.base_model.requires_grad_(False),
}


@pytest.mark.every_day(2)
@pytest.mark.parametrize("trained", TRAINED)
@pytest.mark.parametrize("device", [CPU, BF16])
def test_the_estimate_covers_the_real_peak(tmp_path: Path, device: Device, trained: str) -> None:
    """Against the allocations that the profiler sees in a forward and backward pass."""
    built = build("bert", tmp_path)
    TRAINED[trained](built)
    store = random_store(built, (3, *[120] * 12))
    order = np.arange(len(store))
    batch = collate(store, order[1:], layout="packed", pad_id=built.model.pad_id)
    fixed, per_token = budget._bytes_needed(built.model, device, store, order, 120)
    built.model.train()
    for parameter in built.model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    peak = peak_bytes(built, batch, device)
    estimate = fixed + per_token * batch.num_laid_out
    assert 0.9 * peak < estimate < 4 * peak


def peak_bytes(built: Built, batch: TokenBatch, device: Device) -> int:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiler:
        with device.autocast():
            logits_BC = built.model(batch)
        logits_BC.sum().backward()
        del logits_BC
    results = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    changes = sorted((event.start_ns(), event.nbytes()) for event in results if event.name() == "[memory]")
    return int(np.cumsum([change for _, change in changes]).max())


def test_weights_that_have_no_gradient_are_measured_too(tmp_path: Path) -> None:
    """Those of an adapted layer stay as they are, and so do numbers that are no floats, such as weights in 4 bits."""
    built = build("bert", tmp_path)
    built.model.adapt(Lora(r=4), seed=0)
    table = torch.nn.Parameter(torch.zeros(4, dtype=torch.uint8), requires_grad=False)
    built.hf.base_model.register_parameter("in_four_bits", table)
    before = {name: parameter.requires_grad for name, parameter in built.model.named_parameters()}
    with budget._saving_everything(built.model) as changed:
        during = {name: parameter.requires_grad for name, parameter in built.model.named_parameters()}
    assert changed and not during["hf.bert.in_four_bits"]
    assert {name for name in before if not during[name]} == {"hf.bert.in_four_bits"} | {
        name for name in before if ".base_layer." in name
    }
    assert {name: parameter.requires_grad for name, parameter in built.model.named_parameters()} == before
    assert room_of(built, 1 << 30) > max(LENGTHS)


def test_measuring_leaves_nothing_behind(bert: Built) -> None:
    bert.model.eval()
    frozen = [p for p in bert.model.parameters() if p.ndim == 1]
    for parameter in frozen:
        parameter.requires_grad_(False)
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    room_of(bert, 1 << 30)
    assert torch.equal(torch.rand(3), expected)
    assert not bert.model.training
    assert [p for p in bert.model.parameters() if not p.requires_grad] == frozen
    assert all(p.grad is None for p in bert.model.parameters())
    for parameter in frozen:
        parameter.requires_grad_(True)


@pytest.mark.parametrize("lora", [None, Lora(r=2)], ids=["all", "adapters"])
def test_measuring_gives_back_what_the_graphs_held(lora: Lora | None, tmp_path: Path) -> None:
    """On compiled kernels too, whose functions save what they return: nothing of a graph outlives it."""
    require_kernels()
    built = build("bert", tmp_path, section={"compile": "on"})
    if lora is not None:
        built.model.adapt(lora, seed=0)
    room_of(built, 1 << 30)  # what is kept for later passes, such as copies of weights, is there now
    gc.collect()
    before = num_tensors()
    room_of(built, 1 << 30)
    gc.collect()
    assert num_tensors() == before


def num_tensors() -> int:
    return sum(issubclass(type(held), torch.Tensor) for held in gc.get_objects())


def test_memory_that_runs_out_while_measuring_gives_the_smallest_bound(
    bert: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(type(bert.model), "forward", fail)
    assert room_of(bert, 1 << 40) == max(LENGTHS)


def test_other_errors_while_measuring_are_not_swallowed(bert: Built, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("a fault")

    monkeypatch.setattr(type(bert.model), "forward", fail)
    with pytest.raises(RuntimeError, match="a fault"):
        room_of(bert, 1 << 40)


def test_checkpointing_leaves_room_for_more_tokens(tmp_path: Path) -> None:
    built = build("bert", tmp_path, num_hidden_layers=6)
    before = room_of(built, 100_000_000)
    checkpoint_gradients(built.model)
    after = room_of(built, 100_000_000)
    assert after > before
    # It is on again after the measurement that switches it off.
    assert [layer.enabled for layer in recompute.checkpointed_layers(built.model)] == [True] * 6
