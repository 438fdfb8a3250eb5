"""One trained run, shared by all tests of the pipeline."""

from kits.trained import home, trained

__all__ = ["home", "trained"]
