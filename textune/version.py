"""The version of textune, where every room can read it without the public names."""

__version__ = "0.1.0"
