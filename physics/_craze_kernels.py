"""Numba kernels of a shrinking film on a substrate: Q1 elements with mean dilatation on an elastic foundation, damage.

Grid (spacing h = 1): (n + 1) x (n + 1) nodes carry the displacement, n x n square cells between them carry damage,
toughness and shrinkage. A cell's stiffness is its bulk part ``kv`` (times the squared dilatation / 2) and its shear
part ``gm`` (times the squared shears / 2). The border of the film is free. Damage lives in arrays padded by a ring that
mirrors the border.

Displacements are kept as rows ``[0]`` down (y) and ``[1]`` right (x) of one (2, n + 1, n + 1) array.
Constants are cast to the arrays' type, or single precision would be computed in double.
"""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def _cell_row(uy, ux, kv, gm, envelope, s_yy, s_xx, s_xy, a, row):
    """Half stresses and hourglass forces of cell row ``a``: row (5, n + 2) of sxx, syy, sxy, hx, hy; ends stay 0."""
    n = kv.shape[1]
    quarter = kv.dtype.type(0.25)
    half = kv.dtype.type(0.5)
    sixth = kv.dtype.type(1.0 / 6.0)
    for b in range(n):
        x0 = ux[a, b]
        x1 = ux[a, b + 1]
        x2 = ux[a + 1, b]
        x3 = ux[a + 1, b + 1]
        y0 = uy[a, b]
        y1 = uy[a, b + 1]
        y2 = uy[a + 1, b]
        y3 = uy[a + 1, b + 1]
        shrink = half * envelope[a, b]
        xx = quarter * ((x1 - x0) + (x3 - x2)) + shrink * s_xx
        yy = quarter * ((y2 - y0) + (y3 - y1)) + shrink * s_yy
        xy = quarter * ((x2 - x0) + (x3 - x1) + (y1 - y0) + (y3 - y2)) + shrink * s_xy
        g = gm[a, b]
        pressure = kv[a, b] * (xx + yy)
        deviator = g * (xx - yy)
        row[0, b + 1] = pressure + deviator
        row[1, b + 1] = pressure - deviator
        row[2, b + 1] = g * xy
        row[3, b + 1] = sixth * g * (x0 - x1 - x2 + x3)
        row[4, b + 1] = sixth * g * (y0 - y1 - y2 + y3)


@njit(cache=True)
def apply_operator(u, kv, gm, foundation, envelope, shrinkage, rows, out):
    """Out = A u + forces of the shrinkage (yy, xx, 2 yx) x envelope; ``rows`` is (2, 5, n + 2) scratch, ends 0."""
    n = kv.shape[0]
    uy, ux = u[0], u[1]
    out_y, out_x = out[0], out[1]
    s_yy = kv.dtype.type(shrinkage[0])
    s_xx = kv.dtype.type(shrinkage[1])
    s_xy = kv.dtype.type(shrinkage[2])
    rows[1, :, :] = kv.dtype.type(0.0)
    for i in range(n + 1):
        up = rows[(i + 1) % 2]
        down = rows[i % 2]
        if i < n:
            _cell_row(uy, ux, kv, gm, envelope, s_yy, s_xx, s_xy, i, down)
        else:
            down[:, :] = kv.dtype.type(0.0)
        for j in range(n + 1):
            # the node is bottom right, bottom left, top right and top left of its four cells
            out_x[i, j] = foundation[i, j] * ux[i, j] + (
                (up[0, j] + up[2, j] + up[3, j])
                + (up[2, j + 1] - up[0, j + 1] - up[3, j + 1])
                + (down[0, j] - down[2, j] - down[3, j])
                + (down[3, j + 1] - down[0, j + 1] - down[2, j + 1])
            )
            out_y[i, j] = foundation[i, j] * uy[i, j] + (
                (up[2, j] + up[1, j] + up[4, j])
                + (up[1, j + 1] - up[2, j + 1] - up[4, j + 1])
                + (down[2, j] - down[1, j] - down[4, j])
                + (down[4, j + 1] - down[2, j + 1] - down[1, j + 1])
            )


