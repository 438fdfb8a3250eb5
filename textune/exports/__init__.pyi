from .hf import export as export
