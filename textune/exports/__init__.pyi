from .hf import export as export
from .hub import Pushed as Pushed
from .hub import push as push
