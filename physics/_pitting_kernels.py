"""Numba kernels of pitting: the mouth of the film as a level set, dissolution below it, ions above it.

All arrays are n x n cells of width h = 1 / n (sides of the square); a ``box`` (rows first, stop, columns first, stop)
bounds the passes that have nothing to do beyond it. Every pass reads one array and writes another, or
treats cells one by one, so that no direction of the grid comes first; rows are the inner, vectorised loop.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_IDLE = 0.15  # activity where no ions are about, DESIGN's prototype law
_HALF = 0.3  # ion concentration, in saturations, at which the other part of the activity is half of its most
_COURANT = 0.6  # largest advance of mouth or wall a step, cells; both schemes are monotone below 1 / sqrt(2)
_LEAST_UNDERSATURATION = 0.02  # a pit under a saturated film still dissolves as fast as this leaks
_LARGEST_EXPONENT = 12.0


@njit(cache=True)
def activity(c, box, out):
    """Activity 0.15 + c / (c + 0.3) of dissolution under an ion concentration c, in saturations."""
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            out[i, j] = _IDLE + c[i, j] / (c[i, j] + _HALF)


@njit(cache=True)
def active_box(phi, cap):
    """Rows first..stop and columns first..stop that hold every cell with phi < cap, and one ring around them."""
    n = phi.shape[0]
    top, bottom, left, right = n, -1, n, -1
    for i in range(n):
        for j in range(n):
            if phi[i, j] < cap:
                top, bottom = min(top, i), i
                left, right = min(left, j), max(right, j)
    return max(top - 1, 0), min(bottom + 2, n), max(left - 1, 0), min(right + 2, n)


@njit(cache=True)
def fastest(phi, reach, act, weakness, rate, mouth_speed, dissolution, box):
    """Largest speed of mouth or wall where the mouth is nearer than ``reach``, sides / time."""
    most = 0.0
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            speed = act[i, j] * max(mouth_speed * weakness[i, j], dissolution * rate[i, j])
            if phi[i, j] < reach:
                most = max(most, speed)
    return most


@njit(cache=True)
def _rows_around(i, n):
    return (i - 1 if i > 0 else 0), (i + 1 if i < n - 1 else n - 1)


@njit(cache=True)
def advance_mouth(phi, act, weakness, mouth_speed, dt, box, out, slope):
    """One step of phi_t + v |grad phi| = 0, v = mouth_speed x weakness x activity >= 0; Godunov's upwind scheme.

    First order, monotone (Osher & Sethian 1988; Rouy & Tourin 1992). Writes phi into ``out`` and |grad phi| into
    ``slope``; the border mirrors.
    """
    n = phi.shape[0]
    over_h = float(n)
    for i in range(box[0], box[1]):
        above, below = _rows_around(i, n)
        for j in range(box[2], box[3]):
            centre = phi[i, j]
            left = phi[i, j - 1] if j > 0 else centre
            right = phi[i, j + 1] if j < n - 1 else centre
            gy = max(centre - min(phi[above, j], phi[below, j]), 0.0) * over_h
            gx = max(centre - min(left, right), 0.0) * over_h
            g = np.sqrt(gy * gy + gx * gx)
            slope[i, j] = g
            out[i, j] = centre - dt * mouth_speed * weakness[i, j] * act[i, j] * g


@njit(cache=True)
def open_nucleus(phi, y, x, half_y, half_x, radius, cap):
    """Lower phi to the distance from a capsule: ends (y, x) +- (half_y, half_x), ``radius``; nowhere above ``cap``."""
    n = phi.shape[0]
    reach = cap + radius
    first_i = max(0, int(np.floor((y - abs(half_y) - reach) * n)))
    last_i = min(n, int(np.ceil((y + abs(half_y) + reach) * n)) + 1)
    first_j = max(0, int(np.floor((x - abs(half_x) - reach) * n)))
    last_j = min(n, int(np.ceil((x + abs(half_x) + reach) * n)) + 1)
    length2 = half_y * half_y + half_x * half_x
    for i in range(first_i, last_i):
        for j in range(first_j, last_j):
            dy = (i + 0.5) / n - y
            dx = (j + 0.5) / n - x
            share = 0.0
            if length2 > 0.0:
                share = min(1.0, max(-1.0, (dy * half_y + dx * half_x) / length2))
            dy -= share * half_y
            dx -= share * half_x
            phi[i, j] = min(phi[i, j], np.sqrt(dy * dy + dx * dx) - radius)


@njit(cache=True)
def sample(field, y, x):
    """Bilinear value of a cell-centred field at (y, x), in sides."""
    n = field.shape[0]
    a = min(max(y * n - 0.5, 0.0), n - 1.0)
    b = min(max(x * n - 0.5, 0.0), n - 1.0)
    i, j = min(int(a), n - 2), min(int(b), n - 2)
    a -= i
    b -= j
    top = (1.0 - b) * field[i, j] + b * field[i, j + 1]
    bottom = (1.0 - b) * field[i + 1, j] + b * field[i + 1, j + 1]
    return (1.0 - a) * top + a * bottom


@njit(cache=True)
def break_film(phi, c, sites, left, hazard_rate, ion_scale, dt, cap, smallest):
    """Let the film break at every site whose hazard, the integral of W exp(c / cw) dt, exceeds its threshold.

    ``sites`` is (K, 6): y, x, half_y, half_x, radius, threshold; ``left`` what is left of each threshold, below 0 once
    broken. Returns how many pits opened where the film still stood.
    """
    opened = 0
    for k in range(sites.shape[0]):
        if left[k] < 0.0:
            continue
        exponent = min(sample(c, sites[k, 0], sites[k, 1]) / ion_scale, _LARGEST_EXPONENT)
        left[k] -= hazard_rate * np.exp(exponent) * dt
        if left[k] < 0.0 and sample(phi, sites[k, 0], sites[k, 1]) > 0.0:
            radius = max(sites[k, 4], smallest)
            open_nucleus(phi, sites[k, 0], sites[k, 1], sites[k, 2], sites[k, 3], radius, cap)
            opened += 1
    return opened


@njit(cache=True)
def film_opening(phi, slope, box, out):
    """Share of each cell that lies within the mouth, from the distance of its centre to phi = 0."""
    n = phi.shape[0]
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            out[i, j] = min(1.0, max(0.0, 0.5 - phi[i, j] * n / min(max(slope[i, j], 0.3), 3.0)))


@njit(cache=True)
def dissolve(z, bare, c, act, rate, dissolution, stefan, dt, box, loss):
    """Depth lost in a step under activation and diffusion in series, into ``loss``; z is not changed.

    1 / u = 1 / (A r a(c)) + z / (2 lam^2 D (1 - c)), surface receding along its normal: z_t = u sqrt(1 + |grad z|^2)
    with Godunov's upwind slope. The step integrates the law of growth exactly while A r a, c and the slope stand:
    (z + zd)^2 grows by 2 zd A r a sqrt(..) dt, zd = 2 lam^2 D (1 - c) / (A r a). ``stefan`` is 2 lam^2 D.
    """
    n = z.shape[0]
    over_h = float(n)
    for i in range(box[0], box[1]):
        above, below = _rows_around(i, n)
        for j in range(box[2], box[3]):
            loss[i, j] = 0.0
            if bare[i, j] <= 0.0:
                continue
            centre = z[i, j]
            left = z[i, j - 1] if j > 0 else centre
            right = z[i, j + 1] if j < n - 1 else centre
            gy = max(max(z[above, j], z[below, j]) - centre, 0.0) * over_h
            gx = max(max(left, right) - centre, 0.0) * over_h
            supply = stefan * max(1.0 - c[i, j], _LEAST_UNDERSATURATION)  # zd A r a
            base = centre + supply / (dissolution * rate[i, j] * act[i, j])
            gain = 2.0 * supply * bare[i, j] * np.sqrt(1.0 + gy * gy + gx * gx) * dt
            loss[i, j] = gain / (np.sqrt(base * base + gain) + base)


@njit(cache=True)
def react(c, product, z, loss, bare, sweeping, settling, ion_yield, in_pit, volume_ratio, dt):
    """Add what dissolves to depth and ions, take away what is swept off and what settles; both sums, implicit in time.

    Ions come at ``ion_yield`` saturations per side of metal; ``sweeping`` and ``settling`` are rates (1 / time), the
    latter times ``in_pit`` where the film is gone. Returns (swept, settled) summed over cells, in sides of metal.
    """
    swept = 0.0
    settled = 0.0
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            z[i, j] += loss[i, j]
            out = dt * sweeping[i, j]
            down = dt * settling[i, j] * (1.0 - (1.0 - in_pit) * bare[i, j])
            value = (c[i, j] + ion_yield * loss[i, j]) / (1.0 + out + down)
            c[i, j] = value
            metal = down * value / ion_yield
            product[i, j] += volume_ratio * metal
            settled += metal
            swept += out * value / ion_yield
    return swept, settled


@njit(cache=True)
def _factorise(alpha, lower, pivot):
    """Thomas factors of (1 + 2 alpha; -alpha) with no flux through the ends."""
    n = pivot.shape[0]
    pivot[0] = 1.0 / (1.0 + alpha)
    for k in range(1, n):
        lower[k] = alpha * pivot[k - 1]
        pivot[k] = 1.0 / (1.0 + (2.0 if k < n - 1 else 1.0) * alpha - alpha * lower[k])


@njit(cache=True)
def diffuse(c, alpha, lower, pivot):
    """One implicit step of c_t = D lap c with no flux through the border; alpha = D dt / h^2. Changes c.

    (1 - alpha d_yy) (1 - alpha d_xx) c_new = c: backward Euler in each direction; the factors commute, so that the
    order of the directions does not matter. Keeps the sum of c and its sign. ``lower`` and ``pivot`` are (n,) scratch.
    """
    n = c.shape[0]
    _factorise(alpha, lower, pivot)
    for i in range(1, n):
        for j in range(n):
            c[i, j] += lower[i] * c[i - 1, j]
    for j in range(n):
        c[n - 1, j] *= pivot[n - 1]
    for i in range(n - 2, -1, -1):
        for j in range(n):
            c[i, j] = pivot[i] * (c[i, j] + alpha * c[i + 1, j])
    block = 8  # rows side by side hide the latency of the recursion along each
    for start in range(0, n, block):
        stop = min(start + block, n)
        for j in range(1, n):
            for i in range(start, stop):
                c[i, j] += lower[j] * c[i, j - 1]
        for i in range(start, stop):
            c[i, n - 1] *= pivot[n - 1]
        for j in range(n - 2, -1, -1):
            for i in range(start, stop):
                c[i, j] = pivot[j] * (c[i, j] + alpha * c[i, j + 1])


@njit(cache=True)
def measure(z, visible, box):
    """(cells deeper than ``visible``, sum of depths, largest depth)."""
    count = 0
    total = 0.0
    deepest = 0.0
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            count += z[i, j] > visible
            total += z[i, j]
            deepest = max(deepest, z[i, j])
    return count, total, deepest


@njit(cache=True)
def _thin_out(depths, products, figures, kept):
    """Keep every second record; how many are left."""
    left = kept // 2
    for k in range(left):
        depths[k] = depths[2 * k + 1]
        products[k] = products[2 * k + 1]
        figures[k] = figures[2 * k + 1]
    return left


@njit(cache=True)
def raise_zone(zone, y, x, half_y, half_x, radius):
    """Raise ``zone`` to exp(-(d / radius)^4), d the distance from the segment (y, x) +- (half_y, half_x)."""
    n = zone.shape[0]
    reach = 1.6 * radius
    first_i = max(0, int(np.floor((y - abs(half_y) - reach) * n)))
    last_i = min(n, int(np.ceil((y + abs(half_y) + reach) * n)) + 1)
    first_j = max(0, int(np.floor((x - abs(half_x) - reach) * n)))
    last_j = min(n, int(np.ceil((x + abs(half_x) + reach) * n)) + 1)
    length2 = half_y * half_y + half_x * half_x
    for i in range(first_i, last_i):
        for j in range(first_j, last_j):
            dy = (i + 0.5) / n - y
            dx = (j + 0.5) / n - x
            share = 0.0
            if length2 > 0.0:
                share = min(1.0, max(-1.0, (dy * half_y + dx * half_x) / length2))
            dy -= share * half_y
            dx -= share * half_x
            d2 = (dy * dy + dx * dx) / (radius * radius)
            zone[i, j] = max(zone[i, j], np.exp(-d2 * d2))


@njit(cache=True)
def nearest_grain(seeds, values, out):
    """Value of the grain whose seed is nearest, a Voronoi tessellation; ``seeds`` (m, m, 2), one in each square.

    Seeds are positions within their squares (0..1) and may leave them by no more than half; 3 x 3 squares are searched
    around each cell.
    """
    n, m = out.shape[0], seeds.shape[0]
    for i in range(n):
        for j in range(n):
            y, x = (i + 0.5) / n * m, (j + 0.5) / n * m
            a0, b0 = int(y), int(x)
            best = 1e30
            for a in range(max(0, a0 - 1), min(m, a0 + 2)):
                for b in range(max(0, b0 - 1), min(m, b0 + 2)):
                    dy = a + seeds[a, b, 0] - y
                    dx = b + seeds[a, b, 1] - x
                    d2 = dy * dy + dx * dx
                    if d2 < best:
                        best = d2
                        out[i, j] = values[a, b]


@njit(cache=True)
def _record(z, product, figures_now, depths, products, figures, kept):
    """Take down a state; where no room is left, every second record goes first. How many are kept."""
    if kept == depths.shape[0]:
        kept = kept // 2
        for k in range(kept):
            depths[k] = depths[2 * k + 1]
            products[k] = products[2 * k + 1]
            figures[k] = figures[2 * k + 1]
    depths[kept] = z
    products[kept] = product
    figures[kept] = figures_now
    return kept + 1


@njit(cache=True)
def corrode(phi, z, c, product, fields, sites, left, law, ions, limits, depths, products, figures, work, lines, totals):
    """Let the film break, its mouth spread and the metal below dissolve until the area or the time is reached.

    ``fields`` (4, n, n): rate, weakness, sweeping, settling. ``law``: dissolution A, 2 lam^2 D, mouth speed, hazard W,
    ion scale cw. ``ions``: lateral D, yield, settling in pits, volume ratio. ``limits``: duration after the first
    break, area, visible depth, longest step, cap of phi, least radius. ``work`` (5, n, n) and ``lines`` (2, n) are
    scratch. ``depths`` and ``products`` (R, n, n) take records at even steps, ``figures`` (R, 5): time, cells, mass,
    deepest, pits. ``totals`` (2,) takes the swept and settled sums. Returns the number of records and of steps.
    """
    n = phi.shape[0]
    dissolution, stefan, mouth_speed, hazard, scale = law
    spread, ion_yield, in_pit, ratio = ions
    duration, area, visible, longest, cap, smallest = limits
    act, slope, bare, loss = work[0], work[1], work[2], work[3]
    rate, weakness, sweeping, settling = fields[0], fields[1], fields[2], fields[3]
    # nothing happens before the first event: go there at once
    time = max(0.0, left.min() / hazard)
    for k in range(left.shape[0]):
        left[k] = max(left[k] - time * hazard, 0.0)
    end = time + duration
    kept, stride, since, steps = 0, 1, 0, 0
    front, back = phi, work[4]
    work[:] = 0.0
    back[:] = cap
    pits = break_film(front, c, sites, left, hazard, scale, 1e-9, cap, smallest)
    running = True
    while running:
        box = active_box(front, cap)
        activity(c, box, act)
        speed = fastest(front, cap, act, weakness, rate, mouth_speed, dissolution, box)
        dt = min(_COURANT / (n * speed), longest)
        advance_mouth(front, act, weakness, mouth_speed, dt, box, back, slope)
        front, back = back, front
        film_opening(front, slope, box, bare)
        dissolve(z, bare, c, act, rate, dissolution, stefan, dt, box, loss)
        swept, settled = react(c, product, z, loss, bare, sweeping, settling, ion_yield, in_pit, ratio, dt)
        totals[0] += swept
        totals[1] += settled
        diffuse(c, spread * dt * n * n, lines[0], lines[1])
        pits += break_film(front, c, sites, left, hazard, scale, dt, cap, smallest)
        time += dt
        steps += 1
        since += 1
        cells, mass, deepest = measure(z, visible, box)
        running = time < end and cells < area * n * n
        if (since == stride or not running) and (cells > 0 or not running):
            if kept == depths.shape[0]:
                stride *= 2
            now = (time, float(cells), mass, deepest, float(pits))
            kept = _record(z, product, now, depths, products, figures, kept)
        since = 0 if since == stride else since
    return kept, steps
