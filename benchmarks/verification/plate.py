"""Known answers of the elasto-plastic plate, computed with the kernels that grow the warped sheets."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse.linalg import spsolve

from benchmarks.verification.case import Case
from physics.plate import Plate, bending_return, strip_springback

__all__ = ["cases"]

Array = NDArray[np.float64]


def cases() -> list[Case]:
    """Every known answer that concerns the plate."""
    return [
        *_uniform_load(),
        _free_edge(),
        _order(),
        _sparse_reference(),
        _consistency(),
        _small_steps(),
        *_springback(),
        _elastic_release(),
        _buckling(),
        _wrinkling(),
    ]


def _centre(cells: int) -> tuple[Array, Array]:
    points = (np.arange(cells) + 0.5) / cells
    y, x = np.meshgrid(points, points, indexing="ij")
    return y, x


def _uniform_load() -> list[Case]:
    cells = 129
    plate = Plate(cells, thickness=0.01)
    load = np.ones((cells, cells))
    supported, clamped = plate.solve_bending(load), plate.clamped_deflection(load)
    middle = cells // 2

    def plot(ax: Axes) -> None:
        along = (np.arange(cells) + 0.5) / cells
        ax.plot(along, supported[middle], label="simply supported")
        ax.plot(along, clamped[middle], label="clamped")
        ax.plot([0.5, 0.5], [0.00406235, 0.00126532], "k+", label="known")
        ax.set(xlabel="x / a", ylabel="w D / (q a^4)", title="Square plate under uniform load")
        ax.legend()

    source = "Timoshenko & Woinowsky-Krieger; 129 x 129 cells."
    return [
        Case(
            title="plate under uniform load, simply supported",
            statement=f"D lap^2 w = q by sine transforms. {source}",
            quantity="centre deflection / (q a^4 / D)",
            expected=0.00406235,
            got=float(supported[middle, middle]),
            tolerance=1e-3,
            plot=plot,
        ),
        Case(
            title="plate under uniform load, clamped",
            statement=f"The same solver with the edge moments that level the sides. {source}",
            quantity="centre deflection / (q a^4 / D)",
            expected=0.00126532,
            got=float(clamped[middle, middle]),
            tolerance=2e-3,
        ),
    ]


def _free_edge() -> Case:
    cells = 128
    w = Plate(cells, thickness=0.01, left="free").solve_bending(np.ones((cells, cells)))
    edge = 1.5 * w[:, 0] - 0.5 * w[:, 1]
    return Case(
        title="plate under uniform load, one side free",
        statement=(
            "Three sides simply supported, nu = 0.3; sine transform along the edge, five-band systems across it, first "
            "order "
            "at the edge. Timoshenko & Woinowsky-Krieger, table 39 (four figures); 128 x 128 cells."
        ),
        quantity="deflection in the middle of the free edge / (q a^4 / D)",
        expected=0.01286,
        got=float(edge[cells // 2 - 1 : cells // 2 + 1].mean()),
        tolerance=5e-3,
    )


def _order() -> Case:
    grids, errors = (16, 32, 64, 128), []
    for cells in grids:
        y, x = _centre(cells)
        exact = np.sin(2 * np.pi * x) * np.sin(np.pi * y)
        load = ((5 * np.pi**2) ** 2 + 100.0) * exact
        w = Plate(cells, thickness=0.01, foundation=100.0).solve_bending(load)
        errors.append(float(np.abs(w - exact).max()))
    order = float(np.log2(errors[-2] / errors[-1]))

    def plot(ax: Axes) -> None:
        spacing = 1.0 / np.array(grids)
        ax.loglog(spacing, errors, "o-", label=f"error, order {order:.2f}")
        ax.loglog(spacing, errors[0] * (spacing / spacing[0]) ** 2, "k--", label="order 2")
        ax.set(xlabel="h / a", ylabel="largest error", title="Bending, manufactured solution")
        ax.legend()

    return Case(
        title="bending solver, order of convergence",
        statement="lap^2 w + K w = q with w = sin 2 pi x sin pi y; 16 to 128 cells a side.",
        quantity="order",
        expected=2.0,
        got=order,
        tolerance=0.1,
        absolute=True,
        plot=plot,
    )


def _sparse_reference() -> Case:
    cells = 24
    load = np.random.default_rng(7).standard_normal((cells, cells))
    line = sparse.diags_array([np.ones(cells - 1), -2 * np.ones(cells), np.ones(cells - 1)], offsets=[-1, 0, 1]).tolil()
    line[0, 0] = line[-1, -1] = -3.0
    laplacian = (sparse.kron(line, sparse.eye_array(cells)) + sparse.kron(sparse.eye_array(cells), line)) * cells**2
    system = sparse.csc_array(laplacian @ laplacian + 300.0 * sparse.eye_array(cells**2))
    reference = spsolve(system, load.ravel()).reshape(cells, cells)
    w = Plate(cells, thickness=0.01, foundation=300.0).solve_bending(load)
    return Case(
        title="bending solver, sparse direct reference",
        statement="Random load, foundation K = 300; SciPy's sparse LU on a separately assembled system, 24 x 24 cells.",
        quantity="largest difference / largest deflection",
        expected=0.0,
        got=float(np.abs(w - reference).max() / np.abs(reference).max()),
        tolerance=1e-9,
        absolute=True,
    )


def _resultant(moment: Array) -> Array:
    mx, my, mxy = moment
    return np.asarray(np.sqrt(mx**2 - mx * my + my**2 + 3 * mxy**2))


def _consistency() -> Case:
    rng = np.random.default_rng(8)
    kappa, limit = 2.0 * rng.standard_normal((3, 2000)), rng.uniform(0.3, 1.0, 2000)
    out = bending_return(
        kappa, plastic=np.zeros((3, 2000)), equivalent=np.zeros(2000), yield_moment=limit, hardening=0.1
    )
    flowed = out.equivalent > 0
    excess = np.abs(_resultant(out.moment) / (limit + 0.1 * out.equivalent) - 1.0)[flowed]
    return Case(
        title="plastic return, consistency at yield",
        statement="von Mises moment resultant of 2000 random curvatures against the hardened yield moment.",
        quantity="largest relative gap",
        expected=0.0,
        got=float(excess.max()),
        tolerance=1e-6,
        absolute=True,
    )


def _rate_integration(kappa: Array, *, limit: float, hardening: float, steps: int) -> Array:
    """Forward Euler on the rate equations of one point, along a straight path of curvature."""
    nu = 0.3
    stiff = np.array([[1, nu, 0], [nu, 1, 0], [0, 0, (1 - nu)]])
    moment, size = np.zeros(3), limit
    for _ in range(steps):
        rate = stiff @ (kappa / steps)
        trial = moment + rate
        if _resultant(trial) > size:
            flow = np.array([moment[0] - moment[1] / 2, moment[1] - moment[0] / 2, 1.5 * moment[2]]) / _resultant(
                moment
            )
            gradient = flow * np.array([1.0, 1.0, 2.0])
            multiplier = max(0.0, float(gradient @ rate / (gradient @ stiff @ flow + hardening)))
            trial = trial - multiplier * stiff @ flow
            size += hardening * multiplier
        moment = trial
    return moment


def _small_steps() -> Case:
    rng, worst = np.random.default_rng(9), 0.0
    for _ in range(4):
        kappa = 3.0 * rng.standard_normal(3)
        exact = _rate_integration(kappa, limit=0.5, hardening=0.1, steps=20_000)
        plastic, equivalent = np.zeros((3, 1)), np.zeros(1)
        for k in range(40):
            out = bending_return(
                (kappa * (k + 1) / 40)[:, None],
                plastic=plastic,
                equivalent=equivalent,
                yield_moment=np.array([0.5]),
                hardening=0.1,
            )
            plastic, equivalent = out.plastic, out.equivalent
        worst = max(worst, float(np.abs(out.moment[:, 0] - exact).max() / np.abs(exact).max()))
    return Case(
        title="plastic return, small-step reference",
        statement="40 backward-Euler steps against 20,000 forward steps of the rate equations; four random paths.",
        quantity="largest difference of the moments / largest moment",
        expected=0.0,
        got=worst,
        tolerance=0.01,
        absolute=True,
    )


def _springback() -> list[Case]:
    ratios = np.linspace(1.0, 12.0, 45)
    found = np.array([strip_springback(float(r)) for r in ratios])

    def plot(ax: Axes) -> None:
        fibre = 1.5 * ratios
        ax.plot(fibre, found, label="kernel (resultant yields at 1.5 times the first fibre)")
        ax.plot(fibre, 1 - 1.5 / fibre + 0.5 / fibre**3, "k--", label="fibres: 1 - 3 r + 4 r^3")
        ax.set(xlabel="curvature / curvature of first yield", ylabel="residual / loaded", title="Springback of a strip")
        ax.legend()

    return [
        Case(
            title="springback of a strip, resultant form",
            statement="Elastic-perfectly plastic moment and curvature: 1 - kappa_y / kappa, at kappa = 4 kappa_y.",
            quantity="residual / loaded curvature",
            expected=0.75,
            got=strip_springback(4.0),
            tolerance=1e-4,
        ),
        Case(
            title="springback of a strip, whole section",
            statement=(
                "Fibres of a rectangular section, 1 - 3 r + 4 r^3 with r = Y rho / (E t), at 12 times the curvature of "
                "first yield; the resultant yields at 1.5 times the moment of first yield."
            ),
            quantity="residual / loaded curvature",
            expected=1 - 3 / 24 + 4 / 24**3,
            got=strip_springback(8.0),
            tolerance=1e-3,
            plot=plot,
        ),
    ]


def _elastic_release() -> Case:
    plate = Plate(64, thickness=0.02, foundation=1e4)
    y, x = _centre(64)
    load = 30.0 * np.exp(-((x - 0.5) ** 2 + (y - 0.4) ** 2) / 0.01)
    limit = np.full((64, 64), 1e6)
    state = plate.rest()
    plate.relax(state, load=load, yield_moment=limit, membrane=False, momentum=0.0)
    loaded = float(np.abs(state.deflection).max())
    zero = np.zeros((64, 64))
    plate.relax(state, load=zero, yield_moment=limit, membrane=False, momentum=0.0, iterations=3)
    return Case(
        title="elastic loading and release",
        statement="A sheet that does not yield, loaded and released; 64 x 64 cells.",
        quantity="residual / loaded deflection",
        expected=0.0,
        got=float(np.abs(state.deflection).max()) / loaded,
        tolerance=1e-12,
        absolute=True,
    )


def _buckling() -> Case:
    load, _ = Plate(64, thickness=0.01).buckling_load()
    return Case(
        title="buckling of a simply supported square",
        statement="Compressed along x, k = 4 (Timoshenko & Gere); power iteration on the run-time kernels, 64 cells.",
        quantity="critical force / (D / a^2)",
        expected=4 * np.pi**2,
        got=load,
        tolerance=0.01,
    )


def _wrinkling() -> Case:
    cells, wave = 128, 0.1
    length = wave / (2 * np.pi)
    plate = Plate(cells, thickness=0.001, foundation=length**-4)
    strain = 1.1 * 2.0 / length**2 / plate.membrane_stiffness
    noise = np.random.default_rng(3).standard_normal(cells)
    state = plate.rest()
    load = np.outer(np.ones(cells), noise) * 1e-6 * length**-4
    plate.relax(state, load=load, mean_growth=(strain, -0.3 * strain), momentum=0.8, iterations=400)
    row = state.deflection[cells // 2]
    power = np.abs(np.fft.rfft(row, 16 * cells)) ** 2
    number = np.arange(len(power)) / 16
    main = power > 0.5 * power.max()

    def plot(ax: Axes) -> None:
        ax.plot((np.arange(cells) + 0.5) / cells, row)
        ax.set(xlabel="x / a", ylabel="w / a", title="Wrinkles of a compressed sheet on a foundation")

    return Case(
        title="wrinkles on a foundation",
        statement="2 pi (D / K)^(1/4) (Huang & Suo); the full iteration 10 % above the critical strain, 128 cells.",
        quantity="wave length / a",
        expected=wave,
        got=float(power[main].sum() / (number[main] * power[main]).sum()),
        tolerance=0.05,
        plot=plot,
    )
