"""Makes heavy imports faster; used where a name of the public API or a verb of the command line is first needed."""

from __future__ import annotations

import contextlib
import gc
import importlib
import logging
import os
import warnings
from collections.abc import Iterator
from types import ModuleType


@contextlib.contextmanager
def importing(*, for_good: bool = False) -> Iterator[None]:
    """Import without garbage collection, which would scan a million new objects of PyTorch and transformers
    repeatedly.

    `for_good`: later collections skip all objects that exist by then, too; for a process that holds nothing else.
    """
    if not gc.isenabled() or gc.get_freeze_count():  # the caller manages garbage collection
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if not for_good:
            gc.unfreeze()  # into the oldest generation: as new objects they would be scanned immediately
        gc.enable()


def import_quietly(name: str) -> ModuleType:
    """Import bitsandbytes or what imports it, such as peft, without its remark that it has no fast 4-bit products for
    processors, and without its warnings about what it uses of torch."""
    with quietly("bitsandbytes"):
        return importlib.import_module(name)


@contextlib.contextmanager
def quietly(log: str) -> Iterator[None]:
    """Without warnings, and without what the logger of that name says below errors."""
    logger = logging.getLogger(log)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def unreported() -> Iterator[None]:
    """Import OpenVINO and use its tools without a report to their makers.

    Where they do not take this for a test on a server, the import alone writes an identity into `~/intel`, and each
    conversion is told over the network from a forked process (openvino-telemetry 2025.2).
    """
    before = os.environ.get("CI")
    os.environ["CI"] = "true"
    try:
        yield
    finally:
        if before is None:
            del os.environ["CI"]
        else:
            os.environ["CI"] = before
