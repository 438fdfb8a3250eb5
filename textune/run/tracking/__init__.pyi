from .lines import cut_lines as cut_lines
from .outbox import Outbox as Outbox
from .table import TRACKERS as TRACKERS
from .tracker import EvaluationValues as EvaluationValues
from .tracker import StepValues as StepValues
from .tracker import Tracker as Tracker
from .tracker import Trackers as Trackers
from .tracker import UseValues as UseValues
