"""One trained run, shared by all tests of the pipeline, and a gate of exports that starts quickly."""

from kits.gating import forked_gate
from kits.trained import home, trained

__all__ = ["forked_gate", "home", "trained"]
