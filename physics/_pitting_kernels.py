"""Numba kernels of pitting: the mouth of the film as a level set, dissolution below it, ions above it.

All arrays are n x n cells of width h = 1 / n (sides of the square); phi and z have two ghost cells on each side,
(n + 4, n + 4). A ``box`` (rows first, stop, columns first, stop) bounds the passes that have nothing to do beyond it.
Every pass reads one array and writes another, or treats cells one by one, so that no direction of the grid comes
first. The inner loops run over slices of rows with indices from 0: only then does the compiler vectorise them. Divisors
are positive throughout (``error_model``).
"""

from __future__ import annotations

import numpy as np
from numba import njit

_IDLE = 0.15  # activity where no ions are about, DESIGN's prototype law
_HALF = 0.3  # ion concentration, in saturations, at which the other part of the activity is half of its most
_COURANT = 0.6  # largest advance of mouth or wall a step, cells; both schemes are monotone below 1 / sqrt(2)
_LEAST_UNDERSATURATION = 0.02  # a pit under a saturated film still dissolves as fast as this leaks
_LARGEST_EXPONENT = 12.0


@njit(cache=True, error_model="numpy")
def activity(c, box, out):
    """Activity 0.15 + c / (c + 0.3) of dissolution under an ion concentration c, in saturations."""
    top, bottom, west, east = box
    for i in range(top, bottom):
        ions, act = c[i, west:east], out[i, west:east]
        for k in range(east - west):
            act[k] = _IDLE + ions[k] / (ions[k] + _HALF)


@njit(cache=True, error_model="numpy")
def active_box(phi, cap):
    """Rows first..stop and columns first..stop that hold every cell with phi < cap, and one ring around them."""
    n = phi.shape[0] - 4
    top, bottom, west, east = n, -1, n, -1
    for i in range(n):
        row = phi[i + 2]
        for j in range(n):
            if row[j + 2] < cap:
                top, bottom = min(top, i), i
                west, east = min(west, j), max(east, j)
    return max(top - 1, 0), min(bottom + 2, n), max(west - 1, 0), min(east + 2, n)


@njit(cache=True, error_model="numpy")
def fastest(phi, reach, act, weakness, rate, mouth_speed, dissolution, box):
    """Largest speed of mouth or wall where the mouth is nearer than ``reach``, sides / time."""
    top, bottom, west, east = box
    most = 0.0
    for i in range(top, bottom):
        distance, lively = phi[i + 2, west + 2 : east + 2], act[i, west:east]
        film, metal = weakness[i, west:east], rate[i, west:east]
        for k in range(east - west):
            speed = lively[k] * max(mouth_speed * film[k], dissolution * metal[k])
            most = max(most, speed if distance[k] < reach else 0.0)
    return most


@njit(cache=True, error_model="numpy")
def _falling(far_before, before, centre, after, far_after):
    """Largest fall of phi towards either neighbour, second-order one-sided differences; at least 0.

    Each difference is bent by the smaller of two curvatures, by none where their signs differ (minmod).
    """
    bend = before - 2.0 * centre + after
    bend_back = far_before - 2.0 * before + centre
    bend_ahead = centre - 2.0 * after + far_after
    low, high = min(bend, 0.0), max(bend, 0.0)
    back = centre - before + 0.5 * (max(low, min(bend_back, 0.0)) + min(high, max(bend_back, 0.0)))
    ahead = centre - after + 0.5 * (max(low, min(bend_ahead, 0.0)) + min(high, max(bend_ahead, 0.0)))
    return max(max(back, ahead), 0.0)


@njit(cache=True, error_model="numpy")
def advance_mouth(phi, act, weakness, mouth_speed, dt, box, out, slope):
    """One step of phi_t + v |grad phi| = 0, v = mouth_speed x weakness x activity >= 0, upwind.

    Godunov's Hamiltonian (Rouy & Tourin 1992) of the essentially non-oscillatory second-order differences of Osher &
    Shu (1991). Writes phi into ``out`` and |grad phi| into ``slope``.
    """
    top, bottom, west, east = box
    over_h = float(slope.shape[0])
    travel = dt * mouth_speed
    for i in range(top, bottom):
        far_up, up = phi[i, west : east + 4], phi[i + 1, west : east + 4]
        row = phi[i + 2, west : east + 4]
        down, far_down = phi[i + 3, west : east + 4], phi[i + 4, west : east + 4]
        film, lively = weakness[i, west:east], act[i, west:east]
        new, steep = out[i + 2, west + 2 : east + 2], slope[i, west:east]
        for k in range(east - west):
            gy = _falling(far_up[k + 2], up[k + 2], row[k + 2], down[k + 2], far_down[k + 2])
            gx = _falling(row[k], row[k + 1], row[k + 2], row[k + 3], row[k + 4])
            steep[k] = over_h * np.sqrt(gy * gy + gx * gx)
        for k in range(east - west):
            new[k] = row[k + 2] - travel * film[k] * lively[k] * steep[k]


