"""The device of a process: what is asked for and what is there, and batches that fit it."""

from __future__ import annotations

import pytest
import torch

from manifests.errors import ConfigError
from refine import devices
from refine.devices import current_device, resolve_device, shrink_batches, use_device, values_at_once


@pytest.fixture(autouse=True)
def device_of_the_process_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "_process", devices._Process())


def pretend(monkeypatch: pytest.MonkeyPatch, gpus: int) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)


def test_auto_is_the_cpu_where_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 0)
    assert resolve_device("auto", number=3) == resolve_device("cpu") == "cpu"


def test_processes_of_one_machine_share_its_gpus_out(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 2)
    assert [resolve_device("auto", number=k) for k in range(4)] == ["cuda:0", "cuda:1", "cuda:0", "cuda:1"]
    assert [resolve_device("cuda:1", number=k) for k in range(2)] == ["cuda:1", "cuda:1"]
    assert resolve_device("cpu", number=1) == "cpu"


@pytest.mark.parametrize(
    ("wanted", "gpus", "message"),
    [
        ("cuda", 0, "--device cuda: torch sees no CUDA device here; give --device cpu"),
        ("cuda:2", 2, "--device cuda:2: torch sees cuda:0 to cuda:1 here"),
        ("gpu", 1, "--device gpu: expected auto, cpu, cuda or cuda:N"),
    ],
)
def test_device_that_is_not_there_is_refused(
    wanted: str, gpus: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, gpus)
    with pytest.raises(ConfigError, match=message):
        resolve_device(wanted)


def test_batches_of_a_gpu_are_as_large_as_half_its_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (7_000, 16_000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 3_000)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 2_000)
    assert values_at_once(64, bytes_a_value=10) == 64, "on the CPU the cache is the limit"
    use_device("cuda:0")
    assert values_at_once(64, bytes_a_value=10) == 400


def test_batches_stay_small_after_a_shortage_and_on_another_device_are_as_usual(device: torch.device) -> None:
    use_device(str(device))
    usual = values_at_once(4096, bytes_a_value=400)
    assert usual >= 4096
    shrink_batches(100)
    assert values_at_once(4096, bytes_a_value=400) == 100
    shrink_batches(0)
    assert values_at_once(4096, bytes_a_value=400) == 1, "one window is always tried"
    use_device("cpu")
    assert values_at_once(4096, bytes_a_value=400) == 4096
    assert current_device() == "cpu"
