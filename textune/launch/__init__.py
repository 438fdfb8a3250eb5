"""From a config to a job on one machine, a Slurm cluster or Kubernetes; imports only the configuration.

TorchX hands the job to the scheduler; each node runs torchrun, which starts `textune train CONFIG ... --resume auto`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
