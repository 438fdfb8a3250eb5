"""Code of the user's own: objects named as `package.module:Name` are imported, checked against what textune asks of
them, and called; below every room.

Nothing here searches for code: a name is imported as Python itself would, from what is installed or on its path. Only
a configuration, or whoever calls `load`, names such an object; a saved model alone does not (`require_allowed`).
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import inspect
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from textune.errors import CodeError, TextuneError
from textune.wording import listing, nearest

_PATH_HINT = "Install its package, or add its folder to PYTHONPATH."
_FAULTS = (Exception, SystemExit)
"""What the user's code may raise: a `sys.exit` in it must not end the command as if all were well."""


@dataclass(frozen=True)
class OwnObject:
    """A class or function of the user's."""

    path: str
    """`package.module:Name`."""
    key: str
    """The setting that names it, such as `task.object`."""
    target: Any = field(repr=False)
    """What stands under that name."""

    @classmethod
    def find(cls, path: str, *, key: str) -> OwnObject:
        """Import it; CodeError where the module or the name is not there, or the module itself fails."""
        module_name, _, name = path.partition(":")
        try:
            module = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise _failed(path, key, error, "while it is imported") from error  # it imports something that is gone
            raise CodeError(
                f"{key} = {path!r} cannot be imported: {error}.", hint=_PATH_HINT, key=key, value=path
            ) from error
        except TextuneError:
            raise
        except _FAULTS as error:
            raise _failed(path, key, error, "while it is imported") from error
        target = getattr(module, name, None)
        if target is None:
            names = [known for known in vars(module) if not known.startswith("_")]
            close = nearest(name, names)
            raise CodeError(
                f"{key} = {path!r}: the module {module_name} has no {name!r}.",
                hint=f"Did you mean {close!r}?" if close else f"It has {listing(names, 8) or 'no names'}.",
                key=key,
                value=path,
            )
        return cls(path, key, target)

    def require_class(self, methods: Mapping[str, Sequence[str]]) -> None:
        """CodeError unless it is a class with these methods, each of which takes the arguments that are named."""
        if not inspect.isclass(self.target):
            raise self.error(f"it is {article(self.target)}, not a class")
        for name, arguments in methods.items():
            method = inspect.getattr_static(self.target, name, None)
            if method is None:
                near = nearest(name, dir(self.target))
                raise self.error(
                    f"the class {self.target.__name__} has no method {name}({', '.join(arguments)})",
                    hint=f"It has {near!r}: rename it." if near else "",
                    value=name,
                )
            if not callable(getattr(self.target, name)):
                raise self.error(f"{self.target.__name__}.{name} is {article(method)}, not a method", value=name)
            self.require_call(getattr(self.target, name), (None, *arguments), {}, f"{self.target.__name__}.{name}")

    def require_call(
        self, function: Callable[..., object], given: Sequence[object], named: Mapping[str, object], what: str
    ) -> None:
        """CodeError where a function does not take these arguments."""
        try:
            signature = inspect.signature(function)
        except (TypeError, ValueError):  # written in C
            return
        try:
            signature.bind(*given, **named)
        except TypeError as error:
            wanted = [str(one) for one in given if one is not None] + [f"{name}=..." for name in named]
            raise self.error(
                f"{what}{signature} does not take ({', '.join(wanted)}): {error}", value=what.rpartition(".")[2]
            ) from error

    def build(self, options: Mapping[str, object], given: Mapping[str, object] | None = None) -> Any:
        """Call it with `given` and the user's `options`; CodeError where it does not take them, or fails."""
        section = self.key.rpartition(".")[0]
        if both := sorted(set(options) & set(given or {})):
            raise self.error(f"{section}.options.{both[0]} is given by textune", value=both[0])
        named = {**(given or {}), **options}
        self.require_call(self.target, (), named, getattr(self.target, "__name__", self.path))
        with self.calling("while it is made"):
            return self.target(**named)

    @contextlib.contextmanager
    def calling(self, doing: str, *, passing: tuple[type[Exception], ...] = ()) -> Iterator[None]:
        """Around a call of the user's code: a CodeError names the file and the line of any exception but `passing`
        ones."""
        try:
            yield
        except _FAULTS as error:
            if isinstance(error, (TextuneError, *passing)):
                raise
            raise _failed(self.path, self.key, error, doing) from error

    def error(self, reason: str, *, hint: str = "", value: object = None) -> CodeError:
        """What is wrong with it."""
        return CodeError(
            f"{self.key} = {self.path!r}: {reason}.",
            hint=hint or "docs/extending.md says what such a class must have.",
            key=self.key,
            value=self.path if value is None else value,
            reason=reason,
        )


def fingerprint(path: str) -> str:
    """Hash of the file that holds an object which is imported already; empty where no file does."""
    file = inspect.getsourcefile(importlib.import_module(path.partition(":")[0]))
    return "" if file is None else hashlib.blake2b(Path(file).read_bytes(), digest_size=16).hexdigest()


def require_allowed(named: Sequence[str], allowed: Sequence[str], *, where: str) -> None:
    """CodeError where a saved model names code that its user has not named: the folder may come from anybody."""
    missing = [path for path in named if path not in allowed]
    if missing:
        raise CodeError(
            f"{where} names code of its own, which is not imported unless you say so: {', '.join(missing)}.",
            hint="If you trust that code, name it: --code "
            + " --code ".join(missing)
            + f" (in Python: code={missing!r}).",
            key="code",
            value=missing[0],
            place=where,
        )


def _failed(path: str, key: str, error: BaseException, doing: str) -> CodeError:
    place = _place_of(error, path)
    reason = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")
    return CodeError(
        f"{key} = {path!r} fails {doing}: {reason} ({place}).",
        hint="--debug shows the whole traceback.",
        key=key,
        value=path,
        place=place,
        reason=reason,
    )


def _place_of(error: BaseException, path: str) -> str:
    """The file and line of the user's code that an error comes from: the innermost frame of it."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}"
    frames = _frames(error.__traceback__)
    home = _home_of(path)
    inside = [frame for frame in frames if home and os.path.abspath(frame[0]).startswith(home)]
    others = [frame for frame in frames if not _is_ours(frame[0])]
    file, line = (inside or others or frames or [(path, 0)])[-1]
    return f"{file}, line {line}"


def _frames(trace: TracebackType | None) -> list[tuple[str, int]]:
    return [(frame.filename, frame.lineno or 0) for frame in traceback.extract_tb(trace)]


def _home_of(path: str) -> str:
    """Where the user's code lies: the folder of its outermost package, or the file of a module by itself."""
    spec = None
    with contextlib.suppress(ImportError, ValueError, AttributeError):
        spec = importlib.util.find_spec(path.partition(":")[0].partition(".")[0])
    if spec is None or spec.origin is None:
        return ""
    origin = os.path.abspath(spec.origin)
    return os.path.dirname(origin) + os.sep if spec.submodule_search_locations is not None else origin


def _is_ours(file: str) -> bool:
    own = os.path.dirname(os.path.abspath(__file__)) + os.sep
    return os.path.abspath(file).startswith(own) or file.startswith("<frozen")


def article(value: object) -> str:
    """What a value is, in words: `an int`, `a str`."""
    name = type(value).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"