@njit(cache=True, error_model="numpy")
def extend_border(phi):
    """Fill the ghost cells beyond the square with the values at its border."""
    n = phi.shape[0]
    for g in range(2):
        phi[g, 2 : n - 2] = phi[2, 2 : n - 2]
        phi[n - 1 - g, 2 : n - 2] = phi[n - 3, 2 : n - 2]
    for g in range(2):
        phi[:, g] = phi[:, 2]
        phi[:, n - 1 - g] = phi[:, n - 3]


@njit(cache=True, error_model="numpy")
def open_nucleus(phi, y, x, half_y, half_x, radius, cap):
    """Lower phi to the distance from a capsule: ends (y, x) +- (half_y, half_x), ``radius``; nowhere above ``cap``."""
    n = phi.shape[0] - 4
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
            phi[i + 2, j + 2] = min(phi[i + 2, j + 2], np.sqrt(dy * dy + dx * dx) - radius)


@njit(cache=True, error_model="numpy")
def sample(field, ghosts, y, x):
    """Bilinear value of a cell-centred field with a border of ``ghosts`` cells at (y, x), in sides."""
    n = field.shape[0] - 2 * ghosts
    a = min(max(y * n - 0.5, 0.0), n - 1.0)
    b = min(max(x * n - 0.5, 0.0), n - 1.0)
    i, j = min(int(a), n - 2), min(int(b), n - 2)
    a -= i
    b -= j
    i += ghosts
    j += ghosts
    top = (1.0 - b) * field[i, j] + b * field[i, j + 1]
    bottom = (1.0 - b) * field[i + 1, j] + b * field[i + 1, j + 1]
    return (1.0 - a) * top + a * bottom


@njit(cache=True, error_model="numpy")
def break_film(phi, c, sites, left, hazard_rate, ion_scale, dt, cap, smallest):
    """Let the film break at every site whose hazard, the integral of W exp(c / cw) dt, exceeds its threshold.

    ``sites`` is (K, 6): y, x, half_y, half_x, radius, threshold; ``left`` what is left of each threshold, below 0 once
    broken. Returns how many pits opened where the film still stood.
    """
    opened = 0
    for k in range(sites.shape[0]):
        if left[k] < 0.0:
            continue
        exponent = min(sample(c, 0, sites[k, 0], sites[k, 1]) / ion_scale, _LARGEST_EXPONENT)
        left[k] -= hazard_rate * np.exp(exponent) * dt
        if left[k] < 0.0 and sample(phi, 2, sites[k, 0], sites[k, 1]) > 0.0:
            radius = max(sites[k, 4], smallest)
            open_nucleus(phi, sites[k, 0], sites[k, 1], sites[k, 2], sites[k, 3], radius, cap)
            opened += 1
    return opened


@njit(cache=True, error_model="numpy")
def film_opening(phi, slope, box, out):
    """Share of each cell that lies within the mouth, from the distance of its centre to phi = 0; it never falls."""
    top, bottom, west, east = box
    cells = float(slope.shape[0])
    for i in range(top, bottom):
        distance, steep, share = phi[i + 2, west + 2 : east + 2], slope[i, west:east], out[i, west:east]
        for k in range(east - west):
            now = min(1.0, 0.5 - distance[k] * cells / min(max(steep[k], 0.3), 3.0))
            share[k] = max(share[k], now)


@njit(cache=True, error_model="numpy")
def dissolve(z, bare, c, act, rate, dissolution, stefan, dt, box, loss):
    """Depth lost in a step under activation and diffusion in series, into ``loss``; z is not changed.

    1 / u = 1 / (A r a(c)) + z / (2 lam^2 D (1 - c)), surface receding along its normal: z_t = u sqrt(1 + |grad z|^2)
    with Godunov's upwind slope. The step integrates the law of growth exactly while A r a, c and the slope stand:
    (z + zd)^2 grows by 2 zd A r a sqrt(..) dt, zd = 2 lam^2 D (1 - c) / (A r a). ``stefan`` is 2 lam^2 D.
    """
    top, bottom, west, east = box
    over_h2 = float(loss.shape[0]) ** 2
    for i in range(top, bottom):
        up, row, down = z[i + 1, west : east + 4], z[i + 2, west : east + 4], z[i + 3, west : east + 4]
        share, ions, lively = bare[i, west:east], c[i, west:east], act[i, west:east]
        metal, lost = rate[i, west:east], loss[i, west:east]
        for k in range(east - west):
            gy = max(max(up[k + 2], down[k + 2]) - row[k + 2], 0.0)
            gx = max(max(row[k + 1], row[k + 3]) - row[k + 2], 0.0)
            lost[k] = share[k] * np.sqrt(1.0 + over_h2 * (gy * gy + gx * gx))
        for k in range(east - west):
            supply = stefan * max(1.0 - ions[k], _LEAST_UNDERSATURATION)  # zd A r a
            base = row[k + 2] + supply / (dissolution * metal[k] * lively[k])
            gain = 2.0 * dt * supply * lost[k]
            lost[k] = gain / (np.sqrt(base * base + gain) + base)


