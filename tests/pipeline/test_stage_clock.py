"""Stages of a process: they add up, an inner one is taken off the outer, and a task says what it cost."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.stage_clock import OTHER, Measured, peak_memory, share_out, take, timed

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def fresh_clock() -> Iterator[None]:
    take()
    yield
    take()


def burn(cpu_s: float) -> None:
    end = time.process_time() + cpu_s
    while time.process_time() < end:
        pass


def work(seconds: float) -> str:
    """A task with a stage that computes, one that waits, and something in none."""
    with timed("computes"):
        burn(seconds)
    with timed("waits"):
        time.sleep(seconds)
    burn(seconds)
    return "done"


def fail() -> None:
    with timed("outer"), timed("fails"):
        burn(0.01)
        raise OSError("full")


def test_inner_stage_is_taken_off_the_outer_one() -> None:
    with timed("outer"):
        burn(0.02)
        with timed("inner"):
            burn(0.05)
            with timed("innermost"):
                burn(0.03)
    spent = take()
    for name, least in (("outer", 0.02), ("inner", 0.05), ("innermost", 0.03)):
        assert spent[name].cpu_s >= 0.99 * least
        assert spent[name].wall_s >= 0.99 * least
    assert spent["outer"].cpu_s < spent["inner"].cpu_s


def test_stage_that_raises_is_counted_and_leaves_the_clock_in_order() -> None:
    with pytest.raises(OSError, match="full"):
        fail()
    with timed("next"):
        burn(0.01)
    assert sorted(take()) == ["fails", "next", "outer"]


def test_clock_begins_anew_once_it_was_read() -> None:
    with timed("one"):
        pass
    assert set(take()) == {"one"}
    assert take() == {}


def test_stage_is_shared_out_in_the_ratio_its_parts_report() -> None:
    with timed("whole"):
        burn(0.04)
    share_out("whole", {"a": 3.0, "b": 1.0})
    spent = take()
    assert set(spent) == {"a", "b"}
    assert spent["a"].cpu_s == pytest.approx(3 * spent["b"].cpu_s)
    assert spent["a"].cpu_s + spent["b"].cpu_s >= 0.039


def test_task_says_what_it_cost_and_its_stages_add_up_to_it() -> None:
    result, cost = Measured(work)(0.03)
    assert result == "done"
    assert set(cost.stages) == {"computes", "waits", OTHER}
    assert cost.stages["computes"].cpu_s >= 0.029
    assert cost.stages["waits"].wall_s >= 0.029
    assert cost.stages["waits"].cpu_s < cost.stages["computes"].cpu_s
    assert cost.stages[OTHER].cpu_s >= 0.029
    assert sum(spent.wall_s for spent in cost.stages.values()) == pytest.approx(cost.wall_s, rel=1e-6)


def test_task_forgets_what_its_process_did_before() -> None:
    with timed("before"):
        pass
    _, cost = Measured(work)(0.0)
    assert "before" not in cost.stages


def test_measured_task_and_its_cost_are_picklable() -> None:
    measured = pickle.loads(pickle.dumps(Measured(peak_of)))  # noqa: S301  (our own bytes)
    result, cost = pickle.loads(pickle.dumps(measured("x")))  # noqa: S301
    assert result == "x"
    assert cost.peak_bytes > 10e6


def peak_of(text: str) -> str:
    return text


HOLDS = """
from pipeline.stage_clock import peak_memory
before = peak_memory()
held = bytearray(range(256)) * (1 << 20)
during = peak_memory()
del held
print(before, during, peak_memory())
"""


def test_peak_memory_is_what_this_process_once_held() -> None:
    here = peak_memory()
    child = subprocess.run([sys.executable, "-c", HOLDS], cwd=ROOT, capture_output=True, text=True, check=True)
    before, during, after = (int(number) for number in child.stdout.split())
    assert before < here, "a child does not inherit its larger parent's peak"
    assert during - before > 250e6
    assert after > during - 4e6, "the system counts in batches of pages"
