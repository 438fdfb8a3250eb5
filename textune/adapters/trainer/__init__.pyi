from .arguments import Arguments as Arguments
from .arguments import read_arguments as read_arguments
from .fields import FIELDS as FIELDS
from .older import OLDER as OLDER
