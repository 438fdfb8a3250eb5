"""The one process from which tests fork others: it has imported everything, since that takes longer than a tiny run.

Python has one such server for each process of tests, so `killkit` and `ranking` share it.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


@functools.cache
def server() -> ForkServerContext:
    """Its environment is that of the first call."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["forkpreload"])
    with pytest.MonkeyPatch.context() as patch:
        # The server looks for what it is to import in no other way, and says nothing where it does not find it.
        before = filter(None, [os.environ.get("PYTHONPATH")])
        patch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS.parent), str(TESTS), *before]))
        forkserver.ensure_running()
    return context