@njit(cache=True, error_model="numpy")
def react(c, product, z, loss, bare, sweeping, settling, ion_yield, in_pit, volume_ratio, dt, box):
    """Add what dissolves to depth and ions, take away what is swept off and what settles; both sums, implicit in time.

    Ions come at ``ion_yield`` saturations per side of metal; ``sweeping`` and ``settling`` are rates (1 / time), the
    latter times ``in_pit`` where the film is gone. Returns (swept, settled) summed over cells, in sides of metal.
    """
    top, bottom, west, east = box
    swept = 0.0
    settled = 0.0
    to_metal = 1.0 / ion_yield
    for i in range(top, bottom):
        ions, grown, deep = c[i, west:east], product[i, west:east], z[i + 2, west + 2 : east + 2]
        lost, share = loss[i, west:east], bare[i, west:east]
        off, down = sweeping[i, west:east], settling[i, west:east]
        for k in range(east - west):
            deep[k] += lost[k]
            away = dt * off[k]
            onto = dt * down[k] * (1.0 - (1.0 - in_pit) * share[k])
            value = (ions[k] + ion_yield * lost[k]) / (1.0 + away + onto)
            ions[k] = value
            metal = onto * value * to_metal
            grown[k] += volume_ratio * metal
            settled += metal
            swept += away * value * to_metal
    return swept, settled


@njit(cache=True, error_model="numpy")
def _factorise(alpha, n, lower, pivot):
    """Thomas factors of (1 + 2 alpha; -alpha), n unknowns, with no flux through the ends."""
    pivot[0] = 1.0 / (1.0 + alpha)
    for k in range(1, n):
        lower[k] = alpha * pivot[k - 1]
        pivot[k] = 1.0 / (1.0 + (2.0 if k < n - 1 else 1.0) * alpha - alpha * lower[k])


@njit(cache=True, error_model="numpy")
def diffuse(c, alpha, box, lower, pivot):
    """One implicit step of c_t = D lap c with no flux through the box's border; alpha = D dt / h^2. Changes c.

    (1 - alpha d_yy) (1 - alpha d_xx) c_new = c: backward Euler in each direction; the factors commute, so that the
    order of the directions does not matter. Keeps the sum of c and its sign. ``lower`` and ``pivot`` are (n,) scratch.
    """
    top, bottom, west, east = box
    _factorise(alpha, bottom - top, lower, pivot)
    for i in range(1, bottom - top):
        before, row = c[top + i - 1, west:east], c[top + i, west:east]
        for k in range(east - west):
            row[k] += lower[i] * before[k]
    last = c[bottom - 1, west:east]
    for k in range(east - west):
        last[k] *= pivot[bottom - 1 - top]
    for i in range(bottom - top - 2, -1, -1):
        row, after = c[top + i, west:east], c[top + i + 1, west:east]
        for k in range(east - west):
            row[k] = pivot[i] * (row[k] + alpha * after[k])
    _factorise(alpha, east - west, lower, pivot)
    block = 8  # rows side by side hide the latency of the recursion along each
    for start in range(top, bottom, block):
        stop = min(start + block, bottom)
        for j in range(west + 1, east):
            for i in range(start, stop):
                c[i, j] += lower[j - west] * c[i, j - 1]
        for i in range(start, stop):
            c[i, east - 1] *= pivot[east - 1 - west]
        for j in range(east - 2, west - 1, -1):
            for i in range(start, stop):
                c[i, j] = pivot[j - west] * (c[i, j] + alpha * c[i, j + 1])


@njit(cache=True, error_model="numpy")
def measure(z, bare, visible, box):
    """(cells within the mouth and deeper than ``visible`` there, sum of depths, largest depth)."""
    count = 0.0
    total = 0.0
    deepest = 0.0
    for i in range(box[0], box[1]):
        for j in range(box[2], box[3]):
            depth = z[i + 2, j + 2]
            count += bare[i, j] if depth > visible * bare[i, j] else 0.0
            total += depth
            deepest = max(deepest, depth)
    return count, total, deepest


