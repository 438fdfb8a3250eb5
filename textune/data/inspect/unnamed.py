"""The columns of rows in memory that the configuration does not name, where only one answer is possible; beside
`guess.py`.
"""

from __future__ import annotations

from collections.abc import Mapping

from textune.data.inspect.profile import profile_table
from textune.data.inspect.roles import find_roles
from textune.data.reading import Rows
from textune.errors import DataError
from textune.wording import listing


def unnamed_columns(rows: Rows, *, text: str | None, label: str | None) -> Mapping[str, str]:
    """The columns to read, by their key in `data.columns`: those that are None are found here.

    DataError where several could be meant, or none.
    """
    roles = find_roles(profile_table(rows.table), rows.source, named=True, text=text, label=label)
    found = {"text": text or roles.text, "label": label or roles.label}
    if roles.is_doubtful or roles.unsettled or roles.labels:
        sought = [name for name, known in (("text", text), ("label", label)) if known is None]
        keys = [f"data.columns.{name}" for name in sought]
        why = " ".join(roles.notes)
        columns = listing(map(repr, rows.table.column_names))
        raise DataError(
            f"{rows.source}: the configuration does not name the column of the {' and the '.join(sought)}, and it"
            f" cannot be told which one it is; columns found: {columns}. {why}".strip(),
            hint=f"Set {' and '.join(keys)}.",
            key=keys[0],
            value=rows.table.column_names,
            place=rows.source,
            reason=why or "no column looks like it",
        )
    pair = {"text_pair": roles.text_pair} if roles.text_pair is not None else {}
    return {name: column for name, column in (found | pair).items() if column is not None}
