"""What a trained run is made of."""

from kits.trained import home

__all__ = ["home"]
