"""The executor: the same results serial or on processes, through lost workers, signals and a killed parent.

Tasks are defined inside the tests, so that they travel to the workers by value: these cannot import a test.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from manifests.errors import ConfigError, CorpusError, InputError, MaphError, OutputError, SourceError
from pipeline.executor import DaskExecutor, Executor, Interruption, SerialExecutor, make_executor

ROOT = Path(__file__).resolve().parent.parent.parent


def never() -> bool:
    return False


def make_warm() -> Callable[[int], None]:
    def warm(_number: int) -> None:
        import builtins

        builtins.warmed_times = getattr(builtins, "warmed_times", 0) + 1  # type: ignore[attr-defined]

    return warm


def make_square() -> Callable[[int], int]:
    return lambda number: number * number


@pytest.fixture(scope="module")
def two_workers() -> Iterator[DaskExecutor]:
    executor = DaskExecutor(2, warm=make_warm())
    yield executor
    executor.close()


@pytest.fixture(params=["serial", "dask"])
def executor(request: pytest.FixtureRequest, two_workers: DaskExecutor) -> Executor:
    return SerialExecutor() if request.param == "serial" else two_workers


# ---------------------------------------------------------------------------------------------- results


def test_every_spec_comes_back_with_its_result(executor: Executor) -> None:
    found = list(executor.run(make_square(), range(40), stop=never))
    assert sorted(found) == [(k, k * k) for k in range(40)]


def test_equal_specs_are_all_computed(executor: Executor) -> None:
    assert list(executor.run(make_square(), [3] * 7, stop=never)) == [(3, 9)] * 7


def test_no_specs_give_no_results(executor: Executor) -> None:
    assert list(executor.run(make_square(), [], stop=never)) == []


def test_tasks_run_in_warm_processes_of_one_thread(two_workers: DaskExecutor) -> None:
    def look(_: int) -> tuple[int, int, str | None, str | None]:
        import builtins

        time.sleep(0.1)
        threads = os.environ.get("NUMBA_NUM_THREADS"), os.environ.get("OMP_NUM_THREADS")
        return os.getpid(), builtins.warmed_times, *threads  # type: ignore[attr-defined]

    seen = {result for _, result in two_workers.run(look, range(8), stop=never)}
    assert len({process for process, *_ in seen}) == 2
    assert os.getpid() not in {process for process, *_ in seen}
    assert {tuple(rest) for _, *rest in seen} == {(1, "1", "1")}


@pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="only Linux tells what a process started with")
def test_workers_keep_their_heaps_from_their_start_on(two_workers: DaskExecutor) -> None:
    def started_with(_: int) -> list[str]:
        return [
            entry for entry in Path("/proc/self/environ").read_text().split("\0") if entry.startswith("MALLOC_ARENA")
        ]

    assert [found for _, found in two_workers.run(started_with, range(4), stop=never)] == [["MALLOC_ARENA_MAX=1"]] * 4


def test_only_a_window_of_specs_is_taken_ahead(two_workers: DaskExecutor) -> None:
    taken = 0

    def count() -> Iterator[int]:
        nonlocal taken
        for k in range(100):
            taken += 1
            yield k

    for finished, _ in enumerate(two_workers.run(make_square(), count(), stop=never)):
        assert taken <= finished + 1 + 4, "two under way for each of two workers"
    assert taken == 100


def test_specs_that_are_done_with_are_let_go(two_workers: DaskExecutor) -> None:
    """In the scheduler too, which is in this process."""
    specs = (Namespace(number=k) for k in range(60))
    done = sum(1 for _ in two_workers.run(lambda spec: spec.number, specs, stop=never))
    gc.collect()
    kept = [one for one in gc.get_objects() if type(one) is Namespace and "number" in vars(one)]
    assert done == 60
    assert len(kept) <= 6


def test_nothing_is_started_after_a_stop_and_what_runs_is_yielded(executor: Executor) -> None:
    taken: list[int] = []

    def specs() -> Iterator[int]:
        for k in range(50):
            taken.append(k)
            yield k

    done: list[int] = []
    for spec, _ in executor.run(make_square(), specs(), stop=lambda: len(done) >= 3):
        done.append(spec)
    assert 3 <= len(done) <= 3 + 4
    assert sorted(done) == taken[: len(done)]
    assert len(taken) <= len(done) + 1  # the serial executor looks at one more


def test_executor_is_chosen_by_the_number_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    for name in ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    executor = make_executor(1, warm=called.append)
    assert isinstance(executor, SerialExecutor)
    assert executor.workers == 1
    assert called == [0]


# ---------------------------------------------------------------------------------------------- failures


@pytest.mark.parametrize("kind", [MaphError, InputError, ConfigError, SourceError, OutputError, CorpusError])
def test_error_of_a_task_reaches_the_caller_unchanged(executor: Executor, kind: type[MaphError]) -> None:
    def refuse(_: int) -> int:
        raise kind("out: the disk is full")

    with pytest.raises(kind, match="out: the disk is full") as caught:
        list(executor.run(refuse, range(3), stop=never))
    assert type(caught.value) is kind
    assert caught.value.exit_code == kind.exit_code


def test_failure_starts_nothing_more_and_comes_after_what_was_under_way(two_workers: DaskExecutor) -> None:
    def refuse_the_second(k: int) -> int:
        time.sleep(0.3 if k == 0 else 0.0)
        if k == 1:
            raise OutputError("out: the disk is full")
        return k

    done: list[int] = []
    pairs = two_workers.run(refuse_the_second, range(100), stop=never)
    with pytest.raises(OutputError, match="the disk is full"):
        done.extend(spec for spec, _ in pairs)
    assert 0 in done, "it was still running when the other failed"
    assert len(done) < 10


def test_executor_is_of_use_after_a_failure(two_workers: DaskExecutor) -> None:
    def refuse(_: int) -> int:
        raise OutputError("out: the disk is full")

    with pytest.raises(OutputError):
        list(two_workers.run(refuse, range(3), stop=never))
    assert len(list(two_workers.run(make_square(), range(10), stop=never))) == 10


def test_killed_worker_is_replaced_and_its_task_done_again(two_workers: DaskExecutor, tmp_path: Path) -> None:
    def die_once(k: int) -> int:
        marker = tmp_path / f"{k}"
        if k == 5 and not marker.exists():
            marker.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return os.getpid()

    found = dict(two_workers.run(die_once, range(12), stop=never))
    assert sorted(found) == list(range(12))
    assert (tmp_path / "5").exists()

    def look(_: int) -> tuple[int, int]:
        import builtins

        time.sleep(0.2)
        return os.getpid(), builtins.warmed_times  # type: ignore[attr-defined]

    deadline = time.monotonic() + 30
    processes: set[int] = set()
    while len(processes) < 2 and time.monotonic() < deadline:
        seen = [result for _, result in two_workers.run(look, range(4), stop=never)]
        processes = {process for process, _ in seen}
        assert {times for _, times in seen} == {1}, "the new worker is warm as well"
    assert len(processes) == 2


def test_task_that_kills_every_worker_is_an_error_that_says_what_to_do(two_workers: DaskExecutor) -> None:
    def die(k: int) -> int:
        if k == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return k

    with pytest.raises(MaphError, match=r"worker processes died again and again .* run again with fewer --workers"):
        list(two_workers.run(die, range(1), stop=never))


def test_workers_that_dask_has_given_up_are_started_anew(two_workers: DaskExecutor) -> None:
    cluster = two_workers._cluster
    for name in list(cluster.workers):  # as it does with those that are too slow to come back
        cluster.sync(cluster.workers.pop(name).close)
    assert sorted(two_workers.run(make_square(), range(4), stop=never)) == [(k, k * k) for k in range(4)]


ALONE = """
import os, signal, sys, tempfile, time
import psutil
from manifests.errors import OutputError
from pipeline.executor import DaskExecutor

