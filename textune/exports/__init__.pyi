from .export import export as export
from .export import plain_folder as plain_folder
