"""npcF, the coarse pass: one elliptic problem that makes source and rendering a single coherent picture.

For every channel, with source s, rendering c, support Omega and conductivity kappa,

    div(kappa grad u) - lambda (u - c) = div(kappa g)   in Omega,      u = s   outside,

where the guidance g is, link by link and for all channels alike, the stronger of the source's gradient (as far as the
material is still there) and the rendering's. A crack conducts no light across itself: kappa drops in the opening.
Outside Omega the result is the source, bit for bit. The border of the picture is insulated.

Solved for the correction e = u - c by conjugate gradients with Jacobi's preconditioner on the unknowns of Omega
alone: the pixels of all supports of a batch are gathered into one padded list, so that cost follows the defect's
size and not the picture's. The screening bounds the condition number by 1 + 8 / lambda, so the iteration count does
not grow with the grid. Sums are taken in a fixed order: a sample does not depend on its batch.

References
----------
Perez, Gangnet & Blake, "Poisson image editing", SIGGRAPH (2003), for mixed guidance.
Bhat, Curless, Cohen & Zitnick, "Fourier analysis of the 2D screened Poisson equation", ECCV (2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["NpcfSolution", "harmonise", "link_conductivity"]

_BLOCK = 512  # unknowns summed at once; part of the fixed order of summation


@dataclass(frozen=True)
class NpcfSolution:
    """``image`` (B, C, H, W); ``residual`` (B,), relative, largest over channels; ``iterations`` (B,) int64."""

    image: Tensor
    residual: Tensor
    iterations: Tensor


@dataclass(frozen=True)
class _System:
    """A e = b on gathered unknowns: neighbours (B, M, 4) into M + 1 slots, the last of which is always 0."""

    active: Tensor  # (B, M) bool
    neighbours: Tensor  # (B * M * 4,) rows of the flattened (B * (M + 1), C) unknowns
    conductivity: Tensor  # (B, M, 4, 1)
    diagonal: Tensor  # (B, M, 1)
    right_hand_side: Tensor  # (B, M, C)


def link_conductivity(coverage: Tensor, crack_conductivity: float) -> Tensor:
    """Conductivity at pixels (B, H, W): 1 in the material, ``crack_conductivity`` in the opening."""
    return 1 - (1 - crack_conductivity) * coverage


def harmonise(
    source: Tensor,
    rendering: Tensor,
    coverage: Tensor,
    support: Tensor,
    *,
    kept: Tensor | None = None,
    screening_px: float,
    crack_conductivity: float,
    tolerance: float,
    max_iterations: int,
) -> NpcfSolution:
    """Solve the problem above for a batch.

    Parameters
    ----------
    source, rendering : (B, C, H, W) float tensors
        Photographs and their rendering, 0..1.
    coverage : (B, H, W) float tensor
        Share of a pixel that is open, 0..1.
    support : (B, H, W) bool tensor
        Omega. An empty support gives the source back.
    kept : (B, H, W) float tensor, optional
        Share of a pixel whose texture is still the photograph's; by default what is not open. The rest is guided by
        the rendering alone.
    screening_px : float
        1 / sqrt(lambda), pixels.
    crack_conductivity : float
        kappa in the opening.
    tolerance : float
        Relative residual |b - A e| / |b| at which a sample is done.
    max_iterations : int
        Bound; a sample that needs more is returned as it is, with its residual.
    """
    batch, channels, height, width = source.shape
    texture = (1 - coverage if kept is None else kept).reshape(-1)
    pixels = _Pixels(source=_rows(source), rendering=_rows(rendering), coverage=coverage.reshape(-1), kept=texture)
    where, slots = _gather_plan(support)
    system = _assemble(pixels, where, slots, screening_px=screening_px, crack_conductivity=crack_conductivity)
    correction, residual, iterations = _conjugate_gradients(system, tolerance, max_iterations)
    chosen = where[system.active]
    result = pixels.source.clone()
    result[chosen] = pixels.rendering[chosen] + correction[system.active]
    image = result.reshape(batch, height, width, channels).permute(0, 3, 1, 2).contiguous()
    return NpcfSolution(image=image, residual=residual, iterations=iterations)


@dataclass(frozen=True)
class _Pixels:
    """All pixels of a batch as rows: ``source``, ``rendering`` (B H W, C), ``coverage``, ``kept`` (B H W,)."""

    source: Tensor
    rendering: Tensor
    coverage: Tensor
    kept: Tensor


def _rows(image: Tensor) -> Tensor:
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])


def _assemble(
    pixels: _Pixels, where: Tensor, slots: Tensor, *, screening_px: float, crack_conductivity: float
) -> _System:
    """Equations of the gathered unknowns; ``where`` (B, M) rows of pixels, -1 for padding."""
    batch, height, width = slots.shape
    count = where.shape[1]
    active = where >= 0
    here = where.clamp_min(0)
    around, inside = _neighbours(here, height, width)
    inside &= active[..., None]
    kappa = link_conductivity(pixels.coverage, crack_conductivity)
    # two half links in a row (the harmonic mean): an opening one pixel wide cuts as well as a wide one
    link = 2 / (1 / kappa[here][..., None] + 1 / kappa[around]) * inside
    shown = torch.minimum(pixels.kept[here][..., None], pixels.kept[around])[..., None]
    source, drawn = pixels.source[around], pixels.rendering[around]
    step_source = (source - pixels.source[here][:, :, None]) * shown
    step_drawn = drawn - pixels.rendering[here][:, :, None]
    # all channels of a link follow the same picture: chosen one by one they would shift the hue
    stronger = (step_source**2).sum(dim=-1, keepdim=True) > (step_drawn**2).sum(dim=-1, keepdim=True)
    guidance = torch.where(stronger, step_source, step_drawn)
    slot = slots.reshape(-1)[around]
    # a neighbour outside the support is known: there the correction is source - rendering
    known = torch.where((slot == count)[..., None], source - drawn, 0.0)
    flow = link[..., None] * (known - (guidance - step_drawn))
    offset = torch.arange(batch, device=where.device)[:, None, None] * (count + 1)
    return _System(
        active=active,
        neighbours=(torch.where(inside, slot, count) + offset).reshape(-1),
        conductivity=link[..., None],
        diagonal=(link.sum(dim=2) + 1.0 / screening_px**2)[..., None],
        right_hand_side=flow.sum(dim=2),
    )


def _neighbours(here: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Rows of the four neighbours (B, M, 4), and whether they lie in the picture; the pixel itself where not."""
    y = here // width % height
    x = here % width
    around, inside = [], []
    for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        valid = (y + dy >= 0) & (y + dy < height) & (x + dx >= 0) & (x + dx < width)
        around.append(torch.where(valid, here + dy * width + dx, here))
        inside.append(valid)
    return torch.stack(around, dim=2), torch.stack(inside, dim=2)


