"""The multigrid solver: where pixels lie in memory, what its operators are, and why it is a sound preconditioner."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray

from refine import multigrid
from refine.multigrid import Board, Colours, Equations, Level, applied, build_levels, make_level, norm, solve

SCREENING = 1 / 36
sizes = st.integers(1, 20)


def random_equations(
    rng: np.random.Generator, board: Board, device: torch.device, dtype: torch.dtype, *, share: float = 0.8
) -> tuple[Equations, NDArray[np.float64]]:
    """Links of widely different conductance on a random support, and the same as dense matrices (B, N, N) of pixels."""
    number = torch.arange(board.height * board.width, dtype=torch.float64) + 1
    numbers = board.pack(number.view(1, 1, board.height, board.width).expand(1, board.batch, -1, -1), 0.0)
    inside = board.pack(torch.from_numpy(rng.random((1, board.batch, board.height, board.width)) < share).double())
    links = board.buffer(4, numbers.red)
    diagonal = Colours(*(torch.full_like(part, SCREENING) for part in numbers))
    matrix = np.zeros((board.batch, len(number), len(number)))
    for link, shift in zip(links, board.around_red, strict=True):
        k = torch.from_numpy(10 ** rng.uniform(-3, 0, (1, board.count)))
        k *= (board.core(numbers.red) > 0) * (board.core(numbers.black, shift) > 0)
        board.core(diagonal.red).add_(k)
        board.core(diagonal.black, shift).add_(k)
        k = k * board.core(inside.red) * board.core(inside.black, shift)
        board.core(link).copy_(k[0])
        sample = torch.arange(board.count) // (board.pairs * board.pitch)
        for i, p, q, value in zip(
            sample.tolist(),
            board.core(numbers.red)[0].int().tolist(),
            board.core(numbers.black, shift)[0].int().tolist(),
            k[0].tolist(),
            strict=True,
        ):
            if value:
                matrix[i, p - 1, q - 1] = matrix[i, q - 1, p - 1] = -value
    dense = board.unpack(board.cores(Colours(*(d * part for d, part in zip(diagonal, inside, strict=True)))))
    for i in range(board.batch):
        matrix[i] += np.diag(dense[0, i].flatten().numpy())

    def cast(pair: Colours) -> Colours:
        return Colours(*(part.to(device, dtype) for part in board.cores(pair)))

    return Equations(board, links.to(device, dtype), cast(diagonal), cast(inside)), matrix


def picture(rng: np.random.Generator, board: Board, channels: int = 2) -> torch.Tensor:
    return torch.from_numpy(rng.standard_normal((channels, board.batch, board.height, board.width)))


@given(batch=st.integers(1, 3), height=sizes, width=sizes, seed=st.integers(0, 2**32 - 1))
def test_pictures_come_back_from_their_lines(batch, height, width, seed):
    board = Board(batch, height, width)
    expected = picture(np.random.default_rng(seed), board)
    assert torch.equal(board.unpack(board.cores(board.pack(expected))), expected)


@given(batch=st.integers(1, 3), height=sizes, width=sizes)
def test_neighbours_lie_at_fixed_shifts_and_padding_lies_beyond_the_border(batch, height, width):
    board = Board(batch, height, width)
    number = torch.arange(1.0, batch * height * width + 1).view(1, batch, height, width)
    packed = board.pack(number)
    padded = torch.nn.functional.pad(number, (1, 1, 1, 1))
    around = (padded[..., :-2, 1:-1], padded[..., 2:, 1:-1], padded[..., 1:-1, :-2], padded[..., 1:-1, 2:])
    for expected, to_black, to_red in zip(around, board.around_red, board.around_black, strict=True):
        seen = Colours(board.core(packed.black, to_black), board.core(packed.red, to_red))
        assert torch.equal(board.unpack(seen), expected)


def test_the_operator_is_that_of_the_links(rng, device, dtype, tolerance):
    for shape in ((2, 7, 10), (1, 8, 5), (3, 1, 6), (2, 6, 1)):
        board = Board(*shape)
        equations, matrix = random_equations(rng, board, device, dtype)
        e = picture(rng, board)
        found = applied(make_level(equations), board.cores(board.pack(e.to(device, dtype))))
        expected = np.einsum("bpq,cbq->cbp", matrix, e.flatten(2).numpy() * (np.einsum("bpp->bp", matrix) > 0))
        assert_allclose(
            board.unpack(found).cpu().double().numpy().reshape(expected.shape), expected, atol=30 * tolerance.rounding
        )


def test_solutions_agree_with_a_dense_solve(rng, device, dtype, tolerance):
    for shape in ((2, 17, 14), (1, 8, 21), (2, 1, 9), (1, 1, 1)):
        board = Board(*shape)
        equations, matrix = random_equations(rng, board, device, dtype)
        inside = board.unpack(equations.inside).cpu().double()
        b = picture(rng, board) * inside
        level = make_level(equations)
        solved = solve(
            build_levels(level, equations, 6.0),
            board.cores(board.pack(b.to(device, dtype))),
            target=torch.full((2, board.batch), tolerance.solver, dtype=torch.float64, device=device),
            begin=torch.ones(board.batch, dtype=torch.bool, device=device),
            max_cycles=60,
        )
        outside = np.einsum("bpp->bp", matrix) == 0
        for i in range(board.batch):
            matrix[i] += np.diag(outside[i].astype(float))
        expected = np.linalg.solve(matrix, np.moveaxis(b.flatten(2).numpy(), 0, 2))
        found = board.unpack(solved.values).cpu().double().flatten(2).numpy()
        assert_allclose(found, np.moveaxis(expected, 2, 0), rtol=0, atol=tolerance.solution)
        assert_array_equal(found[:, outside], 0)


def test_the_residual_is_that_of_the_values(rng, device):
    board = Board(3, 19, 22)
    equations, _ = random_equations(rng, board, device, torch.float64)
    level = make_level(equations)
    b = Colours(
        *(
            part * x
            for part, x in zip(equations.inside, board.cores(board.pack(picture(rng, board).to(device))), strict=True)
        )
    )
    target = torch.full((2, 3), 1e-2, dtype=torch.float64, device=device)
    begin = torch.ones(3, dtype=torch.bool, device=device)
    solved = solve(build_levels(level, equations, 6.0), b, target=target, begin=begin, max_cycles=60)
    lacking = (x - y for x, y in zip(b, applied(level, solved.values), strict=True))
    assert_allclose(solved.residual.cpu(), norm(board, *lacking).cpu(), rtol=1e-9)
    assert 1e-6 < float(solved.residual.max()) <= 1e-2


def test_samples_that_need_not_begin_stay_zero_at_red_pixels(rng, device):
    board = Board(3, 12, 13)
    equations, _ = random_equations(rng, board, device, torch.float64, share=1.0)
    b = Colours(*(part.clone() for part in board.cores(board.pack(picture(rng, board).to(device)))))
    begin = torch.tensor([True, False, True], device=device)
    target = torch.full((2, 3), 1e-8, dtype=torch.float64, device=device)
    levels = build_levels(make_level(equations), equations, 6.0)
    solved = solve(levels, b, target=target, begin=begin, max_cycles=60)
    assert float(board.by_sample(solved.values.red)[:, 1].abs().max()) == 0
    assert int(solved.cycles[1]) == 0
    assert bool((solved.residual[:, begin] <= 1e-8).all())


def test_coarse_grids_keep_what_ties_the_pixels_to_zero(rng, device):
    # links carry nothing where e is the same everywhere: the sum of A 1 is that of the ground, on every level
    board = Board(2, 37, 26)
    equations, _ = random_equations(rng, board, device, torch.float64)
    totals = []
    levels = build_levels(make_level(equations), equations, 128.0)
    for level in levels:
        ones = Colours(*(torch.ones_like(part) for part in level.root))
        flow = applied(level, ones)
        totals.append(sum(level.board.by_sample(part).sum(dim=2) for part in flow).cpu().numpy())
    assert [(level.board.height, level.board.width) for level in levels] == [
        (37, 26),
        (19, 13),
        (10, 7),
        (5, 4),
        (3, 2),
        (2, 1),
        (1, 1),
    ]
    assert_allclose(totals, np.broadcast_to(totals[0], np.shape(totals)), rtol=1e-10)


def test_screening_bounds_the_number_of_levels(rng, device):
    board = Board(1, 64, 64)
    equations, _ = random_equations(rng, board, device, torch.float64)
    level = make_level(equations)
    counts = [len(build_levels(level, equations, screening_px)) for screening_px in (0.6, 1.0, 2.0, 6.0, 64.0)]
    assert counts == [1, 1, 1, 3, 6]


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 11), width=st.integers(1, 11), seed=st.integers(0, 2**32 - 1))
def test_a_cycle_is_a_symmetric_positive_preconditioner(height, width, seed):
    rng = np.random.default_rng(seed)
    board = Board(1, height, width)
    equations, _ = random_equations(rng, board, torch.device("cpu"), torch.float64)
    levels = build_levels(make_level(equations), equations, 6.0)
    inside = equations.inside.red[0].nonzero()[:, 0]
    if not len(inside):
        return
    found = cycle_matrix(levels, len(inside), inside)
    assert_allclose(found, found.T, atol=1e-12)
    assert np.linalg.eigvalsh(found).min() > 0


def cycle_matrix(levels: list[Level], count: int, inside: torch.Tensor) -> NDArray[np.float64]:
    """What one cycle makes of every unit vector of the red pixels: each is a channel."""
    board = levels[0].board
    residual = board.red_line(board.buffer(count, levels[0].shares))
    residual.core[torch.arange(count), inside] = 1
    benches = multigrid._benches(levels, residual)
    multigrid._cycle(benches)
    return np.asarray(benches[0].red.core[:, inside].numpy())
