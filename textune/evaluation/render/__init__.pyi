from . import cell as cell
from . import comparison as comparison
from . import console as console
from . import json as json
from . import markdown as markdown
from . import versus as versus
