"""Devices, number formats and the one table of tolerances that all tests of the passes share."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch


@dataclass(frozen=True)
class Tolerance:
    """What a number format can be held to: ``solver``, relative residual asked of npcF; ``solution``, its error against
    a direct solve; ``rounding``, error of a pass with no iteration in it, for values of order 1.
    """

    solver: float
    solution: float
    rounding: float


TOLERANCES = {
    torch.float32: Tolerance(solver=1e-6, solution=1e-4, rounding=3e-6),
    torch.float64: Tolerance(solver=1e-12, solution=1e-9, rounding=1e-13),
}
_NO_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU in this machine")


# for the session, so that property tests may use them: nothing in them changes from example to example
@pytest.fixture(scope="session", params=["cpu", pytest.param("cuda", marks=_NO_GPU)])
def device(request: pytest.FixtureRequest) -> torch.device:
    return torch.device(request.param)


@pytest.fixture(scope="session", params=list(TOLERANCES), ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    return request.param


@pytest.fixture(scope="session")
def tolerance(dtype: torch.dtype) -> Tolerance:
    return TOLERANCES[dtype]
