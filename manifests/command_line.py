"""How both programs end: what the user gave wrong, and what is found wrong, becomes one line and its exit code.

Exit codes: 0 done, 1 found wrong, 2 bad input, 130 interrupted.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn, Protocol, cast

import typer
from rich.console import Console

from manifests.errors import MaphError

__all__ = ["errors", "run_program"]

errors = Console(stderr=True, highlight=False, soft_wrap=True)


class _Usage(Protocol):
    """What is known of a wrong command line."""

    ctx: typer.Context | None

    def format_message(self) -> str: ...


# click's own class, under whatever name this release of typer keeps it
_UsageError = cast("type[Exception]", typer.BadParameter.__bases__[0])


def run_program(app: typer.Typer, name: str, *, kept: str) -> NoReturn:
    """Run a program on its command line, and leave with its exit code.

    Parameters
    ----------
    app : typer.Typer
        Its commands.
    name : str
        As the user calls it.
    kept : str
        What an interrupted run has kept, for the message: "finished epochs are kept".
    """
    try:
        code = app(standalone_mode=False, prog_name=name)
    except _UsageError as error:
        code = _explain_usage(cast("_Usage", error), name)
    except MaphError as error:
        _complain(str(error))
        code = error.exit_code
    except KeyboardInterrupt:  # typer makes most of them 130
        code = 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    if code == 130:
        _stop(kept)
    sys.exit(code if isinstance(code, int) else 0)


def _stop(kept: str) -> NoReturn:
    """Leave at once: an impatient further Ctrl-C must not cut the message or change the exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    errors.print(f"[yellow]stopped[/yellow]: {kept}; the same command goes on from there")
    sys.stdout.flush()
    os._exit(130)


def _explain_usage(error: _Usage, name: str) -> int:
    message = error.format_message().rstrip(".")
    if message:  # none: there were no arguments at all, and help has been shown
        command = error.ctx.command_path if error.ctx else name
        _complain(f"{message}; see `{command} --help`")
    return 2


def _complain(text: str) -> None:
    errors.print("[bold red]error[/bold red]: ", end="")
    errors.print(" ".join(text.split()), markup=False)
