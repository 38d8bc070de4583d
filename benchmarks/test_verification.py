"""Every known answer of docs/verification.md holds, and every plot can be drawn."""

from __future__ import annotations

import matplotlib as mpl
import pytest

from benchmarks.verification.__main__ import TOPICS, draw, row


@pytest.mark.parametrize("topic", TOPICS)
def test_known_answers_hold(topic: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    mpl.use("Agg")
    cases = TOPICS[topic][1].cases()
    assert len(cases) >= 5
    wrong = [row(case) for case in cases if not case.holds]
    assert not wrong, "\n".join(wrong)
    folder = tmp_path_factory.mktemp(topic)
    for number, case in enumerate(cases):
        if case.plot is not None:
            draw(case, folder / f"{number}.png")
            assert (folder / f"{number}.png").stat().st_size > 1000
