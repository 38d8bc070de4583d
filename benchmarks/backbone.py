"""Features of a pretrained network, averaged over parts of a patch.

EfficientNet-Lite0, trained on ImageNet by its authors, sees the patch at twice its size; of three of its blocks
(strides 4, 8 and 16 there: 2, 4 and 8 pixels of the patch) the channels are averaged with given weights: over a
defect, over the material around it.

References
----------
Tan & Le, "EfficientNet", ICML 2019; "EfficientNet-Lite", TensorFlow blog 2020: no squeeze-and-excitation, ReLU6.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from refine.backbone import efficientnet_lite0

__all__ = ["CHANNELS", "pooled_features"]

Floats = NDArray[np.float64]

_BLOCKS = (2, 4, 10)
CHANNELS = 24 + 40 + 112
_ENLARGED = 2
_BATCH = 32


def pooled_features(patches: NDArray[np.uint8], weights: NDArray[np.float32]) -> Floats:
    """Block features of patches, averaged with weights.

    Parameters
    ----------
    patches : (N, S, S) or (N, S, S, 3) uint8 array
        Grey or colour patches.
    weights : (N, P, S, S) float array
        P weight maps for each patch, none of them empty.

    Returns
    -------
    (N, P, `CHANNELS`) float array
    """
    colour = patches if patches.ndim == 4 else np.repeat(patches[..., None], 3, axis=-1)
    out = [
        _batch(
            torch.from_numpy(colour[k : k + _BATCH]).permute(0, 3, 1, 2).float(),
            torch.from_numpy(weights[k : k + _BATCH]).float(),
        )
        for k in range(0, len(patches), _BATCH)
    ]
    return np.concatenate(out) if out else np.empty((0, weights.shape[1], CHANNELS))


@torch.inference_mode()
def _batch(patches: Tensor, weights: Tensor) -> Floats:
    x = functional.interpolate(patches, scale_factor=_ENLARGED, mode="bicubic", align_corners=False).clamp(0, 255)
    pooled = []
    for values in efficientnet_lite0(_BLOCKS)(x):
        share = functional.adaptive_avg_pool2d(weights, values.shape[-2:])
        share = share / share.sum(dim=(2, 3), keepdim=True)
        pooled.append(torch.einsum("nchw,nphw->npc", values, share))
    return torch.cat(pooled, dim=2).double().numpy()
