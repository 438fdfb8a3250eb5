"""Rows of any source in, `PreparedData` out: labelled examples by split, and the label map; after `config`, before
`batches`.

reading/      columns.py     labels/     splits.py
rows     -->  examples  -->  targets --> splits        put together by prepare.py
inspect/ looks at rows beside this flow; shards/ reads training rows that are larger than memory
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
