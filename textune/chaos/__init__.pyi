from .chaos import chaos as chaos
