"""One trained run, shared by all tests of the exports."""

from kits.trained import home, trained

__all__ = ["home", "trained"]
