"""Anti-plane shear of a square with cracks: div(g(d) mu grad u) = 0 for the displacement u out of the plane.

g = (1 - eta)(1 - d)^2 + eta. Finite volumes on a staggered grid: a link between two cells crosses one segment between
two corners of the damage grid. Units: grid spacing h = 1, shear modulus mu = 1.

References
----------
Wesseling & Khalil, "Cell-centred multigrid for interface problems", J. Comput. Phys. (1992).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from physics import _fracture_kernels as kernels
from physics.plane_strain import grid_levels

__all__ = ["AntiplaneBody"]


class AntiplaneBody:
    """An elastic square with its multigrid hierarchy.

    n x n cells carry the displacement; damage lies at the (n + 1) x (n + 1) corners between them.

    Parameters
    ----------
    cells : int
        Cells a side; a power of two times at most 7.
    clamped : "all" or "faces"
        All four sides follow the displacement field, or only top and bottom while left and right are free.
    angle : float
        Direction of the applied displacement gradient, radians; pi / 2 pulls top against bottom.
    """

    def __init__(self, cells: int, *, clamped: str, angle: float) -> None:
        if clamped not in {"all", "faces"}:
            raise ValueError(f"clamped is 'all' or 'faces', got {clamped!r}")
        self.cells = cells
        self.side = np.array(grid_levels(cells))
        self.offset = np.concatenate([[0], np.cumsum(self.side**2)[:-1]])
        total = int((self.side**2).sum())
        self._flat = tuple(np.zeros(total) for _ in range(7))  # kx, ky, diagonal, inverse, solution, rhs, work
        self.boundary = np.zeros((cells, cells))
        self._clamp(clamped, angle)
        self.displacement = np.zeros((cells, cells))

    def _clamp(self, clamped: str, angle: float) -> None:
        """Conductance 2 over the half cell to a clamped side whose value is the linear field."""
        n = self.cells
        centre = np.arange(n) + 0.5
        slope_x, slope_y = np.cos(angle) / n, np.sin(angle) / n

        def value(y: ArrayLike, x: ArrayLike) -> NDArray[np.float64]:
            return np.asarray(slope_x * (np.asarray(x) - n / 2) + slope_y * (np.asarray(y) - n / 2), dtype=np.float64)

        diagonal = self.diagonal
        for row, y in ((0, 0.0), (n - 1, float(n))):
            diagonal[row] += 2.0
            self.boundary[row] += 2.0 * value(y, centre)
        if clamped == "all":
            for column, x in ((0, 0.0), (n - 1, float(n))):
                diagonal[:, column] += 2.0
                self.boundary[:, column] += 2.0 * value(centre, x)

    def _top(self, k: int) -> NDArray[np.float64]:
        n = self.cells
        return self._flat[k][: n * n].reshape(n, n)

    @property
    def diagonal(self) -> NDArray[np.float64]:
        """Conductance to the clamped sides, (n, n)."""
        return self._top(2)

    @property
    def conductivity(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Links to the right neighbour and to the one below, each (n, n)."""
        return self._top(0), self._top(1)

    @property
    def hierarchy(self) -> tuple[NDArray[np.float64] | NDArray[np.int64], ...]:
        """Flat buffers of all levels, their offsets and sides, in the order of the kernels' arguments."""
        return (*self._flat, self.offset, self.side)

    def set_damage(self, damage: NDArray[np.floating], *, residual_stiffness: float) -> None:
        """Take the links' conductance from corner damage (n + 1, n + 1) and rebuild the hierarchy."""
        kx, ky = self.conductivity
        kernels.link_conductivity(damage, residual_stiffness, kx, ky)
        kernels.build_hierarchy(*self._flat[:4], self.offset, self.side)

    def solve(self, *, tolerance: float = 1e-9, limit: int = 200) -> tuple[int, float]:
        """Displacement at unit load for the present links; (iterations, relative residual)."""
        n = self.cells
        iterations, residual = kernels.solve_elastic(
            self.displacement, self.boundary, *self.hierarchy, np.zeros((3, n, n)), tolerance, limit
        )
        return int(iterations), float(residual)

    def driving_energy(self) -> NDArray[np.float64]:
        """Energy density that damage releases, (n + 1, n + 1), at unit load; 0 on the outermost corners."""
        psi = np.zeros((self.cells + 1, self.cells + 1))
        kernels.driving_energy(self.displacement, psi)
        return psi

    def elastic_energy(self) -> float:
        """Stored energy at unit load, mu h^2 a unit of thickness."""
        kx, ky = self.conductivity
        return float(kernels.elastic_energy(self.displacement, kx, ky, self.diagonal, self.boundary))

    def padded(self) -> NDArray[np.float32]:
        """Displacement with a ring that repeats the outermost cells, and zeros: (2, n + 2, n + 2)."""
        out = np.zeros((2, self.cells + 2, self.cells + 2), dtype=np.float32)
        out[0] = np.pad(self.displacement, 1, mode="edge")
        return out
