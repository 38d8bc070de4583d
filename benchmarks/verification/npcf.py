"""npcF: the solver beside manufactured solutions, a direct sparse solve, and the properties that the equation has."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from benchmarks.verification.case import Case
from refine.npcf import NpcfSolution, harmonise

SCREENING_PX = 6.0
CONDUCTIVITY = 1e-2
TOLERANCE = 1e-3  # the default of the config
SIDES = (64, 128, 256, 512, 1024)


@dataclass(frozen=True)
class Problem:
    """One grey sample: source, rendering, coverage (H, W) float64, support (H, W)."""

    source: NDArray[np.float64]
    rendering: NDArray[np.float64]
    coverage: NDArray[np.float64]
    support: NDArray[np.bool_]
    screening_px: float = SCREENING_PX
    conductivity: float = CONDUCTIVITY


def cases() -> list[Case]:
    """All cases; a few seconds."""
    return [_screened_order(), _guided_order(), *_direct(), *_cycles(), _maximum(), _sealed(), _single()]


def _solved(problem: Problem, tolerance: float, dtype: torch.dtype = torch.float64) -> NpcfSolution:
    source, rendering, coverage = (
        torch.from_numpy(a).to(dtype)[None] for a in (problem.source, problem.rendering, problem.coverage)
    )
    return harmonise(
        source[None],
        rendering[None],
        coverage,
        torch.from_numpy(problem.support)[None],
        screening_px=problem.screening_px,
        crack_conductivity=problem.conductivity,
        tolerance=tolerance,
        max_cycles=100,
    )


def _picture(problem: Problem, tolerance: float, dtype: torch.dtype = torch.float64) -> NDArray[np.float64]:
    return np.asarray(_solved(problem, tolerance, dtype).image[0, 0].double().numpy())


def _cracked(side: int) -> Problem:
    """Textured material with a winding crack 1.5 px wide, darker at its lips; all of the picture is free."""
    rng = np.random.default_rng(4)
    y, x = np.mgrid[:side, :side].astype(float)
    distance = np.abs(x - side / 2 - 0.1 * side * np.sin(6 * y / side) - 2 * np.sin(y / 3))
    coverage = np.clip(1.25 - distance, 0, 1)
    texture = 0.5 + 0.1 * ndimage.gaussian_filter(rng.standard_normal((side, side)), 1.0) / 0.28
    source = np.clip(texture + 0.02 * rng.standard_normal((side, side)), 0, 1)
    rendering = source * (1 - 0.8 * coverage) * (1 - 0.3 * np.exp(-distance / 4))
    s, c, v = (a.astype(np.float32).astype(np.float64) for a in (source, rendering, coverage))
    return Problem(s, c, v, np.ones((side, side), dtype=bool))


def _interior(n: int) -> NDArray[np.bool_]:
    return np.pad(np.ones((n - 2, n - 2), dtype=bool), 1)


def _order(title: str, statement: str, sides: list[int], errors: list[float]) -> Case:
    spacing = 1 / (np.array(sides) - 1)
    slope = float(np.polyfit(np.log(spacing), np.log(errors), 1)[0])

    def plot(axes: Axes) -> None:
        axes.loglog(spacing, errors, "o-", label=f"npcF, order {slope:.2f}")
        axes.loglog(spacing, errors[-1] * (spacing / spacing[-1]) ** 2, "k--", label="order 2")
        axes.set(xlabel="spacing / side", ylabel="largest error", title=title)
        axes.set_xticks(spacing, [f"1/{n - 1}" for n in sides])
        axes.minorticks_off()
        axes.legend()

    return Case(title, statement, "order", 2.0, slope, 0.1, absolute=True, plot=plot)


def _screened_order() -> Case:
    sides, errors = [17, 33, 65, 129, 257], []
    for n in sides:
        y, x = np.mgrid[:n, :n] / (n - 1)
        correction = np.exp((0.6 * y + 0.8 * x) / 0.3) / 30
        rendering = 0.3 + 0.2 * np.sin(7 * x + 3 * y)
        source = np.where(_interior(n), 0.9, rendering + correction)
        problem = Problem(source, rendering, np.ones((n, n)), _interior(n), 0.3 * (n - 1), 1.0)
        errors.append(float(np.abs(_picture(problem, 1e-11) - rendering - correction)[_interior(n)].max()))
    return _order(
        "npcF: order on the screened equation",
        "Manufactured: with no guidance and kappa = 1, e = u - c solves lap e = e / L^2, L = 0.3 sides, "
        "e = exp(direction / L) on the border. 17 to 257 pixels per side, L in pixels growing with them.",
        sides,
        errors,
    )


def _guided_order() -> Case:
    sides, errors = [17, 33, 65, 129, 257], []
    for n in sides:
        y, x = np.mgrid[:n, :n] / (n - 1)
        bump = np.sin(np.pi * y) * np.sin(np.pi * x)
        source = -(2 * (np.pi * 0.3) ** 2 + 1) * bump
        problem = Problem(source, np.zeros((n, n)), np.zeros((n, n)), _interior(n), 0.3 * (n - 1))
        errors.append(float(np.abs(_picture(problem, 1e-11) - source - bump)[_interior(n)].max()))
    return _order(
        "npcF: order with guidance",
        "Manufactured: an even rendering leaves the source's gradient as guidance, lap (u - s) = u / L^2, u = s "
        "outside; s is chosen so that u - s = sin(pi y) sin(pi x).",
        sides,
        errors,
    )


def _equations(problem: Problem) -> tuple[sparse.csc_array, NDArray[np.float64]]:
    """M u = f for u itself on all pixels, link by link, u = s outside the support."""
    s, c, omega = problem.source, problem.rendering, problem.support.ravel()
    kappa = 1 - (1 - problem.conductivity) * problem.coverage
    kept = 1 - problem.coverage
    number = np.arange(s.size).reshape(s.shape)
    screening = problem.screening_px**-2
    rows, columns, values = [number.ravel()], [number.ravel()], [np.where(omega, screening, 1.0)]
    f = np.where(omega, screening * c.ravel(), s.ravel())
    for a, b in ((np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])):
        link = 2 * kappa[a] * kappa[b] / (kappa[a] + kappa[b])
        seen, drawn = (s[b] - s[a]) * np.minimum(kept[a], kept[b]), c[b] - c[a]
        flux = (link * np.where(np.abs(seen) > np.abs(drawn), seen, drawn)).ravel()
        for p, q, sign in ((number[a], number[b], -1.0), (number[b], number[a], 1.0)):
            free = omega[p.ravel()]
            here, there, k = p.ravel()[free], q.ravel()[free], link.ravel()[free]
            rows += [here, here]
            columns += [here, there]
            values += [k, -k]
            np.add.at(f, here, sign * flux[free])
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return sparse.coo_array(entries, shape=(s.size, s.size)).tocsc(), f


def _direct() -> list[Case]:
    problem = _cracked(128)
    y, x = np.mgrid[:128, :128]
    problem = replace(problem, support=np.abs(x - 64) + 0.3 * y < 60)
    matrix, f = _equations(problem)
    expected = spsolve(matrix, f).reshape(128, 128)
    tight, default = (_picture(problem, tolerance, torch.float32) - expected for tolerance in (1e-6, TOLERANCE))
    start = np.where(problem.support, 0.0, problem.source).ravel()
    residual = float(_solved(problem, TOLERANCE).residual[0])
    solution = _picture(problem, TOLERANCE).ravel()
    known = float(np.linalg.norm(f - matrix @ solution) / np.linalg.norm(f - matrix @ start))
    statement = (
        "A crack 1.5 px wide, kappa 1e-2, in a textured picture of 128 pixels per side, screening 6 px, an oblique "
        "support; the equations for u written out and solved by SciPy's sparse LU."
    )

    def plot(axes: Axes) -> None:
        bins = np.logspace(-9, -2, 60).tolist()
        for error, label in ((tight, "tolerance 1e-6"), (default, "tolerance 1e-3, the default")):
            axes.hist(np.abs(error[problem.support]), bins, histtype="step", label=label)
        axes.set(xscale="log", xlabel="error / range of the picture", ylabel="pixels", title="npcF - sparse LU")
        axes.legend(loc="upper right")

    largest, middle = float(np.abs(default).max()), float(np.sqrt(np.square(default[problem.support]).mean()))
    return [
        Case(
            "npcF: direct sparse solve",
            statement + " float32, tolerance 1e-6.",
            "largest error",
            0.0,
            float(np.abs(tight).max()),
            1e-5,
            absolute=True,
            plot=plot,
        ),
        Case(
            "npcF: error at the default tolerance",
            "The same at the tolerance 1e-3 of the config.",
            "largest error",
            0.0,
            largest,
            5e-4,
            absolute=True,
        ),
        Case("npcF: mean error at the default tolerance", "The same.", "rms error", 0.0, middle, 5e-5, absolute=True),
        Case(
            "npcF: the residual that is stored",
            "|f - L u| / |f| of the same, from SciPy's matrix and as the solver reports it.",
            "relative residual",
            known,
            residual,
            1e-6,
        ),
    ]


def _cycles() -> list[Case]:
    counts = {}
    for label, tolerance in (("1e-3", TOLERANCE), ("1e-8", 1e-8)):
        counts[label] = [int(_solved(_cracked(n), tolerance).cycles[0]) for n in SIDES]

    def plot(axes: Axes) -> None:
        for label, found in counts.items():
            axes.semilogx(SIDES, found, "o-", label=f"tolerance {label}")
        axes.set(xlabel="pixels per side", ylabel="cycles", title="cracked picture, all pixels free", ylim=(0, None))
        axes.set_xticks(SIDES, [str(n) for n in SIDES])
        axes.minorticks_off()
        axes.legend()

    table = "; ".join(
        f"tolerance {label}: " + ", ".join(f"{n} px {count}" for n, count in zip(SIDES, found, strict=True))
        for label, found in counts.items()
    )
    statement = f"Cycles for a crack through pictures of 64 to 1024 pixels per side, all of them free. {table}."
    return [
        Case(
            f"npcF: cycles do not grow with the picture, tolerance {label}",
            statement,
            "cycles at 1024 px; known: at 64 px",
            counts[label][0],
            counts[label][-1],
            1.0,
            absolute=True,
            plot=plot if label == "1e-3" else None,
        )
        for label in counts
    ]


def _maximum() -> Case:
    side = 96
    problem = _cracked(side)
    y, x = np.mgrid[:side, :side]
    support = np.hypot(y - 48, x - 48) < 40
    # coverage 1 leaves no guidance but the rendering's, and conductivity 1 keeps kappa even
    bright = problem.source + 0.2 * np.sin(x / 9) * np.cos(y / 13)
    problem = replace(problem, source=bright, coverage=np.ones((side, side)), support=support, conductivity=1.0)
    correction = _picture(problem, 1e-10) - problem.rendering
    known = correction[ndimage.binary_dilation(support) & ~support]
    inside = correction[support]
    beyond = max(0.0, inside.max() - max(known.max(), 0), min(known.min(), 0) - inside.min())

    def plot(axes: Axes) -> None:
        axes.plot(correction[48], label="correction, row 48")
        for value in (known.min(), known.max()):
            axes.axhline(value, color="k", ls="--", lw=0.8)
        edges = np.flatnonzero(support[48])[[0, -1]]
        axes.axvspan(*edges, color="0.9", label="support")
        axes.set(xlabel="x, pixels", ylabel="u - c", title="dashed: extremes of the known values around it")
        axes.legend()

    return Case(
        "npcF: maximum principle",
        "Where nothing guides, the correction has no extremes of its own: it stays between those of the known pixels "
        "around the support, and zero. Disc of radius 40 px.",
        "excess over the known extremes",
        0.0,
        float(beyond),
        1e-12,
        absolute=True,
        plot=plot,
    )


def _sealed() -> Case:
    n, middle = 65, 32
    columns = np.broadcast_to(np.arange(n), (n, n))
    source = np.where(columns < middle, 0.2, 0.8)
    crack = (columns == middle).astype(float)
    support = (columns > 0) & (columns < n - 1)
    sealed = Problem(source, np.full((n, n), 0.5), crack, support, 64.0, 1e-4)
    found = {
        "sealed": _picture(sealed, 1e-10)[middle],
        "conducting": _picture(replace(sealed, conductivity=1.0), 1e-10)[middle],
    }

    def plot(axes: Axes) -> None:
        for label, row in found.items():
            axes.plot(row, ".-", ms=3, label=label)
        axes.set(xlabel="x, pixels", ylabel="u", title="a crack one pixel wide between dark and bright")
        axes.legend()

    lip = middle - 0.5  # distance from the known column to the wall
    return Case(
        "npcF: a crack conducts nothing",
        "Dark material left and bright right of an open crack one pixel wide, kappa 1e-4, all but the outer columns "
        "free, a rendering of 0.5, L = 64 px. With a wall in its place u = 0.5 - 0.3 cosh(d / L) / cosh(w / L) on the "
        "left, d from the wall, w = 31.5 px its distance from the known column.",
        "u at the crack's dark lip",
        float(0.5 - 0.3 * np.cosh(0.5 / 64) / np.cosh(lip / 64)),
        float(found["sealed"][middle - 1]),
        0.002,
        absolute=True,
        plot=plot,
    )


def _single() -> Case:
    problem = _cracked(256)
    tolerances = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
    gaps = []
    for tolerance in tolerances:
        single, double = (_picture(problem, tolerance, dtype) for dtype in (torch.float32, torch.float64))
        gaps.append(float(np.abs(single - double).max()))

    def plot(axes: Axes) -> None:
        axes.loglog(tolerances, gaps, "o-", label="float32 - float64, largest")
        axes.axhline(0.5 / 65535, color="k", ls="--", lw=0.8, label="half a level of 16 bits")
        axes.set(xlabel="tolerance", ylabel="difference / range of the picture", title="cracked picture, 256 px")
        axes.legend()

    return Case(
        "npcF: single precision",
        "The cracked picture of 256 pixels per side solved in float32, which the passes use, and in float64.",
        "largest difference, any tolerance",
        0.0,
        max(gaps),
        2e-6,
        absolute=True,
        plot=plot,
    )
