"""A job in the terms of TorchX: an `AppDef` whose one role is the nodes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torchx import specs

from textune.errors import LaunchError, TextuneError
from textune.launch.job import PORT, Job
from textune.launch.slurm import slurm_request


@dataclass
class TrainingRole(specs.Role):  # type: ignore[misc]  # TorchX is not typed
    """The nodes of a job. Adds to the scheduler's request what TorchX itself cannot express."""

    job: Job = field(default_factory=lambda: Job(""))

    def pre_proc(self, scheduler: str, dryrun_info: Any) -> Any:
        """Called by TorchX with the request before it is shown or submitted."""
        request = dryrun_info.request
        if scheduler == "slurm":
            first = next(iter(request.replicas.values()))
            said = dict(word.removeprefix("--").split("=", 1) for word in request.cmd if "=" in word)
            dryrun_info.request = slurm_request(self.job, first.sbatch_opts | said, first.env)
        elif scheduler == "kubernetes":
            for task in request.resource["spec"]["tasks"]:
                _complete(task, self.job.grace)
        return dryrun_info


def _complete(task: dict[str, Any], grace: int) -> None:
    """Add what TorchX leaves out of a Volcano task."""
    pod = task["template"].spec
    pod.termination_grace_period_seconds = grace
    for container in pod.containers:
        # Kubernetes would replace $(NAME) by a variable; it reads $$ as a plain $.
        container.command = [word.replace("$", "$$") for word in container.command]
        for variable in container.env:
            variable.value = variable.value and variable.value.replace("$", "$$")
    if "policies" in task:
        # The first matching policy wins, and a pod that exits with 2 has failed, too.
        task["policies"] = [{"exitCode": TextuneError.exit_code, "action": "TerminateJob"}, *task["policies"]]


def application(job: Job) -> specs.AppDef:
    """The application of a checked job; LaunchError if its mounts cannot be read."""
    # TorchX fills in the name of the variable that holds the first node; in its templates $$ is a plain $.
    endpoint = "localhost:0" if job.nodes == 1 else f"<FIRST>:{PORT}"
    command = job.command(endpoint=endpoint, job_id="<ID>").replace("$", "$$")
    command = command.replace("<FIRST>", f"$${{{specs.macros.rank0_env}:-localhost}}").replace(
        "<ID>", specs.macros.app_id
    )
    return specs.AppDef(
        name=job.name,
        roles=[
            TrainingRole(
                name="train",
                image=job.image,
                entrypoint="bash",
                args=["-c", command],
                env={name: value.replace("$", "$$") for name, value in job.variables().items()},
                num_replicas=job.nodes,
                max_retries=job.max_retries,
                resource=specs.Resource(cpu=job.cores, gpu=job.gpus, memMB=job.memory_mb),
                port_map={"c10d": PORT},
                mounts=_mounts(job.mounts),
                job=job,
            )
        ],
    )


def _mounts(texts: tuple[str, ...]) -> list[object]:
    found = []
    for text in texts:
        try:
            found += specs.parse_mounts(text.split(","))
        except (KeyError, ValueError) as error:
            raise LaunchError(
                f"the mount {text} cannot be read: {error}.",
                hint="Write it as type=volume,src=CLAIM,dst=/data or type=bind,src=/data,dst=/data[,readonly].",
            ) from error
    return found
