"""The data room: files, hub data sets and the user's own classes to examples, ids and batches.

sources -> columns -> labels -> splits   (put together by prepare)   -> tokens -> batches -> loader
   rows    examples   targets   parts                                   audit, guess: beside the flow
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
