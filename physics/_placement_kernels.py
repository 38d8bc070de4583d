"""Numba kernels that draw a crack's segments and sample coarse fields on a picture's pixel grid."""

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True)
def draw_segments(segments, widths, warp, wiggle, reach, distance, opening):
    """Signed distance to the lips and local width, both (S, S), in pixels.

    ``segments`` (M, 4) are (y0, x0, y1, x1) in pixel units with pixel (i, j) centred at (i + 0.5, j + 0.5);
    ``widths`` (M, 2) in pixels; ``wiggle`` times ``warp`` (2, S, S) is added to a pixel's position. A pixel farther
    than ``reach`` from every lip keeps its distance. The nearest lip wins, so junctions join without a seam.
    """
    size = distance.shape[0]
    bend = 4.0 * wiggle  # four standard deviations
    for k in range(segments.shape[0]):
        w0 = widths[k, 0]
        w1 = widths[k, 1]
        if w0 <= 0.0 and w1 <= 0.0:
            continue
        y0 = segments[k, 0]
        x0 = segments[k, 1]
        dy = segments[k, 2] - y0
        dx = segments[k, 3] - x0
        square = dy * dy + dx * dx
        margin = reach + bend + 0.5 * max(w0, w1)
        first_i = max(0, int(np.floor(min(y0, y0 + dy) - margin)))
        last_i = min(size, int(np.ceil(max(y0, y0 + dy) + margin)))
        first_j = max(0, int(np.floor(min(x0, x0 + dx) - margin)))
        last_j = min(size, int(np.ceil(max(x0, x0 + dx) + margin)))
        for i in range(first_i, last_i):
            for j in range(first_j, last_j):
                py = i + 0.5 + wiggle * warp[0, i, j] - y0
                px = j + 0.5 + wiggle * warp[1, i, j] - x0
                t = 0.0
                if square > 0.0:
                    t = min(1.0, max(0.0, (py * dy + px * dx) / square))
                ey = py - t * dy
                ex = px - t * dx
                width = w0 + t * (w1 - w0)
                gap = np.sqrt(ey * ey + ex * ex) - 0.5 * width
                if gap < distance[i, j]:
                    distance[i, j] = gap
                    opening[i, j] = width


@njit(cache=True)
def roughen(distance, opening, noise, amplitude, reach):
    """Move the lips by ``amplitude`` x local width x noise; distances stay within ``reach``."""
    side = distance.shape[0]
    for i in range(side):
        for j in range(side):
            distance[i, j] = min(reach, distance[i, j] - amplitude * opening[i, j] * noise[i, j])


@njit(cache=True)
def copy_periodic(tile, first_row, first_column, out):
    """Out = the part of a periodic tile that begins at (first_row, first_column)."""
    period = tile.shape[1]
    side = out.shape[1]
    for c in range(out.shape[0]):
        for i in range(side):
            row = (first_row + i) % period
            for j in range(side):
                out[c, i, j] = tile[c, row, (first_column + j) % period]


@njit(cache=True)
def _cubic_weights(f, w):
    """Cubic B-spline weights of the four grid points around a position, ``f`` past the second of them."""
    g = 1.0 - f
    w[0] = g * g * g / 6.0
    w[1] = (4.0 - 6.0 * f * f + 3.0 * f * f * f) / 6.0
    w[2] = (4.0 - 6.0 * g * g + 3.0 * g * g * g) / 6.0
    w[3] = f * f * f / 6.0


@njit(cache=True)
def sample_cubic(fields, matrix, origin, warp, wiggle, beyond, out):
    """out[:, i, j] = fields (F, n, n) at origin + matrix @ ((i, j) + 0.5 + wiggle warp[:, i, j]); 0 outside.

    In sides of the fields' square; on the left it goes on as it ends for ``beyond`` sides. A cubic B-spline, not
    interpolating: two times continuously differentiable, so that a surface drawn from it has no facets, and it never
    overshoots.
    """
    n = fields.shape[1]
    wy = np.empty(4)
    wx = np.empty(4)
    for i in range(out.shape[1]):
        for j in range(out.shape[2]):
            py = i + 0.5 + wiggle * warp[0, i, j]
            px = j + 0.5 + wiggle * warp[1, i, j]
            y = (origin[0] + matrix[0, 0] * py + matrix[0, 1] * px) * n - 0.5
            x = (origin[1] + matrix[1, 0] * py + matrix[1, 1] * px) * n - 0.5
            if -0.5 - beyond * n <= x < -0.5:
                x = -0.5
            if y < -0.5 or x < -0.5 or y > n - 0.5 or x > n - 0.5:
                for c in range(fields.shape[0]):
                    out[c, i, j] = 0.0
                continue
            a = int(np.floor(y))
            b = int(np.floor(x))
            _cubic_weights(y - a, wy)
            _cubic_weights(x - b, wx)
            for c in range(fields.shape[0]):
                total = 0.0
                for p in range(4):
                    row = min(max(a - 1 + p, 0), n - 1)
                    line = 0.0
                    for q in range(4):
                        column = min(max(b - 1 + q, 0), n - 1)
                        line += wx[q] * fields[c, row, column]
                    total += wy[p] * line
                out[c, i, j] = total
