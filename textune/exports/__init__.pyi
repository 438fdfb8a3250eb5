from .exporting import Exported as Exported
from .exporting import export as export
from .exporting import plain_folder as plain_folder
from .hub import Pushed as Pushed
from .hub import push as push
from .peftmerge import merge_adapters as merge_adapters
from .table import kind_of as kind_of
