"""The AT2 phase field: damage that minimises the energy of a body and of its cracks, at a given displacement or load.

With damage d, driving energy psi (what the material stores and damage releases), toughness Gc and structural tensor A,

    E(d) = sum g(d) psi + Gc / (2 l) (d^2 + l^2 grad d . A grad d),   g = (1 - eta)(1 - d)^2 + eta,

d never falls below a floor: cracks do not heal. Units: grid spacing h = 1, shear modulus 1, mean toughness 1.

References
----------
Bourdin, Francfort & Marigo, "The variational approach to fracture", J. Elasticity 91 (2008).
Miehe, Hofacker & Welschinger, "A phase field model for rate-independent crack propagation", CMAME 199 (2010).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from physics import _fracture_kernels as kernels

__all__ = [
    "ISOTROPIC",
    "ElasticBody",
    "Equilibrium",
    "discrete_surface_energy",
    "equilibrate",
    "relax_damage",
    "structural_tensor",
    "surface_energy",
]

ISOTROPIC = (1.0, 1.0, 0.0)  # structural tensor (yy, xx, yx) of a material without grain


class ElasticBody(Protocol):
    """What anti-plane shear and plane strain have in common."""

    cells: int

    def set_damage(self, damage: NDArray[np.floating], *, residual_stiffness: float) -> None:
        """Take stiffness from the damage."""

    def solve(self, *, tolerance: float = ..., limit: int = ...) -> tuple[int, float]:
        """Displacement for the present stiffness."""

    def driving_energy(self) -> NDArray[np.floating]:
        """Energy density that damage releases, at unit load."""

    def elastic_energy(self) -> float:
        """Stored energy at unit load."""

    def padded(self) -> NDArray[np.float32]:
        """Displacement (2, n + 2, n + 2)."""


@dataclass(frozen=True)
class Equilibrium:
    """State of alternate minimisation at a fixed load: damage (n + 1, n + 1), energies in Gc h, sweeps used."""

    damage: NDArray[np.floating]
    surface_energy: float
    elastic_energy: float
    sweeps: int
    converged: bool


def relax_damage(
    damage: NDArray[np.floating],
    driving_energy: NDArray[np.floating],
    toughness: NDArray[np.floating],
    *,
    length_ratio: float,
    floor: NDArray[np.floating] | None = None,
    tensor: tuple[float, float, float] = ISOTROPIC,
    viscosity: float = 0.0,
    tolerance: float = 1e-6,
    max_sweeps: int = 10_000,
) -> NDArray[np.floating]:
    """Damage that minimises the energy for a given driving energy, within ``floor`` <= d <= 1.

    Solves (Gc / l + 2 psi + viscosity) d - l div(Gc A grad d) = 2 psi + viscosity d_0, natural boundary.

    Parameters
    ----------
    damage : (n + 1, n + 1) float32 or float64
        Where the iteration starts, and d_0; not changed.
    driving_energy, toughness : (n + 1, n + 1), the same dtype
        psi, in Gc / h, and Gc / mean Gc.
    length_ratio : float
        Regularisation length l / h.
    floor : (n + 1, n + 1), optional
        Least damage; default ``damage`` itself, which never heals.
    tensor : (float, float, float)
        Structural tensor A: yy, xx, yx, with abs(yx) at most yy and xx.
    viscosity : float
        Gc / h.
    tolerance : float
        Change a sweep, maximum norm, at which the iteration ends.
    max_sweeps : int
        Bound on the sweeps.

    Raises
    ------
    ValueError
        If the shapes differ, or the tensor has no positive links on the grid.
    """
    least = damage if floor is None else floor
    if not damage.shape == driving_energy.shape == toughness.shape == least.shape:
        raise ValueError("damage, driving energy, toughness and floor must have the same shape")
    if abs(tensor[2]) > min(tensor[0], tensor[1]):
        raise ValueError(f"the off-diagonal of the structural tensor must not exceed its diagonal, got {tensor}")
    d = damage.copy()
    scratch = np.zeros((3, *d.shape), dtype=d.dtype)
    psi, gc = driving_energy.astype(d.dtype), toughness.astype(d.dtype)
    kernels.relax_damage(
        d, least.astype(d.dtype), psi, gc, length_ratio, tensor, viscosity, tolerance, max_sweeps, scratch
    )
    return d


def surface_energy(
    damage: NDArray[np.floating],
    toughness: NDArray[np.floating],
    *,
    length_ratio: float,
    tensor: tuple[float, float, float] = ISOTROPIC,
) -> float:
    """Energy of the crack surface, sum of Gc / (2 l) (d^2 + l^2 grad d . A grad d), in Gc h."""
    return float(kernels.surface_energy(damage, toughness, length_ratio, tensor))


def structural_tensor(strength: float, angle: float) -> tuple[float, float, float]:
    """A = I + beta t t^T (yy, xx, yx) for a grain t at ``angle`` radians from the x axis towards y (down)."""
    t_y, t_x = float(np.sin(angle)), float(np.cos(angle))
    return 1 + strength * t_y * t_y, 1 + strength * t_x * t_x, strength * t_y * t_x


def equilibrate(
    body: ElasticBody,
    damage: NDArray[np.float64],
    toughness: NDArray[np.float64],
    *,
    load: float,
    length_ratio: float,
    residual_stiffness: float,
    tensor: tuple[float, float, float] = ISOTROPIC,
    tolerance: float = 1e-4,
    max_sweeps: int = 2000,
) -> Equilibrium:
    """Minimise the energy at a fixed load by alternate minimisation, damage never falling below its start.

    Parameters
    ----------
    body : AntiplaneBody or PlaneStrainBody
        The clamped square; its displacement is overwritten.
    damage, toughness : (n + 1, n + 1) float64
        Starting damage, and Gc / mean Gc, at the corners.
    load : float
        Displacement between opposite clamped sides, sqrt(Gc h / mu).
    length_ratio : float
        Regularisation length l / h.
    residual_stiffness : float
        Share of stiffness left in a crack.
    tensor : (float, float, float)
        Structural tensor A: yy, xx, yx.
    tolerance : float
        Change of the damage, maximum norm, below which it stands still.
    max_sweeps : int
        Bound on the alternations; see ``converged`` of the result.
    """
    d: NDArray[np.floating] = damage
    sweeps, converged = 0, False
    while sweeps < max_sweeps and not converged:
        body.set_damage(d, residual_stiffness=residual_stiffness)
        body.solve(tolerance=1e-9, limit=200)
        psi = load * load * body.driving_energy()
        relaxed = relax_damage(
            d, psi, toughness, length_ratio=length_ratio, floor=damage, tensor=tensor, tolerance=1e-3 * tolerance
        )
        converged = bool(np.abs(relaxed - d).max() < tolerance)
        d, sweeps = relaxed, sweeps + 1
    surface = surface_energy(d, toughness, length_ratio=length_ratio, tensor=tensor)
    return Equilibrium(d, surface, body.elastic_energy() * load * load, sweeps, converged)


def discrete_surface_energy(length_ratio: float) -> float:
    """Energy per length of a straight grid-aligned crack, / Gc: sqrt(1 + (h / 2 l)^2)."""
    return float(np.sqrt(1.0 + (0.5 / length_ratio) ** 2))
