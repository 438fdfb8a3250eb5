"""Makes heavy imports faster; used where a name of the public API or a verb of the command line is first needed."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


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
