"""Which device this process runs the passes on, how much goes on it at once, and what to do when that was too much.

A process has one device. The bytes of a sample do not depend on how many share a batch, so a batch may shrink at any
time; from one kind of device to another they differ by rounding, see `tests/refine`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from manifests.errors import ConfigError

__all__ = [
    "AUTO_DEVICE",
    "OutOfMemory",
    "current_device",
    "resolve_device",
    "shrink_batches",
    "use_device",
    "values_at_once",
]

AUTO_DEVICE = "auto"
OutOfMemory = torch.OutOfMemoryError
_SHARE = 0.5  # of the free memory: other processes may want some, and torch keeps blocks of odd sizes


@dataclass
class _Process:
    """The device of this process, and the most values (pixels x channels) that a batch may have after a shortage."""

    device: str = "cpu"
    most_values: int | None = None


_process = _Process()


def resolve_device(wanted: str, *, number: int = 0) -> str:
    """A torch device for what the user asked for.

    Parameters
    ----------
    wanted : {"auto", "cpu", "cuda", "cuda:N"}
        ``auto`` is CUDA where there is one. ``auto`` and ``cuda`` share several out among the processes of a machine.
    number : int
        Of this process among those of its machine, from 0.

    Raises
    ------
    ConfigError
        It is none of these, or is not there.
    """
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", wanted):
        raise ConfigError(f"--device {wanted}: expected auto, cpu, cuda or cuda:N")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if wanted == "cpu" or (wanted == AUTO_DEVICE and not count):
        return "cpu"
    index = int(wanted.partition(":")[2] or number % max(count, 1))
    if index >= count:
        there = f"cuda:0 to cuda:{count - 1}" if count else "no CUDA device"
        raise ConfigError(f"--device {wanted}: torch sees {there} here; give --device cpu, or auto for what there is")
    return f"cuda:{index}"


def use_device(device: str) -> None:
    """Run the passes of this process on a torch device, with batches of the usual size."""
    _process.device, _process.most_values = device, None


def current_device() -> str:
    """The torch device that the passes of this process run on."""
    return _process.device


def values_at_once(on_cpu: int, *, bytes_a_value: int) -> int:
    """How many values (pixels x channels) a batch may have.

    Parameters
    ----------
    on_cpu : int
        What is best where memory is no limit but the cache is.
    bytes_a_value : int
        Of memory that a batch needs at its peak.
    """
    most = on_cpu
    if _process.device != "cpu":
        free, _ = torch.cuda.mem_get_info(_process.device)
        kept = torch.cuda.memory_reserved(_process.device) - torch.cuda.memory_allocated(_process.device)
        most = int(_SHARE * (free + kept)) // bytes_a_value
    return max(1, most if _process.most_values is None else min(most, _process.most_values))


def shrink_batches(values: int) -> None:
    """Let no batch of this process have more values from now on: memory was short; give back what is cached."""
    _process.most_values = values
    if _process.device != "cpu":
        torch.cuda.empty_cache()
