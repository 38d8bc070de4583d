"""Numba PDE solvers: what a crack, a pit, a dent is, as fields on a pixel grid. No image, no torch."""