@njit(cache=True)
def inverse_diagonal(kv, gm, foundation, inverse):
    """Inverse of the diagonal of A, (n + 1, n + 1); both components have the same."""
    n = kv.shape[0]
    quarter = kv.dtype.type(0.25)
    shears = kv.dtype.type(0.5 + 1.0 / 6.0)
    one = kv.dtype.type(1.0)
    inverse[:, :] = foundation
    for down in range(2):
        for a in range(n):
            for b in range(n):
                inverse[a + down, b] += quarter * kv[a, b] + shears * gm[a, b]
            for b in range(n):
                inverse[a + down, b + 1] += quarter * kv[a, b] + shears * gm[a, b]
    for i in range(n + 1):
        for j in range(n + 1):
            inverse[i, j] = one / inverse[i, j]


@njit(cache=True)
def _dot(a, b, row):
    """Sum of products, accumulated column-wise first: vectorises without reassociation."""
    m = a.shape[1]
    row[:] = 0.0
    for c in range(2):
        for i in range(m):
            for j in range(m):
                row[j] += a[c, i, j] * b[c, i, j]
    total = 0.0
    for j in range(m):
        total += row[j]
    return total


@njit(cache=True)
def _weighted_dot(a, weight, row):
    """Sum of weight x a^2, the weight the same for both components."""
    m = weight.shape[0]
    row[:] = 0.0
    for c in range(2):
        for i in range(m):
            for j in range(m):
                row[j] += weight[i, j] * a[c, i, j] * a[c, i, j]
    total = 0.0
    for j in range(m):
        total += row[j]
    return total


@njit(cache=True)
def solve(u, force, kv, gm, foundation, envelope, shrinkage, inverse, vectors, rows, row, tolerance, limit):
    """Jacobi-preconditioned CG for the displacement, warm-started from u; (iterations, relative residual).

    The residual is measured against the forces of shrinkage and ``force``; with ``tolerance`` 0 just ``limit``
    iterations are made, and it is absolute. ``vectors`` is (3, 2, n + 1, n + 1),
    ``rows`` (2, 5, n + 2) and ``row`` (n + 1,) scratch.
    """
    residual, direction, image = vectors[0], vectors[1], vectors[2]
    none = (0.0, 0.0, 0.0)
    m = inverse.shape[0]
    norm0 = 1.0
    direction[:, :, :] = kv.dtype.type(0.0)
    if tolerance > 0.0:
        apply_operator(direction, kv, gm, foundation, envelope, shrinkage, rows, image)
        for c in range(2):
            for i in range(m):
                for j in range(m):
                    image[c, i, j] = force[c, i, j] - image[c, i, j]
        norm0 = np.sqrt(_dot(image, image, row))
        if norm0 == 0.0:
            u[:, :, :] = kv.dtype.type(0.0)
            return 0, 0.0
    apply_operator(u, kv, gm, foundation, envelope, shrinkage, rows, residual)
    for c in range(2):
        for i in range(m):
            for j in range(m):
                residual[c, i, j] = force[c, i, j] - residual[c, i, j]
    gamma_old = 1.0
    norm = np.sqrt(_dot(residual, residual, row))
    for iteration in range(limit):
        if norm <= tolerance * norm0:
            return iteration, norm / norm0
        gamma = _weighted_dot(residual, inverse, row)
        if gamma == 0.0:
            return iteration, 0.0
        beta = kv.dtype.type(gamma / gamma_old if iteration > 0 else 0.0)
        gamma_old = gamma
        for c in range(2):
            for i in range(m):
                for j in range(m):
                    direction[c, i, j] = inverse[i, j] * residual[c, i, j] + beta * direction[c, i, j]
        apply_operator(direction, kv, gm, foundation, envelope, none, rows, image)
        alpha = kv.dtype.type(gamma / _dot(direction, image, row))
        for c in range(2):
            for i in range(m):
                for j in range(m):
                    u[c, i, j] += alpha * direction[c, i, j]
                    residual[c, i, j] -= alpha * image[c, i, j]
        if tolerance > 0.0 or iteration == limit - 1:
            norm = np.sqrt(_dot(residual, residual, row))
    return limit, norm / norm0


@njit(cache=True)
def cell_stiffness(d, u, envelope, shrinkage, bulk, shear, residual, kv, gm):
    """Stiffness of all cells from their damage (padded); the bulk part is degraded only in extension."""
    n = kv.shape[0]
    uy, ux = u[0], u[1]
    dilatation = kv.dtype.type(shrinkage[0] + shrinkage[1])
    one = kv.dtype.type(1.0)
    half = kv.dtype.type(0.5)
    least = kv.dtype.type(residual)
    k0 = kv.dtype.type(bulk)
    g0 = kv.dtype.type(shear)
    for a in range(n):
        for b in range(n):
            sound = one - d[a + 1, b + 1]
            g = (one - least) * sound * sound + least
            trace = (ux[a, b + 1] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a + 1, b])
            trace += (uy[a + 1, b] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a, b + 1])
            trace = half * trace + dilatation * envelope[a, b]
            kv[a, b] = k0 * (g if trace >= 0.0 else one)
            gm[a, b] = g0 * g


