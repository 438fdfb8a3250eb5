"""One trained run, shared by all tests of exports."""

from kits.trained import home, trained

__all__ = ["home", "trained"]
