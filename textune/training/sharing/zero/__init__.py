"""Training shared by DeepSpeed's ZeRO; begin with `sharing.py`."""
