"""Every error that textune raises on purpose, and what each one means for the exit code.

    TextuneError            the user can mend it: the CLI prints the sentence and exits with 2
    ├── ConfigError         a key, a value, an override or a combination of keys
    ├── DataError           a file, a row, a column, a label or a split
    │   └── InputError      what was given to `predict` in Python
    ├── ModelError          a backbone, a tokenizer, a device or a precision
    ├── RunError            a run folder: occupied, incomplete, or not one at all
    ├── RanksError          processes that should work together: one does not come, or is gone
    ├── Preempted           no error: a scheduler asked the run to stop, and everything is saved (exit code 128 + signal)
    └── LaunchError         a job for a scheduler: its size, its options, or something that is not installed

Anything else that escapes is a bug of ours: the CLI says so, names `--debug`, and exits with 1.
"""


class TextuneError(Exception):
    """One sentence that names the place, the value and the reason; `hint` says what to do next."""

    exit_code = 2

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class ConfigError(TextuneError):
    """A configuration key, value or combination that cannot be used."""


class DataError(TextuneError):
    """A file, row, column, label or split that cannot be used."""


class InputError(DataError, TypeError, ValueError):
    """What was given in Python cannot be texts; also a TypeError and a ValueError, as Python has it."""


class ModelError(TextuneError):
    """A backbone, tokenizer, device or precision that cannot be used."""


class RunError(TextuneError):
    """A run folder that is occupied, incomplete or not a run folder."""


class RanksError(TextuneError):
    """Processes of one run that do not find, or have lost, each other; what a scheduler may simply try again (EX_TEMPFAIL)."""

    exit_code = 75


class Preempted(TextuneError):
    """A signal asked the run to stop; it has saved everything and resumes when the same command is started again."""

    def __init__(self, message: str, *, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number


class LaunchError(TextuneError):
    """A job that cannot be handed to a scheduler."""
