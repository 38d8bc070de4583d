"""Moving sums and maxima over squares of pixels, by doubling, about log2 of the side passes over the map; differences.

Torch's pooling looks at every pixel of the square: on a processor that takes a hundred times as long. Sums are taken
in an order that depends on the side alone.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["box_maximum", "box_mean", "box_sum", "central_gradient", "cross_maximum", "halved"]


def box_mean(field: Tensor, side: int) -> Tensor:
    """Mean of (B, C, H, W) over the square of an odd side around each pixel; the border goes on as it ends."""
    half = side // 2
    return _square(functional.pad(field, (half, half, half, half), mode="replicate"), side, torch.add) / (side * side)


def box_sum(field: Tensor, side: int) -> Tensor:
    """Sum of (B, C, H, W) over the square of an odd side around each pixel; nothing lies beyond the border."""
    half = side // 2
    return _square(functional.pad(field, (half, half, half, half)), side, torch.add)


def box_maximum(field: Tensor, side: int) -> Tensor:
    """Maximum of (B, C, H, W) over the square of an odd side around each pixel, as far as it lies in the picture."""
    half = side // 2
    return _square(functional.pad(field, (half, half, half, half), mode="replicate"), side, torch.maximum)


def cross_maximum(field: Tensor) -> Tensor:
    """Maximum of (B, C, H, W) over each pixel and its four neighbours, as far as they lie in the picture."""
    around = functional.pad(field, (1, 1, 1, 1), mode="replicate")
    rows = torch.maximum(around[:, :, :-2, 1:-1], around[:, :, 2:, 1:-1])
    columns = torch.maximum(around[:, :, 1:-1, :-2], around[:, :, 1:-1, 2:])
    return torch.maximum(field, torch.maximum(rows, columns))


def central_gradient(field: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences (down, right) of maps (B, H, W), per pixel; the border goes on as it ends."""
    padded = functional.pad(field[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    down = 0.5 * (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1])
    return down, 0.5 * (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2])


def halved(field: Tensor) -> Tensor:
    """Means of (B, C, H, W) over cells of 2 x 2 pixels, as many as it takes; the border goes on as it ends."""
    height, width = field.shape[2:]
    if height % 2 or width % 2:
        field = functional.pad(field, (0, width % 2, 0, height % 2), mode="replicate")
    rows = field[:, :, ::2] + field[:, :, 1::2]
    return 0.25 * (rows[..., ::2] + rows[..., 1::2])


def _square(padded: Tensor, side: int, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    return _moving(_moving(padded, side, 2, join), side, 3, join)


def _moving(field: Tensor, side: int, dim: int, join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """All windows of ``side`` values along an axis: windows of 1, 2, 4 ... values, joined as the binary digits say."""
    count = field.shape[dim] - side + 1
    window, width, done = field, 1, 0
    total: Tensor | None = None
    while done < side:
        if side & width:
            piece = window.narrow(dim, done, count)
            total = piece if total is None else join(total, piece)
            done += width
        if done < side:
            length = window.shape[dim] - width
            window = join(window.narrow(dim, 0, length), window.narrow(dim, width, length))
            width *= 2
    return field if total is None else total
