"""From a config to a job on one machine, a Slurm cluster or Kubernetes: sees the configuration and nothing further on.

TorchX hands the job to the scheduler; each node runs torchrun, which starts `textune train CONFIG ... --resume auto`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
