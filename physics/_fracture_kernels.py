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
def _mirror_ring(d):
    n = d.shape[0] - 1
    for b in range(1, n):
        d[0, b] = d[1, b]
        d[n, b] = d[n - 1, b]
    for a in range(n + 1):
        d[a, 0] = d[a, 1]
        d[a, n] = d[a, n - 1]


@njit(cache=True)
def _damage_balance(d, psi, toughness, length, along_y, along_x, down, up, viscosity, inverse, source):
    """Diagonal (inverted) and source of the damage equation, interior corners; links as in `_damage_sweep`."""
    m = d.shape[0]
    half = d.dtype.type(0.5 * length)
    for a in range(1, m - 1):
        for b in range(1, m - 1):
            gc = toughness[a, b]
            links = along_y * (gc + gc + toughness[a - 1, b] + toughness[a + 1, b])
            links += along_x * (gc + gc + toughness[a, b - 1] + toughness[a, b + 1])
            links += down * (gc + gc + toughness[a - 1, b - 1] + toughness[a + 1, b + 1])
            links += up * (gc + gc + toughness[a - 1, b + 1] + toughness[a + 1, b - 1])
            drive = psi[a, b] + psi[a, b]
            inverse[a, b] = 1.0 / (gc / length + drive + viscosity + half * links)
            source[a, b] = drive + viscosity * d[a, b]


@njit(cache=True)
def _damage_sweep(d, previous, floor, toughness, inverse, source, half, along_y, along_x, omega):
    """One step of the second-order Richardson iteration, new values over the ``previous`` ones, within the bounds."""
    m = d.shape[0]
    one = d.dtype.type(1.0)
    for a in range(1, m - 1):
        for b in range(1, m - 1):
            gc = toughness[a, b]
            total = along_y * (gc * (d[a - 1, b] + d[a + 1, b]))
            total += along_y * (toughness[a - 1, b] * d[a - 1, b] + toughness[a + 1, b] * d[a + 1, b])
            total += along_x * (gc * (d[a, b - 1] + d[a, b + 1]))
            total += along_x * (toughness[a, b - 1] * d[a, b - 1] + toughness[a, b + 1] * d[a, b + 1])
            value = inverse[a, b] * (source[a, b] + half * total)
            value = previous[a, b] + omega * (value - previous[a, b])
            previous[a, b] = min(one, max(floor[a, b], value))


@njit(cache=True)
def _damage_sweep_slanted(d, previous, floor, toughness, inverse, source, half, along_y, along_x, down, up, omega):
    """As `_damage_sweep`, with links along the diagonals: a structural tensor whose axes are not the grid's."""
    m = d.shape[0]
    one = d.dtype.type(1.0)
    for a in range(1, m - 1):
        for b in range(1, m - 1):
            gc = toughness[a, b]
            total = along_y * ((gc + toughness[a - 1, b]) * d[a - 1, b] + (gc + toughness[a + 1, b]) * d[a + 1, b])
            total += along_x * ((gc + toughness[a, b - 1]) * d[a, b - 1] + (gc + toughness[a, b + 1]) * d[a, b + 1])
            nw = (gc + toughness[a - 1, b - 1]) * d[a - 1, b - 1]
            se = (gc + toughness[a + 1, b + 1]) * d[a + 1, b + 1]
            ne = (gc + toughness[a - 1, b + 1]) * d[a - 1, b + 1]
            sw = (gc + toughness[a + 1, b - 1]) * d[a + 1, b - 1]
            total += down * (nw + se) + up * (ne + sw)
            value = inverse[a, b] * (source[a, b] + half * total)
            value = previous[a, b] + omega * (value - previous[a, b])
            previous[a, b] = min(one, max(floor[a, b], value))


@njit(cache=True)
def _largest_change(d, previous):
    change = 0.0
    for a in range(1, d.shape[0] - 1):
        for b in range(1, d.shape[0] - 1):
            change = max(change, abs(d[a, b] - previous[a, b]))
    return change


