from .compose import Composed as Composed
from .compose import compose as compose
from .compose import find_config as find_config
