"""Our safetensors files are what the safetensors library reads, and errors of the disk surface."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from textune.training.tensorfile import TYPES, facts_of, places_in, write_bytes, write_tensors

SHAPES = [(), (0,), (1,), (3,), (2, 3), (4, 0, 2), (5, 1, 7)]


def random_tensor(dtype: torch.dtype, shape: tuple[int, ...]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(len(shape))
    if dtype == torch.bool:
        return torch.rand(shape, generator=generator) > 0.5
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 100, shape, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_every_type_and_shape_is_read_by_the_library_as_it_was_written(tmp_path: Path, dtype: torch.dtype) -> None:
    tensors = {f'tensor {shape} ü"': random_tensor(dtype, shape) for shape in SHAPES}
    facts = write_tensors(tmp_path / "ours", tensors)
    read = {name: place.read() for name, place in places_in(tmp_path / "ours").items()}
    for loaded in (load_file(tmp_path / "ours"), read):
        assert loaded.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert loaded[name].dtype == dtype and loaded[name].shape == tensor.shape
            assert torch.equal(loaded[name], tensor)
    assert facts == facts_of(tmp_path / "ours")


def test_values_that_are_not_numbers_keep_their_bits(tmp_path: Path) -> None:
    bits = torch.tensor([0x7F800001, 0x7FC00000, -1, 0x7F800000], dtype=torch.int32)
    write_tensors(tmp_path / "ours", {"x": bits.view(torch.float32)})
    assert torch.equal(load_file(tmp_path / "ours")["x"].view(torch.int32), bits)


def test_the_bytes_are_those_of_the_library_but_for_the_order(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4.0)}
    write_tensors(tmp_path / "ours", tensors)
    save_file(tensors, tmp_path / "theirs")
    parsed = []
    for name in ("ours", "theirs"):
        data = (tmp_path / name).read_bytes()
        size = int.from_bytes(data[:8], "little")
        assert size % 8 == 0
        parsed.append((json.loads(data[8 : 8 + size]), data[8 + size :]))
    assert parsed[0] == parsed[1]


def test_a_part_of_a_tensor_that_does_not_lie_together_is_written_whole(tmp_path: Path) -> None:
    whole = torch.arange(12.0).reshape(3, 4)
    write_tensors(tmp_path / "ours", {"turned": whole.T, "every second": whole[:, ::2]})
    loaded = load_file(tmp_path / "ours")
    assert torch.equal(loaded["turned"], whole.T) and torch.equal(loaded["every second"], whole[:, ::2])


def test_a_file_of_no_tensors_and_one_larger_than_a_block(tmp_path: Path) -> None:
    write_tensors(tmp_path / "empty", {})
    assert load_file(tmp_path / "empty") == {}
    large = torch.arange(3_000_000, dtype=torch.int32)
    facts = write_tensors(tmp_path / "large", {"x": large, "y": torch.ones(3)})
    assert facts == facts_of(tmp_path / "large") and facts.bytes == (tmp_path / "large").stat().st_size
    with safe_open(tmp_path / "large", framework="pt") as file:
        assert torch.equal(file.get_tensor("x"), large)


def test_a_type_without_a_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"z: a safetensors file cannot hold torch\.complex128"):
        write_tensors(tmp_path / "ours", {"z": torch.ones(2, dtype=torch.complex128)})


def test_a_disk_that_takes_no_more_is_an_error_and_no_short_file(tmp_path: Path) -> None:
    """A file-size limit makes the system write a part first and refuse the rest: what a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
        with pytest.raises(OSError, match="File too large"):
            write_tensors(tmp_path / "tensors", {"x": torch.ones(10_000)})
        with pytest.raises(OSError, match="File too large"):
            write_bytes(tmp_path / "bytes", b"x" * 20_000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def test_what_the_library_writes_is_read_and_may_be_removed_meanwhile(tmp_path: Path) -> None:
    save_file(
        {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(7)}, tmp_path / "theirs", metadata={"format": "pt"}
    )
    places = places_in(tmp_path / "theirs")
    a = places["a"].read()
    with (tmp_path / "theirs").open("r+b") as file:
        file.truncate(0)
    assert torch.equal(a, torch.arange(6.0).reshape(2, 3))
    with pytest.raises(OSError, match="theirs ends within a tensor"):
        places["b"].read()


def header(**changes: Any) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}).encode()


@pytest.mark.parametrize(
    "text",
    [
        header(data_offsets=[0, 16]),
        header(data_offsets=[-8, 0]),
        header(data_offsets=[8, 0]),
        header(data_offsets=[4, 12]),
        header(shape=[-1, -2]),
        header(shape=[1 << 40, 1 << 40]),
        header(shape="2"),
        header(dtype="F31"),
        header(data_offsets=[0]),
        b"[1]",
        b"{",
        b"[" * 100_000 + b"]" * 100_000,
        b'{"a": 1}',
    ],
    ids=range(13),
)
def test_a_header_that_lies_is_no_safetensors_file(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "lies"
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    with pytest.raises(ValueError, match="lies is not a safetensors file"):
        places_in(path)


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0" * 8, (1 << 60).to_bytes(8, "little") + b"{}"], ids=range(4))
def test_a_file_without_a_header_is_none_either(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "short").write_bytes(data)
    with pytest.raises(ValueError, match="short is not a safetensors file"):
        places_in(tmp_path / "short")
