"""Progress where there is no terminal, and where there is one."""

from __future__ import annotations

import re
from io import StringIO

import pytest
from rich.console import Console

from bisqad.terminal import TerminalProgress


def shown(*, terminal: bool) -> str:
    text = StringIO()
    with TerminalProgress(Console(file=text, force_terminal=terminal, width=100, highlight=False)) as progress:
        progress.stage("samples", 1500)
        progress.advance(700, 1500)
        progress.stage("epochs", 2)
        progress.advance(2, 2)
    return text.getvalue()


def test_without_a_terminal_each_stage_is_two_plain_lines() -> None:
    lines = shown(terminal=False).splitlines()
    assert [re.sub(r"\d+\.\d s", "N s", line) for line in lines] == [
        "samples: 1,500",
        "samples: finished in N s",
        "epochs: 2",
        "epochs: finished in N s",
    ]


def test_in_a_terminal_each_stage_has_a_bar() -> None:
    text = shown(terminal=True)
    assert re.search("samples.*700/1500", text)
    assert re.search("epochs.*2/2", text)


def test_a_stage_that_failed_is_not_called_finished() -> None:
    text = StringIO()

    def failing() -> None:
        with TerminalProgress(Console(file=text)) as progress:
            progress.stage("samples", 3)
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        failing()
    assert text.getvalue() == "samples: 3\n"
