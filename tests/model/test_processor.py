"""What a processor has, and what is left of it where PyTorch is held to narrower vectors."""

import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch

from textune.model import processor
from textune.model.native import build

Features = dict[str, Callable[[], bool]]


@pytest.fixture(autouse=True)
def x86(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: True)


def give(patch: pytest.MonkeyPatch, uses: str, *has: str) -> None:
    """A processor that `has` these, of which PyTorch `uses` those vectors."""
    for name in ("avx2", "avx512", "avx512_bf16", "amx_tile", "vnni"):
        patch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in has)
    patch.setattr(torch.cpu, "get_capabilities", lambda: {"avx_vnni": "avx_vnni" in has}, raising=False)
    patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: uses)


@pytest.mark.parametrize(
    ("uses", "has", "bf16", "byte_products", "target"),
    [
        ("AVX512", ("avx2", "avx512", "avx512_bf16", "vnni", "avx_vnni"), True, True, "native"),
        ("AVX512", ("avx2", "avx512", "amx_tile", "vnni"), True, True, "native"),
        ("AVX512", ("avx2", "avx512", "vnni"), False, True, "native"),
        ("AVX512", ("avx2", "avx512"), False, False, "native"),
        ("AVX2", ("avx2", "avx512", "avx512_bf16", "amx_tile", "vnni", "avx_vnni"), False, False, "x86-64-v3"),
        ("DEFAULT", ("avx2", "avx512", "avx512_bf16", "vnni"), False, False, "x86-64"),
        ("AVX2", ("avx2", "avx_vnni"), False, True, "native"),
        ("AVX2", ("avx2",), False, False, "native"),
        ("DEFAULT", ("avx2",), False, False, "x86-64"),
        ("DEFAULT", (), False, False, "native"),
    ],
)
def test_a_cap_leaves_what_a_narrower_processor_has(
    monkeypatch: pytest.MonkeyPatch,
    real_features: Features,
    uses: str,
    has: tuple[str, ...],
    bf16: bool,
    byte_products: bool,
    target: str,
) -> None:
    give(monkeypatch, uses, *has)
    assert {name: real() for name, real in real_features.items()} == {"bf16": bf16, "byte_products": byte_products}
    assert processor.compiler_target() == f"-march={target}"


def test_kernels_for_another_target_are_another_file(monkeypatch: pytest.MonkeyPatch) -> None:
    libraries = set()
    for uses in ("AVX512", "AVX2"):
        give(monkeypatch, uses, "avx2", "avx512")
        libraries.add(build._key(sys.executable))
    assert len(libraries) == 2


def test_pytorchs_own_setting_is_the_cap(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `make test-avx2` sets it."""
    if not torch.cpu._is_avx2_supported():
        pytest.skip("this processor has no AVX2")
    code = (
        f"import runpy; module = runpy.run_path({processor.__file__!r}); "  # the module alone is there in a moment
        "print(*(module[name]() for name in ('vectors', 'is_capped', 'has_bf16', 'compiler_target')))"
    )
    environment = os.environ | {"ATEN_CPU_CAPABILITY": "avx2"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    capped = torch.cpu._is_avx512_supported()
    assert done.stdout.split() == ["AVX2", str(capped), "False", "-march=x86-64-v3" if capped else "-march=native"]
