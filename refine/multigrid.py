"""Batched multigrid in torch for screened diffusion on arbitrary supports of a pixel grid.

For every sample and channel it solves

    sum over links (k (e - e_neighbour)) + ground e = b   in Omega,      e = 0   elsewhere,

with k >= 0 the conductance of the link between two pixels of Omega, and ground > 0 what ties a pixel to zero
(screening, and links to pixels outside). Conductances are those of the sample, shared by its channels.

Pixels are kept by the two colours of a chessboard. Rows have an odd pitch and follow one another, samples too, so the
colour of a pixel is the parity of its place in that line, and its four neighbours lie at four fixed distances in the
line of the other colour: a half-sweep of Gauss-Seidel is four fused multiply-adds on contiguous memory. Padding has
conductance 0, so the border needs no case of its own. Equations are scaled to a diagonal of 1: a link then weighs the
same from both of its ends, and is stored once.

The black pixels are eliminated exactly; conjugate gradients run on the red ones alone, half the unknowns, with one
multigrid cycle as preconditioner. A cycle relaxes red once before and once after a correction from cells of 2 x 2
pixels. What red lacks is summed to the cells, and the correction is added to red alone: the half-sweeps that follow
carry it to the rest, which is linear interpolation that heeds the conductances. The link between two cells is half of
the links that cross their side. A crack inside a cell is thus lost on coarser grids; the cycle is a preconditioner
only, and conjugate gradients mend what it misses. Screening makes cells larger than its length needless, so there are
few levels.

All sums run in a fixed order within a sample: its bits depend neither on its batch nor on the number of threads.

References
----------
Trottenberg, Oosterlee & Schueller, "Multigrid", Academic Press (2001): red-black relaxation 4.5, preconditioning 7.8.
Wesseling, "An Introduction to Multigrid Methods", Wiley (1992), chapter 5, for grids of cells.
Saad, "Iterative Methods for Sparse Linear Systems", 2nd ed., SIAM (2003), section 12.4, for the reduced system.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Board", "Colours", "Equations", "Level", "Solved", "applied", "build_levels", "make_level", "norm", "solve"]

_TINY = 1e-30  # far below any conductance and its square root, far above the smallest float32
_TINIEST = 1e-300  # the same for sums in float64: keeps 0 / 0 at 0

_Four = tuple[Tensor, Tensor, Tensor, Tensor]


class Colours(NamedTuple):
    """Values at the red and at the black pixels of a board."""

    red: Tensor
    black: Tensor


class _Line(NamedTuple):
    """Values of one colour (C, count), and of the same as the other colour sees them: above, below, left, right."""

    core: Tensor
    around: _Four


@dataclass(frozen=True)
class Board:
    """Where the pixels of B pictures of H x W lie in the lines of their two colours.

    Pixel (y, x) of sample i has place k = (2 i pairs + y) pitch + x; k is even for red pixels, odd for black ones, and
    k // 2 is the index in the line of its colour. A buffer (C, guard + count + guard) has padding around the line so
    that neighbours can be read at a shift; its core (C, count) is the line itself.
    """

    batch: int
    height: int
    width: int

    @cached_property
    def pitch(self) -> int:
        """Length of a row with its padding: odd, and longer than the row."""
        return self.width + 1 + self.width % 2

    @cached_property
    def pairs(self) -> int:
        """Pairs of rows in a sample, with at least one row of padding."""
        return self.height // 2 + 1

    @cached_property
    def count(self) -> int:
        """Places of one colour."""
        return self.batch * self.pairs * self.pitch

    @cached_property
    def guard(self) -> int:
        """Padding at both ends of a buffer."""
        return (self.pitch + 1) // 2

    @cached_property
    def around_red(self) -> tuple[int, int, int, int]:
        """Shifts from a red pixel to its black neighbours above, below, left and right."""
        return -(self.pitch + 1) // 2, (self.pitch - 1) // 2, -1, 0

    @cached_property
    def around_black(self) -> tuple[int, int, int, int]:
        """Shifts from a black pixel to its red neighbours above, below, left and right."""
        return -(self.pitch - 1) // 2, (self.pitch + 1) // 2, 0, 1

    @cached_property
    def cells(self) -> Board:
        """The board of its cells of 2 x 2 pixels."""
        return Board(self.batch, (self.height + 1) // 2, (self.width + 1) // 2)

    def buffer(self, channels: int, like: Tensor, fill: float = 0.0) -> Tensor:
        """A buffer (channels, guard + count + guard) of the dtype and device of ``like``."""
        size = (channels, self.count + 2 * self.guard)
        return torch.full(size, fill, dtype=like.dtype, device=like.device)

    def open_buffer(self, channels: int, like: Tensor) -> Tensor:
        """The same for a line that is about to be written as a whole: only its ends are 0."""
        buffer = like.new_empty(channels, self.count + 2 * self.guard)
        buffer[:, : self.guard] = 0
        buffer[:, -self.guard :] = 0
        return buffer

    def core(self, buffer: Tensor, shift: int = 0) -> Tensor:
        """The line (C, count) of a buffer, or that of the neighbours at a shift; a view."""
        return buffer.narrow(-1, self.guard + shift, self.count)

    def cores(self, buffers: Colours) -> Colours:
        """The lines of two buffers; views."""
        return Colours(self.core(buffers.red), self.core(buffers.black))

    def by_sample(self, core: Tensor) -> Tensor:
        """A line (C, count) by sample, (C, B, places); a view."""
        return core.view(len(core), self.batch, self.pairs * self.pitch)

    def by_rows(self, core: Tensor) -> Tensor:
        """A line (C, count) by sample and pair of rows, (C, B, pairs, pitch); a view."""
        return core.view(len(core), self.batch, self.pairs, self.pitch)

    def pack(self, picture: Tensor, fill: float = 0.0) -> Colours:
        """Buffers of a picture (C, B, H, W), with ``fill`` in the padding."""
        packed = Colours(*(self.buffer(len(picture), picture, fill) for _ in range(2)))
        for part, pixels in self.parts(self.cores(packed), picture):
            part.copy_(pixels)
        return packed

    def unpack(self, cores: Colours) -> Tensor:
        """The picture (C, B, H, W) of two lines."""
        picture = cores.red.new_empty(len(cores.red), self.batch, self.height, self.width)
        for part, pixels in self.parts(cores, picture):
            pixels.copy_(part)
        return picture

    def parts(self, cores: Colours, picture: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Views of the pixels of each parity of row and column: in the lines, without padding, and in the picture."""
        rows, columns = self.height // 2, self.width // 2
        upper_left, lower_right = self.red_corners(cores.red)
        upper_right, lower_left = self.black_corners(cores.black)
        upper, lower = picture[:, :, ::2], picture[:, :, 1::2]
        return [
            (upper_left, upper[..., ::2]),
            (upper_right[..., :columns], upper[..., 1::2]),
            (lower_left[:, :, :rows], lower[..., ::2]),
            (lower_right[:, :, :rows, :columns], lower[..., 1::2]),
        ]

    def red_corners(self, core: Tensor) -> tuple[Tensor, Tensor]:
        """The red pixels, upper left and lower right, of each cell, (C, B, H', W') each; views, padding included."""
        rows, columns, odd = self.by_rows(core), self.cells.width, (self.pitch + 1) // 2
        return rows[:, :, : self.cells.height, :columns], rows[:, :, : self.cells.height, odd : odd + columns]

    def black_corners(self, core: Tensor) -> tuple[Tensor, Tensor]:
        """The black pixels, upper right and lower left, of each cell, as `red_corners`."""
        rows, columns, odd = self.by_rows(core), self.cells.width, (self.pitch - 1) // 2
        return rows[:, :, : self.cells.height, :columns], rows[:, :, : self.cells.height, odd : odd + columns]

    def red_line(self, buffer: Tensor) -> _Line:
        """A buffer of red pixels with its views."""
        above, below, left, right = (self.core(buffer, shift) for shift in self.around_black)
        return _Line(self.core(buffer), (above, below, left, right))

    def black_line(self, buffer: Tensor) -> _Line:
        """A buffer of black pixels with its views."""
        above, below, left, right = (self.core(buffer, shift) for shift in self.around_red)
        return _Line(self.core(buffer), (above, below, left, right))


