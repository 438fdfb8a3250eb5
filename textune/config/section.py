"""What all sections of the configuration have in common, and what a key can be for; below `schema.py`."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


class Section(BaseModel):
    """Shared behaviour of all sections: unknown keys are errors, values cannot be changed, defaults
    are checked too.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class Role(Enum):
    """What a key is for; what a resumed run may change follows from it."""

    LEARNED = "learned"
    """Decides what is learned: a resumed run refuses another value. The role of a key without a mark."""
    COMPUTED = "computed"
    """How and where the same result is computed, watched and saved: a resumed run reports another value."""
    LOCATED = "located"
    """Where something is: a resumed run compares what is found there."""


_T = TypeVar("_T")
Computed = Annotated[_T, Role.COMPUTED]
"""Marks a key, or a table with all its keys, as computed."""
Located = Annotated[_T, Role.LOCATED]
"""Marks a key as located."""


@dataclass(frozen=True)
class Kept:
    """Marks a key that keeps its value when the `kind` of its table changes, where the new kind has that key too."""


@dataclass(frozen=True)
class ShortForm:
    """Marks a table that may be written as the value of one of its keys, where the other keys keep their values."""

    key: str

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The table, or what its key takes."""
        whole = handler(core)
        options = [one for option in whole.get("anyOf", [whole]) for one in option.get("oneOf", [option])]
        tables = [handler.resolve_ref_schema(option) for option in options]
        keys = next(table["properties"] for table in tables if "properties" in table)
        short = {name: value for name, value in keys[self.key].items() if name in {"anyOf", "type", "items"}}
        return {"anyOf": [*whole.get("anyOf", [whole]), *short.get("anyOf", [short])]}