@njit(cache=True)
def driving_energy(u, envelope, shrinkage, bulk, shear, evenness, psi):
    """Energy density that damage can release, (n, n): extension and shear, not compression (Amor's split).

    ``evenness`` takes from the drive of cells stretched along the axes and gives to those stretched along the diagonals
    (cos 4 theta of the principal strain, as far as it is uniaxial): a crack between square cells is one cell wide along
    the axes and two along the diagonals, and would prefer the axes. 0 leaves the energy as it is.
    """
    n = psi.shape[0]
    uy, ux = u[0], u[1]
    s_yy = psi.dtype.type(shrinkage[0])
    s_xx = psi.dtype.type(shrinkage[1])
    s_xy = psi.dtype.type(shrinkage[2])
    zero = psi.dtype.type(0.0)
    one = psi.dtype.type(1.0)
    even = psi.dtype.type(evenness)
    tiny = psi.dtype.type(1e-30)
    half = psi.dtype.type(0.5)
    sixth = psi.dtype.type(1.0 / 6.0)
    k0 = psi.dtype.type(bulk)
    g0 = psi.dtype.type(shear)
    for a in range(n):
        for b in range(n):
            f = envelope[a, b]
            xx = half * ((ux[a, b + 1] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a + 1, b])) + f * s_xx
            yy = half * ((uy[a + 1, b] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a, b + 1])) + f * s_yy
            xy = (ux[a + 1, b] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a, b + 1])
            xy += (uy[a, b + 1] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a + 1, b])
            xy = half * xy + f * s_xy
            qx = ux[a, b] - ux[a, b + 1] - ux[a + 1, b] + ux[a + 1, b + 1]
            qy = uy[a, b] - uy[a, b + 1] - uy[a + 1, b] + uy[a + 1, b + 1]
            stretch = max(xx + yy, zero)
            along = (xx - yy) * (xx - yy)
            slanted = xy * xy
            shears = along + slanted + sixth * (qx * qx + qy * qy)
            whole = along + slanted + (xx + yy) * (xx + yy) + tiny
            psi[a, b] = half * (k0 * stretch * stretch + g0 * shears) * (one - even * (along - slanted) / whole)


@njit(cache=True)
def elastic_energy(u, kv, gm, foundation, envelope, shrinkage):
    """Energy of film and foundation at unit load."""
    n = kv.shape[0]
    uy, ux = u[0], u[1]
    total = 0.0
    for a in range(n):
        for b in range(n):
            f = envelope[a, b]
            xx = 0.5 * ((ux[a, b + 1] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a + 1, b])) + f * shrinkage[1]
            yy = 0.5 * ((uy[a + 1, b] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a, b + 1])) + f * shrinkage[0]
            xy = (ux[a + 1, b] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a, b + 1])
            xy += (uy[a, b + 1] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a + 1, b])
            xy = 0.5 * xy + f * shrinkage[2]
            qx = ux[a, b] - ux[a, b + 1] - ux[a + 1, b] + ux[a + 1, b + 1]
            qy = uy[a, b] - uy[a, b + 1] - uy[a + 1, b] + uy[a + 1, b + 1]
            shears = (xx - yy) * (xx - yy) + xy * xy + (qx * qx + qy * qy) / 6.0
            total += 0.5 * (kv[a, b] * (xx + yy) * (xx + yy) + gm[a, b] * shears)
    for i in range(n + 1):
        for j in range(n + 1):
            total += 0.5 * foundation[i, j] * (uy[i, j] * uy[i, j] + ux[i, j] * ux[i, j])
    return total


@njit(cache=True)
def mirror_ring(d):
    """Ring of the padded damage = its neighbours inside: no flux through the border."""
    m = d.shape[0]
    for i in range(1, m - 1):
        d[i, 0] = d[i, 1]
        d[i, m - 1] = d[i, m - 2]
    for j in range(m):
        d[0, j] = d[1, j]
        d[m - 1, j] = d[m - 2, j]


