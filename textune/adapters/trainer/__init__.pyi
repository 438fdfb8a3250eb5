from .arguments import Arguments as Arguments
from .arguments import read_arguments as read_arguments
from .batch import batch_line as batch_line
from .fields import FIELDS as FIELDS
from .given import checked as checked
from .older import OLDER as OLDER
