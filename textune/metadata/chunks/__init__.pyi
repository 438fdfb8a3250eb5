from .counts import Bare as Bare
from .counts import ChunkCounts as ChunkCounts
from .encoder import ChunkEncoder as ChunkEncoder
from .encoder import Chunks as Chunks
from .encoder import Compared as Compared