@njit(cache=True)
def relax_damage(d, floor, psi, toughness, length, tensor, viscosity, tolerance, max_sweeps, scratch):
    """Minimise over floor <= d <= 1 at fixed driving energy; sweeps used. Updates d in place.

    (Gc / l + 2 psi + viscosity) d - l div(Gc A grad d) = 2 psi + viscosity d_before, A the structural ``tensor``
    (yy, xx, yx): links along the axes take A_yy - |A_yx| and A_xx - |A_yx|, those along one diagonal |A_yx|: all
    positive. Every sweep sees the old values alone, so that no direction of the grid comes first.
    ``scratch`` is (3, n + 1, n + 1).
    """
    m = d.shape[0]
    cast = d.dtype.type
    slant = tensor[2]
    along_y = cast(tensor[0] - abs(slant))
    along_x = cast(tensor[1] - abs(slant))
    down = cast(max(slant, 0.0))  # both coordinates grow together: from top left to bottom right
    up = cast(max(-slant, 0.0))
    previous, inverse, source = scratch[0], scratch[1], scratch[2]
    _damage_balance(d, psi, toughness, length, along_y, along_x, down, up, viscosity, inverse, source)
    links = 2.0 * length * (along_y + along_x + down + up)
    radius = links / (links + 1.0 / length + viscosity)
    omega = cast(2.0 / (1.0 + np.sqrt(1.0 - radius * radius)))
    half = cast(0.5 * length)
    new, old = previous, d
    first = True
    used = max_sweeps
    for sweep in range(max_sweeps):
        _mirror_ring(old)
        if first:
            new[:, :] = old
        step = cast(1.0) if first else omega
        first = False
        if slant == 0.0:
            _damage_sweep(old, new, floor, toughness, inverse, source, half, along_y, along_x, step)
        else:
            _damage_sweep_slanted(old, new, floor, toughness, inverse, source, half, along_y, along_x, down, up, step)
        new, old = old, new
        if sweep % 3 == 2 and _largest_change(old, new) < tolerance:
            used = sweep + 1
            break
    if used % 2 == 1:  # the last result lies in the scratch
        d[1 : m - 1, 1 : m - 1] = previous[1 : m - 1, 1 : m - 1]
    _mirror_ring(d)
    return used


@njit(cache=True)
def surface_energy(d, toughness, length, tensor):
    """Sum over corners of Gc / (2 l) (d^2 + l^2 grad d . A grad d), in units of Gc h; links as in `relax_damage`."""
    n = d.shape[0] - 1
    slant = abs(tensor[2])
    turned = 1 if tensor[2] > 0.0 else -1
    total = 0.0
    for a in range(1, n):
        for b in range(1, n):
            gc = toughness[a, b]
            total += gc / (2.0 * length) * d[a, b] * d[a, b]
            if a < n - 1:
                step = d[a + 1, b] - d[a, b]
                total += 0.25 * length * (tensor[0] - slant) * (gc + toughness[a + 1, b]) * step * step
            if b < n - 1:
                step = d[a, b + 1] - d[a, b]
                total += 0.25 * length * (tensor[1] - slant) * (gc + toughness[a, b + 1]) * step * step
            if a < n - 1 and 1 <= b + turned <= n - 1:
                step = d[a + 1, b + turned] - d[a, b]
                total += 0.25 * length * slant * (gc + toughness[a + 1, b + turned]) * step * step
    return total


@njit(cache=True)
def count_broken(d, marked, broken_at):
    """Corners with d > broken_at: in all, and among those ``marked``."""
    broken = 0
    inside = 0
    for a in range(d.shape[0]):
        for b in range(d.shape[1]):
            if d[a, b] > broken_at:
                broken += 1
                inside += marked[a, b]
    return broken, inside


@njit(cache=True)
def advance(d, before, low, length):
    """Length by which cracks have grown since ``before``, grid spacings, on any grid.

    From the growth of d^2 where d > low: across a crack of the profile exp(-x / l) it adds up to (1 - low^2) l.
    """
    total = 0.0
    for a in range(d.shape[0]):
        for b in range(d.shape[1]):
            if d[a, b] > low:
                kept = max(before[a, b], low)
                total += d[a, b] * d[a, b] - kept * kept
    return total / ((1.0 - low * low) * length)


@njit(cache=True)
def opening_along(uy, ux, in_plane, d, residual, nodes, normals, reach, out):
    """Displacement jump across a crack at its nodes: the strain beyond the elastic one, summed along the normal.

    Across a crack the stress is that of the sound material beside it, so of a strain e in damaged material (1 - g) e is
    opening. ``uy``, ``ux`` are padded by a ring; corner (a, b) lies amid (a, b) .. (a + 1, b + 1). In plane the
    jump is that along the normal, and 0 where the lips touch; out of plane (``uy`` alone) its size.
    """
    m = d.shape[0]
    for k in range(nodes.shape[0]):
        ny, nx = normals[k, 0], normals[k, 1]
        total = 0.0
        for step in range(-reach, reach + 1):
            y = min(max(nodes[k, 0] + step * ny, 0.0), m - 1.001)
            x = min(max(nodes[k, 1] + step * nx, 0.0), m - 1.001)
            a0, b0 = int(y), int(x)
            for r in range(2):
                for c in range(2):
                    a, b = a0 + r, b0 + c
                    weight = (1.0 - abs(y - a)) * (1.0 - abs(x - b))
                    sound = 1.0 - d[a, b]
                    weight *= (1.0 - residual) * (1.0 - sound * sound)
                    yy = 0.5 * ((uy[a + 1, b] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a, b + 1]))
                    yx = 0.5 * ((uy[a, b + 1] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a + 1, b]))
                    if in_plane:
                        xy = 0.5 * ((ux[a + 1, b] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a, b + 1]))
                        xx = 0.5 * ((ux[a, b + 1] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a + 1, b]))
                        total += weight * (ny * (ny * yy + nx * yx) + nx * (ny * xy + nx * xx))
                    else:
                        total += weight * (ny * yy + nx * yx)
        out[k] = max(total, 0.0) if in_plane else abs(total)


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