def children():
    return psutil.Process().children(recursive=True)

def refuse(number):
    raise OutputError("no model here")

def work(k):
    time.sleep(60.0 * bool(k))
    return k

try:
    DaskExecutor(1, warm=refuse)
except OutputError as error:
    print(error, signal.pthread_sigmask(signal.SIG_BLOCK, set()))
print(os.listdir(tempfile.gettempdir()), [c for c in children() if "spawn_main" in " ".join(c.cmdline())])

executor = DaskExecutor(2, warm=abs)
print(next(iter(executor.run(work, range(9), stop=lambda: False))))
begun = time.monotonic()
executor.close()
print(time.monotonic() - begun < 10.0)
print(os.listdir(tempfile.gettempdir()), [c for c in children() if "spawn_main" in " ".join(c.cmdline())])
"""


def test_failed_start_and_abandoned_tasks_leave_no_process_and_no_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", ALONE],
        cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["no model here set()", "[] []", "(0, 0)", "True", "[] []"]
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []


def test_nothing_listens_beyond_this_machine(two_workers: DaskExecutor) -> None:
    assert list(two_workers.run(make_square(), [2], stop=never)) == [(2, 4)]
    family = [psutil.Process(), *psutil.Process().children(recursive=True)]
    listening = [c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {address for address in listening if not address.startswith("127.")} <= {"::1"}


# ---------------------------------------------------------------------------------------------- interruption


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_asks_and_second_stops(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    announced: list[bool] = []
    with Interruption(lambda: announced.append(True)) as interruption:
        requested = [interruption.requested]
        signal.raise_signal(number)
        requested.append(interruption.requested)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert requested == [False, True]
    assert announced == [True]
    assert signal.getsignal(number) is before


def test_handlers_are_put_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(OutputError), Interruption():
        raise OutputError("out: the disk is full")
    assert signal.getsignal(signal.SIGINT) is before


def test_interruption_outside_the_main_thread_touches_no_handler() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[object] = []

    def enter() -> None:
        with Interruption():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert seen == [before]


# ---------------------------------------------------------------------------------------------- whole processes

JOB = """
import ctypes, os, sys, time
from pathlib import Path
from pipeline.executor import Interruption, make_executor

