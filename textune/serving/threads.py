"""How the threads that compute a batch wait for each other; imports nothing heavy, since it must be decided before
PyTorch is imported."""

from __future__ import annotations

import os


def let_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait for each other, unless the user chose otherwise.

    By default they spin for a while, as if a processor were theirs alone. In a server, the event loop and the
    tokenizer need the same processors: a thread of a batch that waits for one of them keeps all others spinning, many
    times in each layer. Read by libgomp when it is loaded (GNU libgomp manual, `OMP_WAIT_POLICY`); without effect on
    results.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
