"""Worker processes that drive textune; `adapter.py` is the only place that knows its insides."""
