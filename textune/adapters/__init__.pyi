from .bsmetadata.convert import convert_bsmetadata as convert_bsmetadata
from .foreign import Foreign as Foreign
from .foreign import load_foreign as load_foreign
from .written import as_toml as as_toml
