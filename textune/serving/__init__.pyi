from .models import Models as Models
from .models import named_folders as named_folders
from .packages import needing_packages as needing_packages
from .server import serve as serve
from .settings import LoadOptions as LoadOptions
from .settings import Settings as Settings
from .settings import read_token as read_token
from .threads import let_threads_sleep as let_threads_sleep