@njit(cache=True)
def link_weights(toughness, around):
    """Sum over the eight neighbours of weight x (Gc here + Gc there), (n, n); ``toughness`` padded."""
    n = around.shape[0]
    straight = 2.0 / 3.0
    slanted = 1.0 / 6.0
    for a in range(1, n + 1):
        for b in range(1, n + 1):
            beside = (toughness[a - 1, b] + toughness[a + 1, b]) + (toughness[a, b - 1] + toughness[a, b + 1])
            corner = (toughness[a - 1, b - 1] + toughness[a + 1, b + 1]) + (
                toughness[a - 1, b + 1] + toughness[a + 1, b - 1]
            )
            around[a - 1, b - 1] = straight * (4.0 * toughness[a, b] + beside) + slanted * (
                4.0 * toughness[a, b] + corner
            )


@njit(cache=True)
def _damage_sweep(old, new, floor, toughness, inverse, source, half):
    """One Jacobi sweep.

    The nine-point Laplacian (weights 2/3 straight, 1/6 slanted) has an isotropic error: no crack prefers the axes.
    Indices count from the padding, so that none can be negative and the loop vectorises.
    """
    n = source.shape[0]
    one = source.dtype.type(1.0)
    straight = source.dtype.type(2.0 / 3.0)
    slanted = source.dtype.type(1.0 / 6.0)
    for a in range(n):
        for b in range(n):
            gc = toughness[a + 1, b + 1]
            beside = (
                (gc + toughness[a, b + 1]) * old[a, b + 1] + (gc + toughness[a + 2, b + 1]) * old[a + 2, b + 1]
            ) + ((gc + toughness[a + 1, b]) * old[a + 1, b] + (gc + toughness[a + 1, b + 2]) * old[a + 1, b + 2])
            corner = ((gc + toughness[a, b]) * old[a, b] + (gc + toughness[a + 2, b + 2]) * old[a + 2, b + 2]) + (
                (gc + toughness[a, b + 2]) * old[a, b + 2] + (gc + toughness[a + 2, b]) * old[a + 2, b]
            )
            value = (source[a, b] + half * (straight * beside + slanted * corner)) * inverse[a, b]
            least = floor[a + 1, b + 1]
            value = value if value > least else least
            new[a + 1, b + 1] = value if value < one else one


@njit(cache=True)
def _largest_change(old, new):
    """Maximum norm, gathered column-wise first so that it vectorises."""
    m = old.shape[0]
    row = np.zeros(m, dtype=old.dtype)
    for a in range(1, m - 1):
        for b in range(1, m - 1):
            change = abs(new[a, b] - old[a, b])
            row[b] = change if change > row[b] else row[b]
    return row.max()


@njit(cache=True)
def _balance(d, toughness, around, psi, length, viscosity, inverse, source):
    """Inverse diagonal and source of the damage equation, (n, n), for damage ``d`` at the start of the step."""
    n = psi.shape[0]
    one = psi.dtype.type(1.0)
    half = psi.dtype.type(0.5 * length * length)
    double = psi.dtype.type(2.0 * length)
    v = psi.dtype.type(viscosity)
    for a in range(n):
        for b in range(n):
            drive = double * psi[a, b]
            source[a, b] = drive + v * d[a + 1, b + 1]
            inverse[a, b] = one / (toughness[a + 1, b + 1] + drive + v + half * around[a, b])


@njit(cache=True)
def relax_damage(d, floor, toughness, around, psi, length, viscosity, tolerance, limit, other, terms):
    """Damage that minimises the energy for the given driving energy, within floor <= d <= 1; returns the sweeps.

    ``d``, ``floor``, ``toughness`` and the scratch ``other`` are padded; ``d`` is where the iteration starts and ends.
    ``terms`` is (2, n, n) scratch.
    """
    inverse, source = terms[0], terms[1]
    _balance(d, toughness, around, psi, length, viscosity, inverse, source)
    half = psi.dtype.type(0.5 * length * length)
    old, new = d, other
    used = limit
    for sweep in range(limit):
        mirror_ring(old)
        _damage_sweep(old, new, floor, toughness, inverse, source, half)
        old, new = new, old
        if sweep % 4 == 3 and _largest_change(old, new) < tolerance:
            used = sweep + 1
            break
    if used % 2 == 1:
        d[:, :] = other
    mirror_ring(d)
    return used


