"""The shapes of requests and answers, one module each; `table.py` has them all."""
