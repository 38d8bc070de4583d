"""Known answers for the shrinking film: shear lag, order, an independent solver, AT2 profile, spacing, junctions."""

from __future__ import annotations

from functools import partial

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from benchmarks.verification.case import Case
from physics.craze import (
    FilmBody,
    film_surface_energy,
    relax_film_damage,
    shear_lag_strength_load,
    shear_lag_stress,
)

__all__ = [
    "assembled_solution",
    "breaking_loads",
    "cases",
    "convergence_order",
    "crack_profile",
    "manufactured_error",
    "profile_energy",
    "shear_lag_error",
    "shear_lag_profile",
    "solver_gap",
]

UNIAXIAL = (0.0, 1.0, 0.0)  # shrinkage along the rows only


def shear_lag_profile(*, half_length: int, screening: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Place x (cells) and stress / (C e0) across a film of length 2 ``half_length`` with free ends, from the kernels.

    The film is a square of 2 a x 2 a cells that shrinks along the rows only. With Poisson's ratio 0 the rows do not
    know of each other, so each is the one-dimensional film.
    """
    cells = 2 * half_length
    body = FilmBody(cells, screening=screening, poisson=0.0, shrinkage=UNIAXIAL)
    body.solve(tolerance=1e-12)
    x = np.arange(cells) + 0.5 - half_length
    return np.asarray(x, dtype=np.float64), np.asarray(body.stress()[1, half_length], dtype=np.float64)


def shear_lag_error(*, half_length: int, screening: float) -> float:
    """Largest difference from `shear_lag_stress`, share of C e0."""
    x, got = shear_lag_profile(half_length=half_length, screening=screening)
    return float(np.abs(got - shear_lag_stress(x, half_length=half_length, screening=screening)).max())


def manufactured_error(cells: int, *, poisson: float = 0.3, screening: float = 0.2) -> float:
    """Error (maximum norm) for u = (sin^2 pi y sin^2 pi x, half of it on sin 2 pi y), varying stiffness and envelope.

    The square has side 1; ``screening`` is in sides. The forces come from central differences of the exact stress.
    """
    h = 1.0 / cells
    node, centre = np.linspace(0.0, 1.0, cells + 1), (np.arange(cells) + 0.5) * h
    y, x = np.meshgrid(centre, centre, indexing="ij")
    body = FilmBody(cells, screening=screening / h, poisson=poisson, envelope=_bump(y, x), shrinkage=(1.0, 0.6, 0.2))
    body.bulk *= _stiffness(y, x)
    body.shear *= _stiffness(y, x)
    y, x = np.meshgrid(node, node, indexing="ij")
    share = body.foundation * (screening / h) ** 2  # part of a cell that belongs to the node
    body.force[:] = h * share * (_lag(y, x) / screening**2 - _divergence(y, x, poisson))
    body.solve(tolerance=1e-12)  # forces and strains scale as 1 / h with displacements in sides: u comes out in cells
    return float(np.abs(body.displacement * h - _lag(y, x)).max())


def _bump(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray((np.sin(np.pi * y) * np.sin(np.pi * x)) ** 2)


def _stiffness(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(0.7 + 0.3 * np.sin(2.0 * x + 3.0 * y))


def _lag(y: NDArray[np.float64], x: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([_bump(y, x), 0.5 * _bump(y, x) * np.sin(2 * np.pi * y)])


def _stress(y: NDArray[np.float64], x: NDArray[np.float64], poisson: float) -> tuple[NDArray[np.float64], ...]:
    step = 1e-4
    down = (_lag(y + step, x) - _lag(y - step, x)) / (2 * step)
    right = (_lag(y, x + step) - _lag(y, x - step)) / (2 * step)
    f, g = _bump(y, x), _stiffness(y, x)
    yy, xx, xy = down[0] + f, right[1] + 0.6 * f, right[0] + down[1] + 0.4 * f
    bulk, shear = 0.5 * (1 + poisson), 0.5 * (1 - poisson)
    return (
        g * (bulk * (yy + xx) + shear * (yy - xx)),
        g * (bulk * (yy + xx) - shear * (yy - xx)),
        g * shear * xy,
    )


def _divergence(y: NDArray[np.float64], x: NDArray[np.float64], poisson: float) -> NDArray[np.float64]:
    step = 1e-4
    below, above = _stress(y + step, x, poisson), _stress(y - step, x, poisson)
    right, left = _stress(y, x + step, poisson), _stress(y, x - step, poisson)
    return np.stack(
        [
            (below[0] - above[0] + right[2] - left[2]) / (2 * step),
            (below[2] - above[2] + right[1] - left[1]) / (2 * step),
        ]
    )


def convergence_order(cells: tuple[int, ...] = (16, 32, 64, 128)) -> float:
    """Slope of ln error over ln h, least squares."""
    errors = [manufactured_error(n) for n in cells]
    return -float(np.polyfit(np.log(cells), np.log(errors), 1)[0])


def assembled_solution(body: FilmBody) -> NDArray[np.float64]:
    """Displacement (2, n + 1, n + 1) from a sparse matrix of cell matrices: no code in common with the kernels."""
    n = body.cells
    number = np.arange((n + 1) ** 2).reshape(n + 1, n + 1)
    # corners of a cell: top left, top right, bottom left, bottom right; strains (yy, xx, 2 yx), hourglass of y and x
    down, right = np.array([-1, -1, 1, 1]) / 2, np.array([-1, 1, -1, 1]) / 2
    twist, none = np.array([1, -1, -1, 1.0]), np.zeros(4)
    strain = np.array([np.r_[down, none], np.r_[none, right], np.r_[right, down]])
    hourglass = np.array([np.r_[twist, none], np.r_[none, twist]])
    volume, deviator = strain[0] + strain[1], strain[0] - strain[1]
    bulk_part = np.outer(volume, volume)
    shear_part = np.outer(deviator, deviator) + np.outer(strain[2], strain[2]) + hourglass.T @ hourglass / 6
    matrices = body.bulk[..., None, None] * bulk_part + body.shear[..., None, None] * shear_part
    s_yy, s_xx, s_xy = body.shrinkage
    pull = body.bulk[..., None] * (s_yy + s_xx) * volume + body.shear[..., None] * (
        (s_yy - s_xx) * deviator + s_xy * strain[2]
    )
    corner = np.stack([number[:-1, :-1], number[:-1, 1:], number[1:, :-1], number[1:, 1:]], axis=-1)
    freedom = np.concatenate([corner, corner + number.size], axis=-1)
    rows, columns = np.broadcast_arrays(freedom[..., :, None], freedom[..., None, :])
    size = 2 * number.size
    stiffness = sparse.coo_array((matrices.ravel(), (rows.ravel(), columns.ravel())), shape=(size, size))
    foundation = sparse.diags_array(np.tile(body.foundation.ravel(), 2))
    load = body.force.ravel().astype(np.float64)
    np.add.at(load, freedom.ravel(), -(body.envelope[..., None] * pull).ravel())
    return np.asarray(spsolve((stiffness + foundation).tocsc(), load)).reshape(2, n + 1, n + 1)


def solver_gap(cells: int = 24, *, seed: int = 5) -> float:
    """Largest difference between the CG and a sparse direct solve for random damage and envelope / largest |u|."""
    rng = np.random.default_rng(seed)
    body = FilmBody(
        cells, screening=6.0, poisson=0.25, shrinkage=(1.0, 0.4, 0.3), envelope=rng.uniform(0.0, 1.0, (cells, cells))
    )
    damage = np.pad(rng.uniform(0.0, 1.0, (cells, cells)), 1, mode="edge")
    body.set_damage(damage, residual_stiffness=1e-3)
    body.solve(tolerance=1e-13, limit=5000)
    direct = assembled_solution(body)
    return float(np.abs(body.displacement - direct).max() / np.abs(direct).max())


def crack_profile(*, length_ratio: float, cells: int = 81) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance (cells) and damage across a straight crack in an unstrained film."""
    floor = np.zeros((cells, cells))
    floor[cells // 2] = 1.0
    even = np.ones_like(floor)
    d = relax_film_damage(floor, 0.0 * even, even, length_ratio=length_ratio, tolerance=1e-10, max_sweeps=100_000)
    return np.arange(cells, dtype=np.float64) - cells // 2, np.asarray(d[:, cells // 2], dtype=np.float64)


def profile_energy(*, length_ratio: float, cells: int = 81) -> float:
    """Surface energy per length of that crack / Gc."""
    _, profile = crack_profile(length_ratio=length_ratio, cells=cells)
    short, long = (np.repeat(profile[:, None], width, axis=1) for width in (cells, 2 * cells))  # less the two sides
    energies = [film_surface_energy(d, np.ones_like(d), length_ratio=length_ratio) for d in (short, long)]
    return (energies[1] - energies[0]) / cells


def breaking_loads(*, half_lengths: tuple[int, ...], screening: float) -> NDArray[np.float64]:
    """Load at which the tension in the middle of a segment of length 2 a reaches strength 1, from the kernels."""
    return np.array([1.0 / shear_lag_profile(half_length=a, screening=screening)[1].max() for a in half_lengths])


def _plot_profile(axes: Axes, *, half_length: int, screening: float) -> None:
    x, got = shear_lag_profile(half_length=half_length, screening=screening)
    axes.plot(x, shear_lag_stress(x, half_length=half_length, screening=screening), "k-", label="shear lag")
    axes.plot(x, got, "o", ms=3, label="kernels")
    axes.set(xlabel="x / h", ylabel="stress / (C e0)")
    axes.legend()


def _plot_order(axes: Axes) -> None:
    cells = np.array([16, 32, 64, 128])
    errors = np.array([manufactured_error(int(n)) for n in cells])
    axes.loglog(1 / cells, errors, "o-", label="error")
    axes.loglog(1 / cells, errors[-1] * (cells[-1] / cells) ** 2.0, "k--", label="second order")
    axes.set(xlabel="h", ylabel="error, maximum norm")
    axes.legend()


def _plot_damage(axes: Axes, *, length_ratio: float) -> None:
    x, got = crack_profile(length_ratio=length_ratio)
    axes.plot(x, np.exp(-np.abs(x) / length_ratio), "k-", label="exp(-|x| / l)")
    axes.plot(x, got, "o", ms=3, label="kernels")
    axes.set(xlabel="x / h", ylabel="damage", xlim=(-15, 15))
    axes.legend()


def _plot_breaking(axes: Axes, *, screening: float) -> None:
    halves = (4, 6, 8, 12, 16, 24, 32)
    spacing = 2 * np.array(halves) / screening
    known = [shear_lag_strength_load(half_length=a, screening=screening) for a in halves]
    axes.semilogy(spacing, known, "k-", label="shear lag")
    axes.semilogy(spacing, breaking_loads(half_lengths=halves, screening=screening), "o", label="kernels")
    axes.set(xlabel="crack spacing / L", ylabel="load that breaks the segment / strength")
    axes.legend()


def cases() -> list[Case]:
    """All comparisons of this mechanism."""
    short = 8
    return [
        Case(
            "order of the elastic solver",
            "Manufactured displacement with varying stiffness, envelope and directed shrinkage; 16 to 128 cells.",
            "order of convergence, maximum norm",
            2.0,
            convergence_order(),
            0.1,
            absolute=True,
            plot=_plot_order,
        ),
        Case(
            "shear-lag stress in a film segment",
            "sigma = C e0 (1 - cosh(x / L) / cosh(a / L)) (Cox 1952) for a = 32 h, L = 8 h: stress in the middle.",
            "stress / (C e0)",
            float(shear_lag_stress(np.array([0.5]), half_length=32, screening=8.0)[0]),
            float(shear_lag_profile(half_length=32, screening=8.0)[1][32]),
            1e-3,
            plot=partial(_plot_profile, half_length=32, screening=8.0),
        ),
        Case(
            "shear-lag stress, worst place",
            "The same segment: largest difference anywhere, the ends included.",
            "difference / (C e0)",
            0.0,
            shear_lag_error(half_length=32, screening=8.0),
            0.01,
            absolute=True,
        ),
        Case(
            "against a sparse direct solver",
            "SciPy spsolve on cell matrices assembled apart from the kernels, random damage and envelope, 24 cells.",
            "largest difference / largest displacement",
            0.0,
            solver_gap(),
            1e-8,
            absolute=True,
        ),
        Case(
            "damage across a crack",
            "AT2 optimal profile exp(-|x| / l), l = 4 h.",
            "largest difference",
            0.0,
            _profile_gap(length_ratio=4.0),
            0.005,
            absolute=True,
            plot=partial(_plot_damage, length_ratio=4.0),
        ),
        Case(
            "surface energy of a crack",
            "Gc sqrt(1 + (h / 2 l)^2) for a straight crack along the grid, l = 2 h.",
            "energy per length / Gc",
            float(np.sqrt(1.0 + 0.25 / 4.0)),
            profile_energy(length_ratio=2.0),
            1e-4,
        ),
        Case(
            "spacing at which cracking saturates",
            "A segment of length 2 a breaks in its middle at C e0 = strength / (1 - 1 / cosh(a / L)): 2 a = 2 L here "
            "(L = 8 h); below a few L the load climbs as (L / a)^2, so the spacing saturates.",
            "load / strength",
            shear_lag_strength_load(half_length=short, screening=8.0),
            float(breaking_loads(half_lengths=(short,), screening=8.0)[0]),
            0.01,
            plot=partial(_plot_breaking, screening=8.0),
        ),
    ]


def _profile_gap(*, length_ratio: float) -> float:
    x, got = crack_profile(length_ratio=length_ratio)
    return float(np.abs(got - np.exp(-np.abs(x) / length_ratio)).max())