def _gather_plan(support: Tensor) -> tuple[Tensor, Tensor]:
    """Row of the pixel of each unknown (B, M), -1 for padding; slot of every pixel (B, H, W), M where it has none."""
    batch = support.shape[0]
    flat = support.reshape(batch, -1)
    count = max(1, -(-int(flat.sum(dim=1).max()) // _BLOCK)) * _BLOCK
    slots = torch.where(flat, flat.cumsum(dim=1) - 1, count)
    where = torch.full((batch, count + 1), -1, dtype=torch.int64, device=support.device)
    rows = torch.arange(flat.numel(), device=support.device).reshape(batch, -1)
    where.scatter_(1, slots, torch.where(flat, rows, -1))
    return where[:, :count].contiguous(), slots.reshape(support.shape)


def _apply(system: _System, e: Tensor) -> Tensor:
    batch, count, channels = e.shape
    slots = functional.pad(e, (0, 0, 0, 1)).reshape(-1, channels)
    around = slots.index_select(0, system.neighbours).reshape(batch, count, 4, channels)
    return system.diagonal * e - (system.conductivity * around).sum(dim=2)


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum over unknowns (B, M, C) -> (B, C) in blocks, then block after block: padding changes nothing."""
    batch, count, channels = a.shape
    blocks = (a * b).double().reshape(batch, count // _BLOCK, _BLOCK, channels).sum(dim=2)
    return blocks.cumsum(dim=1)[:, -1]


def _conjugate_gradients(system: _System, tolerance: float, max_iterations: int) -> tuple[Tensor, Tensor, Tensor]:
    b = system.right_hand_side
    dtype = b.dtype
    e = torch.zeros_like(b)
    r = b.clone()
    scale = _dot(b, b).sqrt()
    target = tolerance * scale
    inverse = 1.0 / system.diagonal
    z = inverse * r
    p = z.clone()
    gamma = _dot(r, z)
    iterations = torch.zeros(b.shape[0], dtype=torch.int64, device=b.device)
    norm = scale.clone()
    for _ in range(max_iterations):
        running = norm > target  # (B, C): each channel of each sample stops by itself
        if not bool(running.any()):
            break
        iterations += running.any(dim=1)
        image = _apply(system, p)
        curvature = _dot(p, image)
        alpha = torch.where(running, gamma / curvature.clamp_min(1e-300), 0.0).to(dtype)[:, None, :]
        e += alpha * p
        r -= alpha * image
        z = inverse * r
        gamma_next = _dot(r, z)
        beta = torch.where(running, gamma_next / gamma.clamp_min(1e-300), 0.0).to(dtype)[:, None, :]
        p = z + beta * p
        gamma = torch.where(running, gamma_next, gamma)
        norm = torch.where(running, _dot(r, r).sqrt(), norm)
    true_norm = _dot(b - _apply(system, e), b - _apply(system, e)).sqrt()
    residual = torch.where(scale > 0, true_norm / scale.clamp_min(1e-300), 0.0).amax(dim=1)
    return e, residual, iterations
