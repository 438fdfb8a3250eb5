"""What a model is trained for: losses, weights and scores; after `data`, before `model`."""

from textune.tasks.supervised import SupervisedTask, Task, build_task

__all__ = ["SupervisedTask", "Task", "build_task"]
