"""The command line: each verb is a thin wrapper over an importable function, and the only place that prints.

Exit codes: 0 done; 1 a fault of textune, or a proof that failed; 2 something the user can mend;
75 another process of the run is gone, try again; 130, 138, 143 stopped by Ctrl+C, SIGUSR1, SIGTERM.
"""

from __future__ import annotations

import os
import sys
import traceback

import click

from textune import __version__
from textune.cli.chaos import chaos
from textune.cli.configs import check, init, schema, show
from textune.cli.launching import launch
from textune.cli.models import evaluate, export, info, predict
from textune.cli.runs import train
from textune.errors import ConfigError, Preempted, TextuneError
from textune.ranks import launched_rank

__all__ = ["commands", "main"]


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with its code; every error becomes a sentence (a traceback with `--debug`)."""
    words = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"]
    try:
        # Outside of click's standalone mode the code of `Exit` comes back as the result.
        code = commands(words, prog_name="textune", standalone_mode=False, obj=words) or 0
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, click.Abort) as error:
        if launched_rank() == 0:
            said = str(error.__cause__ or "")  # click puts an error of its own before it
            click.echo(said or "Interrupted; everything saved so far stays.", err=True)
        code = 130
    except BrokenPipeError:
        # The reader of our output is gone (`| head`): nothing is left to say, not even by the interpreter at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except Preempted as error:
        if launched_rank() == 0:
            click.echo(f"{error}", err=True)
        code = error.exit_code
    except TextuneError as error:
        code = _complain(error, str(error), error.exit_code, debug=debug)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        code = _complain(error, f"{place}{error.strerror or error}.", 2, debug=debug)
    except Exception as error:  # the last resort: our own faults end in a sentence too
        if _is_out_of_memory(error):
            hint = "Use a smaller backbone or fewer rows, or a machine with more memory."
            sys.exit(_complain(error, f"memory does not suffice. {hint}", 2, debug=debug))
        text = f"textune failed in a way it should not: {type(error).__name__}: {error}"
        text += "\nRun it again with --debug and report what it prints."
        code = _complain(error, text, 1, debug=debug)
    sys.exit(code)


def _complain(error: BaseException, text: str, code: int, *, debug: bool) -> int:
    if debug:
        traceback.print_exception(error)
    rank = launched_rank()
    if rank == 0:
        click.echo(f"Error: {text}", err=True)
    elif not isinstance(error, ConfigError):  # which every rank finds: the first has said it
        click.echo(f"Error on rank {rank}: {text}", err=True)
    return code


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out; torch is not imported to look at an error that cannot be its own."""
    if "torch" not in sys.modules:
        return isinstance(error, MemoryError)
    from textune.model.memory import is_out_of_memory

    return is_out_of_memory(error)


@click.group(
    commands=[init, check, show, schema, train, evaluate, predict, info, export, launch, chaos],
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="textune")
def commands() -> None:
    """A file of labelled text and one TOML config in; a fine-tuned, evaluated, reusable text model out.

    Start with `textune init reviews.csv --out config.toml`. Any verb takes --debug, which shows the traceback of an error.
    """
