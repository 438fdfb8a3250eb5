from .group import convert as convert
from .table import command_called as command_called
