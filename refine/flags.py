"""Flags, and sums over few channels, as a processor likes them.

Torch's comparisons that end in bool, conversions of bool, `torch.where`, and reductions over an axis of one or three
take four to thirty times as long as arithmetic on the same array: none of them is vectorised. On bytes and numbers the
same is.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["below", "channel_maximum", "channel_mean", "chosen", "from_bytes", "is_below", "numbers"]


def numbers(flags: Tensor, dtype: torch.dtype) -> Tensor:
    """Flags (bool, of any shape) as 0 and 1 of a type."""
    return flags.view(torch.uint8).to(dtype)


def from_bytes(values: Tensor) -> Tensor:
    """Zeros and ones (uint8) as flags; a view."""
    return values.view(torch.bool)


def below(values: Tensor, bound: Tensor | float) -> Tensor:
    """1 where a number is less than the bound, of the shape of ``values`` or a number, else 0; of the numbers' type."""
    return torch.lt(values.detach(), bound, out=torch.empty_like(values))


def is_below(values: Tensor, bound: Tensor | float) -> Tensor:
    """`below` as flags."""
    return from_bytes(below(values, bound).to(torch.uint8))


def chosen(flags: Tensor, there: Tensor, elsewhere: Tensor) -> Tensor:
    """`torch.where` for finite numbers (B, C, H, W) and flags (B, H, W)."""
    return torch.lerp(elsewhere, there, numbers(flags, there.dtype)[:, None].expand_as(there))


def channel_mean(values: Tensor) -> Tensor:
    """Mean of (B, C, ...) over the channels, (B, 1, ...)."""
    total = values[:, :1]
    for k in range(1, values.shape[1]):
        total = total + values[:, k : k + 1]
    return total / values.shape[1]


def channel_maximum(values: Tensor) -> Tensor:
    """Maximum of (B, C, ...) over the channels, (B, 1, ...)."""
    most = values[:, :1]
    for k in range(1, values.shape[1]):
        most = torch.maximum(most, values[:, k : k + 1])
    return most
