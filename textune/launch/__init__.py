"""A config and the name of a scheduler in, a job there out: one machine, a Slurm cluster or Kubernetes; sees only
`config`.

TorchX hands the job to the scheduler; each node runs torchrun, which starts `textune train CONFIG ... --resume auto`.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
