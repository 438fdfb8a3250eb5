"""Compiled kernels: what a packed transformer computes between its matrix products; used by `attention.py`.

    native/*.cpp --native/build.py, with the package--> one library for each level of processors
    --libraries.py--> the one for this processor --calls.py; kernels.py, between.py--> calls on tensors
    --layers.py, prenorm.py--> whole layers --install.py--> a backbone that runs on them

Everything here has a twin in PyTorch's own operators, which is used if there is no library; the tests compare both.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
