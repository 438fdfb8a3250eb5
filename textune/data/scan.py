"""Why bytes are not UTF-8, as `columnar.py` asks for it; the work is done in `files.py`."""

from textune.data import files


def undecodable(data: bytes, start: int, end: int, offset: int) -> str:
    """Why `data[start:end]` is not UTF-8; empty if it is."""
    return files.undecodable(data[start:end], offset + start)
