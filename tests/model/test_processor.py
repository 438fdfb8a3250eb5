"""What a processor has, and what is left of it where PyTorch is held to narrower vectors."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from textune.model import processor
from textune.model.device import resolve_device

Features = dict[str, Callable[[], bool]]


@pytest.fixture(autouse=True)
def x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)


def give(patch: pytest.MonkeyPatch, uses: str, *has: str) -> None:
    """A processor that `has` these, of which PyTorch `uses` those vectors."""
    for name in ("avx2", "avx512", "avx512_bf16", "amx_tile"):
        patch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in has)
    patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: uses)


@pytest.mark.parametrize(
    ("uses", "has", "bf16"),
    [
        ("AVX512", ("avx2", "avx512", "avx512_bf16"), True),
        ("AVX512", ("avx2", "avx512", "amx_tile"), True),
        ("AVX512", ("avx2", "avx512"), False),
        ("AVX2", ("avx2", "avx512", "avx512_bf16", "amx_tile"), False),
        ("DEFAULT", ("avx2", "avx512", "avx512_bf16"), False),
        ("AVX2", ("avx2",), False),
        ("DEFAULT", ("avx2",), False),
        ("DEFAULT", (), False),
    ],
)
def test_a_cap_leaves_what_a_narrower_processor_has(
    monkeypatch: pytest.MonkeyPatch,
    real_features: Features,
    uses: str,
    has: tuple[str, ...],
    bf16: bool,
) -> None:
    give(monkeypatch, uses, *has)
    assert {name: real() for name, real in real_features.items()} == {"bf16": bf16}


V2 = "cx16 popcnt ssse3 sse4_1 sse4_2"
V3 = f"{V2} abm avx2 bmi1 bmi2 f16c fma movbe"
V4 = f"{V3} avx512bw avx512cd avx512dq avx512f avx512vl"


@pytest.mark.parametrize(
    ("maker", "has", "prefers"),
    [
        ("AuthenticAMD", ("avx512", "avx512_bf16"), True),
        ("AuthenticAMD", ("avx512",), False),
        ("GenuineIntel", ("avx512", "avx512_bf16"), False),
        ("GenuineIntel", ("avx512", "avx512_bf16", "amx_tile"), True),
    ],
)
def test_auto_is_bf16_only_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, real_features: Features, maker: str, has: tuple[str, ...], prefers: bool
) -> None:
    give(monkeypatch, "AVX512", "avx2", *has)
    monkeypatch.setattr(processor, "has_bf16", real_features["bf16"])
    monkeypatch.setattr(processor, "_described", lambda field: {"vendor_id": maker}[field])
    assert processor.prefers_bf16() is prefers
    assert resolve_device("cpu", "auto").precision == ("bf16" if prefers else "fp32")
    if "avx512_bf16" in has:
        assert resolve_device("cpu", "bf16").precision == "bf16"


BF16 = f"{V4} avx512_bf16 avx512_vnni"
HAS = ("avx2", "avx512")


@pytest.mark.parametrize(
    ("uses", "has", "flags", "levels"),
    [
        ("AVX512", HAS, BF16, ("x86-64-v4-bf16", "x86-64-v4", "x86-64-v3", "x86-64-v2")),
        ("AVX512", HAS, V4, ("x86-64-v4", "x86-64-v3", "x86-64-v2")),
        ("AVX512", HAS, V4.replace("avx512vl", ""), ("x86-64-v3", "x86-64-v2")),
        ("AVX2", HAS, BF16, ("x86-64-v3", "x86-64-v2")),
        ("AVX2", HAS[:1], V3, ("x86-64-v3", "x86-64-v2")),
        ("AVX2", HAS[:1], V3.replace("bmi2", ""), ("x86-64-v2",)),
        ("DEFAULT", HAS, BF16, ("x86-64-v2",)),
        ("DEFAULT", (), V2, ("x86-64-v2",)),
        ("DEFAULT", (), "sse2", ()),
        ("AVX512", HAS, "", ()),
    ],
)
def test_only_levels_that_the_processor_has_and_a_cap_leaves(
    monkeypatch: pytest.MonkeyPatch, uses: str, has: tuple[str, ...], flags: str, levels: tuple[str, ...]
) -> None:
    give(monkeypatch, uses, *has)
    monkeypatch.setattr(processor, "_described", lambda field: {"flags": flags, "vendor_id": "AuthenticAMD"}[field])
    assert processor.levels() == levels and processor.vendor() == "AMD"


@pytest.mark.parametrize(("machine", "levels"), [("aarch64", ("aarch64",)), ("riscv64", ())])
def test_levels_of_other_machines(monkeypatch: pytest.MonkeyPatch, machine: str, levels: tuple[str, ...]) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: machine)
    assert processor.levels() == levels


def test_pytorchs_own_setting_is_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make test-avx2` sets it."""
    if not torch.cpu._is_avx2_supported():
        pytest.skip("this processor has no AVX2")
    code = (
        f"import runpy; module = runpy.run_path({processor.__file__!r}); "  # the module alone is there in a moment
        "print(*(module[name]() for name in ('vectors', 'is_capped', 'has_bf16')), *module['levels']()[:1])"
    )
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    capped = torch.cpu._is_avx512_supported()
    assert done.stdout.split() == ["AVX2", str(capped), "False", "x86-64-v3"]
