"""A file of rows and a configuration, for whole runs."""

from kits.trained import home

__all__ = ["home"]
