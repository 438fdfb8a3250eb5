from .score import score as score
from .score import sets as sets
from .table import FIGURES as FIGURES
from .table import OF_RUN as OF_RUN