@njit(cache=True)
def surface_energy(d, toughness, length):
    """Sum over cells of Gc / (2 l) (d^2 + l^2 grad d . grad d) with the nine-point links; arrays padded."""
    n, m = d.shape[0] - 2, d.shape[1] - 2
    total = 0.0
    for a in range(1, n + 1):
        for b in range(1, m + 1):
            gc = toughness[a, b]
            total += gc / (2.0 * length) * d[a, b] * d[a, b]
            for way in range(4):
                down = 1 if way != 1 else 0
                right = (0, 1, 1, -1)[way]
                if a + down > n or b + right > m or b + right < 1:
                    continue
                weight = 2.0 / 3.0 if way < 2 else 1.0 / 6.0
                step = d[a + down, b + right] - d[a, b]
                total += 0.25 * length * weight * (gc + toughness[a + down, b + right]) * step * step
    return total


@njit(cache=True)
def count_broken(d, broken_at):
    """Cells with d > broken_at; ``d`` padded."""
    broken = 0
    for a in range(1, d.shape[0] - 1):
        for b in range(1, d.shape[1] - 1):
            broken += d[a, b] > broken_at
    return broken


@njit(cache=True)
def retraction_along(u, d, envelope, shrinkage, residual, nodes, normals, reach, out):
    """Width to which the film has drawn apart at each node, for unit load.

    Across a crack the stress is that of the sound film beside it, so of a mechanical strain e (shrinkage included) in
    damaged film (1 - g) e is opening: summed along the normal, ``reach`` cells to both sides. ``d`` is (n, n); nodes
    (P, 2) are in cell indices.
    """
    n = d.shape[0]
    uy, ux = u[0], u[1]
    for k in range(nodes.shape[0]):
        ny, nx = normals[k, 0], normals[k, 1]
        inelastic = ny * ny * shrinkage[0] + nx * nx * shrinkage[1] + ny * nx * shrinkage[2]
        total = 0.0
        for step in range(-reach, reach + 1):
            y = min(max(nodes[k, 0] + step * ny, 0.0), n - 1.001)
            x = min(max(nodes[k, 1] + step * nx, 0.0), n - 1.001)
            a0, b0 = int(y), int(x)
            for r in range(2):
                for c in range(2):
                    a, b = a0 + r, b0 + c
                    sound = 1.0 - d[a, b]
                    weight = (1.0 - abs(y - a)) * (1.0 - abs(x - b)) * (1.0 - residual) * (1.0 - sound * sound)
                    yy = 0.5 * ((uy[a + 1, b] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a, b + 1]))
                    yx = 0.5 * ((uy[a, b + 1] - uy[a, b]) + (uy[a + 1, b + 1] - uy[a + 1, b]))
                    xy = 0.5 * ((ux[a + 1, b] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a, b + 1]))
                    xx = 0.5 * ((ux[a, b + 1] - ux[a, b]) + (ux[a + 1, b + 1] - ux[a + 1, b]))
                    strain = ny * (ny * yy + nx * yx) + nx * (ny * xy + nx * xx)
                    total += weight * (strain + envelope[a, b] * inelastic)
        out[k] = max(total, 0.0)


@njit(cache=True)
def merge_straight(nodes, first, second, tolerance, longest, alive):
    """One pass: drop nodes of degree 2 within ``tolerance`` of the chord of their neighbours; returns how many.

    ``first``, ``second`` (P,) are the two neighbours of a node of degree 2, else -1; of two neighbours only one goes
    in a pass. ``alive`` (P,) bool is changed, and so are the neighbours' links.
    """
    gone = 0
    blocked = np.zeros(nodes.shape[0], dtype=np.bool_)
    for k in range(nodes.shape[0]):
        p, q = first[k], second[k]
        if not alive[k] or p < 0 or q < 0 or p == q or blocked[k]:
            continue
        if first[p] == q or second[p] == q or first[q] == p or second[q] == p:
            continue  # a triangle keeps its corners
        if first[p] < 0 and first[q] < 0:
            continue  # a chain keeps one node at least, from which its edges are known
        dy, dx = nodes[q, 0] - nodes[p, 0], nodes[q, 1] - nodes[p, 1]
        chord = np.sqrt(dy * dy + dx * dx)
        off = abs(dy * (nodes[k, 1] - nodes[p, 1]) - dx * (nodes[k, 0] - nodes[p, 0]))
        if chord > longest or chord == 0.0 or off > tolerance * chord:
            continue
        alive[k] = False
        blocked[p] = True
        blocked[q] = True
        for end, other in ((p, q), (q, p)):
            if first[end] == k:
                first[end] = other
            elif second[end] == k:
                second[end] = other
        gone += 1
    return gone
