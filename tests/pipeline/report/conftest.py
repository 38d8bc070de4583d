"""One browser for all tests of pages; they are skipped only where none is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.report.corpus_report import write_report
from tests.pipeline.report.browser import Browser, find_chromium

DETAILED = 10  # of the 24 samples of the report


@pytest.fixture(scope="session")
def running() -> Iterator[Browser]:
    command = find_chromium()
    if command is None:
        pytest.skip("Chromium is not installed")
    with Browser(command) as found:
        yield found


@pytest.fixture
def browser(running: Browser) -> Browser:
    """The browser as on a desk, with nothing complained of yet."""
    running.events.clear()
    running.look_as(1360, 900)
    return running


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory, several: Path) -> Path:
    """A report of 24 samples with up to four defects each, ten of them with all their pictures."""
    dest = tmp_path_factory.mktemp("report") / "report"
    assert write_report(several, dest, details=DETAILED) == DETAILED
    return dest
