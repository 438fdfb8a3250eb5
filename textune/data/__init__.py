"""The data room: files, hub data sets, the user's own classes and rows in memory to labelled rows by split.

sources -> columns -> labels -> splits   (put together by prepare)   -> batches
   rows       examples   targets   splits   (inspect: outside the flow)
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
