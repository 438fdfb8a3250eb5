"""Rows from data sources that are classes: the user's own, and those of training-wizard where our readers do not
reach.

`data.train.object` names `rows`, and its options hold the table; the class is imported when the rows are read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from textune.adapters.trainingwizard.classes import own_object
from textune.adapters.trainingwizard.keys import SIMPLE
from textune.adapters.trainingwizard.standin import stand_in
from textune.errors import ConfigError
from textune.jsontext import finite
from textune.owncode import OwnObject, article

OBJECT = "textune.adapters.trainingwizard.own:rows"
_KEPT: dict[str, Any] = {}
"""Rows that were looked at and not read yet, by table."""


def rows(spec: Mapping[str, Any]) -> object:
    """The rows that the class of a table gives, in any form that `textune.train` takes.

    CodeError where the class is not there or fails, ConfigError where it does not take the table.
    """
    found = _KEPT.pop(_name(spec), None)
    found = _given_by(spec) if found is None else found
    is_dataset = hasattr(found, "with_format") and hasattr(found, "features")
    return found.with_format("arrow")[:] if is_dataset else found  # as a table, not row by row


def first_row_of(spec: Mapping[str, Any], *, key: str) -> Mapping[str, Any] | None:
    """The first of those rows; None where they cannot be looked at without being used up."""
    found = _given_by(spec, key=key)
    _KEPT[_name(spec)] = found
    names = getattr(found, "column_names", None)
    try:
        first = found[0]
    except (TypeError, KeyError, IndexError):
        return None if names is None else dict.fromkeys(names)
    return first if isinstance(first, Mapping) else None if names is None else dict.fromkeys(names)


def _name(spec: Mapping[str, Any]) -> str:
    return json.dumps(finite(spec), sort_keys=True, default=str, allow_nan=False)


def _given_by(spec: Mapping[str, Any], *, key: str = "spec_class") -> Any:
    named = str(spec.get("spec_class") or SIMPLE)
    with stand_in():
        code = OwnObject.find(own_object(named), key=key)
        if not hasattr(code.target, "model_validate"):
            raise code.error(
                f"it is {article(code.target)}, not a data source",
                hint="Make it a class below training_wizard.specs.dataset.DataSourceSpec with a property dataset.",
            )
        with code.calling("while it gives rows"), _said(code):
            source = code.target.model_validate(dict(spec))
            found = getattr(source, "dataset", None)
    if found is None:
        raise code.error("its property dataset gives no rows")
    return found


@contextmanager
def _said(code: OwnObject) -> Iterator[None]:
    """Around the reading of a table by its class: keys and values that it does not take become a ConfigError."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "the table"
        reason = f"{first['msg'][0].lower()}{first['msg'][1:]}"
        raise ConfigError(
            f"{name}: {code.path.replace(':', '.')} cannot use it: {reason}.",
            key=name,
            value=first.get("input"),
            place=code.path,
            reason=reason,
        ) from None
