"""Numba kernels of the elasto-plastic von Karman plate: curvatures, brackets, moment divergence, return mapping, bands.

Grid: values at cell centres, spacing h; arrays named ``*_p`` are padded by one ghost cell on every side. Tensors are
(3, n, n) or (3, n + 2, n + 2) with components xx, yy, xy; rows are y, columns x. Bending stiffness is 1.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_MAX_NEWTON = 30


@njit(cache=True)
def pad(inner, sign, left, out):
    """Copy (n, n) into (n + 2, n + 2) with ghosts sign * mirror image.

    ``left``: 0 mirrors at the left side too, 1 continues linearly (no curvature across a free edge), 2 sets zero.
    """
    n = inner.shape[0]
    for i in range(n):
        for j in range(n):
            out[i + 1, j + 1] = inner[i, j]
    for i in range(1, n + 1):
        out[i, n + 1] = sign * out[i, n]
        if left == 0:
            out[i, 0] = sign * out[i, 1]
        elif left == 1:
            out[i, 0] = 2.0 * out[i, 1] - out[i, 2]
        else:
            out[i, 0] = 0.0
    for j in range(n + 2):
        out[0, j] = sign * out[1, j]
        out[n + 1, j] = sign * out[n, j]


@njit(cache=True)
def _twist_row(w_p, i, row):
    """row[j] = w_xy h^2 at the corner below and right of the padded cell (i, j)."""
    for j in range(row.shape[0] - 1):
        row[j] = w_p[i + 1, j + 1] + w_p[i, j] - w_p[i + 1, j] - w_p[i, j + 1]


@njit(cache=True, fastmath={"nnan", "nsz"})
def _largest(values):
    """Largest of an array without NaN; the flags let it run in vector registers and change no bit."""
    largest = 0.0
    for v in values:
        largest = max(largest, v)
    return largest


@njit(cache=True, fastmath={"nnan", "nsz"})
def largest_size(values):
    """Largest absolute value of an (n, n) array without NaN."""
    largest = 0.0
    for row in values:
        for v in row:
            largest = max(largest, abs(v))
    return largest


@njit(cache=True)
def gaussian_curvature(w_p, h, rows, out):
    """Curvature out = w_xx w_yy - w_xy^2, twist from the four corners of each cell; returns the largest slope squared.

    ``rows`` is scratch, (5, n + 2).
    """
    n = out.shape[0]
    scale = 1.0 / (h * h)
    square = scale * scale
    largest = 0.0
    above, below, size = rows[0], rows[1], rows[4]
    _twist_row(w_p, 0, above)
    for i in range(1, n + 1):
        _twist_row(w_p, i, below)
        for j in range(1, n + 1):
            twice = 2.0 * w_p[i, j]
            xx = w_p[i, j - 1] - twice + w_p[i, j + 1]
            yy = w_p[i - 1, j] - twice + w_p[i + 1, j]
            outer = above[j - 1] * above[j - 1] + below[j] * below[j]
            twist = 0.25 * (outer + (above[j] * above[j] + below[j - 1] * below[j - 1]))
            out[i - 1, j - 1] = (xx * yy - twist) * square
            step_x = w_p[i, j + 1] - w_p[i, j - 1]
            step_y = w_p[i + 1, j] - w_p[i - 1, j]
            size[j] = step_x * step_x + step_y * step_y
        largest = max(largest, _largest(size[1 : n + 1]))
        above, below = below, above
    return 0.25 * largest * scale


@njit(cache=True)
def mean_stretch(w_p, h, out):
    """Means out[0:2] over the square of w_x^2 / 2 and w_y^2 / 2."""
    n = w_p.shape[0] - 2
    sx = 0.0
    sy = 0.0
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            dx = w_p[i, j + 1] - w_p[i, j]
            dy = w_p[i + 1, j] - w_p[i, j]
            sx += dx * dx
            sy += dy * dy
    out[0] = 0.5 * sx / (h * h * n * n)
    out[1] = 0.5 * sy / (h * h * n * n)


@njit(cache=True)
def add_membrane_force(phi_p, w_p, nx, ny, h, rows, out):
    """Add to out [phi, w] + nx w_xx + ny w_yy, the membrane forces being phi_yy, phi_xx, -phi_xy; returns max |N|.

    ``rows`` is scratch, (5, n + 2).
    """
    n = out.shape[0]
    scale = 1.0 / (h * h)
    largest = 0.0
    above, below, twist, size = rows[0], rows[1], rows[2], rows[4]
    _twist_row(w_p, 0, above)
    _twist_row(phi_p, 0, twist)
    for j in range(n + 1):
        above[j] *= twist[j]
    for i in range(1, n + 1):
        _twist_row(w_p, i, below)
        _twist_row(phi_p, i, twist)
        for j in range(n + 1):
            below[j] *= twist[j]
        for j in range(1, n + 1):
            twice = 2.0 * w_p[i, j]
            twice_phi = 2.0 * phi_p[i, j]
            xx = w_p[i, j - 1] - twice + w_p[i, j + 1]
            yy = w_p[i - 1, j] - twice + w_p[i + 1, j]
            force_x = (phi_p[i - 1, j] - twice_phi + phi_p[i + 1, j]) * scale + nx
            force_y = (phi_p[i, j - 1] - twice_phi + phi_p[i, j + 1]) * scale + ny
            shear = ((above[j - 1] + below[j]) + (above[j] + below[j - 1])) * (0.5 * scale)
            out[i - 1, j - 1] += ((force_x * xx + force_y * yy) - shear) * scale
            size[j] = force_x * force_x + force_y * force_y
        largest = max(largest, _largest(size[1 : n + 1]))
        above, below = below, above
    return np.sqrt(largest)


@njit(cache=True)
def surface_strain(phi_p, w_p, nx, ny, compliance, poisson, h, out_p):
    """In-plane strains xx, yy, xy that force and slope leave, added into the inside of (3, n + 2, n + 2)."""
    n = w_p.shape[0] - 2
    scale = 1.0 / (h * h)
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            force_x = (phi_p[i - 1, j] - 2.0 * phi_p[i, j] + phi_p[i + 1, j]) * scale + nx
            force_y = (phi_p[i, j - 1] - 2.0 * phi_p[i, j] + phi_p[i, j + 1]) * scale + ny
            cross = phi_p[i + 1, j + 1] - phi_p[i + 1, j - 1] - phi_p[i - 1, j + 1] + phi_p[i - 1, j - 1]
            slope_x = 0.5 * (w_p[i, j + 1] - w_p[i, j - 1]) / h
            slope_y = 0.5 * (w_p[i + 1, j] - w_p[i - 1, j]) / h
            out_p[0, i, j] += compliance * (force_x - poisson * force_y) - 0.5 * slope_x * slope_x
            out_p[1, i, j] += compliance * (force_y - poisson * force_x) - 0.5 * slope_y * slope_y
            out_p[2, i, j] -= compliance * (1.0 + poisson) * 0.25 * cross * scale + 0.5 * slope_x * slope_y


@njit(cache=True)
def strain_divergence(strain_p, h, out_y, out_x):
    """Set out_i = 2 e_ij,j - e_jj,i of padded strains (3, n + 2, n + 2)."""
    n = out_x.shape[0]
    scale = 0.5 / h
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            difference_x = strain_p[0, i, j + 1] - strain_p[1, i, j + 1] - strain_p[0, i, j - 1] + strain_p[1, i, j - 1]
            difference_y = strain_p[1, i + 1, j] - strain_p[0, i + 1, j] - strain_p[1, i - 1, j] + strain_p[0, i - 1, j]
            shear_x = strain_p[2, i + 1, j] - strain_p[2, i - 1, j]
            shear_y = strain_p[2, i, j + 1] - strain_p[2, i, j - 1]
            out_x[i - 1, j - 1] = scale * (difference_x + 2.0 * shear_x)
            out_y[i - 1, j - 1] = scale * (difference_y + 2.0 * shear_y)


@njit(cache=True)
def laplacian(w_p, h, out):
    """Five-point Laplacian of a padded array."""
    n = out.shape[0]
    scale = 1.0 / (h * h)
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            total = w_p[i, j - 1] + w_p[i, j + 1] + w_p[i - 1, j] + w_p[i + 1, j]
            out[i - 1, j - 1] = (total - 4.0 * w_p[i, j]) * scale


@njit(cache=True)
def add_moment_divergence(m_p, h, out):
    """Add to out m_xx,xx + m_yy,yy + 2 m_xy,xy of a padded tensor."""
    n = out.shape[0]
    scale = 1.0 / (h * h)
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            xx = m_p[0, i, j - 1] - 2.0 * m_p[0, i, j] + m_p[0, i, j + 1]
            yy = m_p[1, i - 1, j] - 2.0 * m_p[1, i, j] + m_p[1, i + 1, j]
            xy = m_p[2, i + 1, j + 1] - m_p[2, i + 1, j - 1] - m_p[2, i - 1, j + 1] + m_p[2, i - 1, j - 1]
            out[i - 1, j - 1] += (xx + yy + 0.5 * xy) * scale


@njit(cache=True)
def curvature(w_p, h, out):
    """Curvatures w_xx, w_yy, w_xy at the cell centres, (3, n, n); the twist is the mean of the four corners."""
    n = out.shape[1]
    scale = 1.0 / (h * h)
    for i in range(1, n + 1):
        for j in range(1, n + 1):
            w = w_p[i, j]
            out[0, i - 1, j - 1] = (w_p[i, j - 1] - 2.0 * w + w_p[i, j + 1]) * scale
            out[1, i - 1, j - 1] = (w_p[i - 1, j] - 2.0 * w + w_p[i + 1, j]) * scale
            cross = w_p[i + 1, j + 1] - w_p[i + 1, j - 1] - w_p[i - 1, j + 1] + w_p[i - 1, j - 1]
            out[2, i - 1, j - 1] = 0.25 * cross * scale


@njit(cache=True)
def _multiplier(square_sum, square_rest, sum_rate, rest_rate, yield_moment, hardening):
    """Plastic multiplier g >= 0 with f(g) = 0: von Mises resultant equal to the hardened yield moment.

    The resultant squared is square_sum / (1 + sum_rate g)^2 + square_rest / (1 + rest_rate g)^2; the equivalent plastic
    curvature grows by g times the resultant (Simo & Taylor 1986). Newton from below: f falls and is convex.
    """
    g = 0.0
    for _ in range(_MAX_NEWTON):
        a = 1.0 + sum_rate * g
        b = 1.0 + rest_rate * g
        resultant = np.sqrt(square_sum / (a * a) + square_rest / (b * b))
        slope = -(square_sum * sum_rate / (a * a * a) + square_rest * rest_rate / (b * b * b)) / resultant
        gap = resultant * (1.0 - hardening * g) - yield_moment
        if abs(gap) <= 1e-9 * yield_moment:
            break
        g -= gap / (slope * (1.0 - hardening * g) - hardening * resultant)
    return g


@njit(cache=True)
def return_moments(kappa, plastic, equivalent, yield_moment, hardening, poisson, moment):
    """Moments for the curvatures by backward Euler; plastic curvature and its equivalent are updated in place.

    Parameters are (3, m), (3, m), (m,), (m,), two numbers, and the result (3, m). Returns how many points yield.
    """
    yielding = 0
    for p in range(kappa.shape[1]):
        exx = kappa[0, p] - plastic[0, p]
        eyy = kappa[1, p] - plastic[1, p]
        exy = kappa[2, p] - plastic[2, p]
        total = (1.0 + poisson) * (exx + eyy)  # sum of the principal moments
        gap = (1.0 - poisson) * (exx - eyy)  # difference of the normal moments
        twist = (1.0 - poisson) * exy
        limit = yield_moment[p] + hardening * equivalent[p]
        square_sum = 0.25 * total * total
        square_rest = 0.75 * gap * gap + 3.0 * twist * twist
        if square_sum + square_rest > limit * limit:
            yielding += 1
            sum_rate = 0.5 * (1.0 + poisson)
            rest_rate = 1.5 * (1.0 - poisson)
            g = _multiplier(square_sum, square_rest, sum_rate, rest_rate, limit, hardening)
            total /= 1.0 + sum_rate * g
            gap /= 1.0 + rest_rate * g
            twist /= 1.0 + rest_rate * g
            equivalent[p] += g * np.sqrt(0.25 * total * total + 0.75 * gap * gap + 3.0 * twist * twist)
            plastic[0, p] += g * (0.25 * total + 0.75 * gap)
            plastic[1, p] += g * (0.25 * total - 0.75 * gap)
            plastic[2, p] += g * 1.5 * twist
        moment[0, p] = 0.5 * (total + gap)
        moment[1, p] = 0.5 * (total - gap)
        moment[2, p] = twist
    return yielding


@njit(cache=True)
def stiffness_moment(kappa, poisson, left, out_p):
    """Moments (3, n + 2, n + 2), padded with odd ghosts, of the curvatures (3, n, n); none across a free left edge."""
    n = kappa.shape[1]
    for i in range(n):
        for j in range(n):
            xx = kappa[0, i, j]
            yy = kappa[1, i, j]
            out_p[0, i + 1, j + 1] = xx + poisson * yy
            out_p[1, i + 1, j + 1] = yy + poisson * xx
            out_p[2, i + 1, j + 1] = (1.0 - poisson) * kappa[2, i, j]
        if left > 0:
            out_p[0, i + 1, 1] = 0.0
    for c in range(3):
        sign = 1.0 if c == 2 else -1.0  # a supported edge carries twist, but no bending moment
        for i in range(1, n + 1):
            out_p[c, i, 0] = 0.0 if left > 0 else sign * out_p[c, i, 1]
            out_p[c, i, n + 1] = sign * out_p[c, i, n]
        for j in range(n + 2):
            out_p[c, 0, j] = sign * out_p[c, 1, j]
            out_p[c, n + 1, j] = sign * out_p[c, n, j]


@njit(cache=True)
def advance(w, velocity, direction, mask, momentum, one_sided):
    """Heavy-ball step w += velocity, velocity = momentum velocity + mask direction; w >= 0 where one_sided."""
    n = w.shape[0]
    change = 0.0
    for i in range(n):
        for j in range(n):
            step = momentum * velocity[i, j] + mask[i, j] * direction[i, j]
            if one_sided and w[i, j] + step < 0.0:
                step = -w[i, j]
            velocity[i, j] = step
            w[i, j] += step
            change = max(change, abs(step))
    return change


@njit(cache=True)
def factor_bands(diagonal, first, second, d, l1, l2):
    """L D L^T of symmetric five-band matrices, one a row: (modes, n) each."""
    modes, n = diagonal.shape
    for k in range(modes):
        for i in range(n):
            b = second[k, i - 2] if i > 1 else 0.0
            a = first[k, i - 1] if i > 0 else 0.0
            lower2 = 0.0
            lower1 = 0.0
            if i > 1:
                lower2 = b / d[k, i - 2]
            if i > 0:
                prior = l1[k, i - 1] if i > 1 else 0.0
                cross = lower2 * d[k, i - 2] * prior if i > 1 else 0.0
                lower1 = (a - cross) / d[k, i - 1]
            pivot = diagonal[k, i]
            if i > 0:
                pivot -= lower1 * lower1 * d[k, i - 1]
            if i > 1:
                pivot -= lower2 * lower2 * d[k, i - 2]
            d[k, i] = pivot
            l1[k, i] = lower1
            l2[k, i] = lower2


@njit(cache=True)
def solve_bands(d, l1, l2, x):
    """Solve in place for every row of x, (modes, n), with the factors of `factor_bands`."""
    modes, n = x.shape
    for k in range(modes):
        for i in range(1, n):
            value = x[k, i] - l1[k, i] * x[k, i - 1]
            if i > 1:
                value -= l2[k, i] * x[k, i - 2]
            x[k, i] = value
        for i in range(n):
            x[k, i] /= d[k, i]
        for i in range(n - 2, -1, -1):
            value = x[k, i] - l1[k, i + 1] * x[k, i + 1]
            if i < n - 2:
                value -= l2[k, i + 2] * x[k, i + 2]
            x[k, i] = value


@njit(cache=True)
def multiply_bands(diagonal, first, second, x, out):
    """Product out = A x for every row: five-band symmetric matrices, first and second the bands above the diagonal."""
    modes, n = x.shape
    for k in range(modes):
        for i in range(n):
            value = diagonal[k, i] * x[k, i]
            if i > 0:
                value += first[k, i - 1] * x[k, i - 1]
            if i > 1:
                value += second[k, i - 2] * x[k, i - 2]
            if i < n - 1:
                value += first[k, i] * x[k, i + 1]
            if i < n - 2:
                value += second[k, i] * x[k, i + 2]
            out[k, i] = value


@njit(cache=True)
def steepness(height, h, out):
    """Length of the slope of (t, n, n) heights by central differences, the same size; one-sided at the sides."""
    count, n, _ = height.shape
    for t in range(count):
        for i in range(n):
            up = max(i - 1, 0)
            down = min(i + 1, n - 1)
            for j in range(n):
                left = max(j - 1, 0)
                right = min(j + 1, n - 1)
                dx = (height[t, i, right] - height[t, i, left]) / ((right - left) * h)
                dy = (height[t, down, j] - height[t, up, j]) / ((down - up) * h)
                out[t, i, j] = np.sqrt(dx * dx + dy * dy)
