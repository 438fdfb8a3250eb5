"""Training by ONNX Runtime; begin with `engine.py`."""
