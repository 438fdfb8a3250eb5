from .huggingface import ending_of as ending_of
from .huggingface import result_text as result_text
from .huggingface import results_of as results_of
from .table import write_layout as write_layout
