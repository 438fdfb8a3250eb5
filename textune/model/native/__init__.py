"""Kernels compiled for this processor: what a packed transformer does between its matrix products; behind `attention.py`.

    kernels.cpp --build.py--> a library in the user's cache --kernels.py--> calls on tensors --layers.py--> whole layers

Everything here has a twin in PyTorch's own operators, which is used where no compiler is found, and the tests compare both.
"""

from textune.model.native.build import BuildError
from textune.model.native.kernels import FastDropout, Kernels
from textune.model.native.layers import install

__all__ = ["BuildError", "FastDropout", "Kernels", "install"]
