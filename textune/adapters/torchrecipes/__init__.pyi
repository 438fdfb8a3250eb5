from .command import launcher_variables as launcher_variables
from .command import named_recipe as named_recipe
from .convert import Recipe as Recipe
from .convert import convert_torchrecipes as convert_torchrecipes
