from .convert import convert_training_wizard as convert_training_wizard
from .generator import Grid as Grid
from .generator import read_grid as read_grid
