"""Numba kernels of plane strain with cracks: Q1 elements with mean dilatation, CG with multigrid on each component.

Grid (spacing h = 1): n x n nodes that may move, kept in arrays padded by a ring of nodes that are held, (n + 2, n + 2);
(n + 1) x (n + 1) square elements between them, one at each corner of the damage grid. An element's stiffness is its
bulk part ``kv`` (times the squared dilatation / 2) and its shear part ``gm`` (times the squared shears / 2).

The preconditioner leaves the coupling of the two components out (Korn's inequality bounds the price): each component
has its own scalar multigrid, whose links are stiff along the component and sheared across. Levels lie in flat
buffers, padded by a ring of zeros; level k starts at ``offset[k]`` and has (side[k] + 2)^2 numbers.

Constants are cast to the arrays' type, or single precision would be computed in double.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def element_stiffness(d, uy, ux, bulk, shear, residual, open_columns, blend, kv, gm):
    """Bulk and shear stiffness of all elements from their damage; the bulk part is degraded only in extension.

    ``open_columns``: left and right side are free, the elements outside of them are void. Between twice the dilatations
    -blend and blend the stiffness goes over from one to the other; blend > 0.
    """
    m = d.shape[0]
    for a in range(m):
        for b in range(m):
            sound = 1.0 - d[a, b]
            g = (1.0 - residual) * sound * sound + residual
            trace = (ux[a, b + 1] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a + 1, b])
            trace += (uy[a + 1, b] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a, b + 1])
            closed = min(1.0, max(0.0, 0.5 - 0.5 * trace / blend))
            kv[a, b] = bulk * (g + (1.0 - g) * closed)
            gm[a, b] = shear * g
        if open_columns:
            kv[a, 0] = 0.0
            kv[a, m - 1] = 0.0
            gm[a, 0] = 0.0
            gm[a, m - 1] = 0.0


@njit(cache=True)
def driving_energy(uy, ux, bulk, shear, psi):
    """Energy density that damage can release, (n + 1, n + 1): extension and shear, not compression (Amor's split)."""
    m = psi.shape[0]
    for a in range(1, m - 1):
        for b in range(1, m - 1):
            xx = 0.5 * ((ux[a, b + 1] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a + 1, b]))
            yy = 0.5 * ((uy[a + 1, b] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a, b + 1]))
            xy = 0.5 * ((ux[a + 1, b] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a, b + 1]))
            yx = 0.5 * ((uy[a, b + 1] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a + 1, b]))
            qx = ux[a, b] - ux[a, b + 1] - ux[a + 1, b] + ux[a + 1, b + 1]
            qy = uy[a, b] - uy[a, b + 1] - uy[a + 1, b] + uy[a + 1, b + 1]
            stretch = max(xx + yy, 0.0)
            shears = (xx - yy) * (xx - yy) + (xy + yx) * (xy + yx) + (qx * qx + qy * qy) / 6.0
            psi[a, b] = 0.5 * (bulk * stretch * stretch + shear * shears)


@njit(cache=True)
def elastic_energy(uy, ux, kv, gm):
    """Elastic energy of all elements."""
    m = kv.shape[0]
    total = 0.0
    for a in range(m):
        for b in range(m):
            xx = 0.5 * ((ux[a, b + 1] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a + 1, b]))
            yy = 0.5 * ((uy[a + 1, b] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a, b + 1]))
            xy = 0.5 * ((ux[a + 1, b] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a, b + 1]))
            yx = 0.5 * ((uy[a, b + 1] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a + 1, b]))
            qx = ux[a, b] - ux[a, b + 1] - ux[a + 1, b] + ux[a + 1, b + 1]
            qy = uy[a, b] - uy[a, b + 1] - uy[a + 1, b] + uy[a + 1, b + 1]
            shears = (xx - yy) * (xx - yy) + (xy + yx) * (xy + yx) + (qx * qx + qy * qy) / 6.0
            total += 0.5 * (kv[a, b] * (xx + yy) * (xx + yy) + gm[a, b] * shears)
    return total


