from .choosing import built_for_few as built_for_few
