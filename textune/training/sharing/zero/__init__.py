"""DeepSpeed's ZeRO: what it is told, and the learner that uses it."""
