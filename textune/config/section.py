"""What all sections of the configuration have in common; below `schema.py`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """Shared behaviour of all sections: unknown keys are errors, values cannot be changed, defaults are checked too."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )
