"""npcF, the coarse pass: one elliptic problem that makes source and rendering a single coherent picture.

For every channel, with source s, rendering c, support Omega and conductivity kappa,

    div(kappa grad u) - lambda (u - c) = div(kappa g)   in Omega,      u = s   outside,

where the guidance g is, link by link and for all channels alike, the stronger of the source's gradient (as far as the
material is still there) and the rendering's. A crack conducts no light across itself: kappa drops in the opening.
Outside Omega the result is the source, bit for bit. The border of the picture is insulated.

Solved for the correction e = u - c by conjugate gradients preconditioned with multigrid, see `refine.multigrid`. The
residual is relative to the right-hand side of the problem as it is written above, lambda c + div(kappa g) and the
known values outside; so it says by how much the picture misses its equation, and a rendering that meets it already
needs no cycle at all.

References
----------
Perez, Gangnet & Blake, "Poisson image editing", SIGGRAPH (2003), for mixed guidance.
Bhat, Curless, Cohen & Zitnick, "Fourier analysis of the 2D screened Poisson equation", ECCV (2008).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from refine.flags import numbers
from refine.multigrid import Board, Colours, Equations, applied, build_levels, make_level, norm, solve

__all__ = ["NpcfSolution", "harmonise", "link_conductivity"]

_STRICTER = 0.5  # of the tolerance asked for is where the iteration stops: rounding must not undo it
_LOCAL = 0.05  # of the tolerance is what one relaxation may still change of a pixel: errors are a few times that
_LARGE = 1e30  # turns a difference of squares into 0 or 1


@dataclass(frozen=True)
class NpcfSolution:
    """``image`` (B, C, H, W); ``residual`` (B,), relative, largest over channels; ``cycles`` (B,) int64.

    The residual is computed anew from the solution. It is |f - L u| / |f| with L u = f the problem as it is written
    for u: f holds lambda c, div(kappa g) and, through their links, the known pixels outside.
    """

    image: Tensor
    residual: Tensor
    cycles: Tensor


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
    max_cycles: int,
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
        kappa in the opening, > 0.
    tolerance : float
        Relative residual that a sample must reach. A sample whose rendering is within it is left as it is. For the
        others no relaxation changes any pixel by more than 0.05 of it, in units of the picture's range: at the default
        of 1e-3 the largest error against a direct solve is then 1e-4 to 4e-4, and its root mean square 1e-5 to 4e-5.
    max_cycles : int
        Bound; a sample that needs more is returned as it is, with its residual.
    """
    board = Board(source.shape[0], source.shape[2], source.shape[3])
    pictures = _Pictures(
        source=board.pack(source.transpose(0, 1)),
        rendering=board.pack(rendering.transpose(0, 1)),
        resistance=board.pack(0.5 / link_conductivity(coverage, crack_conductivity)[None], torch.inf),
        kept=board.pack((1 - coverage if kept is None else kept)[None]),
        inside=board.pack(numbers(support, source.dtype)[None]),
    )
    equations, b = _assemble(board, pictures, 1 / screening_px**2)
    level = make_level(equations)
    # the equations for u have the same matrix: their right-hand side is b + A c
    shown = applied(level, board.cores(pictures.rendering))
    scale = norm(board, *(x.add_(y) for x, y in zip(shown, b, strict=True)))
    scale = torch.where(scale > 0, scale, 1.0)
    residual = norm(board, *b) / scale
    begin = (residual > tolerance).any(dim=0)
    cycles = torch.zeros_like(begin, dtype=torch.int64)
    image = rendering.clone()
    if bool(begin.any()):
        levels = build_levels(level, equations, screening_px)
        solved = solve(
            levels,
            b,
            target=_STRICTER * tolerance * scale,
            local=_LOCAL * tolerance,
            begin=begin,
            max_cycles=max_cycles,
        )
        residual, cycles = torch.where(begin, solved.residual / scale, residual), solved.cycles
        image += board.unpack(solved.values).mul_(begin[:, None, None]).transpose(0, 1)
    return NpcfSolution(image=_inside(support, image, source), residual=residual.amax(dim=0), cycles=cycles)


def _inside(support: Tensor, image: Tensor, source: Tensor) -> Tensor:
    """The image in the support, the source outside: chosen bit by bit, several times as fast as by `torch.where`."""
    whole = torch.int64 if image.dtype == torch.float64 else torch.int32
    bits, kept = image.view(whole), source.view(whole)
    chosen = -numbers(support, whole)[:, None]  # all bits, or none
    bits.bitwise_xor_(kept).bitwise_and_(chosen).bitwise_xor_(kept)
    return image


@dataclass(frozen=True)
class _Pictures:
    """What the equations are made of, in buffers (C, .) and (1, .) by colour; ``resistance`` is that of half a link."""

    source: Colours
    rendering: Colours
    resistance: Colours
    kept: Colours
    inside: Colours


def _assemble(board: Board, pictures: _Pictures, screening: float) -> tuple[Equations, Colours]:
    """Equations of e = u - c, and their right-hand side (C, count) by colour."""
    source, drawn, inside = pictures.source, pictures.rendering, pictures.inside
    # outside the support the correction is known, source - rendering
    known = Colours(*((s - c).mul_(1 - part) for s, c, part in zip(source, drawn, inside, strict=True)))
    right = Colours(*(torch.zeros_like(part) for part in source))
    diagonal = Colours(*(torch.full_like(part, screening) for part in inside))
    links = board.open_buffer(4, source.red)
    guided = any(bool((kept * part).amax() > 0) for kept, part in zip(pictures.kept, inside, strict=True))
    b_red, known_red, inside_red = (board.core(part.red) for part in (right, known, inside))
    for link, shift in zip(links, board.around_red, strict=True):
        # two half links in a row (the harmonic mean): an opening one pixel wide cuts as well as a wide one
        k = (board.core(pictures.resistance.red) + board.core(pictures.resistance.black, shift)).reciprocal_()
        b_black = board.core(right.black, shift)
        b_red.addcmul_(k, board.core(known.black, shift))
        b_black.addcmul_(k, known_red)
        if guided:
            excess = _guidance(board, pictures, shift)
            b_red.addcmul_(k, excess, value=-1)
            b_black.addcmul_(k, excess)
        board.core(diagonal.red).add_(k)
        board.core(diagonal.black, shift).add_(k)
        torch.mul(k.mul_(inside_red)[0], board.core(inside.black, shift)[0], out=board.core(link))
    parts = board.cores(inside)
    equations = Equations(board, links, board.cores(diagonal), parts)
    return equations, Colours(*(board.core(b) * part for b, part in zip(right, parts, strict=True)))


def _guidance(board: Board, pictures: _Pictures, shift: int) -> Tensor:
    """How much further than the rendering's the guidance steps from red pixels to black ones at a shift, (C, count)."""

    def step(picture: Colours) -> Tensor:
        return board.core(picture.black, shift) - board.core(picture.red)

    shown = torch.minimum(board.core(pictures.kept.red), board.core(pictures.kept.black, shift))
    seen, drawn = step(pictures.source).mul_(shown), step(pictures.rendering)
    excess = seen - drawn
    # all channels of a link follow the same picture: chosen one by one they would shift the hue
    stronger = _product(excess, seen.add_(drawn))  # |seen|^2 - |drawn|^2
    return excess.mul_(stronger.mul_(_LARGE).clamp_(0, 1))


def _product(a: Tensor, b: Tensor) -> Tensor:
    """Sum over channels of a b, (C, count) to (1, count)."""
    total = a[:1] * b[:1]
    for one, other in zip(a[1:], b[1:], strict=True):
        total.addcmul_(one, other)
    return total
