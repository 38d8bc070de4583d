"""Plane strain of a square with cracks that open but do not interpenetrate.

The displacement u minimises, for given damage d,

    int g(d) [K/2 <tr e>_+^2 + mu dev e : dev e] + K/2 <tr e>_-^2,   g = (1 - eta)(1 - d)^2 + eta,

with strain e = sym grad u, bulk modulus K = lambda + mu of the plane and dev e the deviator in the plane: damage takes
away extension and shear, closed cracks go on bearing pressure.
Q1 elements with the mean dilatation of each element; the other strains and their hourglass parts are integrated
exactly. Units: grid spacing h = 1, shear modulus mu = 1.

References
----------
Amor, Marigo & Maurini, "Regularized formulation of the variational brittle fracture with unilateral contact",
J. Mech. Phys. Solids 57 (2009).
Hughes, "Generalization of selective integration procedures", Int. J. Numer. Methods Eng. 15 (1980).
Axelsson & Gustafsson, "Iterative methods for the solution of the Navier equations of elasticity", CMAME 15 (1978).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from physics import _plane_strain_kernels as kernels

__all__ = ["PlaneStrainBody", "bulk_modulus", "grid_levels"]

_SHEAR = 1.0
_HELD = 1e4  # stiffness of the preconditioner's link to a held node


def bulk_modulus(poisson: float) -> float:
    """Bulk modulus of the plane, K / mu = 1 / (1 - 2 nu)."""
    if not 0.0 <= poisson < 0.5:
        raise ValueError(f"Poisson's ratio must lie in [0, 0.5), got {poisson}")
    return 1.0 / (1.0 - 2.0 * poisson)


def grid_levels(cells: int) -> list[int]:
    """Sides of the multigrid levels, finest first; ``cells`` is a power of two times at most 7."""
    sides = [cells]
    while sides[-1] % 2 == 0 and sides[-1] > 4:
        sides.append(sides[-1] // 2)
    if sides[-1] > 7:
        raise ValueError(f"cells must be a power of two times at most 7, got {cells}")
    return sides


class PlaneStrainBody:
    """An elastic square with its multigrid hierarchy.

    n x n nodes may move; a ring of nodes around them is held. Elements, and damage, lie at the (n + 1) x (n + 1)
    corners between the nodes.

    Parameters
    ----------
    cells : int
        Nodes a side that may move; a power of two times at most 7.
    poisson : float
        Poisson's ratio, in [0, 0.5).
    gradient : (2, 2) array_like
        Displacement gradient at unit load, ``gradient[i][j]`` = d u_i / d x_j, axes (y, x): the held nodes follow it.
    open_columns : bool
        The left and right side are free; only top and bottom are held.
    blend : float
        Dilatation at unit load within which, on both sides of 0, a crack goes over from open to closed: 0 for the sharp
        law, a little for an iteration that does not jump.
    dtype : type
        float32 or float64, of all arrays.

    Attributes
    ----------
    displacement : (2, n + 2, n + 2)
        Components (y, x) at unit load, held ring included.
    force : (2, n + 2, n + 2)
        Forces on the nodes, 0 unless set.
    stiffness : (2, n + 1, n + 1)
        Bulk and shear stiffness of the elements.
    """

    def __init__(
        self,
        cells: int,
        *,
        poisson: float,
        gradient: NDArray[np.float64],
        open_columns: bool = False,
        blend: float = 0.0,
        dtype: type[np.float32 | np.float64] = np.float64,
    ) -> None:
        self.cells = cells
        self.open_columns = open_columns
        self._blend = max(blend, 1e-30)
        self._dtype = dtype
        self._bulk = self._dtype(bulk_modulus(poisson))
        self._shear = self._dtype(_SHEAR)
        self._side = np.array(grid_levels(cells))
        padded = (self._side + 2) ** 2
        self._offset = np.concatenate([[0], np.cumsum(padded)[:-1]])
        m = cells + 2
        self._hierarchy = np.zeros((2, 7, int(padded.sum())), dtype=self._dtype)
        self._vectors = np.zeros((6, m, m), dtype=self._dtype)
        self._rows = np.zeros((3, m), dtype=self._dtype)
        self._stress_rows = np.zeros((2, 5, m), dtype=self._dtype)
        self.stiffness = np.zeros((2, cells + 1, cells + 1), dtype=self._dtype)
        self._free = np.ones((m, m), dtype=self._dtype)
        self._fixed = np.zeros((m, m), dtype=self._dtype)
        place = np.arange(m) - 0.5 * (m - 1)
        linear = np.einsum(
            "ij,jyx->iyx", np.asarray(gradient, float), np.stack(np.meshgrid(place, place, indexing="ij"))
        )
        self.displacement = linear.astype(self._dtype)
        self.force = np.zeros_like(self.displacement)
        self.set_damage(np.zeros((cells + 1, cells + 1)), residual_stiffness=0.0)
        self._scale = self._reaction() or 1.0

    def hold(self, mask: NDArray[np.bool_]) -> None:
        """Hold nodes (n + 2, n + 2) where they now are, such as the faces of a strip."""
        self._free = (~mask).astype(self._dtype)
        self._fixed = (_HELD * mask).astype(self._dtype)
        self._scale = self._reaction() or 1.0

    def _reaction(self) -> float:
        """Norm of the forces of the sound body when only the held nodes are displaced: scale of the residual."""
        n = self.cells
        held = 1.0 - self._free
        held[0], held[-1], held[:, 0], held[:, -1] = 1.0, 1.0, 1.0, 1.0
        uy, ux = (self.displacement * held).astype(self._dtype)
        force = np.zeros((2, n + 2, n + 2), dtype=self._dtype)
        kernels.apply_operator(uy, ux, *self.stiffness, self._stress_rows, force[0], force[1])
        return float(np.linalg.norm(force * (1.0 - held)))

    def set_damage(self, damage: NDArray[np.floating], *, residual_stiffness: float) -> None:
        """Take the elements' stiffness from damage (n + 1, n + 1) and the sign of the present dilatation."""
        kernels.element_stiffness(
            damage,
            *self.displacement,
            self._bulk,
            self._shear,
            residual_stiffness,
            self.open_columns,
            2.0 * self._blend,
            *self.stiffness,
        )
        self.build_preconditioner()

    def build_preconditioner(self) -> None:
        """Take the multigrid hierarchies of both components from the stiffness of the elements."""
        for sideways in (0, 1):
            kernels.build_hierarchy(
                *self.stiffness, self._fixed, sideways, self._hierarchy[sideways], self._offset, self._side
            )

    def solve(self, *, tolerance: float = 1e-9, limit: int = 300) -> tuple[int, float]:
        """Displacement for the present stiffness; (iterations, residual / forces of the sound body)."""
        iterations, norm = kernels.solve_elastic(
            *self.displacement,
            self.force,
            *self.stiffness,
            self._free,
            *self._hierarchy,
            self._offset,
            self._side,
            self._vectors,
            self._rows,
            self._stress_rows,
            tolerance * self._scale,
            limit,
        )
        return int(iterations), float(norm) / self._scale

    def relax(self, damage: NDArray[np.floating], *, residual_stiffness: float, passes: int = 30) -> int:
        """Solve until no element changes between extension and compression; passes used."""
        for count in range(passes):
            before = self.stiffness[0].copy()
            self.set_damage(damage, residual_stiffness=residual_stiffness)
            if count and np.array_equal(before, self.stiffness[0]):
                return count
            self.solve()
        return passes

    def driving_energy(self) -> NDArray[np.floating]:
        """Energy density that damage releases, (n + 1, n + 1), at unit load; 0 on the outermost corners."""
        psi = np.zeros((self.cells + 1, self.cells + 1), dtype=self._dtype)
        kernels.driving_energy(*self.displacement, self._bulk, self._shear, psi)
        return psi

    def elastic_energy(self) -> float:
        """Stored energy at unit load, mu h^2 a unit of thickness."""
        return float(kernels.elastic_energy(*self.displacement, *self.stiffness))

    def padded(self) -> NDArray[np.float32]:
        """Displacement with the held ring, (2, n + 2, n + 2)."""
        return np.array(self.displacement, dtype=np.float32)
