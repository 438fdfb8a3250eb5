"""Types of configuration values beyond plain Python types: durations, paths, lists of names."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, PositiveInt
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

Rounding = Literal["nearest", "up"]


@dataclass(frozen=True)
class Duration:
    """A length of training: `"500 steps"` (optimizer steps), `"2 epochs"`, or `"6 %"`, a share of the whole run."""

    amount: float
    unit: Literal["steps", "epochs", "%"]

    @classmethod
    def parse(cls, text: object) -> Duration:
        """Parse `"<number> steps|epochs"` (singular accepted) or `"<number> %"`; ValueError, with the reason, for
        anything else."""
        if isinstance(text, Duration):
            return text
        match = re.fullmatch(_DURATION, text) if isinstance(text, str) else None
        if match is None:
            raise ValueError('a duration is a number and a unit, such as "500 steps", "2 epochs" or "6 %"')
        amount, unit = float(match[1]), _UNITS[match[2] or match[3]]
        if unit == "%" and amount > 100:
            raise ValueError("a share of a run is at most 100 %")
        if amount > 1e12:
            raise ValueError("a duration is at most 1000000000000 steps or epochs")
        if unit == "steps" and amount != int(amount):
            raise ValueError(f"{match[1]} steps: optimizer steps are whole numbers")
        return cls(amount, unit)

    def steps(self, steps_per_epoch: int, total_steps: int | None = None, *, rounding: Rounding = "nearest") -> int:
        """Optimizer steps as whole steps; a duration above zero is at least one step.

        `total_steps` are those of the run, which a share is a share of. `rounding`: to the nearest step, or up, with
        the arithmetic of transformers' Trainer.
        """
        exact = self.amount
        if self.unit == "%":
            assert total_steps is not None, "the length of a run cannot be a share of it"
            # the float nearest to the share as it is written, which transformers' arguments have: 0.9 / 100 is not it
            share = float(Decimal(repr(self.amount)) / 100)
            exact = total_steps * share if rounding == "up" else exact * (total_steps / 100)
        elif self.unit == "epochs":
            exact *= steps_per_epoch
        whole = math.ceil(exact) if rounding == "up" else round(exact)
        return max(1, whole) if exact > 0 else 0

    def __str__(self) -> str:
        exact = format(Decimal(repr(float(self.amount))).normalize(), "f")
        return f"{exact} {self.unit[:-1] if self.amount == 1 and self.unit != '%' else self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.plain_serializer_function_ser_schema(str)
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "pattern": f"^{_DURATION}$", "examples": ["2 epochs", "6 %"]}


_DURATION = r"\s*(\d+(?:\.\d*)?|\.\d+)(?:\s+(step|epoch)s?|\s*(%))\s*"
_UNITS: dict[str, Literal["steps", "epochs", "%"]] = {"step": "steps", "epoch": "epochs", "%": "%"}


def _no_share(value: Duration) -> Duration:
    if value.unit == "%":
        raise ValueError("a share of the run cannot say how long the run is; give steps or epochs")
    return value


def _above_zero(value: Duration) -> Duration:
    if value.amount <= 0:
        raise ValueError("the duration must be above zero")
    return value


# --- choices used in several places ----------------------------------------------------------------------------------

Switch = Literal["auto", "on", "off"]
DeviceName = Literal["auto", "cpu", "cuda"]
TrainingPrecision = Literal["auto", "fp32", "bf16", "fp16"]
PredictionPrecision = Literal["auto", "fp32", "bf16", "fp16", "int8"]
AttentionLayout = Literal["auto", "packed", "padded"]
PadTo = Literal["batch", "max_length"]
Truncation = Literal["head", "tail", "head_tail", "error"]
LongTexts = Literal["truncate", "windows"]
Pooling = Literal["mean", "max", "attention"]
Quoting = Literal["auto", "standard", "none"]
OnBadRow = Literal["error", "skip"]
OnExtraCells = Literal["error", "ignore"]

# --- types -----------------------------------------------------------------------------------------------------------

Period = Annotated[Duration, AfterValidator(_above_zero)]
"""A duration above zero."""

RunLength = Annotated[Period, AfterValidator(_no_share)]
"""The length of a run, which cannot be a share of it."""


def _one_or_more(value: object) -> object:
    return value if isinstance(value, list | tuple) else (value,)


def _numbers(value: object) -> object:
    """A single whole number as a list of one, anything else as it is."""
    number = whole_number(value)
    return (number,) if isinstance(number, int) and not isinstance(number, bool) else value


_Name = Annotated[str, Field(coerce_numbers_to_str=True)]

Names = Annotated[tuple[_Name, ...], BeforeValidator(_one_or_more, json_schema_input_type=_Name | tuple[_Name, ...])]
"""A list of strings; a single string is a list of one, a number is read as its text."""

Arm = Literal["without", "same-context"]
"""What documents with metadata are compared with: their texts alone, cut as such, or cut where the documents are."""
Arms = Annotated[tuple[Arm, ...], BeforeValidator(_one_or_more, json_schema_input_type=Arm | tuple[Arm, ...])]
"""A list of arms; a single one is a list of one."""

WholeNumbers = Annotated[tuple[int, ...], BeforeValidator(_numbers, json_schema_input_type=int | tuple[int, ...])]
"""A list of whole numbers; a single one is a list of one."""

Steps = Annotated[
    tuple[PositiveInt, ...], BeforeValidator(_numbers, json_schema_input_type=PositiveInt | tuple[PositiveInt, ...])
]
"""Numbers of optimizer steps; a single one is a list of one."""

ColumnName = Annotated[str, Field(min_length=1)]
"""A column of the data."""


@dataclass(frozen=True)
class PathMarker:
    """Marks a value as a path, which `load.py` makes absolute; the name of a hub repository stays as it is."""

    hub: bool = False


FilePath = Annotated[str, Field(min_length=1), PathMarker()]
"""A path, or `package:NAME/PATH` for a file inside an installed Python package."""

FilePaths = Annotated[
    tuple[FilePath, ...], BeforeValidator(_one_or_more, json_schema_input_type=str | tuple[str, ...])
]
"""Paths or glob patterns."""

HubPath = Annotated[str, PathMarker(hub=True)]
"""A folder, `package:NAME/FOLDER`, or a name on the Hugging Face hub."""

DottedPath = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$", examples=["package.module:Name"])]
"""`package.module:Name` of an object in the user's own code."""

Seed = Annotated[int, Field(ge=0, lt=2**32)]
"""Seed of a random sequence."""


def known_encoding(name: str) -> str:
    """The name, if it is a text encoding that Python knows; else ValueError."""
    try:
        "a".encode(name)
    except (LookupError, ValueError):
        raise ValueError('no such text encoding; common ones are "utf-8", "latin-1", "cp1252" and "utf-16"') from None
    return name


def regular_expression(pattern: str) -> str:
    """The pattern, if it is a regular expression with a named group; else ValueError."""
    try:
        groups = re.compile(pattern).groupindex
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from None
    if not groups:
        raise ValueError("the regular expression has no named group, such as (?P<text>.*)")
    return pattern


def spelled_tab(value: object) -> object:
    """The value, with the two-character spelling of a tab replaced: a tab is hard to type in a shell."""
    return "\t" if value == "\\t" else value


def whole_number(value: object) -> object:
    """The value, with text converted to a number: a `Literal` of numbers does not convert text from
    the command line.
    """
    return int(value) if isinstance(value, str) and re.fullmatch(r"\s*\d{1,9}\s*", value) else value
