from .kills import chaos as chaos
