from .glue import glue as glue
from .runs import PlannedRun as PlannedRun
from .runs import RunResult as RunResult
