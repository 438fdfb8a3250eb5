"""torchrun on one node of a job, with an exit code that a scheduler can act on: `python -m textune.launch.node ...`.

torchrun itself exits with 1 whatever the exit codes of its workers. This module passes on the code of the worker that
explains the end: 138 and 143 (the run was warned by SIGUSR1 or SIGTERM, saved and stopped) ask the scheduler to
restart the job; 2 (a mistake that a restart would repeat) asks it not to.

`--signals=agent` (a container, a terminal): only this process receives signals; torchrun forwards them to its
workers. `--signals=everyone` (Slurm): the workers receive signals, too, and forwarding would deliver each twice, so
this process ignores them. srun passes on the highest exit code of all nodes, so 2 becomes 200, above the codes of
nodes that lost this one. All other arguments are torchrun's.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Collection
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from textune.errors import RanksError, TextuneError
from textune.launch.job import MISTAKE

_ASKED = (130, 138, 143)
_KILLED = 137
_TO_AGENT = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
_TO_EVERYONE = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def main(arguments: list[str]) -> int:
    """Run torchrun with `arguments`, the first of which may be `--signals=...`; returns the exit code."""
    everyone = arguments[:1] == ["--signals=everyone"]
    if arguments[:1] and arguments[0].startswith("--signals="):
        arguments = arguments[1:]
    if everyone:
        # An empty handler rather than SIG_IGN, which the workers would inherit.
        for number in _TO_EVERYONE:
            signal.signal(number, _leave_to_workers)
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGQUIT" if everyone else _TO_AGENT

    code = _torchrun(arguments)
    return MISTAKE if everyone and code == TextuneError.exit_code else code


def _torchrun(arguments: list[str]) -> int:
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    workers = _watch_workers()
    try:
        torchrun.run(torchrun.parse_args(arguments))
    except ChildFailedError as error:
        closed = [rank for rank, failure in error.failures.items() if failure.local_rank in workers.closed]
        rank, code = telling({rank: failure.exitcode for rank, failure in error.failures.items()}, closed)
        sys.stderr.write(f"textune: rank {rank} stopped with exit code {code}.\n")
        return code
    except SignalException as error:
        if not workers.codes:
            return 128 + int(error.sigval)
        rank, code = telling(workers.codes)
        sys.stderr.write(f"textune: process {rank} of this node stopped with exit code {code}.\n")
        return code
    return 0


def telling(codes: dict[int, int], closed: Collection[int] = ()) -> tuple[int, int]:
    """The rank whose end explains those of the others, and its exit code as a shell gives it (128 + signal if killed).

    `closed` are ranks that torchrun itself ended because another one had failed: of those only a mistake (2) explains
    anything. Among the others, from least to most: lost another rank (75), asked to stop, a mistake, any other
    failure; ties go to the highest code, as in srun. A rank that was asked to stop has saved only if no rank had to
    be killed meanwhile.
    """
    ended = {rank: code if code >= 0 else 128 - code for rank, code in codes.items()}

    def explains(rank: int) -> tuple[int, int]:
        code = ended[rank]
        if rank in closed and code != TextuneError.exit_code:
            return 0, code
        known = {0: 0, RanksError.exit_code: 1, **dict.fromkeys(_ASKED, 2), TextuneError.exit_code: 3}
        return known.get(code, 4), code

    rank = max(ended, key=explains)
    if ended[rank] in _ASKED:
        rank = next((other for other, code in ended.items() if code == _KILLED), rank)
    return rank, ended[rank]


@dataclass
class _Workers:
    """How the workers of this node ended, by local rank."""

    codes: dict[int, int] = field(default_factory=dict)
    closed: set[int] = field(default_factory=set)
    """Workers that were still running when torchrun ended all of them."""


def _watch_workers() -> _Workers:
    """Record what torchrun does not report: which workers it ended, and the exit code of each."""
    from torch.distributed.elastic.multiprocessing.api import SubprocessContext

    workers = _Workers()
    close = SubprocessContext.close

    def watched(context: SubprocessContext, *args: Any, **options: Any) -> None:
        processes = {rank: handler.proc for rank, handler in context.subprocess_handlers.items()}
        workers.closed |= {rank for rank, process in processes.items() if process.poll() is None}
        close(context, *args, **options)
        # None: not even SIGKILL ended it (a process hangs in a driver).
        codes = {rank: process.poll() for rank, process in processes.items()}
        workers.codes |= {rank: -signal.SIGKILL if code is None else code for rank, code in codes.items()}

    SubprocessContext.close = watched  # type: ignore[assignment,method-assign]
    return workers


def _leave_to_workers(number: int, frame: FrameType | None) -> None:
    """Do nothing: the workers act on the signal, and this process ends when they have ended."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
