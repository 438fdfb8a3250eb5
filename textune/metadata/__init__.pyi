from .problems import HINTS as HINTS
from .problems import TITLES as TITLES
from .problems import BadEntries as BadEntries
from .records import COLUMN as COLUMN
from .records import read_documents as read_documents
from .records import require_known_types as require_known_types
from .render import render as render
