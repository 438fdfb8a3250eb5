"""The component that TorchX finds: `torchx run -s local_cwd textune/launch/component.py:train --config config.toml`.

TorchX parses the source of this file, so its annotations are not postponed and use `Optional` instead of `|`.
"""

import sys
from typing import Dict, List, Optional  # noqa: UP035

from torchx import specs

from textune.errors import TextuneError
from textune.launch import job
from textune.launch.application import application


def train(
    *overrides: str,
    config: str,
    run: str = "",
    nodes: int = 1,
    gpus: int = 0,
    processes: int = 0,
    cpus: int = 0,
    memory_mb: int = 0,
    image: str = "",
    mounts: Optional[List[str]] = None,  # noqa: UP006, UP045
    env: Optional[Dict[str, str]] = None,  # noqa: UP006, UP045
    sbatch: Optional[Dict[str, str]] = None,  # noqa: UP006, UP045
    grace: int = 120,
    max_retries: int = 3,
) -> specs.AppDef:
    """Train with textune on one or more nodes, resuming from the last checkpoint if there is one.

    Args:
        overrides: key=value words that change the config, at the end of the command
        config: the TOML file
        run: the run folder, which all nodes can reach; by default runs/NAME-OF-CONFIG
        nodes: number of machines
        gpus: GPUs per machine, with one process each
        processes: processes per machine, if no GPUs are requested
        cpus: CPU cores per machine; by default four per process
        memory_mb: memory per machine in MB; by default what the scheduler gives
        image: container image, if the scheduler runs containers
        mounts: mounts of the containers, such as type=volume,src=claim,dst=/data
        env: environment variables of every process, such as A=1,B=2
        sbatch: further options of sbatch, such as account=physics,qos=long
        grace: seconds between the scheduler's warning and the end, for saving a checkpoint
        max_retries: how often a failed job is restarted
    """
    try:
        asked = job.Job(
            config,
            run=run,
            overrides=overrides,
            nodes=nodes,
            gpus=gpus,
            processes=processes,
            cpus=cpus,
            memory_mb=memory_mb,
            image=image,
            mounts=(",".join(mounts),) if mounts else (),
            env=env or {},
            sbatch=sbatch or {},
            grace=grace,
            max_retries=max_retries,
        )
        return application(job.checked(asked))
    except TextuneError as error:
        sys.exit(f"Error: {error}")  # TorchX would show a traceback