folder, seconds, count = Path(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3])

def warm(number):
    pass

def work(k):
    with (folder / f"begun-{k}").open("a") as stream:
        stream.write(f"{os.getpid()}\\n")
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # as a kernel does, without letting go of the interpreter's lock
    (folder / f"ended-{k}").touch()
    return k

with Interruption(lambda: print("asked", flush=True)) as interruption:
    executor = make_executor(2, warm=warm)
    try:
        for k, _ in executor.run(work, range(count), stop=lambda: interruption.requested):
            print("yielded", k, flush=True)
    finally:
        executor.close()
print("closed", flush=True)
"""


class Job:
    """The job above in its own process group, as a terminal has it."""

    def __init__(self, folder: Path, *, seconds: float, count: int) -> None:
        self.folder = folder
        command = [sys.executable, "-c", JOB, str(folder), str(seconds), str(count)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def names(self, kind: str) -> set[str]:
        return {path.name.removeprefix(f"{kind}-") for path in self.folder.glob(f"{kind}-*")}

    def wait_until_two_are_at_work(self) -> None:
        """Both have begun and have said which process they are: a file is there before its line is."""
        wait_until(lambda: len(self.names("begun") - self.names("ended")) >= 2 and self._all_have_written())

    def _all_have_written(self) -> bool:
        return all(path.stat().st_size > 0 for path in self.folder.glob("begun-*"))

    def worker_ids(self) -> list[int]:
        """Of the worker that began each task; more than once if it was begun again."""
        return [int(line) for path in self.folder.glob("begun-*") for line in path.read_text().split()]

    def signal_group(self, number: signal.Signals) -> None:
        os.killpg(self.process.pid, number)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def begin(*, seconds: float, count: int) -> Job:
        jobs.append(Job(tmp_path, seconds=seconds, count=count))
        return jobs[-1]

    yield begin
    for job in jobs:
        if any(is_alive(number) for number in (job.process.pid, *job.worker_ids())):
            job.signal_group(signal.SIGKILL)
        job.process.communicate()


def is_alive(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def wait_until(condition: Callable[[], bool], *, seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not so after {seconds} s"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_first_signal_to_the_group_lets_running_tasks_finish(start: Callable[..., Job], number: signal.Signals) -> None:
    job = start(seconds=0.5, count=40)
    job.wait_until_two_are_at_work()
    job.signal_group(number)
    stdout, stderr = job.process.communicate(timeout=30)
    assert job.process.returncode == 0, stderr
    yielded = {line.split()[1] for line in stdout.splitlines() if line.startswith("yielded")}
    assert stdout.splitlines().count("asked") == 1
    assert "closed" in stdout
    assert 2 <= len(yielded) < 10, "what was under way and no more"
    assert yielded == job.names("begun") == job.names("ended")
    assert len(job.worker_ids()) == len(yielded), "no worker was lost, no task was begun twice"
    assert len(set(job.worker_ids())) == 2
    assert stderr == ""


def test_second_signal_to_the_group_stops_at_once(start: Callable[..., Job]) -> None:
    job = start(seconds=60.0, count=40)
    job.wait_until_two_are_at_work()
    job.signal_group(signal.SIGINT)
    assert job.process.stdout is not None
    assert job.process.stdout.readline() == "asked\n"
    sent = time.monotonic()
    job.signal_group(signal.SIGINT)
    stdout, stderr = job.process.communicate(timeout=30)
    assert time.monotonic() - sent < 3.0
    assert job.process.returncode == -signal.SIGINT
    assert stdout == "", "nothing is said to be done"
    assert stderr.rstrip().endswith("KeyboardInterrupt")
    assert not any(is_alive(number) for number in job.worker_ids())
    assert job.names("ended") == set()


def test_workers_die_with_a_killed_parent_though_a_kernel_holds_the_lock(start: Callable[..., Job]) -> None:
    job = start(seconds=60.0, count=40)
    job.wait_until_two_are_at_work()
    workers = job.worker_ids()
    assert len(set(workers)) == 2
    assert all(is_alive(number) for number in workers)
    job.process.send_signal(signal.SIGKILL)
    wait_until(lambda: not any(is_alive(number) for number in workers), seconds=5.0)
    assert job.names("ended") == set()