@njit(cache=True)
def _element_row(uy, ux, kv, gm, a, row):
    """Half stresses and hourglass forces of element row ``a``: row (5, m) of sxx, syy, sxy, hx, hy."""
    m = kv.shape[1]
    quarter = kv.dtype.type(0.25)
    sixth = kv.dtype.type(1.0 / 6.0)
    for b in range(m):
        x0 = ux[a, b]
        x1 = ux[a, b + 1]
        x2 = ux[a + 1, b]
        x3 = ux[a + 1, b + 1]
        y0 = uy[a, b]
        y1 = uy[a, b + 1]
        y2 = uy[a + 1, b]
        y3 = uy[a + 1, b + 1]
        xx = quarter * ((x1 - x0) + (x3 - x2))
        yy = quarter * ((y2 - y0) + (y3 - y1))
        xy = quarter * ((x2 - x0) + (x3 - x1) + (y1 - y0) + (y3 - y2))
        g = gm[a, b]
        pressure = kv[a, b] * (xx + yy)
        deviator = g * (xx - yy)
        row[0, b] = pressure + deviator
        row[1, b] = pressure - deviator
        row[2, b] = g * xy
        row[3, b] = sixth * g * (x0 - x1 - x2 + x3)
        row[4, b] = sixth * g * (y0 - y1 - y2 + y3)


@njit(cache=True)
def apply_operator(uy, ux, kv, gm, rows, out_y, out_x):
    """Out = A u on the n x n nodes that may move; ``rows`` is (2, 5, n + 1) scratch. Padding of ``out`` untouched."""
    m = kv.shape[0]
    _element_row(uy, ux, kv, gm, 0, rows[0])
    for i in range(1, m):
        up = rows[(i - 1) % 2]
        down = rows[i % 2]
        _element_row(uy, ux, kv, gm, i, down)
        for j in range(1, m):
            # the node is bottom right, bottom left, top right and top left of its four elements
            out_x[i, j] = (
                (up[0, j - 1] + up[2, j - 1] + up[3, j - 1])
                + (up[2, j] - up[0, j] - up[3, j])
                + (down[0, j - 1] - down[2, j - 1] - down[3, j - 1])
                + (down[3, j] - down[0, j] - down[2, j])
            )
            out_y[i, j] = (
                (up[2, j - 1] + up[1, j - 1] + up[4, j - 1])
                + (up[1, j] - up[2, j] - up[4, j])
                + (down[2, j - 1] - down[1, j - 1] - down[4, j - 1])
                + (down[4, j] - down[2, j] - down[1, j])
            )


@njit(cache=True)
def _level(buffer, offset, side, k):
    width = side[k] + 2
    return buffer[offset[k] : offset[k] + width * width].reshape(width, width)


@njit(cache=True)
def _links(kv, gm, fixed, sideways, kx, ky, diagonal):
    """Scalar links of one component on the finest level; those to the ring of held nodes go to the diagonal.

    ``sideways`` is 1 for the component along the rows, whose links to the right are stretched and those down sheared,
    and 0 for the other.
    """
    half = kv.dtype.type(0.5)
    none = kv.dtype.type(0.0)
    bulk_x = kv.dtype.type(sideways)
    bulk_y = kv.dtype.type(1 - sideways)
    n = kv.shape[0] - 1
    for i in range(1, n + 1):
        for j in range(n + 1):
            kx[i, j] = half * (gm[i - 1, j] + gm[i, j] + bulk_x * (kv[i - 1, j] + kv[i, j]))
        for j in range(1, n + 1):
            diagonal[i, j] = fixed[i, j]
        diagonal[i, 1] += kx[i, 0]
        diagonal[i, n] += kx[i, n]
        kx[i, 0] = none
        kx[i, n] = none
    for i in range(n + 1):
        for j in range(1, n + 1):
            ky[i, j] = half * (gm[i, j - 1] + gm[i, j] + bulk_y * (kv[i, j - 1] + kv[i, j]))
    for j in range(1, n + 1):
        diagonal[1, j] += ky[0, j]
        diagonal[n, j] += ky[n, j]
        ky[0, j] = none
        ky[n, j] = none


