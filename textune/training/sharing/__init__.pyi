from .zero.plan import plan_zero as plan_zero
from .zero.plan import require_deepspeed as require_deepspeed
