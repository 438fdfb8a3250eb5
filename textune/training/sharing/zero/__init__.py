"""DeepSpeed's ZeRO; begin with `sharing.py`."""
