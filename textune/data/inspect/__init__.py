"""What is wrong with rows, and what files hold that nobody has described."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