@njit(cache=True, error_model="numpy")
def _thin_out(depths, products, figures, kept):
    """Keep every second record; how many are left."""
    left = kept // 2
    for k in range(left):
        depths[k] = depths[2 * k + 1]
        products[k] = products[2 * k + 1]
        figures[k] = figures[2 * k + 1]
    return left


@njit(cache=True, error_model="numpy")
def raise_zone(zone, y, x, half_y, half_x, radius):
    """Raise ``zone`` to exp(-(d / radius)^2), d the distance from the segment (y, x) +- (half_y, half_x)."""
    n = zone.shape[0]
    reach = 2.6 * radius
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
            zone[i, j] = max(zone[i, j], np.exp(-d2))


@njit(cache=True, error_model="numpy")
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


@njit(cache=True, error_model="numpy")
def _record(z, product, figures_now, depths, products, figures, kept):
    """Take down a state; where no room is left, every second record goes first. How many are kept."""
    if kept == depths.shape[0]:
        kept = kept // 2
        for k in range(kept):
            depths[k] = depths[2 * k + 1]
            products[k] = products[2 * k + 1]
            figures[k] = figures[2 * k + 1]
    depths[kept] = z[2:-2, 2:-2]
    products[kept] = product
    figures[kept] = figures_now
    return kept + 1


@njit(cache=True, error_model="numpy")
def corrode(
    phi, other, z, c, product, fields, sites, left, law, ions, limits, depths, products, figures, work, lines, totals
):
    """Let the film break, its mouth spread and the metal below dissolve until the area or the time is reached.

    ``phi``, ``other``: cap everywhere. ``fields`` (4, n, n): rate, weakness, sweeping, settling. ``law``: dissolution
    A, 2 lam^2 D, mouth speed, hazard W, ion scale cw. ``ions``: lateral D, yield, settling in pits, volume ratio,
    reach. ``limits``: duration after the first break, area, visible depth, longest step, cap of phi, least radius.
    ``work`` (4, n, n) and ``lines`` (2, n) are scratch. ``depths`` and ``products`` (R, n, n) take records at even
    steps, ``figures`` (R, 5): time, cells, mass, deepest, pits. ``totals`` (2,) takes the swept and settled sums.
    Returns the number of records and of steps.
    """
    n = c.shape[0]
    dissolution, stefan, mouth_speed, hazard, scale = law
    duration, area, visible, longest, cap, smallest = limits
    spread, ion_yield, in_pit, ratio, ion_reach = ions
    far = int(np.ceil(max(ion_reach - cap, 0.0) * n))  # ions beyond are too few to count
    act, slope, bare, loss = work[0], work[1], work[2], work[3]
    rate, weakness, sweeping, settling = fields[0], fields[1], fields[2], fields[3]
    # nothing happens before the first event: go there at once
    time = max(0.0, left.min() / hazard)
    for k in range(left.shape[0]):
        left[k] = max(left[k] - time * hazard, 0.0)
    end = time + duration
    kept, stride, since, steps = 0, 1, 0, 0
    front, back = phi, other
    work[:] = 0.0
    pits = break_film(front, c, sites, left, hazard, scale, 1e-9, cap, smallest)
    running = True
    while running:
        extend_border(front)
        box = active_box(front, cap)
        activity(c, box, act)
        speed = fastest(front, cap, act, weakness, rate, mouth_speed, dissolution, box)
        dt = min(_COURANT / (n * speed), longest)
        advance_mouth(front, act, weakness, mouth_speed, dt, box, back, slope)
        front, back = back, front
        film_opening(front, slope, box, bare)
        dissolve(z, bare, c, act, rate, dissolution, stefan, dt, box, loss)
        wide = (max(box[0] - far, 0), min(box[1] + far, n), max(box[2] - far, 0), min(box[3] + far, n))
        swept, settled = react(c, product, z, loss, bare, sweeping, settling, ion_yield, in_pit, ratio, dt, wide)
        totals[0] += swept
        totals[1] += settled
        diffuse(c, spread * dt * n * n, wide, lines[0], lines[1])
        pits += break_film(front, c, sites, left, hazard, scale, dt, cap, smallest)
        time += dt
        steps += 1
        since += 1
        cells, mass, deepest = measure(z, bare, visible, box)
        running = time < end and cells < area * n * n
        if (since == stride or not running) and (cells > 0 or not running):
            if kept == depths.shape[0]:
                stride *= 2
            now = (time, cells, mass, deepest, float(pits))
            kept = _record(z, product, now, depths, products, figures, kept)
        since = 0 if since == stride else since
    return kept, steps