@njit(cache=True)
def _coarsen(kx, ky, diagonal, kx_c, ky_c, diagonal_c):
    """Series-parallel coarsening: a crack at any fine position stays a compliance on the coarse grid."""
    half = kx.dtype.type(0.5)
    tiny = kx.dtype.type(1e-12)  # void links
    m = kx_c.shape[0] - 2
    for i in range(1, m + 1):
        p = 2 * i - 1
        for j in range(1, m):
            q = 2 * j
            across = kx_c.dtype.type(0.0)
            for r in range(2):
                a = kx[p + r, q - 1] + tiny
                b = kx[p + r, q] + tiny
                c = kx[p + r, q + 1] + tiny
                across += a * b * c / (half * b * c + a * c + half * a * b)
            kx_c[i, j] = across
    for i in range(1, m):
        p = 2 * i
        for j in range(1, m + 1):
            q = 2 * j - 1
            down = ky_c.dtype.type(0.0)
            for r in range(2):
                a = ky[p - 1, q + r] + tiny
                b = ky[p, q + r] + tiny
                c = ky[p + 1, q + r] + tiny
                down += a * b * c / (half * b * c + a * c + half * a * b)
            ky_c[i, j] = down
    for i in range(1, m + 1):
        for j in range(1, m + 1):
            p = 2 * i - 1
            q = 2 * j - 1
            top = diagonal[p, q] + diagonal[p, q + 1]
            diagonal_c[i, j] = half * (top + diagonal[p + 1, q] + diagonal[p + 1, q + 1])


@njit(cache=True)
def _total_diagonal(kx, ky, diagonal, total, inverse):
    n = kx.shape[0] - 2
    tiny = kx.dtype.type(1e-12)
    damped = kx.dtype.type(0.8)
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            total[i, j] = diagonal[i, j] + kx[i, j] + kx[i, j - 1] + ky[i, j] + ky[i - 1, j] + tiny
            inverse[i, j] = damped / total[i, j]


@njit(cache=True)
def build_hierarchy(kv, gm, fixed, sideways, flat, offset, side):
    """Preconditioner of one component: all levels of flat (7, L) from the elements; ``sideways`` as in `_links`.

    Rows of ``flat``: kx, ky, boundary links, total diagonal, damped inverse, solution, right-hand side.
    ``fixed`` (n + 2, n + 2) is a stiff link where a node is held, else 0.
    """
    kx = _level(flat[0], offset, side, 0)
    ky = _level(flat[1], offset, side, 0)
    _links(kv, gm, fixed, sideways, kx, ky, _level(flat[2], offset, side, 0))
    for k in range(side.shape[0]):
        kx = _level(flat[0], offset, side, k)
        ky = _level(flat[1], offset, side, k)
        diagonal = _level(flat[2], offset, side, k)
        if k > 0:
            _coarsen(
                _level(flat[0], offset, side, k - 1),
                _level(flat[1], offset, side, k - 1),
                _level(flat[2], offset, side, k - 1),
                kx,
                ky,
                diagonal,
            )
        _total_diagonal(kx, ky, diagonal, _level(flat[3], offset, side, k), _level(flat[4], offset, side, k))


@njit(cache=True)
def _residual_row(u, b, kx, ky, total, i, row):
    n = u.shape[0] - 2
    for j in range(1, n + 1):
        row[j] = (
            b[i, j]
            - total[i, j] * u[i, j]
            + kx[i, j] * u[i, j + 1]
            + kx[i, j - 1] * u[i, j - 1]
            + ky[i, j] * u[i + 1, j]
            + ky[i - 1, j] * u[i - 1, j]
        )


@njit(cache=True)
def _smooth(u, b, kx, ky, total, inverse, rows):
    """One damped Jacobi sweep in place; ``rows`` (2, >= n + 2) keeps the row above until it is no longer read."""
    n = u.shape[0] - 2
    _residual_row(u, b, kx, ky, total, 1, rows[1])
    for i in range(2, n + 1):
        _residual_row(u, b, kx, ky, total, i, rows[i % 2])
        above = rows[(i - 1) % 2]
        for j in range(1, n + 1):
            u[i - 1, j] += inverse[i - 1, j] * above[j]
    last = rows[n % 2]
    for j in range(1, n + 1):
        u[n, j] += inverse[n, j] * last[j]