@dataclass(frozen=True)
class Equations:
    """Those of one board.

    Attributes
    ----------
    board : Board
        Where pixels lie.
    links : (4, guard + count + guard) tensor
        Conductance from red pixels to the black ones above, below, left and right; 0 unless both are in Omega.
    diagonal : Colours of (1, count)
        Ground and conductances summed; > 0 in Omega.
    inside : Colours of (1, count)
        1 in Omega, 0 elsewhere.
    """

    board: Board
    links: Tensor
    diagonal: Colours
    inside: Colours


@dataclass(frozen=True)
class Level:
    """Equations scaled to a diagonal of 1: with d the diagonal, unknowns are sqrt(d) e, right-hand sides b / sqrt(d).

    ``shares`` (4, guard + count + guard) holds k / sqrt(d d_neighbour) by link from red pixels, ``root`` sqrt(d) and
    ``weight`` 1 / sqrt(d), Colours of (1, count), both 0 outside Omega.
    """

    board: Board
    shares: Tensor
    root: Colours
    weight: Colours

    @cached_property
    def to_red(self) -> tuple[Tensor, ...]:
        """Shares (count,) of the links of red pixels; views."""
        return self.board.core(self.shares).unbind()

    @cached_property
    def to_black(self) -> tuple[Tensor, ...]:
        """Shares (count,) of the links of black pixels; views. The red pixel above a black one has it below."""
        back = zip((1, 0, 3, 2), self.board.around_black, strict=True)
        return tuple(self.board.core(self.shares[which], shift) for which, shift in back)

    def select(self, samples: Tensor) -> Level:
        """The equations of some of the samples, by index."""
        board = replace(self.board, batch=len(samples))
        shares = board.open_buffer(4, self.shares)
        board.core(shares).copy_(_chosen(self.board, self.board.core(self.shares), samples))
        root, weight = (
            Colours(*(_chosen(self.board, core, samples) for core in part)) for part in (self.root, self.weight)
        )
        return Level(board, shares, root, weight)


def _chosen(board: Board, core: Tensor, samples: Tensor) -> Tensor:
    """The part of a line (C, count) that belongs to some samples."""
    return board.by_sample(core).index_select(1, samples).flatten(1)


def make_level(equations: Equations) -> Level:
    """Scale equations to a diagonal of 1."""
    board = equations.board
    root = Colours(*(part * whole.sqrt() for part, whole in zip(equations.inside, equations.diagonal, strict=True)))
    weight = Colours(*(part / whole.clamp_min(_TINY) for part, whole in zip(equations.inside, root, strict=True)))
    black = board.open_buffer(1, weight.black)
    board.core(black).copy_(weight.black)
    shares = board.open_buffer(4, equations.links)
    scaled, links = board.core(shares), board.core(equations.links)
    torch.mul(links, weight.red, out=scaled)
    for share, shift in zip(scaled, board.around_red, strict=True):
        share.mul_(board.core(black, shift)[0])
    return Level(board, shares, root, weight)


def build_levels(finest: Level, equations: Equations, screening_px: float) -> list[Level]:
    """The level of these equations and coarser ones, until a cell is as large as half the screening length (in pixels)
    or is the whole picture: what larger cells would tell, screening has mended.
    """
    levels = [finest]
    for _ in range(math.ceil(math.log2(max(0.5 * screening_px, 1.0)))):
        if equations.board.height == equations.board.width == 1:
            break
        equations = _coarser(equations)
        levels.append(make_level(equations))
    return levels


def _coarser(equations: Equations) -> Equations:
    """Equations of the cells of 2 x 2 pixels. Padding and pixels outside Omega have no links: they add nothing."""
    board, cells = equations.board, equations.board.cells
    upper, lower = board.red_corners(board.core(equations.links))
    ground = _ground(equations)
    tied = sum(board.black_corners(ground.black), sum(board.red_corners(ground.red)))
    # two links cross each side of a cell, one from either red pixel; between centres they are twice as long
    below = _next(upper[0], 1).add_(lower[1]).mul_(0.5)
    right = _next(upper[2], 2).add_(lower[3]).mul_(0.5)
    links = torch.stack([_previous(below, 1), below, _previous(right, 2), right])
    packed = cells.pack(torch.cat([links, links.sum(dim=0, keepdim=True).add_(tied)]))
    diagonal = cells.cores(Colours(packed.red[4:], packed.black[4:]))
    inside = Colours(*((core > 0).to(core.dtype) for core in diagonal))
    return Equations(cells, packed.red[:4], diagonal, inside)


def _ground(equations: Equations) -> Colours:
    """What ties pixels to zero, (1, count); rounding must not make it negative."""
    board = equations.board
    black = board.open_buffer(1, equations.diagonal.black)
    red = equations.diagonal.red * equations.inside.red
    torch.mul(equations.diagonal.black, equations.inside.black, out=board.core(black))
    for link, shift in zip(equations.links, board.around_red, strict=True):
        red -= board.core(link)
        board.core(black, shift).sub_(board.core(link))
    return Colours(red.clamp_min_(0), board.core(black).clamp_min_(0))


def _next(values: Tensor, dim: int) -> Tensor:
    """The value of the next cell along a dimension; 0 beyond the last."""
    shifted = torch.zeros_like(values)
    size = values.shape[dim] - 1
    shifted.narrow(dim, 0, size).copy_(values.narrow(dim, 1, size))
    return shifted


def _previous(values: Tensor, dim: int) -> Tensor:
    """The value of the cell before along a dimension; 0 before the first."""
    shifted = torch.zeros_like(values)
    size = values.shape[dim] - 1
    shifted.narrow(dim, 1, size).copy_(values.narrow(dim, 0, size))
    return shifted


def _sweep(shares: tuple[Tensor, ...], start: Tensor | None, around: _Four, out: Tensor, sign: float = 1.0) -> Tensor:
    """``start`` (or 0) + sign * sum over neighbours (share * value), (C, count), into ``out``."""
    if start is None:
        torch.mul(around[0], shares[0], out=out)
    else:
        torch.addcmul(start, shares[0], around[0], value=sign, out=out)
    for share, values in zip(shares[1:], around[1:], strict=True):
        out.addcmul_(share, values, value=sign)
    return out


def applied(level: Level, values: Colours) -> Colours:
    """A e in Omega, lines (C, count), for e in lines (C, count); what e is outside Omega is not read."""
    board, channels = level.board, len(values.red)
    red = board.red_line(board.open_buffer(channels, values.red))
    black = board.black_line(board.open_buffer(channels, values.black))
    torch.mul(values.red, level.root.red, out=red.core)
    torch.mul(values.black, level.root.black, out=black.core)
    return Colours(
        _sweep(level.to_red, red.core, black.around, torch.empty_like(red.core), -1.0).mul_(level.root.red),
        _sweep(level.to_black, black.core, red.around, torch.empty_like(black.core), -1.0).mul_(level.root.black),
    )


class _Bench:
    """Working memory of one level for C channels, with the views that every cycle needs.

    ``red`` and ``black`` are the unknowns. Right-hand sides are those of the red pixels, ``residual`` on the finest
    level, and of the black ones, which the finest level has none of. Padding is 0 and stays so: all that is written
    there is multiplied by conductances of 0.
    """

    def __init__(self, level: Level, channels: int, residual: _Line | None = None) -> None:
        board = level.board
        self.level = level
        self.red = board.red_line(board.buffer(channels, level.shares))
        self.black = board.black_line(board.open_buffer(channels, level.shares))
        self.right_red = board.red_line(board.buffer(channels, level.shares)) if residual is None else residual
        self.right_black = torch.zeros_like(self.red.core)
        self.lacking = torch.empty_like(self.red.core)
        corners = (self.red.core, self.right_red.core, self.lacking, level.root.red)
        self.corners = list(zip(*(board.red_corners(core) for core in corners), strict=True))
        self.picture = level.shares.new_empty(channels, board.batch, board.height, board.width)
        self.into = board.parts(Colours(self.right_red.core, self.right_black), self.picture)
        self.out_of = board.parts(Colours(self.red.core, self.black.core), self.picture)


def _cycle(benches: list[_Bench]) -> None:
    """One cycle from zero on the first of the benches, scaled right-hand sides to scaled unknowns.

    The order red, black, correction, black, red is its own mirror image, so the cycle is a symmetric preconditioner.
    Black is left half a sweep behind red.
    """
    bench, coarser = benches[0], benches[1:]
    level, red, black = bench.level, bench.red, bench.black
    # from zero, relaxing red makes it equal to its right-hand side
    _sweep(level.to_black, bench.right_black, bench.right_red.around, black.core)
    if coarser:
        # and black then flows into red as what is lacking
        _sweep(level.to_red, None, black.around, bench.lacking)
        _correct(bench, coarser)
    else:
        _sweep(level.to_red, bench.right_red.core, black.around, red.core)
    _sweep(level.to_black, bench.right_black, red.around, black.core)
    _sweep(level.to_red, bench.right_red.core, black.around, red.core)


def _correct(bench: _Bench, coarser: list[_Bench]) -> None:
    """Right-hand side of the red pixels, plus what their cells say of what they lack."""
    cells, level = coarser[0], coarser[0].level
    (_, _, lacking_0, root_0), (_, _, lacking_1, root_1) = bench.corners
    torch.mul(lacking_0, root_0, out=cells.picture).addcmul_(lacking_1, root_1)
    for part, pixels in cells.into:
        part.copy_(pixels)
    cells.right_red.core.mul_(level.weight.red)
    cells.right_black.mul_(level.weight.black)
    _cycle(coarser)
    cells.red.core.mul_(level.weight.red)
    cells.black.core.mul_(level.weight.black)
    for part, pixels in cells.out_of:
        pixels.copy_(part)
    for red, right, _, root in bench.corners:
        torch.addcmul(right, cells.picture, root, out=red)


@dataclass(frozen=True)
class Solved:
    """What `solve` found.

    Attributes
    ----------
    values : Colours of (C, count)
        e, 0 outside Omega.
    residual : (C, B) float64 tensor
        |b - A e|, computed from e.
    cycles : (B,) int64 tensor
        Cycles that each sample took.
    """

    values: Colours
    residual: Tensor
    cycles: Tensor


def solve(
    levels: list[Level], b: Colours, *, target: Tensor, local: float = math.inf, begin: Tensor, max_cycles: int
) -> Solved:
    """Run preconditioned conjugate gradients until the residual of every sample is small.

    Parameters
    ----------
    levels : list of Level
        From `build_levels`, finest first.
    b : Colours of (C, count)
        Right-hand sides, 0 outside Omega.
    target : (C, B) float64 tensor
        |b - A e| at which a channel is done; a sample is done with its last channel.
    local : float
        Largest |b - A e| / diagonal that a pixel may be left with, in units of e. Errors are a few times that; a norm
        over all pixels says little of the few that are tied weakly.
    begin : (B,) bool tensor
        Samples to be solved; the red pixels of the others stay 0.
    max_cycles : int
        Bound on the cycles of a sample.
    """
    level, board = levels[0], levels[0].board
    right = Colours(*(part * weight for part, weight in zip(b, level.weight, strict=True)))
    solution = torch.zeros_like(right.red)
    cycles = torch.zeros(board.batch, dtype=torch.int64, device=begin.device)
    state = _start(levels, right, target)
    running = begin
    for _ in range(max_cycles):
        going = int(running.sum())
        if not going:
            break
        if 2 * going <= len(running):  # half are done: go on without them
            _write(board, state, solution)
            keep = running.nonzero()[:, 0]
            state, running = state.select(keep), running[keep]
        _advance(state, running)
        cycles[state.samples] += running
        running = running & ~_is_done(state, local)
    _write(board, state, solution)
    return _finished(level, right, solution, cycles)


def _is_done(state: _State, local: float) -> Tensor:
    """Whether the residual of each sample (R,) is small enough in both senses of `solve`."""
    level, residual = state.benches[0].level, state.residual.core
    done = (norm(level.board, residual * level.root.red) <= state.target).all(dim=0)
    if math.isinf(local) or not bool(done.any()):
        return done
    largest = level.board.by_sample((residual * level.weight.red).abs_()).amax(dim=(0, 2))
    return done & (largest <= local)


def norm(board: Board, *cores: Tensor) -> Tensor:
    """Euclidean norm (C, B), float64, of the values in lines (C, count) taken together."""
    return torch.stack([_dot(board, core, core) for core in cores]).sum(dim=0).sqrt()


def _dot(board: Board, a: Tensor, b: Tensor) -> Tensor:
    """Inner products (C, B), float64: by pairs of rows, then over these, always in the same order."""
    return board.by_rows(a * b).sum(dim=-1).double().cumsum(dim=-1)[..., -1]


@dataclass(frozen=True)
class _State:
    """Conjugate gradients on the red pixels of some samples. Lines (C, count), scaled, changed in place."""

    benches: list[_Bench]
    samples: Tensor  # (R,) their indices in the batch
    target: Tensor  # (C, R)
    solution: Tensor
    residual: _Line
    direction: _Line
    gamma: Tensor  # (C, R) float64, inner product of the residual and the preconditioned residual

    def select(self, which: Tensor) -> _State:
        """The state of some of the samples, by place."""
        before, levels = self.benches[0].level.board, [bench.level.select(which) for bench in self.benches]
        residual, direction = (
            _red_line(levels[0].board, _chosen(before, line.core, which)) for line in (self.residual, self.direction)
        )
        return _State(
            benches=_benches(levels, residual),
            samples=self.samples[which],
            target=self.target[:, which],
            solution=_chosen(before, self.solution, which),
            residual=residual,
            direction=direction,
            gamma=self.gamma[:, which],
        )


def _red_line(board: Board, core: Tensor) -> _Line:
    """A line of red pixels that holds a copy of ``core``."""
    line = board.red_line(board.open_buffer(len(core), core))
    line.core.copy_(core)
    return line


def _benches(levels: list[Level], residual: _Line) -> list[_Bench]:
    channels = len(residual.core)
    return [_Bench(levels[0], channels, residual), *(_Bench(level, channels) for level in levels[1:])]


def _start(levels: list[Level], right: Colours, target: Tensor) -> _State:
    """From zero at the red pixels; what black ones have on their right-hand side goes to their red neighbours."""
    level, board = levels[0], levels[0].board
    black = board.black_line(board.open_buffer(len(right.black), right.black))
    black.core.copy_(right.black)
    residual = board.red_line(board.open_buffer(len(right.red), right.red))
    _sweep(level.to_red, right.red, black.around, residual.core)
    return _State(
        benches=_benches(levels, residual),
        samples=torch.arange(board.batch, device=target.device),
        target=target,
        solution=torch.zeros_like(right.red),
        residual=residual,
        direction=board.red_line(board.buffer(len(right.red), right.red)),
        gamma=torch.full_like(target, math.inf),
    )


def _advance(state: _State, running: Tensor) -> None:
    """One step of the samples that run, (R,); the others keep their solution and residual."""
    bench, residual, direction = state.benches[0], state.residual.core, state.direction
    level, board = bench.level, bench.level.board
    _cycle(state.benches)
    gamma = _dot(board, residual, bench.red.core)
    beta = gamma / state.gamma.clamp_min(_TINIEST)
    state.gamma.copy_(gamma)
    _add_scaled(board, bench.red.core, beta, direction.core, out=direction.core)
    _sweep(level.to_black, None, direction.around, bench.black.core)
    image = _sweep(level.to_red, direction.core, bench.black.around, bench.lacking, -1.0)
    curvature = _dot(board, direction.core, image)
    step = torch.where(running, gamma / curvature.clamp_min(_TINIEST), 0.0)
    _add_scaled(board, state.solution, step, direction.core, out=state.solution)
    _add_scaled(board, residual, -step, image, out=residual)


def _add_scaled(board: Board, a: Tensor, factor: Tensor, b: Tensor, *, out: Tensor) -> None:
    """Sum a + factor b for lines (C, count) and factors (C, B), into ``out``."""
    factors = factor.to(a.dtype)[..., None]
    torch.addcmul(board.by_sample(a), factors, board.by_sample(b), out=board.by_sample(out))


def _write(board: Board, state: _State, solution: Tensor) -> None:
    """Put the solution of the state's samples in its place in that of the batch."""
    part = state.benches[0].level.board.by_sample(state.solution)
    board.by_sample(solution).index_copy_(1, state.samples, part)


def _finished(level: Level, right: Colours, solution: Tensor, cycles: Tensor) -> Solved:
    """Black pixels follow from their equations, so their residual is 0; that of the red ones is computed anew."""
    board = level.board
    red = _red_line(board, solution)
    black = board.black_line(board.open_buffer(len(solution), solution))
    _sweep(level.to_black, right.black, red.around, black.core)
    lacking = _sweep(level.to_red, right.red, black.around, torch.empty_like(solution)).sub_(solution)
    values = Colours(solution.mul_(level.weight.red), black.core.mul_(level.weight.black))
    return Solved(values, norm(board, lacking.mul_(level.root.red)), cycles)
