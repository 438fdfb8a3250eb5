from .compose import Composed as Composed
from .compose import compose as compose
