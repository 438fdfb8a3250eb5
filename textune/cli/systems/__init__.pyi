from .group import convert as convert
from .table import command_called as command_called
from .table import with_its_word as with_its_word
from .table import words_of_systems as words_of_systems
