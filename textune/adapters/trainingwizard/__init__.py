"""training-wizard, which trains from one TOML or JSON file of specs: that file, classes of a user's own in it, and the
words that go with it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
