from .choosing import built_for_few as built_for_few
from .choosing import few_ahead as few_ahead
