"""How the material runs on at a defect, where no real one is at hand: against its own surroundings and its own source.

With the labelled outline, all as logarithms to base 2 so that 1 is a factor of two:

- *grain n*: energy of wavelet detail n within the label / that in the surroundings (6 to 16 px away), less the same of
  the untouched photograph at the same place: 0 where the material keeps its grain, negative where it is wiped smooth;
- *across n*: the same within one pixel of the outline: an edge adds energy, more the harder it is;
- *edge / optics*: width of the edge at the outline / that of the photograph's own sharpest edges: 0 is as sharp as the
  camera sees, negative sharper than it could;
- *grain direction*: how far grain within the label goes as it does around, -1..1, less the same of the photograph.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from benchmarks.fidelity_samples import Shot, patch_window
from benchmarks.fidelity_statistics import details, edge_sigma, grain_vector

__all__ = ["NAMES", "continuity"]

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]

NAMES = ("grain 1", "grain 2", "grain 3", "across 1", "across 2", "across 3", "edge / optics", "grain direction")
_WINDOW_PX = 128
_FAR_PX = (6.0, 16.0)
_ROUNDING = 0.25  # half a grey level, squared


def continuity(shots: Sequence[Shot], sources: Sequence[Shot]) -> Floats:
    """Measures (N, len(`NAMES`)) of shots against the same photographs without the defect."""
    return np.array([_of_one(s, n) for s, n in zip(shots, sources, strict=True)]).reshape(len(shots), len(NAMES))


def _of_one(shot: Shot, source: Shot) -> list[float]:
    where = patch_window(shot, min(_WINDOW_PX, *shot.mask.shape))
    label = shot.mask[where]
    away = ndimage.distance_transform_edt(~label) - ndimage.distance_transform_edt(label)
    zones = (away < 0, np.abs(away) <= 1.0, (away > _FAR_PX[0]) & (away <= _FAR_PX[1]))
    own, plain = (_energies(picture.grey[where], zones) for picture in (shot, source))
    optics = edge_sigma(source.grey, np.ones_like(shot.mask), share=0.01)
    edge = edge_sigma(shot.grey[where], zones[1])
    grey = shot.grey[where], source.grey[where]
    around = zones[2] if zones[2].any() else ~zones[0]
    directions = [float(grain_vector(g, zones[0]) @ grain_vector(g, around)) for g in grey]
    return [*(own - plain), float(np.log2(edge / optics)), directions[0] - directions[1]]


def _energies(window: Floats, zones: tuple[Mask, Mask, Mask]) -> Floats:
    """log2 of energies inside and across against those of the surroundings, finest first."""
    inside, across, far = zones
    out = []
    for zone in (inside, across):
        for detail in details(window):
            there = np.mean(np.square(detail[zone])) if zone.any() else 0.0
            around = np.mean(np.square(detail[far])) if far.any() else np.mean(np.square(detail))
            out.append(np.log2((there + _ROUNDING) / (around + _ROUNDING)))
    return np.array(out)
