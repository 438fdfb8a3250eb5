from .accelerate import accelerated as accelerated
from .cluster import prepare as prepare
from .cluster import require_scheduler as require_scheduler
from .job import Job as Job
from .processes import become_processes as become_processes
from .processes import num_processes as num_processes
