from .chaos import chaos as chaos
from .machine import prove_machine as prove_machine
