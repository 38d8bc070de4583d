"""What the detector sees of a picture: feature maps of a frozen network on one grid of cells, each with its context.

A cell is 4 x 4 pixels of the picture at its working size. Maps of finer blocks are averaged over a cell, those of
coarser ones interpolated; beside a cell's own features stands their mean over the cells around it. The picture is
continued by reflection, so that no border is seen that is not there. It is looked at twice: as it is, and at twice its
size, where what is thin fills more of what the network was trained to see.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional

from bisqad.config import DetectorConfig
from manifests.errors import ConfigError
from refine.backbone import CHANNELS, SHA256, STRIDES, EfficientNetLite0

__all__ = ["CELL_PX", "FeatureExtractor", "Look", "mask_to_working_size", "to_working_size", "working_shape"]

_LEAST_COVER = 0.1  # share of a pixel that a mask covers, above which the pixel belongs to it

CELL_PX = 4
_MARGIN_PX = 128  # continued by reflection; beyond, the deepest block sees next to nothing of a border
_ENLARGED, _ENLARGED_MARGIN_PX = 2, 32  # of the second look: factor, and pixels of the picture before it


@dataclass(frozen=True)
class Look:
    """One way to look at a picture: continued by ``margin_px``, enlarged by ``factor``, and given to ``network``."""

    network: EfficientNetLite0
    factor: int
    margin_px: int

    def cells(self, x: Tensor, context_cells: int) -> Tensor:
        """Features of the cells of pictures (B, 3, H, W), and their context's."""
        rows, columns = ((n + CELL_PX - 1) // CELL_PX for n in x.shape[2:])
        x = _continued(x, self.margin_px, max(STRIDES.values()) // self.factor)
        grid = [n // CELL_PX for n in x.shape[2:]]
        if self.factor > 1:
            x = functional.interpolate(x, scale_factor=self.factor, mode="bicubic", align_corners=False).clamp(0, 255)
        maps = zip(self.network(x), self.network.strides, strict=True)
        cells = torch.cat([_on_grid(values, stride // self.factor, grid) for values, stride in maps], dim=1)
        if context_cells > 1:
            around = functional.avg_pool2d(
                cells, context_cells, stride=1, padding=context_cells // 2, count_include_pad=False
            )
            cells = torch.cat([cells, around], dim=1)
        edge = self.margin_px // CELL_PX
        return cells[:, :, edge : edge + rows, edge : edge + columns]


class FeatureExtractor:
    """Features of pictures, cell by cell.

    Parameters
    ----------
    config : DetectorConfig
        Names the network and its blocks.
    device : str
        A torch device.

    Attributes
    ----------
    looks : tuple of Look
        At the picture enlarged, if at all, and at the picture as it is: the order of a cell's features.
    channels : int
        Features of a cell, its context's included.
    block_channels : tuple of int
        Of each block's map of the picture as it is.
    identity : str
        Changes with the network, its weights, or the way that features are made: names what a cache holds.

    Raises
    ------
    ConfigError
        There is no such block, or the context has no middle.
    """

    def __init__(self, config: DetectorConfig, *, device: str = "cpu") -> None:
        if config.context_cells % 2 == 0:
            raise ConfigError(f"detector.context_cells: expected an odd number, got {config.context_cells}")
        self.config, self.device = config, device
        plain = Look(self._network("blocks", config.blocks), 1, _MARGIN_PX)
        enlarged = (
            (Look(self._network("enlarged_blocks", config.enlarged_blocks), _ENLARGED, _ENLARGED_MARGIN_PX),)
            if config.enlarged_blocks
            else ()
        )
        self.looks = (*enlarged, plain)
        self.channels = (2 if config.context_cells > 1 else 1) * sum(sum(k.network.channels) for k in self.looks)
        self.block_channels = plain.network.channels
        self.identity = (
            f"v3 {config.backbone} {SHA256[:16]} {config.blocks} {config.enlarged_blocks} {config.fit} {config.size} "
            f"{config.context_cells}"
        )

    def _network(self, name: str, blocks: tuple[int, ...]) -> EfficientNetLite0:
        if unknown := sorted(set(blocks) - set(CHANNELS)):
            known = ", ".join(map(str, CHANNELS))
            raise ConfigError(f"detector.{name}: {self.config.backbone} gives blocks {known}, got {unknown[0]}")
        return EfficientNetLite0(blocks).to(self.device)

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> Tensor:
        """Features of pictures of the working size.

        Parameters
        ----------
        images : (B, H, W, 3) uint8 array
            Colour; grey pictures repeat their channel.

        Returns
        -------
        (B, `channels`, ceil(H / 4), ceil(W / 4)) float32 tensor, on the CPU
        """
        return self.cells(torch.from_numpy(np.require(images, requirements=["C", "W"])).to(self.device)).cpu()

    def cells(self, images: Tensor) -> Tensor:
        """As a function of torch alone: pictures (B, H, W, 3) uint8 and their features, both on `device`."""
        x = images.permute(0, 3, 1, 2).float()
        return torch.cat([look.cells(x, self.config.context_cells) for look in self.looks], dim=1)


def working_shape(shape: Sequence[int], config: DetectorConfig) -> tuple[int, int]:
    """Rows and columns of the working size of a picture (H, W, ...).

    The whole picture is looked at, at the scale that the corpus's pictures have: where those are squares out of the
    middle (crop), its short side takes their size; where they are whole (pad), its long side; or both (stretch).
    """
    height, width = shape[:2]
    if config.fit == "stretch":
        return config.size, config.size
    factor = config.size / (max(height, width) if config.fit == "pad" else min(height, width))
    return max(CELL_PX, round(height * factor)), max(CELL_PX, round(width * factor))


def to_working_size(image: NDArray[np.uint8], config: DetectorConfig) -> NDArray[np.uint8]:
    """A picture (H, W, 3) resized to its `working_shape`."""
    shape = working_shape(image.shape, config)
    if image.shape[:2] == shape:
        return image
    return np.asarray(Image.fromarray(image).resize(shape[::-1], Image.Resampling.BICUBIC))


def mask_to_working_size(mask: NDArray[np.generic], config: DetectorConfig) -> NDArray[np.bool_]:
    """A mask (H, W), 0 normal, resized as its picture is; a thin crack stays, though it be thinner than a pixel."""
    plain, shape = np.asarray(mask != 0), working_shape(mask.shape, config)
    if plain.shape == shape:
        return plain
    cover = Image.fromarray(plain.astype(np.float32)).resize(shape[::-1], Image.Resampling.BOX)
    return np.asarray(np.asarray(cover) > _LEAST_COVER)


def _continued(x: Tensor, margin_px: int, multiple: int) -> Tensor:
    """Pictures (B, C, H, W) with a margin all around, up to whole multiples."""
    height, width = x.shape[2:]
    below, right = (margin_px + (-n) % multiple for n in (height, width))
    rows = _reflected(height, margin_px, below, x.device)
    columns = _reflected(width, margin_px, right, x.device)
    return x[:, :, rows][:, :, :, columns]


def _reflected(length: int, before: int, after: int, device: torch.device) -> Tensor:
    """Positions that continue 0..length-1 by reflection, however far."""
    position = torch.arange(-before, length + after, device=device)
    position = position % position.new_full((), 2 * length)  # a tensor: the exporter to ONNX knows no other open number
    return torch.minimum(position, 2 * length - 1 - position)


def _on_grid(values: Tensor, stride: int, grid: list[int]) -> Tensor:
    """A feature map (B, C, h, w), of so many pixels a value, on a grid of cells."""
    if stride < CELL_PX:
        return functional.avg_pool2d(values, CELL_PX // stride)
    if stride > CELL_PX:
        return functional.interpolate(values, size=grid, mode="bilinear", align_corners=False)
    return values
