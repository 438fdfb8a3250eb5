"""Compiled kernels: what a packed transformer does between its matrix products; behind `attention.py`.

    native/*.cpp --native/build.py, with the package--> one library for each level of processors
    --libraries.py--> the one for this processor --calls.py; kernels.py, between.py--> calls on tensors
    --layers.py, prenorm.py--> whole layers --install.py--> a backbone that runs on them

Everything here has a twin in PyTorch's own operators, which is used where there is no library, and the tests compare both.
"""

from textune.model.native.adamw import KernelAdamW
from textune.model.native.install import count_known, install
from textune.model.native.int8 import Int8Linear
from textune.model.native.kernels import FastDropout, Kernels
from textune.model.native.libraries import KernelError, available_levels, load_library

__all__ = [
    "FastDropout",
    "Int8Linear",
    "KernelAdamW",
    "KernelError",
    "Kernels",
    "available_levels",
    "count_known",
    "install",
    "load_library",
]
