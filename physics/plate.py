"""Deflection of a thin elasto-plastic sheet: the von Karman plate on a foundation, with yielding moments.

The state obeys, in units of the bending stiffness D = 1 and lengths in sides of the square,

    lap^2 w + K w = q + [phi, w] + N : grad grad w + div div C kp,
    lap^2 phi = -Et ([w, w] / 2 + curl curl e),        Et = 12 (1 - nu^2) / t^2,

with [a, b] = a_xx b_yy + a_yy b_xx - 2 a_xy b_xy, the Airy function phi of the membrane forces, the mean membrane
force N (the square's sides stay in place), an in-plane growth e, and the plastic curvature kp of a von Mises moment
resultant with linear hardening, integrated by backward Euler (exact return in the plane of moments). A fold made by a
tool is plastic curvature that is given rather than found.
The square is simply supported (w odd, phi even at the sides), or free at its left side. Supported squares are solved by
sine and cosine transforms, those with a free edge by a sine transform along the edge and five-band systems across it.

Equilibrium is found by a preconditioned heavy-ball iteration: the bending operator, under a tension that bounds
the membrane stiffness, is the preconditioner, so that the number of iterations does not depend on the grid.

References
----------
Timoshenko & Woinowsky-Krieger, "Theory of Plates and Shells" (1959); Timoshenko & Gere, "Theory of Elastic Stability".
Simo & Taylor, "A return mapping algorithm for plane stress elastoplasticity", IJNME 22 (1986).
Ilyushin, "Plasticity" (1948), for moment resultants; Huang & Suo, "Wrinkling of a compressed elastic film" (2002).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.sparse.linalg import LinearOperator, gmres

from physics import _plate_kernels as kernels

__all__ = ["Moments", "Plate", "SheetState", "bending_return", "strip_springback"]

Float = np.float64
Array = NDArray[np.float64]
_SUPPORTED, _FREE = 0, 1
_SLOPE_SHARE = 0.6  # of the bound on the membrane stiffness; half is the limit of stability without momentum
_FORCE_SHARE = 0.8  # of the largest membrane force
_TRUST = 0.3  # a step goes no further than this share of the thickness or of the deflection


@dataclass
class SheetState:
    """What changes while a sheet is loaded; overwritten by `Plate.relax`.

    Attributes
    ----------
    deflection, velocity : (n, n) float64
        w and its last step, in sides.
    airy : (n, n) float64
        Airy function of the membrane forces, in D.
    mean_force : (2,) float64
        Mean membrane forces N_xx, N_yy, in D / side^2.
    plastic : (3, n, n) float64
        Plastic curvatures xx, yy, xy, in 1 / side.
    equivalent : (n, n) float64
        Accumulated equivalent plastic curvature.
    yielding : int
        Points that yielded in the last iteration.
    change : float
        Largest change of w in the last iteration.
    """

    deflection: Array
    velocity: Array
    airy: Array
    mean_force: Array
    plastic: Array
    equivalent: Array
    yielding: int = 0
    change: float = np.inf


@dataclass(frozen=True)
class _Loads:
    """Arguments of `Plate.relax`, as one."""

    pressure: Array
    incompatibility: Array | None
    mean_growth: tuple[float, float]
    mask: Array
    yield_moment: Array | None
    hardening: float
    one_sided: bool
    membrane: bool
    momentum: float


@dataclass(frozen=True)
class Moments:
    """Result of `bending_return`: moments and plastic curvatures, (3, m), equivalent plastic curvature, (m,)."""

    moment: Array
    plastic: Array
    equivalent: Array


def bending_return(
    curvature: Array,
    *,
    plastic: Array,
    equivalent: Array,
    yield_moment: Array,
    hardening: float = 0.0,
    poisson: float = 0.3,
) -> Moments:
    """Moments at given curvatures after backward Euler return to the von Mises moment surface; D = 1.

    Parameters
    ----------
    curvature, plastic : (3, m) float64
        Total and so far plastic curvatures xx, yy, xy, any inverse length.
    equivalent, yield_moment : (m,) float64
        Equivalent plastic curvature so far, and initial yield moment.
    hardening : float
        Growth of the yield moment with the equivalent plastic curvature, in D.
    poisson : float
        Poisson's ratio.

    Raises
    ------
    ValueError
        If a shape does not fit or a yield moment is not positive.
    """
    kappa = np.ascontiguousarray(curvature, dtype=Float)
    if kappa.ndim != 2 or kappa.shape[0] != 3:
        raise ValueError(f"curvature must have shape (3, m), got {kappa.shape}")
    m = kappa.shape[1]
    kp = np.array(plastic, dtype=Float)
    accumulated = np.array(equivalent, dtype=Float)
    limit = np.ascontiguousarray(yield_moment, dtype=Float)
    if kp.shape != (3, m) or accumulated.shape != (m,) or limit.shape != (m,):
        raise ValueError(f"expected plastic (3, {m}), equivalent and yield_moment ({m},)")
    if not (limit > 0).all() or hardening < 0:
        raise ValueError("yield moments must be positive and hardening must not be negative")
    moment = np.empty((3, m))
    kernels.return_moments(kappa, kp, accumulated, limit, float(hardening), float(poisson), moment)
    return Moments(moment, kp, accumulated)


def strip_springback(curvature_ratio: float, *, hardening: float = 0.0, poisson: float = 0.3) -> float:
    """Residual / loaded curvature of a strip bent about one axis, from the run-time return mapping.

    Parameters
    ----------
    curvature_ratio : float
        Loaded curvature / curvature at first yield of the resultant.
    hardening : float
        In D; ``hardening / (1 + hardening)`` is the tangent of the moment-curvature line of a strip free across.
    poisson : float
        Poisson's ratio; the moment across the strip is zero.
    """
    limit = np.ones(1)
    kappa = np.zeros((3, 1))
    first = limit[0] / (1.0 - poisson**2)  # curvature under the moment 1 along the strip alone
    kappa[0] = curvature_ratio * first
    kappa[1] = -poisson * kappa[0]
    step = 0.0
    for _ in range(200):  # the curvature across is the one that leaves no moment across
        state = bending_return(
            kappa,
            plastic=np.zeros((3, 1)),
            equivalent=np.zeros(1),
            yield_moment=limit,
            hardening=hardening,
            poisson=poisson,
        )
        step = float(state.moment[1, 0])
        kappa[1] -= step
        if abs(step) < 1e-13:
            break
    released = state.moment[0, 0] * first  # unloading is elastic
    return float((kappa[0, 0] - released) / kappa[0, 0])


class Plate:
    """A square sheet of n x n cells, with its solvers and work space.

    Parameters
    ----------
    cells : int
        Cells a side, at least 4.
    thickness : float
        t, in sides; it sets the membrane stiffness against the bending stiffness.
    poisson : float
        Poisson's ratio.
    foundation : float
        K, in D / side^4: pressure per deflection.
    left : "supported" or "free"
        Support of the left side; the other three are simply supported.

    Raises
    ------
    ValueError
        If a parameter is out of range.
    """

    def __init__(
        self,
        cells: int,
        *,
        thickness: float,
        poisson: float = 0.3,
        foundation: float = 0.0,
        left: Literal["supported", "free"] = "supported",
    ) -> None:
        if cells < 4:
            raise ValueError(f"cells must be at least 4, got {cells}")
        if not thickness > 0 or not 0 <= poisson < 0.5 or foundation < 0:
            raise ValueError("thickness must be positive, 0 <= poisson < 0.5, and foundation not negative")
        if left not in {"supported", "free"}:
            raise ValueError(f"left is 'supported' or 'free', got {left!r}")
        n = self.cells = cells
        self.spacing = 1.0 / n
        self.thickness = thickness
        self.poisson = poisson
        self.foundation = foundation
        self.membrane_stiffness = 12.0 * (1.0 - poisson**2) / thickness**2
        self.left = _FREE if left == "free" else _SUPPORTED
        waves = np.arange(n + 1)
        symbol = (2.0 - 2.0 * np.cos(np.pi * waves / n)) * n * n  # -d2/dx2 on the grid
        self._sine, self._cosine = symbol[1:], symbol[:-1]
        self._tension = 0.0  # under which the factors of a sheet with a free edge were made
        self._padded = tuple(np.zeros((n + 2, n + 2)) for _ in range(3))
        self._moment = np.zeros((3, n + 2, n + 2))
        self._rows = np.zeros((5, n + 2))
        self._kappa = np.zeros((3, n, n))
        self._elastic_moment = np.zeros((3, n, n))
        self._work, self._force = np.zeros((n, n)), np.zeros((n, n))
        self._prepare()

    def _prepare(self) -> None:
        n = self.cells
        if self.left == _SUPPORTED:
            self._minus_laplacian = self._sine[:, None] + self._sine[None, :]
            self._biharmonic = self._minus_laplacian**2 + self.foundation
            square = (self._cosine[:, None] + self._cosine[None, :]) ** 2
            square[0, 0] = np.inf  # the mean of an Airy function means nothing
            self._airy_inverse = -self.membrane_stiffness / square
            single = np.float32  # for the iteration, whose fixed point does not depend on it
            self._minus_laplacian_single = self._minus_laplacian.astype(single)
            self._biharmonic_single = self._biharmonic.astype(single)
            self._airy_inverse_single = self._airy_inverse.astype(single)
            return
        self._bands = _free_edge_bands(n, self._sine, self.poisson, self.foundation)
        airy = _clamped_edge_bands(n, self._cosine)
        self._airy_factors = tuple(np.zeros((n, n)) for _ in range(3))
        kernels.factor_bands(*airy, *self._airy_factors)
        self._slack_factors = tuple(np.zeros((n, n)) for _ in range(3))
        self._tense_factors = tuple(np.zeros((n, n)) for _ in range(3))
        spread = self._sine[:, None] + np.full(n, 2.0 * n * n)
        spread[:, 0] -= n * n  # nothing pulls across the free edge
        spread[:, -1] += n * n
        link = np.full((n, n), -float(n * n))
        self._tension_bands = spread, link
        self._factor(0.0, self._slack_factors)

    def _factor(self, tension: float, factors: tuple[Array, ...]) -> None:
        diagonal, first, second = self._bands
        spread, link = self._tension_bands
        kernels.factor_bands(diagonal + tension * spread, first + tension * link, second, *factors)

    # ---- linear solvers

    def solve_bending(self, load: Array, *, tension: float = 0.0) -> Array:
        """W of lap^2 w - tension lap w + K w = load, (n, n); load in D / side^3, tension in D / side^2, w in sides.

        A float32 load is solved in single precision where all sides are supported.
        """
        if self.left == _SUPPORTED:
            modes = fft.dstn(load, type=2, workers=1)
            modes /= self._symbol(tension, load.dtype)
            return np.asarray(fft.idstn(modes, type=2, workers=1, overwrite_x=True))
        factors = self._slack_factors if tension == 0.0 else self._tense_factors
        if tension not in (0.0, self._tension):
            self._factor(tension, factors)
            self._tension = tension
        modes = fft.dst(load, type=2, axis=0, workers=1)
        kernels.solve_bands(*factors, modes)
        return np.asarray(fft.idst(modes, type=2, axis=0, workers=1, overwrite_x=True))

    def _symbol(self, tension: float, dtype: np.dtype[Any]) -> NDArray[Any]:
        """Of the bending operator under a tension, in the precision asked for."""
        if dtype == np.float32:
            return self._biharmonic_single + np.float32(tension) * self._minus_laplacian_single
        return self._biharmonic + tension * self._minus_laplacian

    def solve_airy(self, incompatibility: Array) -> Array:
        """Phi of lap^2 phi = -Et incompatibility, (n, n), in D; incompatibility in 1 / side^2."""
        if self.left == _SUPPORTED:
            modes = fft.dctn(incompatibility, type=2, workers=1)
            modes *= self._airy_inverse_single if modes.dtype == np.float32 else self._airy_inverse
            return np.asarray(fft.idctn(modes, type=2, workers=1, overwrite_x=True))
        modes = fft.dct(incompatibility, type=2, axis=0, workers=1)
        kernels.solve_bands(*self._airy_factors, modes)
        modes *= -self.membrane_stiffness
        return np.asarray(fft.idct(modes, type=2, axis=0, workers=1, overwrite_x=True))

    def apply_bending(self, w: Array) -> Array:
        """lap^2 w + K w, (n, n), of a deflection that meets the supports."""
        out = np.empty_like(w)
        self._bending_force(w, out)
        return out

    def _bending_force(self, w: Array, out: Array) -> None:
        if self.left == _FREE:
            modes = fft.dst(w, type=2, axis=0, workers=1)
            product = np.empty_like(modes)
            kernels.multiply_bands(*self._bands, modes, product)
            out[:] = fft.idst(product, type=2, axis=0, workers=1, overwrite_x=True)
            return
        first, second = self._padded[0], self._padded[2]
        kernels.pad(w, -1.0, _SUPPORTED, first)
        kernels.laplacian(first, self.spacing, self._work)
        kernels.pad(self._work, -1.0, _SUPPORTED, second)
        kernels.laplacian(second, self.spacing, out)
        if self.foundation > 0:
            out += self.foundation * w

    def clamped_deflection(self, load: Array, *, tolerance: float = 1e-8) -> Array:
        """W with all four sides clamped: simply supported, plus the edge moments that level its sides.

        The moments are found by GMRES, one run-time solve an iteration (Timoshenko's superposition).

        Raises
        ------
        ValueError
            If the left side is free.
        """
        if self.left == _FREE:
            raise ValueError("clamped_deflection needs left='supported'")
        n, h = self.cells, self.spacing

        def edges(w: Array) -> Array:
            return np.concatenate([w[0], w[-1], w[:, 0], w[:, -1]])

        def bent(curvatures: Array) -> Array:
            f = np.zeros((n, n))
            for side, part in zip((f[0], f[-1], f[:, 0], f[:, -1]), curvatures.reshape(4, n), strict=True):
                side += part
            # a curvature k at the side shifts the ghost of lap w by 2 k, and that of w by k h^2 / 4
            return -self.solve_bending(f * (2.0 / h**2)) - self._poisson(f) / 4.0

        def slopes(curvatures: Array) -> Array:  # w = slope h / 2 + k h^2 / 8 half a cell inside
            return curvatures * (h * h / 8.0) - edges(bent(curvatures))

        free = self.solve_bending(load)
        operator = LinearOperator((4 * n, 4 * n), matvec=slopes, dtype=Float)
        found, failed = gmres(operator, edges(free), rtol=tolerance, restart=200, maxiter=10)
        if failed:
            raise ArithmeticError("edge moments did not converge; ask for a larger tolerance")
        return np.asarray(free + bent(found))

    def membrane_force(self, airy: Array, w: Array, *, mean_force: tuple[float, float] = (0.0, 0.0)) -> Array:
        """[phi, w] + N : grad grad w, the pressure (n, n) of membrane forces on the bent sheet."""
        out = np.zeros_like(w)
        self._pad_deflection(w)
        kernels.pad(airy, 1.0, _SUPPORTED, self._padded[1])
        kernels.add_membrane_force(
            self._padded[1], self._padded[0], mean_force[0], mean_force[1], self.spacing, self._rows, out
        )
        return out

    def buckling_load(self, *, iterations: int = 60) -> tuple[float, Array]:
        """Least compressive force N_xx (uniform, in D / side^2) that buckles the flat sheet, and the buckle (n, n).

        Power iteration on the run-time solver and membrane kernel.
        """
        n = self.cells
        centre = (np.arange(n) + 0.5) / n
        w = np.outer(np.sin(np.pi * centre), 1.0 + centre)  # one half wave across, all along
        load = np.inf
        zero = np.zeros((n, n))
        for _ in range(iterations):
            grown = self.solve_bending(self.membrane_force(zero, w, mean_force=(-1.0, 0.0)))
            load = float((w * w).sum() / (w * grown).sum())
            w = grown / np.abs(grown).max()
        return load, w

    def _pad_deflection(self, w: Array) -> None:
        kernels.pad(w, -1.0, self.left, self._padded[0])

    # ---- nonlinear equilibrium

    def rest(self) -> SheetState:
        """The flat, unloaded sheet."""
        n = self.cells
        w, velocity, airy, equivalent = np.zeros((4, n, n))
        return SheetState(w, velocity, airy, np.zeros(2), np.zeros((3, n, n)), equivalent)

    def growth_incompatibility(self, growth: Array) -> Array:
        """e_xx,yy + e_yy,xx - 2 e_xy,xy of the in-plane growth strains (3, n, n), in 1 / side^2."""
        turned = np.stack([growth[1], growth[0], -growth[2]])
        out = np.zeros((self.cells, self.cells))
        padded = np.stack([np.pad(part, 1, mode="edge") for part in turned])
        kernels.add_moment_divergence(padded, self.spacing, out)
        return out

    def stretch(self, w: Array) -> tuple[Array, tuple[float, float]]:
        """Incompatibility [w, w] / 2, (n, n), in 1 / side^2, and mean strains xx, yy, that a deflection makes."""
        out, mean = np.empty_like(w), np.zeros(2)
        self._pad_deflection(w)
        kernels.gaussian_curvature(self._padded[0], self.spacing, self._rows, out)
        kernels.mean_stretch(self._padded[0], self.spacing, mean)
        return out, (float(mean[0]), float(mean[1]))

    def relax(
        self,
        state: SheetState,
        *,
        load: Array,
        incompatibility: Array | None = None,
        mean_growth: tuple[float, float] = (0.0, 0.0),
        mask: Array | None = None,
        yield_moment: Array | None = None,
        hardening: float = 0.0,
        one_sided: bool = False,
        membrane: bool = True,
        momentum: float = 0.7,
        iterations: int = 1,
        tolerance: float = 0.0,
    ) -> int:
        """Iterate towards equilibrium; the state is overwritten.

        Parameters
        ----------
        state : SheetState
            Start; its plastic curvature changes only where ``yield_moment`` is given.
        load : (n, n) float64
            Pressure, in D / side^3.
        incompatibility : (n, n) float64, optional
            Of the in-plane growth, see `growth_incompatibility`.
        mean_growth : tuple of float
            Means of the growth strains xx and yy, which the sides of the square hold back.
        mask : (n, n) float64, optional
            1 where the sheet is free to move, 0 where it is held; smooth between.
        yield_moment : (n, n) float64, optional
            Initial yield moment, in D / side; elastic if left out.
        hardening : float
            In D.
        one_sided : bool
            The sheet lies on something stiff: w >= 0.
        membrane : bool
            With membrane forces (von Karman), or bending alone.
        momentum : float
            Share of the last step that is repeated.
        iterations : int
            At most so many.
        tolerance : float
            Stop when no point moved more than this, in sides.

        Returns
        -------
        int
            Iterations used.
        """
        if mask is None:
            mask = np.ones_like(state.deflection)
        loads = _Loads(load, incompatibility, mean_growth, mask, yield_moment, hardening, one_sided, membrane, momentum)
        for k in range(iterations):
            self._iterate(state, loads)
            if state.change <= tolerance:
                return k + 1
        return iterations

    def _iterate(self, state: SheetState, loads: _Loads) -> None:
        h, force = self.spacing, self._force
        self._bending_force(state.deflection, force)
        np.subtract(loads.pressure, force, out=force)
        self._pad_deflection(state.deflection)
        tension = self._membrane(state, loads) if loads.membrane else 0.0
        if loads.yield_moment is not None:
            self._yield(state, loads.yield_moment, loads.hardening)
        if state.plastic.any():
            kernels.stiffness_moment(state.plastic, self.poisson, self.left, self._moment)
            kernels.add_moment_divergence(self._moment, h, force)
        force *= loads.mask
        direction = self.solve_bending(self._in_iteration(force, exact=loads.one_sided), tension=tension)
        if loads.one_sided and self.left == _SUPPORTED:
            direction *= self._step_length(direction, loads.mask, tension)
        if loads.membrane:  # far from equilibrium the membrane stiffness of the next state is not that of this one
            longest = kernels.largest_size(direction)
            trusted = _TRUST * max(self.thickness, kernels.largest_size(state.deflection))
            if longest > trusted:
                direction *= trusted / longest
        state.change = kernels.advance(
            state.deflection, state.velocity, direction, loads.mask, loads.momentum, loads.one_sided
        )

    def _step_length(self, direction: Array, mask: Array, tension: float) -> float:
        """Share of the step that lowers the energy most, at most 1.

        A step cut off at the steep rim of a small mask bends more sharply than the preconditioner knows of.
        """
        gain = float((direction * self._force).sum())
        held = direction * mask
        bent = np.empty_like(held)
        self._bending_force(held, bent)
        cost = float((held * (bent - tension * self._work)).sum())  # the work space holds the Laplacian
        return min(1.0, gain / cost) if cost > 0.0 else 1.0

    def _in_iteration(self, values: Array, *, exact: bool) -> NDArray[Any]:
        """In single precision where transforms are the whole solver, and no contact magnifies rounding."""
        return values if exact or self.left == _FREE else values.astype(np.float32)

    def _yield(self, state: SheetState, yield_moment: Array, hardening: float) -> None:
        kernels.curvature(self._padded[0], self.spacing, self._kappa)
        state.yielding = kernels.return_moments(
            self._kappa.reshape(3, -1),
            state.plastic.reshape(3, -1),
            state.equivalent.reshape(-1),
            yield_moment.reshape(-1),
            hardening,
            self.poisson,
            self._elastic_moment.reshape(3, -1),
        )

    def _membrane(self, state: SheetState, loads: _Loads) -> float:
        """Membrane forces of the present deflection, added to the force; the tension that bounds them."""
        h = self.spacing
        steepest = kernels.gaussian_curvature(self._padded[0], h, self._rows, self._work)
        if loads.incompatibility is not None:
            self._work += loads.incompatibility
        state.airy = self.solve_airy(self._in_iteration(self._work, exact=loads.one_sided))
        self._mean_force(state, loads.mean_growth)
        kernels.pad(state.airy, 1.0, _SUPPORTED, self._padded[1])
        nx, ny = state.mean_force
        strongest = kernels.add_membrane_force(self._padded[1], self._padded[0], nx, ny, h, self._rows, self._force)
        # [w, lap^-2 [w, .]] is at most Et times the largest slope squared times -lap; a force N is N times -lap
        wanted = max(_SLOPE_SHARE * self.membrane_stiffness * steepest, _FORCE_SHARE * strongest)
        return float(2.0 ** (0.5 * np.ceil(2.0 * np.log2(wanted + 1.0))))

    def _mean_force(self, state: SheetState, mean_growth: tuple[float, float]) -> None:
        if self.left == _FREE:
            return
        stretch = np.zeros(2)
        kernels.mean_stretch(self._padded[0], self.spacing, stretch)
        ex, ey = stretch[0] - mean_growth[0], stretch[1] - mean_growth[1]
        scale = self.membrane_stiffness / (1.0 - self.poisson**2)
        state.mean_force[0] = scale * (ex + self.poisson * ey)
        state.mean_force[1] = scale * (ey + self.poisson * ex)

    def in_plane(self, state: SheetState, *, growth: Array | None = None) -> tuple[Array, Array]:
        """Displacement (down, right) of the middle surface, each (n, n), in sides.

        The strains that membrane forces, slopes and growth (3, n, n) leave are integrated in the least-squares sense,
        lap u_i = 2 e_ij,j - e_jj,i, with sides held.
        """
        strain = self._moment
        strain[:] = 0.0
        if growth is not None:
            strain[:, 1:-1, 1:-1] = growth
        self._pad_deflection(state.deflection)
        kernels.pad(state.airy, 1.0, _SUPPORTED, self._padded[1])
        nx, ny = state.mean_force
        compliance = 1.0 / self.membrane_stiffness
        kernels.surface_strain(self._padded[1], self._padded[0], nx, ny, compliance, self.poisson, self.spacing, strain)
        for part in strain:  # the same strain just outside
            part[0], part[-1] = part[1], part[-2]
            part[:, 0], part[:, -1] = part[:, 1], part[:, -2]
        kernels.strain_divergence(strain, self.spacing, self._force, self._work)
        return self._poisson(self._force), self._poisson(self._work)

    def _poisson(self, rhs: Array) -> Array:
        if self.left == _FREE:  # level across the free edge: quarter waves
            symbol = (2.0 - 2.0 * np.cos(np.pi * (np.arange(self.cells) + 0.5) * self.spacing)) * self.cells**2
            modes = fft.dct(fft.dst(rhs, type=2, axis=0, workers=1), type=4, axis=1, workers=1)
            modes /= -(self._sine[:, None] + symbol[None, :])
            return np.asarray(fft.idst(fft.idct(modes, type=4, axis=1, workers=1), type=2, axis=0, workers=1))
        modes = fft.dstn(rhs.astype(np.float32), type=2, workers=1)
        modes /= -self._minus_laplacian_single
        return np.asarray(fft.idstn(modes, type=2, workers=1, overwrite_x=True))


def _free_edge_bands(n: int, symbol: Array, poisson: float, foundation: float) -> tuple[Array, Array, Array]:
    """Bands of each sine mode: the plate's energy with nothing held at x = 0, simply supported at x = 1.

    D/2 int (w'' - nu s w)^2 + (1 - nu^2) s^2 w^2 + 2 (1 - nu) s w'^2, s the symbol of -d2/dy2 along the edge. The first
    cell, which the edge cuts off from its left neighbour, has no bending moment across.
    """
    h = 1.0 / n
    s = symbol[:, None]
    matrix = np.zeros((3, n, n))  # bands 0, 1, 2 of each mode
    diagonal, first, second = matrix[0], matrix[1], matrix[2]
    diagonal += (1.0 - poisson**2) * s**2 + foundation
    link = 2.0 * (1.0 - poisson) * s / h**2
    diagonal[:, :-1] += link
    diagonal[:, 1:] += link
    diagonal[:, -1:] += 2.0 * link
    first[:, :-1] -= link
    centre = -2.0 / h**2 - poisson * s
    side = 1.0 / h**2
    diagonal[:, 1:-1] += centre**2
    diagonal[:, :-2] += side**2
    diagonal[:, 2:] += side**2
    first[:, 1:-1] += centre * side
    first[:, :-2] += centre * side
    second[:, :-2] += side**2
    last = -3.0 / h**2 - poisson * s[:, 0:1]  # the ghost beyond x = 1 is minus the last value
    diagonal[:, -1:] += last**2
    diagonal[:, -2:-1] += side**2
    first[:, -2:-1] += last * side
    return diagonal, first, second


def _clamped_edge_bands(n: int, symbol: Array) -> tuple[Array, Array, Array]:
    """Bands of (d2/dx2 - s)^2 for each cosine mode: held in value and slope at x = 0, mirrored at x = 1."""
    h = 1.0 / n
    s = symbol[:, None]
    diagonal, first, second = np.zeros((3, n, n))
    side = 1.0 / h**2
    centre = np.broadcast_to(-2.0 / h**2 - s, (n, n)).copy()
    centre[:, -1] += side
    diagonal += centre**2
    diagonal[:, :-1] += side**2
    diagonal[:, 1:] += side**2
    diagonal[:, 0] += side**2  # the row of the ghost cell, whose own value is zero
    first[:, :-1] = (centre[:, :-1] + centre[:, 1:]) * side
    second[:, :-2] = side**2
    return diagonal, first, second