@njit(cache=True)
def v_cycle(flat, offset, side, rows):
    """One symmetric V(1, 1)-cycle from zero for level 0 of flat[6]; the result is level 0 of flat[5]."""
    levels = side.shape[0]
    for k in range(levels):
        u = _level(flat[5], offset, side, k)
        b = _level(flat[6], offset, side, k)
        inverse = _level(flat[4], offset, side, k)
        n = side[k]
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                u[i, j] = inverse[i, j] * b[i, j]
        if k == levels - 1:
            break
        coarse = _level(flat[6], offset, side, k + 1)
        kx = _level(flat[0], offset, side, k)
        ky = _level(flat[1], offset, side, k)
        total = _level(flat[3], offset, side, k)
        for i in range(1, n + 1, 2):
            _residual_row(u, b, kx, ky, total, i, rows[0])
            _residual_row(u, b, kx, ky, total, i + 1, rows[1])
            for j in range(1, n + 1):
                rows[0, j] += rows[1, j]
            for j in range(n // 2):
                coarse[i // 2 + 1, j + 1] = rows[0, 2 * j + 1] + rows[0, 2 * j + 2]
    for k in range(levels - 1, -1, -1):
        u = _level(flat[5], offset, side, k)
        if k < levels - 1:
            coarse = _level(flat[5], offset, side, k + 1)
            for i in range(1, side[k] + 1):
                for j in range(1, side[k + 1] + 1):
                    value = coarse[(i + 1) // 2, j]
                    u[i, 2 * j - 1] += value
                    u[i, 2 * j] += value
        sweeps = 1 if k < levels - 1 else 3 * side[k] * side[k]
        for _ in range(sweeps):
            _smooth(
                u,
                _level(flat[6], offset, side, k),
                _level(flat[0], offset, side, k),
                _level(flat[1], offset, side, k),
                _level(flat[3], offset, side, k),
                _level(flat[4], offset, side, k),
                rows,
            )


@njit(cache=True)
def _dot(a, b, row):
    """Sum of products inside the padding, accumulated column-wise first: vectorises without reassociation."""
    n = a.shape[0] - 2
    for j in range(1, n + 1):
        row[j] = 0.0
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            row[j] += a[i, j] * b[i, j]
    total = 0.0
    for j in range(1, n + 1):
        total += row[j]
    return total


@njit(cache=True)
def _precondition(ry, rx, y_flat, x_flat, offset, side, rows):
    """Multigrid on both components of the residual; the results are level 0 of the solutions."""
    by = _level(y_flat[6], offset, side, 0)
    bx = _level(x_flat[6], offset, side, 0)
    n = side[0]
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            bx[i, j] = rx[i, j]
            by[i, j] = ry[i, j]
    v_cycle(y_flat, offset, side, rows)
    v_cycle(x_flat, offset, side, rows)


@njit(cache=True)
def solve_elastic(uy, ux, force, kv, gm, free, y_flat, x_flat, offset, side, vectors, rows, stress_rows, goal, limit):
    """Preconditioned CG for A u = force with the held nodes as they are, warm-started; (iterations, residual norm).

    ``free`` (n + 2, n + 2) is 1 where a node may move; ``vectors`` (6, n + 2, n + 2) scratch, padding 0; ends when the
    residual's norm is at most ``goal``.
    """
    n = side[0]
    ry, rx, py, px, iy, ix = vectors[0], vectors[1], vectors[2], vectors[3], vectors[4], vectors[5]
    zy = _level(y_flat[5], offset, side, 0)
    zx = _level(x_flat[5], offset, side, 0)
    row = rows[2]
    apply_operator(uy, ux, kv, gm, stress_rows, iy, ix)
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            ry[i, j] = free[i, j] * (force[0, i, j] - iy[i, j])
            rx[i, j] = free[i, j] * (force[1, i, j] - ix[i, j])
    norm = np.sqrt(_dot(ry, ry, row) + _dot(rx, rx, row))
    gamma_old = 1.0
    for iteration in range(limit):
        if norm <= goal:
            return iteration, norm
        _precondition(ry, rx, y_flat, x_flat, offset, side, rows)
        gamma = _dot(ry, zy, row) + _dot(rx, zx, row)
        beta = kv.dtype.type(gamma / gamma_old if iteration > 0 else 0.0)
        gamma_old = gamma
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                py[i, j] = free[i, j] * zy[i, j] + beta * py[i, j]
                px[i, j] = free[i, j] * zx[i, j] + beta * px[i, j]
        apply_operator(py, px, kv, gm, stress_rows, iy, ix)
        alpha = kv.dtype.type(gamma / (_dot(py, iy, row) + _dot(px, ix, row)))
        for i in range(1, n + 1):
            for j in range(1, n + 1):
                uy[i, j] += alpha * py[i, j]
                ux[i, j] += alpha * px[i, j]
                ry[i, j] -= alpha * free[i, j] * iy[i, j]
                rx[i, j] -= alpha * free[i, j] * ix[i, j]
        norm = np.sqrt(_dot(ry, ry, row) + _dot(rx, rx, row))
    return limit, norm
