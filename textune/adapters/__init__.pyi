from .accelerate import as_accelerated as as_accelerated
from .bsmetadata.command import named_config as named_config
from .bsmetadata.convert import convert_bsmetadata as convert_bsmetadata
from .bsmetadata.flags import FLAGS as FLAGS
from .bsmetadata.flags import read_flags as read_flags
from .foreign import Foreign as Foreign
from .loaded import load_foreign as load_foreign
from .written import as_toml as as_toml
