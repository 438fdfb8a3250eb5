"""One trained run, and a gate that starts quickly."""

from kits.gating import forked_gate
from kits.trained import home, trained

__all__ = ["forked_gate", "home", "trained"]
