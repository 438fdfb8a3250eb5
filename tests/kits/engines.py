"""Whether this environment can train by ONNX Runtime."""

import importlib.metadata

import pytest


def _is_installed() -> bool:
    try:
        importlib.metadata.distribution("onnxruntime-training-cpu")
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


needs_onnxruntime = pytest.mark.skipif(
    not _is_installed(), reason="onnxruntime-training-cpu needs an environment of its own: make test-ort"
)
