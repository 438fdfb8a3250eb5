from .table import write_layout as write_layout
