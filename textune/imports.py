"""Heavy imports made lighter; used where a name of the public API or a verb of the command line is first needed."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def importing(*, for_good: bool = False) -> Iterator[None]:
    """Import without looking for garbage meanwhile: a million new objects of PyTorch and transformers, none of it garbage, are
    looked through again and again otherwise.

    `for_good`: all objects that exist by then are left out of every later search too; for a process that holds nothing else.
    """
    if not gc.isenabled() or gc.get_freeze_count():  # whoever did so has plans of their own
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if not for_good:
            gc.unfreeze()  # among the oldest objects: as new ones they would be looked through at once
        gc.enable()
