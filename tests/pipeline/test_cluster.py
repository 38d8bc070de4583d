"""A cluster as a user starts it: real schedulers and workers over TCP, killed at random, restarted, of other code."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from distributed import Client

from manifests import layout
from manifests.errors import InputError
from pipeline.cluster import ClusterExecutor, _make_question, _OnWorker, _software
from pipeline.verification import verify_corpus
from tests.pipeline.conftest import ROOT, CommandLine, digest

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass
class Cluster:
    """`dask scheduler` and `dask worker --nthreads 1` processes, each the leader of a process group."""

    folder: Path
    port: int
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"tcp://127.0.0.1:{self.port}"

    def start_scheduler(self) -> None:
        self.scheduler = self._start("scheduler", "--host", "127.0.0.1", "--port", str(self.port))

    def start_worker(self, *options: str, path: Path = ROOT) -> subprocess.Popen[bytes]:
        scratch = str(self.folder / f"scratch{len(self.workers)}")
        place = ("--host", "127.0.0.1", "--local-directory", scratch, "--death-timeout", "60")
        self.workers.append(self._start("worker", self.address, "--nthreads", "1", *place, *options, path=path))
        return self.workers[-1]

    def _start(self, *arguments: str, path: Path = ROOT) -> subprocess.Popen[bytes]:
        threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
        with (self.folder / f"{arguments[0]}.log").open("ab") as said:
            return subprocess.Popen(
                [sys.executable, "-m", "dask", *arguments, "--no-dashboard"],
                env={**os.environ, **threads, "PYTHONPATH": str(path)},
                cwd=self.folder, stdout=said, stderr=said, start_new_session=True,
            )  # fmt: skip

    def kill_scheduler(self) -> None:
        assert self.scheduler is not None
        end(self.scheduler)

    def kill_workers(self) -> None:
        for worker in self.workers:
            end(worker)
        self.workers.clear()

    def processes_of_workers(self) -> list[psutil.Process]:
        """Those that compute: children of the `dask worker` commands that have loaded something."""
        nannies = [psutil.Process(worker.pid) for worker in self.workers if worker.poll() is None]
        children = [child for nanny in nannies for child in nanny.children()]
        return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with all of its group."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        made = Cluster(tmp_path_factory.mktemp("cluster"), free.getsockname()[1])
    made.start_scheduler()
    made.start_worker()
    made.start_worker("--resources", "GPU=1")
    yield made
    made.kill_workers()
    made.kill_scheduler()


@pytest.fixture
def generate(cluster: Cluster, recipe_file: Path, tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    def begin(out: str, **environment: str) -> subprocess.Popen[str]:
        maphc2f = CommandLine(tmp_path)
        maphc2f = replace(maphc2f, environment={**maphc2f.environment, **environment})
        return maphc2f.start("generate", out, "--config", recipe_file, "--scheduler", cluster.address)

    return begin


def commits(out: Path, stage: str) -> int:
    return len(list((out / layout.COMMITS).glob(f"{stage}--*.json")))


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], *, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


# ------------------------------------------------------------------------------------------- tasks


def warm(number: int) -> None:
    import builtins

    builtins.warmed = [*getattr(builtins, "warmed", ()), number]  # type: ignore[attr-defined]


def look(_: int) -> tuple[int, list[int], bool, int]:
    """Of the worker: its process, how it was warmed, whether it ignores signals, which one its parent's end sends."""
    import builtins
    import ctypes

    number = ctypes.c_int()
    ctypes.CDLL(None).prctl(2, ctypes.byref(number))  # PR_GET_PDEATHSIG
    time.sleep(0.1)
    ignored = signal.SIG_IGN in (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    return os.getpid(), builtins.warmed, ignored, number.value  # type: ignore[attr-defined]


@pytest.fixture
def executor(cluster: Cluster, tmp_path: Path) -> Iterator[ClusterExecutor]:
    (tmp_path / layout.LOG).mkdir()
    (tmp_path / layout.CONFIG).touch()
    made = ClusterExecutor(cluster.address, out=tmp_path, warm=by_value(warm), note=print)
    made._client.wait_for_workers(2)
    yield made
    made.close()


def by_value(function: Callable[[int], object]) -> Callable[[int], object]:
    """A function that travels as a whole: workers cannot import a test."""
    return type(function)(function.__code__, {**globals(), "__name__": "__main__"}, function.__name__)


def test_workers_are_warmed_once_and_otherwise_left_alone(executor: ClusterExecutor) -> None:
    seen = [result for _, result in executor.run(by_value(look), range(12), stop=lambda: False)]
    assert len({process for process, *_ in seen}) == 2
    assert {tuple(rest[0]) for _, *rest in seen} == {(0,)}
    assert {tuple(rest[1:]) for _, *rest in seen} == {(False, 0)}


def test_tasks_for_the_device_go_to_workers_that_declare_one(executor: ClusterExecutor, cluster: Cluster) -> None:
    seen = executor.run(by_value(look), range(6), stop=lambda: False, on_device=True)
    (process,) = {result[0] for _, result in seen}
    assert psutil.Process(process).ppid() == cluster.workers[1].pid


# ------------------------------------------------------------------------------------------- what is refused


def test_worker_that_joined_late_with_other_software_or_without_the_folder_is_refused(tmp_path: Path) -> None:
    task = _OnWorker(str, _software(), tmp_path)
    with pytest.raises(InputError, match=f"does not see {tmp_path}; give a folder that all machines share"):
        task(1)
    (tmp_path / layout.CONFIG).touch()
    assert task(1) == "1"
    older = tuple((name, "0.1" if name == "numpy" else version) for name, version in _software())
    with pytest.raises(InputError, match=r"runs other software \(numpy [0-9.]+ there, 0\.1 here\)"):
        _OnWorker(str, older, tmp_path)(1)


def test_what_a_worker_answers_says_whether_it_sees_the_folder(tmp_path: Path) -> None:
    (tmp_path / "token").touch()
    assert _make_question()(str(tmp_path / "token")) == (_software(), True)
    assert _make_question()(str(tmp_path / "other")) == (_software(), False)


def test_wrong_scheduler_is_refused_in_one_line(maphc2f: CommandLine, recipe_file: Path) -> None:
    command = ("generate", "out", "--config", recipe_file, "--scheduler")
    for arguments, expected in (
        (("tcp://127.0.0.1:9",), "no scheduler answers"),
        (("nowhere.json",), "expected tcp://HOST:PORT or a scheduler file"),
        (("tcp://127.0.0.1:9", "--workers", "2"), "give one of them"),
    ):
        done = maphc2f.run(*command, *arguments)
        assert done.returncode == 2
        assert expected in done.stderr
        assert len(done.stderr.splitlines()) == 1, done.stderr


def test_worker_of_other_code_is_refused_in_one_line(
    cluster: Cluster, generate: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    for package in ("manifests", "physics", "refine", "pipeline"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, tmp_path / "other" / package, ignore=ignored)
    with (tmp_path / "other" / "physics" / "__init__.py").open("a") as stream:
        stream.write("# another version\n")
    worker = cluster.start_worker("--name", "other", path=tmp_path / "other")
    try:
        with Client(cluster.address, set_as_default=False) as client:
            client.wait_for_workers(3, timeout=60)
        stdout, stderr = (process := generate("out")).communicate(timeout=180)
    finally:
        end(worker)
        cluster.workers.remove(worker)
    assert process.returncode == 2, stdout
    assert "runs other software (maphc2f code" in stderr
    assert len(stderr.splitlines()) == 1
    assert commits(tmp_path / "out", "sources") == 0


# ------------------------------------------------------------------------------------------- what is lost


def test_workers_killed_at_random_change_no_byte(
    cluster: Cluster,
    generate: Callable[..., subprocess.Popen[str]],
    finished_digest: Mapping[str, str],
    tmp_path: Path,
) -> None:
    out, rng = tmp_path / "out", random.Random(0)  # noqa: S311  (no secret)
    process = generate("out")
    for stage, number in (("sources", 1), ("bank", 2), ("samples", 1), ("samples", 3)):
        wait_for(lambda stage=stage, number=number: commits(out, stage) >= number, process)
        victims = cluster.processes_of_workers()
        if victims:
            rng.choice(victims).kill()
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert stderr == ""
    assert digest(out) == finished_digest
    run = json.loads((out / layout.LOG / "runs.jsonl").read_text())
    assert (run["samples"], run["devices"]) == (24, ["cpu"])


def test_restarted_scheduler_and_workers_change_no_byte(
    cluster: Cluster,
    generate: Callable[..., subprocess.Popen[str]],
    finished_digest: Mapping[str, str],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    process = generate("out")
    wait_for(lambda: commits(out, "samples") >= 1, process)
    cluster.kill_scheduler()
    cluster.kill_workers()
    cluster.start_scheduler()
    cluster.start_worker()
    stdout, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    assert f"the scheduler {cluster.address} is back" in stdout
    assert digest(out) == finished_digest


def test_scheduler_that_is_gone_for_good_is_one_line_and_what_is_finished_is_kept(
    cluster: Cluster,
    generate: Callable[..., subprocess.Popen[str]],
    maphc2f: CommandLine,
    recipe_file: Path,
    finished_digest: Mapping[str, str],
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    process = generate("out", DASK_MAPHC2F__PATIENCE="1s")
    wait_for(lambda: commits(out, "samples") >= 1, process)
    cluster.kill_scheduler()
    _, stderr = process.communicate(timeout=120)
    cluster.kill_workers()
    assert process.returncode == 2
    assert "went away and did not come back in 1 s; finished shards are kept" in stderr
    assert len(stderr.splitlines()) == 1, stderr
    kept = commits(out, "samples")
    assert kept >= 1
    done = maphc2f.run("generate", "out", "--config", recipe_file)
    assert done.returncode == 0, done.stderr
    assert f"samples: 24 ({min(5 * kept, 24)} kept from an earlier run)" in done.stdout or kept == 6
    assert digest(out) == finished_digest
    assert verify_corpus(out).problems == ()
