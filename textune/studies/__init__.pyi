from .compare import compare as compare
from .glue import glue as glue
from .repeat import repeat as repeat
from .runs import PlannedRun as PlannedRun
from .runs import RunResult as RunResult
from .sweep import sweep as sweep
from .sweepresult import SweepResult as SweepResult
from .sweepscript import write_sweep as write_sweep
