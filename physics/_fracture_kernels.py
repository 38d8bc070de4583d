"""Numba kernels of the AT2 phase-field model: staggered grid, multigrid-preconditioned CG, projected relaxation.

Grid (spacing h = 1): displacement ``u`` on n x n cells; damage ``d`` on the (n + 1) x (n + 1) corners, the
outermost ring of corners mirroring its inner neighbour (natural boundary). The link between two cells
crosses one segment between two corners and conducts with the mean of their degraded stiffness, so that a
single row of broken corners parts the body, and the discrete surface energy is the one of a profile that
reaches 1 at one row.

All arrays of all multigrid levels lie in flat buffers; level k starts at ``offset[k]`` and has side ``side[k]``.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_OMEGA_JACOBI = 0.8  # damping that smooths the 5-point operator best
_OMEGA_SOR = 1.25  # over-relaxation of the screened damage equation, best for l / h of 1.5 to 4


@njit(cache=True)
def link_conductivity(d, residual, kx, ky):
    """Conductance of links from corner damage: kx (n, n) to the right neighbour, ky (n, n) to the one below."""
    n = kx.shape[0]
    scale = 0.5 * (1.0 - residual)
    for i in range(n):
        for j in range(n - 1):
            a = 1.0 - d[i, j + 1]
            b = 1.0 - d[i + 1, j + 1]
            kx[i, j] = scale * (a * a + b * b) + residual
        kx[i, n - 1] = 0.0
    for i in range(n - 1):
        for j in range(n):
            a = 1.0 - d[i + 1, j]
            b = 1.0 - d[i + 1, j + 1]
            ky[i, j] = scale * (a * a + b * b) + residual
    for j in range(n):
        ky[n - 1, j] = 0.0


@njit(cache=True)
def driving_energy(u, psi):
    """Undegraded strain energy density at interior corners, psi (n + 1, n + 1), from the four links around each."""
    n = u.shape[0]
    for a in range(1, n):
        for b in range(1, n):
            top = u[a - 1, b] - u[a - 1, b - 1]
            bottom = u[a, b] - u[a, b - 1]
            left = u[a, b - 1] - u[a - 1, b - 1]
            right = u[a, b] - u[a - 1, b]
            psi[a, b] = 0.25 * (top * top + bottom * bottom + left * left + right * right)


@njit(cache=True)
def corner_jump(u, jump):
    """Displacement jump across corners, (n + 1, n + 1): mean of the two links in each direction, summed."""
    n = u.shape[0]
    for a in range(1, n):
        for b in range(1, n):
            across_x = 0.5 * ((u[a - 1, b] - u[a - 1, b - 1]) + (u[a, b] - u[a, b - 1]))
            across_y = 0.5 * ((u[a, b - 1] - u[a - 1, b - 1]) + (u[a, b] - u[a - 1, b]))
            jump[a, b] = abs(across_x) + abs(across_y)


@njit(cache=True)
def _mirror_ring(d):
    n = d.shape[0] - 1
    for b in range(1, n):
        d[0, b] = d[1, b]
        d[n, b] = d[n - 1, b]
    for a in range(n + 1):
        d[a, 0] = d[a, 1]
        d[a, n] = d[a, n - 1]


@njit(cache=True)
def relax_damage(d, floor, psi, toughness, length, tolerance, max_sweeps):
    """Solve the damage equation with d >= floor by projected red-black over-relaxation; sweeps used.

    (Gc / l + 2 psi) d - div(Gc l grad d) = 2 psi.  d is updated in place.
    """
    n = d.shape[0] - 1
    half_l = 0.5 * length
    for sweep in range(max_sweeps):
        change = 0.0
        for colour in range(2):
            for a in range(1, n):
                first = 1 + (a + 1 + colour) % 2
                for b in range(first, n, 2):
                    gc = toughness[a, b]
                    north = half_l * (gc + toughness[a - 1, b])
                    south = half_l * (gc + toughness[a + 1, b])
                    west = half_l * (gc + toughness[a, b - 1])
                    east = half_l * (gc + toughness[a, b + 1])
                    if a == 1:
                        north = 0.0
                    if a == n - 1:
                        south = 0.0
                    if b == 1:
                        west = 0.0
                    if b == n - 1:
                        east = 0.0
                    drive = 2.0 * psi[a, b]
                    total = north * d[a - 1, b] + south * d[a + 1, b] + west * d[a, b - 1] + east * d[a, b + 1]
                    value = (drive + total) / (gc / length + drive + north + south + west + east)
                    value = d[a, b] + _OMEGA_SOR * (value - d[a, b])
                    value = min(1.0, max(floor[a, b], value))
                    change = max(change, abs(value - d[a, b]))
                    d[a, b] = value
        if change < tolerance:
            _mirror_ring(d)
            return sweep + 1
    _mirror_ring(d)
    return max_sweeps


@njit(cache=True)
def surface_energy(d, toughness, length):
    """Sum over corners of Gc / (2 l) (d^2 + l^2 |grad d|^2), in units of Gc h."""
    n = d.shape[0] - 1
    total = 0.0
    for a in range(1, n):
        for b in range(1, n):
            gc = toughness[a, b]
            total += gc / (2.0 * length) * d[a, b] * d[a, b]
            if a < n - 1:
                step = d[a + 1, b] - d[a, b]
                total += 0.25 * length * (gc + toughness[a + 1, b]) * step * step
            if b < n - 1:
                step = d[a, b + 1] - d[a, b]
                total += 0.25 * length * (gc + toughness[a, b + 1]) * step * step
    return total


@njit(cache=True)
def elastic_energy(u, kx, ky, diagonal, boundary):
    """Elastic energy 1/2 sum k (du)^2, links to the boundary values (sum of conductance x value) included."""
    n = u.shape[0]
    total = 0.0
    for i in range(n):
        for j in range(n):
            if j < n - 1:
                step = u[i, j + 1] - u[i, j]
                total += 0.5 * kx[i, j] * step * step
            if i < n - 1:
                step = u[i + 1, j] - u[i, j]
                total += 0.5 * ky[i, j] * step * step
            if diagonal[i, j] > 0.0:
                step = boundary[i, j] / diagonal[i, j] - u[i, j]
                total += 0.5 * diagonal[i, j] * step * step
    return total


@njit(cache=True)
def _coarsen(kx, ky, diagonal, kx_c, ky_c, diagonal_c):
    """Series-parallel coarsening: a crack at any fine position stays a resistance on the coarse grid."""
    m = kx_c.shape[0]
    for i in range(m):
        for j in range(m):
            across = 0.0
            if j < m - 1:
                for r in range(2):
                    p = 2 * i + r
                    across += 1.0 / (0.5 / kx[p, 2 * j] + 1.0 / kx[p, 2 * j + 1] + 0.5 / kx[p, 2 * j + 2])
            kx_c[i, j] = across
            down = 0.0
            if i < m - 1:
                for r in range(2):
                    q = 2 * j + r
                    down += 1.0 / (0.5 / ky[2 * i, q] + 1.0 / ky[2 * i + 1, q] + 0.5 / ky[2 * i + 2, q])
            ky_c[i, j] = down
            diagonal_c[i, j] = 0.5 * (
                diagonal[2 * i, 2 * j]
                + diagonal[2 * i + 1, 2 * j]
                + diagonal[2 * i, 2 * j + 1]
                + diagonal[2 * i + 1, 2 * j + 1]
            )


@njit(cache=True)
def _invert_diagonal(kx, ky, diagonal, inverse):
    n = kx.shape[0]
    for i in range(n):
        for j in range(n):
            total = diagonal[i, j] + kx[i, j] + ky[i, j]
            if j > 0:
                total += kx[i, j - 1]
            if i > 0:
                total += ky[i - 1, j]
            inverse[i, j] = 1.0 / total


@njit(cache=True)
def apply_operator(u, kx, ky, diagonal, out):
    """Out = A u, with A the weighted graph Laplacian of the links plus the boundary conductance."""
    n = u.shape[0]
    for i in range(n):
        for j in range(n):
            out[i, j] = diagonal[i, j] * u[i, j]
        for j in range(n - 1):
            flux = kx[i, j] * (u[i, j] - u[i, j + 1])
            out[i, j] += flux
            out[i, j + 1] -= flux
        if i > 0:
            for j in range(n):
                out[i, j] += ky[i - 1, j] * (u[i, j] - u[i - 1, j])
        if i < n - 1:
            for j in range(n):
                out[i, j] += ky[i, j] * (u[i, j] - u[i + 1, j])


@njit(cache=True)
def _smooth(u, rhs, kx, ky, diagonal, inverse, work, sweeps):
    n = u.shape[0]
    for _ in range(sweeps):
        apply_operator(u, kx, ky, diagonal, work)
        for i in range(n):
            for j in range(n):
                u[i, j] += _OMEGA_JACOBI * inverse[i, j] * (rhs[i, j] - work[i, j])


@njit(cache=True)
def _smooth_from_zero(u, rhs, inverse):
    n = u.shape[0]
    for i in range(n):
        for j in range(n):
            u[i, j] = _OMEGA_JACOBI * inverse[i, j] * rhs[i, j]


@njit(cache=True)
def _level(buffer, offset, side, k):
    return buffer[offset[k] : offset[k] + side[k] * side[k]].reshape(side[k], side[k])


@njit(cache=True)
def build_hierarchy(kx, ky, diagonal, inverse, offset, side):
    """Fill levels 1.. of the flat buffers from level 0, and the inverse diagonals of all."""
    levels = side.shape[0]
    for k in range(levels):
        if k > 0:
            _coarsen(
                _level(kx, offset, side, k - 1),
                _level(ky, offset, side, k - 1),
                _level(diagonal, offset, side, k - 1),
                _level(kx, offset, side, k),
                _level(ky, offset, side, k),
                _level(diagonal, offset, side, k),
            )
        _invert_diagonal(
            _level(kx, offset, side, k),
            _level(ky, offset, side, k),
            _level(diagonal, offset, side, k),
            _level(inverse, offset, side, k),
        )


@njit(cache=True)
def v_cycle(solution, rhs, kx, ky, diagonal, inverse, work, offset, side, sweeps):
    """One symmetric V-cycle from zero for the level-0 right-hand side; the result is level 0 of ``solution``."""
    levels = side.shape[0]
    for k in range(levels - 1):
        u = _level(solution, offset, side, k)
        b = _level(rhs, offset, side, k)
        w = _level(work, offset, side, k)
        ax = _level(kx, offset, side, k)
        ay = _level(ky, offset, side, k)
        ad = _level(diagonal, offset, side, k)
        inv = _level(inverse, offset, side, k)
        _smooth_from_zero(u, b, inv)
        _smooth(u, b, ax, ay, ad, inv, w, sweeps - 1)
        apply_operator(u, ax, ay, ad, w)
        coarse = _level(rhs, offset, side, k + 1)
        m = coarse.shape[0]
        for i in range(m):
            for j in range(m):
                coarse[i, j] = (
                    (b[2 * i, 2 * j] - w[2 * i, 2 * j])
                    + (b[2 * i + 1, 2 * j] - w[2 * i + 1, 2 * j])
                    + (b[2 * i, 2 * j + 1] - w[2 * i, 2 * j + 1])
                    + (b[2 * i + 1, 2 * j + 1] - w[2 * i + 1, 2 * j + 1])
                )
    last = levels - 1
    inv = _level(inverse, offset, side, last)
    bottom = _level(solution, offset, side, last)
    _smooth_from_zero(bottom, _level(rhs, offset, side, last), inv)
    _smooth(
        bottom,
        _level(rhs, offset, side, last),
        _level(kx, offset, side, last),
        _level(ky, offset, side, last),
        _level(diagonal, offset, side, last),
        inv,
        _level(work, offset, side, last),
        4 * side[last] * side[last],
    )
    for k in range(levels - 2, -1, -1):
        u = _level(solution, offset, side, k)
        coarse = _level(solution, offset, side, k + 1)
        m = coarse.shape[0]
        for i in range(m):
            for j in range(m):
                value = coarse[i, j]
                u[2 * i, 2 * j] += value
                u[2 * i + 1, 2 * j] += value
                u[2 * i, 2 * j + 1] += value
                u[2 * i + 1, 2 * j + 1] += value
        _smooth(
            u,
            _level(rhs, offset, side, k),
            _level(kx, offset, side, k),
            _level(ky, offset, side, k),
            _level(diagonal, offset, side, k),
            _level(inverse, offset, side, k),
            _level(work, offset, side, k),
            sweeps,
        )


@njit(cache=True)
def _dot(a, b, row):
    """Sum of products, accumulated column-wise first: vectorises without reassociation."""
    n = a.shape[0]
    for j in range(n):
        row[j] = 0.0
    for i in range(n):
        for j in range(n):
            row[j] += a[i, j] * b[i, j]
    total = 0.0
    for j in range(n):
        total += row[j]
    return total


@njit(cache=True)
def solve_elastic(u, boundary, kx, ky, diagonal, inverse, solution, rhs, work, offset, side, vectors, tolerance, limit):
    """Multigrid-preconditioned CG for A u = boundary, warm-started from u; (iterations, relative residual).

    ``vectors`` is (3, n, n) scratch; the hierarchy must have been built.
    """
    n = u.shape[0]
    row = np.empty(n)
    kx0 = _level(kx, offset, side, 0)
    ky0 = _level(ky, offset, side, 0)
    ad0 = _level(diagonal, offset, side, 0)
    z = _level(solution, offset, side, 0)
    b = _level(rhs, offset, side, 0)
    residual = vectors[0]
    direction = vectors[1]
    image = vectors[2]
    apply_operator(u, kx0, ky0, ad0, image)
    for i in range(n):
        for j in range(n):
            residual[i, j] = boundary[i, j] - image[i, j]
            direction[i, j] = 0.0
    norm0 = np.sqrt(_dot(boundary, boundary, row))
    norm = np.sqrt(_dot(residual, residual, row))
    gamma_old = 1.0
    for iteration in range(limit):
        if norm <= tolerance * norm0:
            return iteration, norm / norm0
        b[:, :] = residual
        v_cycle(solution, rhs, kx, ky, diagonal, inverse, work, offset, side, 2)
        gamma = _dot(residual, z, row)
        beta = gamma / gamma_old if iteration > 0 else 0.0
        gamma_old = gamma
        for i in range(n):
            for j in range(n):
                direction[i, j] = z[i, j] + beta * direction[i, j]
        apply_operator(direction, kx0, ky0, ad0, image)
        alpha = gamma / _dot(direction, image, row)
        for i in range(n):
            for j in range(n):
                u[i, j] += alpha * direction[i, j]
                residual[i, j] -= alpha * image[i, j]
        norm = np.sqrt(_dot(residual, residual, row))
    return limit, norm / norm0


@njit(cache=True)
def grow_crack(
    d,
    u,
    toughness,
    boundary,
    clamped,
    kx,
    ky,
    diagonal,
    inverse,
    solution,
    rhs,
    work,
    offset,
    side,
    length,
    residual,
    load,
    ramp,
    creep,
    broken_at,
    ring_limit,
    target,
    max_steps,
    tolerance,
    damage_out,
    jump_out,
    load_out,
    count_out,
):
    """Load the body step by step and let the crack run; number of recorded states.

    One step is one staggered sweep (damage for the present displacement, then displacement), so the crack
    advances by about one cell a step: the load grows by ``creep`` a step while it runs and by ``ramp`` while it
    rests. A state is recorded whenever a corner has newly broken (d > broken_at). Stops when ``target`` corners
    are broken, when more than ``ring_limit`` of the corners marked in ``clamped`` are, or after ``max_steps``.
    """
    m = d.shape[0]
    n = m - 1
    psi = np.zeros((m, m))
    floor = d.copy()
    before = 0
    for a in range(m):
        for b in range(m):
            before += d[a, b] > broken_at
    start_ring = 0
    for a in range(m):
        for b in range(m):
            start_ring += clamped[a, b] and d[a, b] > broken_at
    vectors = np.zeros((3, n, n))
    kx0 = _level(kx, offset, side, 0)
    ky0 = _level(ky, offset, side, 0)
    link_conductivity(d, residual, kx0, ky0)
    build_hierarchy(kx, ky, diagonal, inverse, offset, side)
    solve_elastic(u, boundary, kx, ky, diagonal, inverse, solution, rhs, work, offset, side, vectors, 1e-8, 100)
    recorded = 0
    for _ in range(max_steps):
        driving_energy(u, psi)
        for a in range(m):
            for b in range(m):
                psi[a, b] *= load * load
        relax_damage(d, floor, psi, toughness, length, 2e-3, 40)
        floor[:, :] = d
        link_conductivity(d, residual, kx0, ky0)
        build_hierarchy(kx, ky, diagonal, inverse, offset, side)
        solve_elastic(u, boundary, kx, ky, diagonal, inverse, solution, rhs, work, offset, side, vectors, tolerance, 4)
        broken = 0
        ring = -start_ring
        for a in range(m):
            for b in range(m):
                if d[a, b] > broken_at:
                    broken += 1
                    ring += clamped[a, b]
        if broken > before:
            corner_jump(u, jump_out[recorded])
            for a in range(m):
                for b in range(m):
                    damage_out[recorded, a, b] = d[a, b]
                    jump_out[recorded, a, b] *= load
            load_out[recorded] = load
            count_out[recorded] = broken
            recorded += 1
            load *= 1.0 + creep
        else:
            load *= 1.0 + ramp
        before = broken
        if broken >= target or ring > ring_limit or recorded == damage_out.shape[0]:
            break
    return recorded


@njit(cache=True)
def minimise(
    d, u, floor, toughness, boundary, kx, ky, diagonal, inverse, solution, rhs, work, offset, side,
    length, residual, load, tolerance, max_sweeps,
):  # fmt: skip
    """Alternate minimisation at a fixed load until the damage stands still; sweeps used (max_sweeps if it did not).

    ``u`` is the displacement at unit load; ``d`` is updated in place and never falls below ``floor``.
    """
    m = d.shape[0]
    n = m - 1
    psi = np.zeros((m, m))
    previous = np.empty((m, m))
    vectors = np.zeros((3, n, n))
    kx0 = _level(kx, offset, side, 0)
    ky0 = _level(ky, offset, side, 0)
    for sweep in range(max_sweeps):
        link_conductivity(d, residual, kx0, ky0)
        build_hierarchy(kx, ky, diagonal, inverse, offset, side)
        solve_elastic(u, boundary, kx, ky, diagonal, inverse, solution, rhs, work, offset, side, vectors, 1e-9, 100)
        driving_energy(u, psi)
        change = 0.0
        for a in range(m):
            for b in range(m):
                psi[a, b] *= load * load
                previous[a, b] = d[a, b]
        relax_damage(d, floor, psi, toughness, length, 1e-3 * tolerance, 2000)
        for a in range(m):
            for b in range(m):
                change = max(change, abs(d[a, b] - previous[a, b]))
        if change < tolerance:
            return sweep + 1
    return max_sweeps
