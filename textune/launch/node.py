"""torchrun on one node of a job, with an exit code that a scheduler can act on: `python -m textune.launch.node ...`.

torchrun itself ends with 1 whatever its workers said. This one passes on the exit code of the worker that tells most: 138 and
143 (a run that was warned by SIGUSR1 or SIGTERM, saved and stopped) tell the scheduler to start the job again.

`--signals=agent` (a container, a terminal): only this process receives signals; torchrun sends them on to its workers.
`--signals=everyone` (Slurm): the workers receive them too; sent on, each would come twice. So this process takes no notice.
All other arguments are torchrun's.
"""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

_TO_AGENT = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR1"
_TO_EVERYONE = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


def main(arguments: list[str]) -> int:
    """Run torchrun with `arguments`, the first of which may be `--signals=...`; returns the exit code."""
    everyone = arguments[:1] == ["--signals=everyone"]
    if arguments[:1] and arguments[0].startswith("--signals="):
        arguments = arguments[1:]
    if everyone:
        # A handler that does nothing, rather than SIG_IGN, which the workers would inherit.
        for number in _TO_EVERYONE:
            signal.signal(number, _leave_to_workers)
    os.environ["PET_SIGNALS_TO_HANDLE"] = "SIGQUIT" if everyone else _TO_AGENT

    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    try:
        torchrun.run(torchrun.parse_args(arguments))
    except ChildFailedError as error:
        rank, code = telling({rank: failure.exitcode for rank, failure in error.failures.items()})
        sys.stderr.write(f"textune: rank {rank} stopped with exit code {code}.\n")
        return code
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def telling(codes: dict[int, int]) -> tuple[int, int]:
    """The rank whose end explains the others', and its exit code as a shell gives it (128 + signal for a killed one).

    2 explains least: it is also how those end that have lost another rank. Of the others the highest counts, as srun has it.
    """
    ended = {rank: code if code >= 0 else 128 - code for rank, code in codes.items()}
    rank = max(ended, key=lambda rank: (ended[rank] != 2, ended[rank]))
    return rank, ended[rank]


def _leave_to_workers(number: int, frame: FrameType | None) -> None:
    """The workers act on the signal; this process ends when they have ended."""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
