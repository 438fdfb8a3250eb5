from .exporting import export as export
from .exporting import plain_folder as plain_folder
