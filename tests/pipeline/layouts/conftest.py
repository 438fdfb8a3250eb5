"""The trained run of the tests of the pipeline."""

from kits.trained import home, trained

__all__ = ["home", "trained"]
