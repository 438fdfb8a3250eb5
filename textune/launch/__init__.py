"""From a config to a job on one machine, a Slurm cluster or Kubernetes: sees the configuration and nothing further on.

TorchX hands the job to the scheduler; each node runs torchrun, which starts `textune train CONFIG ... --resume auto`.
"""

from textune.launch.cluster import Request, prepare, require_scheduler
from textune.launch.job import Job, checked

__all__ = ["Job", "Request", "checked", "prepare", "require_scheduler"]
