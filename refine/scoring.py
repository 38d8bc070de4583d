"""The Synthesis Quality Estimator for use: arrays of samples in, two numbers a sample out."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from refine.sqe import describe, load_sqe

__all__ = ["Scorer"]

Picture = NDArray[np.uint8] | NDArray[np.uint16]
Mask = NDArray[np.bool_]


class Scorer:
    """An estimator with its weights.

    Parameters
    ----------
    weights : Path, optional
        safetensors file; by default the estimator that ships.

    Attributes
    ----------
    sha256 : str
        Of the weights' file.

    Raises
    ------
    InputError
        The file is no estimator.
    """

    def __init__(self, weights: Path | None = None) -> None:
        self._estimator = load_sqe(weights)
        self.sha256 = self._estimator.sha256

    @torch.inference_mode()
    def quality(
        self, images: NDArray[np.generic], masks: Mask, sources: NDArray[np.generic], foregrounds: Mask
    ) -> NDArray[np.float64]:
        """Calibrated quality (B,), 0..1, as `score` gives it, in half of its time; arguments as `refine.sqe.describe`.

        One sample at a time passes the small network, whose arithmetic would otherwise depend on the batch's size.
        """
        description = _described(images, masks, sources, foregrounds, seen=False)
        return np.array([float(self._estimator.quality(row[None])) for row in description])

    @torch.inference_mode()
    def score(
        self, images: NDArray[np.generic], masks: Mask, sources: NDArray[np.generic], foregrounds: Mask
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Calibrated quality (B,) and score of the training weight (B,), 0..1; arguments as `refine.sqe.describe`."""
        description = _described(images, masks, sources, foregrounds, seen=True)
        rows = [(self._estimator.quality(row[None]), self._estimator.weight_logits(row[None])) for row in description]
        quality = np.array([float(first) for first, _ in rows])
        weight = np.array([float(torch.sigmoid(second)) for _, second in rows])
        return quality, weight


def _described(
    images: NDArray[np.generic], masks: Mask, sources: NDArray[np.generic], foregrounds: Mask, *, seen: bool
) -> torch.Tensor:
    pictures = cast("Picture", images), masks, cast("Picture", sources), foregrounds
    return torch.from_numpy(describe(*pictures, seen=seen))
