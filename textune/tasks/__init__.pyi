from .decision import decide as decide
from .decision import nth_row as nth_row
from .decision import require_numbers as require_numbers
from .task import ByHead as ByHead
from .task import Task as Task
from .task import build_task as build_task
