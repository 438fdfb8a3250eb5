"""Which class a `spec_class` names: one of training-wizard's own for classification, or one of the user's."""

from __future__ import annotations

from collections.abc import Mapping

from textune.adapters.trainingwizard.keys import PACKAGE, Key
from textune.adapters.trainingwizard.specfile import Place, SpecFile
from textune.config import Problem, format_key
from textune.wording import nearest

_NAME = r"letters, digits and _ , with dots between"


def own_object(spec_class: str) -> str:
    """`package.module:Name` of a dotted path to a class."""
    module, _, name = spec_class.rpartition(".")
    return f"{module}:{name}"


def is_own(spec_class: str) -> bool:
    """Whether it is the dotted path of a class of the user's."""
    return "." in spec_class and not spec_class.startswith(PACKAGE)


def class_named(
    file: SpecFile,
    place: Place,
    tree: Mapping[str, object],
    known: Mapping[str, Mapping[str, Key]],
    problems: list[Problem],
    *,
    default: str = "",
) -> str:
    """The name of the class that a table names, the dotted path of the user's own, or "" and a problem.

    `default`: of a table that names none.
    """
    at = (*place, "spec_class")
    named = tree.get("spec_class")
    if named is None and default:
        return default
    where, options = file.place(at), ", ".join(known)
    if not isinstance(named, str) or not named:
        message = f"{format_key(*at)} is not set ({file.place(place)}): it says what the table is."
        problems.append(Problem(at, message, f"Known are {options}, and classes of your own.", named, where))
        return ""
    if not all(part.isidentifier() for part in named.split(".")) or "." not in named:
        message = f'{format_key(*at)} = "{named}" ({where}) is no dotted path to a class, such as your.module.Name.'
        problems.append(Problem(at, message, value=named, origin=where))
        return ""
    name = named.rpartition(".")[2]
    if is_own(named):
        return named
    if name in known:
        return name
    close = nearest(name, known)
    message = f'{format_key(*at)} = "{named}" ({where}) is not a class for classification or regression.'
    hint = f"Did you mean {close}?" if close else f"textune trains {options}, and classes of your own."
    problems.append(Problem(at, message, hint, named, where))
    return ""
