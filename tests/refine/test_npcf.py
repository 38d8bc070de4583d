"""npcF against a direct sparse solve, manufactured solutions, and the promises it makes to the rest of the pipeline."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import spsolve

from refine.npcf import NpcfSolution, harmonise, link_conductivity

HEIGHT, WIDTH = 26, 31
SCREENING_PX = 6.0
CONDUCTIVITY = 1e-2


@dataclass(frozen=True)
class Problem:
    """One sample: source, rendering (C, H, W), coverage, support (H, W)."""

    source: NDArray[np.float64]
    rendering: NDArray[np.float64]
    coverage: NDArray[np.float64]
    support: NDArray[np.bool_]
    screening_px: float = SCREENING_PX
    conductivity: float = CONDUCTIVITY


def random_problem(
    rng: np.random.Generator, support: NDArray[np.bool_], *, channels: int = 3, dtype: torch.dtype = torch.float64
) -> Problem:
    """Textured source, a darkened rendering of it, and patchy coverage, exact in ``dtype``."""
    shape = (channels, *support.shape)
    source = np.clip(0.5 + 0.15 * rng.standard_normal(shape), 0, 1)
    dark = ndimage.gaussian_filter(rng.random(support.shape), 1.5) + 0.3 * (rng.random(support.shape) < 0.2)
    coverage = np.clip(3 * ndimage.gaussian_filter(rng.standard_normal(support.shape), 1.0), 0, 1)
    rounded = [torch.from_numpy(a).to(dtype).double().numpy() for a in (source, source * (1 - 0.6 * dark), coverage)]
    return Problem(rounded[0], rounded[1], rounded[2], support)


def solve(
    problems: list[Problem], device: torch.device, dtype: torch.dtype, *, tolerance: float, max_cycles: int = 5000
) -> NpcfSolution:
    """The problems as one batch."""
    stacked = [
        torch.from_numpy(np.stack([getattr(p, name) for p in problems])).to(device)
        for name in ("source", "rendering", "coverage", "support")
    ]
    return harmonise(
        *(a.to(dtype) for a in stacked[:3]),
        stacked[3],
        screening_px=problems[0].screening_px,
        crack_conductivity=problems[0].conductivity,
        tolerance=tolerance,
        max_cycles=max_cycles,
    )


def equations(problem: Problem, channel: int) -> tuple[sparse.csr_array, NDArray[np.float64]]:
    """The problem written for u itself, link by link, on all pixels; M u = f, with u = s outside the support."""
    s, c = problem.source[channel], problem.rendering[channel]
    kappa = 1 - (1 - problem.conductivity) * problem.coverage
    material = 1 - problem.coverage
    number = np.arange(s.size).reshape(s.shape)
    omega = problem.support.ravel()
    rows, columns, values = [number.ravel()], [number.ravel()], [np.where(omega, -1 / problem.screening_px**2, 1.0)]
    f = np.where(omega, -c.ravel() / problem.screening_px**2, s.ravel())
    down, right = (np.s_[:-1], np.s_[1:]), (np.s_[:, :-1], np.s_[:, 1:])
    for a, b in (down, right):
        k = 2 * kappa[a] * kappa[b] / (kappa[a] + kappa[b])
        shown = np.minimum(material[a], material[b])
        seen, drawn = ([np.subtract(u[b], u[a]) for u in picture] for picture in (problem.source, problem.rendering))
        stronger = shown**2 * np.square(seen).sum(axis=0) > np.square(drawn).sum(axis=0)
        flux = k * np.where(stronger, shown * seen[channel], drawn[channel])
        for p, q, sign in ((number[a], number[b], 1.0), (number[b], number[a], -1.0)):
            unknown = omega[p.ravel()]
            p_, q_, k_ = p.ravel()[unknown], q.ravel()[unknown], k.ravel()[unknown]
            rows += [p_, p_]
            columns += [q_, p_]
            values += [k_, -k_]
            np.add.at(f, p_, sign * flux.ravel()[unknown])
    matrix = sparse.coo_array(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(s.size, s.size)
    )
    return matrix.tocsr(), f


def direct_solution(problem: Problem) -> NDArray[np.float64]:
    solved = [spsolve(m.tocsc(), f) for m, f in (equations(problem, k) for k in range(len(problem.source)))]
    return np.stack(solved).reshape(problem.source.shape)


def true_residual(problem: Problem, image: NDArray[np.float64]) -> float:
    """|M u - f| relative to |f| with the known pixels moved there: that of u = 0; the largest over channels."""
    worst = 0.0
    for k in range(len(image)):
        matrix, f = equations(problem, k)
        start = np.where(problem.support, 0.0, problem.source[k]).ravel()
        worst = max(worst, np.linalg.norm(matrix @ image[k].ravel() - f) / np.linalg.norm(matrix @ start - f))
    return worst


def disc(height: int, width: int, *, center: tuple[float, float], radius: float) -> NDArray[np.bool_]:
    y, x = np.mgrid[:height, :width]
    return np.asarray(np.hypot(y - center[0], x - center[1]) < radius)


def only(*pixels: tuple[int, int]) -> NDArray[np.bool_]:
    support = np.zeros((HEIGHT, WIDTH), dtype=bool)
    for pixel in pixels:
        support[pixel] = True
    return support


SUPPORTS = {
    "inside": disc(HEIGHT, WIDTH, center=(12, 15), radius=8),
    "at the border": disc(HEIGHT, WIDTH, center=(2, 29), radius=11),
    "along a side": only(*((HEIGHT - 1, x) for x in range(WIDTH))),
    "one pixel": only((9, 11)),
    "one pixel in the corner": only((0, 0)),
    "whole picture": np.ones((HEIGHT, WIDTH), dtype=bool),
    "scattered": np.random.default_rng(3).random((HEIGHT, WIDTH)) < 0.4,
    "two parts": disc(HEIGHT, WIDTH, center=(6, 6), radius=5) | disc(HEIGHT, WIDTH, center=(20, 24), radius=4),
}


@pytest.mark.parametrize("support", SUPPORTS.values(), ids=SUPPORTS.keys())
def test_agrees_with_a_direct_sparse_solve(support, rng, device, dtype, tolerance):
    problems = [random_problem(rng, support, dtype=dtype) for _ in range(2)]
    found = solve(problems, device, dtype, tolerance=tolerance.solver).image.cpu().double().numpy()
    for image, problem in zip(found, problems, strict=True):
        assert_allclose(image, direct_solution(problem), rtol=0, atol=tolerance.solution)


def test_grey_picture_agrees_with_a_direct_sparse_solve(rng, device, dtype, tolerance):
    problem = random_problem(rng, SUPPORTS["at the border"], channels=1, dtype=dtype)
    found = solve([problem], device, dtype, tolerance=tolerance.solver).image[0].cpu().double().numpy()
    assert_allclose(found, direct_solution(problem), rtol=0, atol=tolerance.solution)


def test_empty_support_gives_the_source_back(rng, device, dtype):
    solution = solve([random_problem(rng, only(), dtype=dtype)], device, dtype, tolerance=1e-3)
    expected = random_problem(np.random.default_rng(20250417), only(), dtype=dtype).source
    assert_array_equal(solution.image[0].cpu().double().numpy(), expected)
    assert_array_equal(solution.residual.cpu().numpy(), 0)
    assert_array_equal(solution.cycles.cpu().numpy(), 0)


def test_one_pixel_has_the_solution_by_hand(device, dtype, tolerance):
    # four links of conductivity 1 to known neighbours, and no gradient but the pixel's own
    source = np.full((1, 5, 5), 0.6)
    rendering = source.copy()
    rendering[0, 2, 2] = 0.2
    problem = Problem(source, rendering, np.zeros((5, 5)), disc(5, 5, center=(2, 2), radius=0.5), screening_px=2.0)
    # links ask for the rendering's step of 0.4, which the rendering has: nothing to correct
    found = solve([problem], device, dtype, tolerance=tolerance.solver).image[0, 0, 2, 2]
    assert_allclose(float(found), 0.2, atol=tolerance.rounding)
    # with the surround half as dark in the photograph as drawn, 4 (e - 0.3) + e / 4 = 0
    problem = replace(problem, rendering=np.full((1, 5, 5), 0.3))
    found = solve([problem], device, dtype, tolerance=tolerance.solver).image[0, 0, 2, 2]
    assert_allclose(float(found), 0.3 + 1.2 / 4.25, atol=tolerance.rounding)


def test_screened_equation_converges_at_second_order(device):
    # coverage 1 hides the source's gradient and conductivity 1 keeps kappa at 1: what is left is
    # lap e = e / length^2 for e = u - c, with e = s - c outside, solved by an exponential in any direction
    errors = []
    for n in (17, 33, 65):
        h = 1.0 / (n - 1)
        y, x = np.mgrid[:n, :n] * h
        correction = np.exp((0.6 * y + 0.8 * x) / 0.3) / 30
        rendering = 0.3 + 0.2 * np.sin(7 * x + 3 * y)
        source = np.where(inner(n), 0.9, rendering + correction)
        problem = Problem(source[None], rendering[None], np.ones((n, n)), inner(n), 0.3 / h, 1.0)
        found = solve([problem], device, torch.float64, tolerance=1e-11).image[0, 0].cpu().numpy()
        errors.append(np.abs(found - rendering - correction)[inner(n)].max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert_allclose(orders, 2.0, atol=0.1)


def test_guided_equation_converges_at_second_order(device):
    # an even rendering leaves the source's gradient as the guidance: lap (u - s) = u / length^2, u = s outside
    errors = []
    for n in (17, 33, 65):
        h = 1.0 / (n - 1)
        y, x = np.mgrid[:n, :n] * h
        bump = np.sin(np.pi * y) * np.sin(np.pi * x)
        source = -(2 * (np.pi * 0.3) ** 2 + 1) * bump
        problem = Problem(source[None], np.zeros((1, n, n)), np.zeros((n, n)), inner(n), 0.3 / h)
        found = solve([problem], device, torch.float64, tolerance=1e-11).image[0, 0].cpu().numpy()
        errors.append(np.abs(found - source - bump)[inner(n)].max())
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert_allclose(orders, 2.0, atol=0.1)


def inner(n: int) -> NDArray[np.bool_]:
    """All pixels but the outermost ring."""
    return np.pad(np.ones((n - 2, n - 2), dtype=bool), 1)


def test_reported_residual_is_the_true_one(rng, device):
    problems = [random_problem(rng, support) for support in SUPPORTS.values()]
    solution = solve(problems, device, torch.float64, tolerance=1e-3)
    images = solution.image.cpu().numpy()
    true = [true_residual(problem, image) for problem, image in zip(problems, images, strict=True)]
    assert_allclose(solution.residual.cpu().numpy(), true, rtol=1e-6, atol=1e-13)
    assert max(true) <= 1e-3
    assert max(true) > 1e-5  # and the iteration stopped where it was told to


def test_reported_residual_is_the_true_one_in_single_precision(rng, device):
    problem = random_problem(rng, SUPPORTS["whole picture"], dtype=torch.float32)
    solution = solve([problem], device, torch.float32, tolerance=1e-3)
    true = true_residual(problem, solution.image[0].cpu().double().numpy())
    assert_allclose(float(solution.residual[0]), true, rtol=1e-3)
    assert true <= 1e-3


def test_unfinished_solution_reports_a_residual_above_the_tolerance(rng, device, dtype):
    problems = [random_problem(rng, SUPPORTS[name], dtype=dtype) for name in ("whole picture", "one pixel")]
    solution = solve(problems, device, dtype, tolerance=1e-6, max_cycles=3)
    assert float(solution.residual[0]) > 1e-6
    assert_allclose(
        float(solution.residual[0]),
        true_residual(problems[0], solution.image[0].cpu().double().numpy()),
        rtol=1e-3,
    )
    assert float(solution.residual[1]) <= 1e-6  # one unknown: done after one step, whatever its neighbour needs
    assert_array_equal(solution.cycles.cpu().numpy(), [3, 1])


def test_without_guidance_the_correction_makes_no_new_extremes(rng, device, dtype, tolerance):
    support = SUPPORTS["at the border"]
    problem = replace(random_problem(rng, support, dtype=dtype), coverage=np.ones((HEIGHT, WIDTH)), conductivity=1.0)
    found = solve([problem], device, dtype, tolerance=tolerance.solver).image[0].cpu().double().numpy()
    correction = (found - problem.rendering)[:, support]
    known = (problem.source - problem.rendering)[:, ndimage.binary_dilation(support) & ~support]
    assert np.all(correction.max(axis=1) <= np.maximum(known.max(axis=1), 0) + tolerance.solution)
    assert np.all(correction.min(axis=1) >= np.minimum(known.min(axis=1), 0) - tolerance.solution)
    assert np.all(np.abs(correction).max(axis=1) > 0.01)


@pytest.mark.parametrize("support", SUPPORTS.values(), ids=SUPPORTS.keys())
def test_outside_the_support_every_bit_is_the_source(support, rng, device, dtype):
    problem = random_problem(rng, support, dtype=dtype)
    found = solve([problem], device, dtype, tolerance=1e-3).image[0].cpu().double().numpy()
    assert_array_equal(found[:, ~support], problem.source[:, ~support])
    assert np.all(found[:, support] != problem.source[:, support])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_is_the_same_in_any_batch(channels, rng, device, dtype, tolerance):
    # 1, about 450, 1800 and 2500 unknowns: one block of summation, and several
    shape = (50, 50)
    supports = [disc(*shape, center=(20, 30), radius=r) for r in (0.5, 12, 24)] + [np.ones(shape, dtype=bool)]
    problems = [random_problem(rng, support, channels=channels, dtype=dtype) for support in supports]
    alone = [solve([problem], device, dtype, tolerance=1e-3) for problem in problems]
    for order in ((0, 1, 2, 3), (3, 1), (2, 0, 0, 1, 2), (1,) * 7, (0, 1, 2, 3) * 9):
        together = solve([problems[k] for k in order], device, dtype, tolerance=1e-3)
        for place, k in enumerate(order):
            if device.type == "cpu":
                assert torch.equal(together.image[place], alone[k].image[0])
                assert float(together.residual[place]) == float(alone[k].residual[0])
                assert int(together.cycles[place]) == int(alone[k].cycles[0])
            else:
                torch.testing.assert_close(
                    together.image[place], alone[k].image[0], rtol=0, atol=100 * tolerance.rounding
                )


@pytest.mark.parametrize("channels", [1, 3])
def test_a_sample_is_the_same_with_any_number_of_threads(channels, rng, device, dtype):
    if device.type != "cpu":
        pytest.skip("threads of the processor")
    # lines longer than what torch gives to one thread
    problems = [random_problem(rng, np.ones((131, 170), dtype=bool), channels=channels, dtype=dtype) for _ in range(4)]
    before = torch.get_num_threads()
    try:
        found = []
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(solve(problems, device, dtype, tolerance=1e-3))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert torch.equal(other.image, found[0].image)
        assert torch.equal(other.residual, found[0].residual)
        assert torch.equal(other.cycles, found[0].cycles)


def test_a_sample_that_is_done_keeps_its_bits_while_others_go_on(rng, device, dtype):
    support = SUPPORTS["whole picture"]
    hard = random_problem(rng, support, dtype=dtype)
    # a rendering close to the solution is done sooner
    near = solve([hard], device, dtype, tolerance=1e-2).image[0].cpu().double().numpy()
    easy = replace(hard, rendering=hard.source, coverage=0.02 * hard.coverage)
    order = [easy, hard, replace(hard, rendering=near), hard]
    together = solve(order, device, dtype, tolerance=1e-5)
    assert len(set(together.cycles.tolist())) > 1
    for place, problem in enumerate(order):
        alone = solve([problem], device, dtype, tolerance=1e-5)
        assert int(together.cycles[place]) == int(alone.cycles[0])
        if device.type == "cpu":
            assert torch.equal(together.image[place], alone.image[0])


@pytest.mark.parametrize("crack", [False, True], ids=["disc", "crack"])
def test_cycles_do_not_grow_with_the_picture(crack, rng, device):
    counts = []
    for n in (64, 128, 256, 512, 1024):
        support = disc(n, n, center=(n / 2, n / 2), radius=0.35 * n)
        problem = random_problem(rng, support, channels=1)
        if crack:
            problem = replace(problem, coverage=np.asarray(wavy_crack(n, n, width_px=1.5)))
        solution = solve([problem], device, torch.float32, tolerance=1e-3)
        assert float(solution.residual[0]) <= 1e-3
        counts.append(int(solution.cycles[0]))
    assert max(counts) <= 5
    assert max(counts) - min(counts) <= 1


def wavy_crack(height: int, width: int, *, width_px: float) -> NDArray[np.float64]:
    """Coverage of a crack that runs through the picture from top to bottom."""
    y, x = np.mgrid[:height, :width]
    middle = width / 2 + 0.1 * width * np.sin(6 * y / height) + 2 * np.sin(y / 3)
    return np.clip(0.5 * width_px + 0.5 - np.abs(x - middle), 0, 1)


@pytest.mark.parametrize("width_px", [1.0, 3.0, 8.0])
@pytest.mark.parametrize("screening_px", [0.6, 2.0, 6.0, 20.0, 64.0])
@pytest.mark.parametrize("conductivity", [1e-4, 1e-2, 0.2])
def test_cracks_of_any_width_and_conductivity_are_solved(conductivity, screening_px, width_px, rng, device):
    support = np.ones((90, 83), dtype=bool)
    problem = replace(
        random_problem(rng, support, channels=1),
        coverage=wavy_crack(*support.shape, width_px=width_px),
        screening_px=screening_px,
        conductivity=conductivity,
    )
    solution = solve([problem], device, torch.float32, tolerance=1e-3)
    assert true_residual(problem, solution.image[0].cpu().double().numpy()) <= 1e-3
    assert int(solution.cycles[0]) <= 8


SHAPES = [(1, 1), (1, 2), (2, 1), (1, 9), (8, 1), (2, 2), (3, 3), (5, 64), (51, 48), (48, 51), (33, 34)]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_any_size_of_picture_agrees_with_a_direct_sparse_solve(shape, rng, device, dtype, tolerance):
    problems = [
        random_problem(rng, support, dtype=dtype) for support in (np.ones(shape, bool), rng.random(shape) < 0.5)
    ]
    found = solve(problems, device, dtype, tolerance=tolerance.solver).image.cpu().double().numpy()
    for image, problem in zip(found, problems, strict=True):
        assert_allclose(image, direct_solution(problem), rtol=0, atol=tolerance.solution)


@settings(max_examples=40, deadline=None)
@given(
    height=st.integers(1, 24),
    width=st.integers(1, 24),
    channels=st.sampled_from([1, 3]),
    share=st.floats(0, 1),
    screening_px=st.floats(0.6, 64),
    conductivity=st.floats(1e-4, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_problem_agrees_with_a_direct_sparse_solve(
    device, height, width, channels, share, screening_px, conductivity, seed
):
    chance = np.random.default_rng(seed)
    support = chance.random((height, width)) < share
    problem = random_problem(chance, support, channels=channels)
    problem = replace(problem, screening_px=screening_px, conductivity=conductivity)
    found = solve([problem], device, torch.float64, tolerance=1e-11)
    assert float(found.residual[0]) <= 1e-11
    assert_allclose(found.image[0].cpu().numpy(), direct_solution(problem), rtol=0, atol=1e-7)


@pytest.mark.parametrize("crack", [False, True], ids=["patchy", "crack"])
def test_at_the_default_tolerance_the_error_is_far_below_a_grey_level(crack, rng, device):
    support = np.ones((96, 101), dtype=bool)
    problem = random_problem(rng, support, dtype=torch.float32)
    if crack:
        coverage = np.float32(wavy_crack(96, 101, width_px=1.5)).astype(np.float64)
        problem = replace(problem, coverage=coverage)
    error = solve([problem], device, torch.float32, tolerance=1e-3).image[0].cpu().double().numpy()
    error -= direct_solution(problem)
    assert np.abs(error).max() < 5e-4
    assert np.sqrt(np.square(error).mean()) < 5e-5


def test_single_precision_is_within_2e_6_of_double(rng, device):
    # nearly 100 levels of single precision, and a hundredth of a level of 16 bits
    support = np.ones((150, 160), dtype=bool)
    problem = random_problem(rng, support, dtype=torch.float32)
    problem = replace(problem, coverage=np.float32(wavy_crack(150, 160, width_px=1.5)).astype(np.float64))
    single, double = (solve([problem], device, kind, tolerance=1e-6).image for kind in (torch.float32, torch.float64))
    assert (single.double() - double).abs().max() < 2e-6


def test_a_rendering_that_fits_is_left_as_it_is(rng, device, dtype):
    # a changed surface: nothing of the texture is kept, and the rendering meets the photograph at the support's border
    support = disc(60, 64, center=(30, 33), radius=25)
    y, x = np.mgrid[:60, :64]
    dent = np.exp(-((y - 30) ** 2 + (x - 33) ** 2) / 40)
    source = 0.5 + 0.1 * rng.standard_normal((3, 60, 64))
    pictures = [torch.from_numpy(a)[None].to(device, dtype) for a in (source, source * (1 - 0.4 * dent))]
    nothing = torch.zeros((1, 60, 64), dtype=dtype, device=device)
    solution = harmonise(
        *pictures,
        nothing,
        torch.from_numpy(support)[None].to(device),
        kept=nothing,
        screening_px=SCREENING_PX,
        crack_conductivity=CONDUCTIVITY,
        tolerance=1e-3,
        max_cycles=50,
    )
    assert_array_equal(solution.cycles.cpu().numpy(), [0])
    assert 0 < float(solution.residual[0]) <= 1e-3
    assert torch.equal(solution.image[0][:, support], pictures[1][0][:, support])
    assert torch.equal(solution.image[0][:, ~support], pictures[0][0][:, ~support])


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted in kilobytes there")
def test_memory_does_not_grow_from_batch_to_batch(rng, device):
    resource = pytest.importorskip("resource")
    problems = [random_problem(rng, np.ones((128, 128), dtype=bool)) for _ in range(4)]
    for _ in range(3):
        solve(problems, device, torch.float32, tolerance=1e-3)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(20):
        solve(problems, device, torch.float32, tolerance=1e-3)
    # twenty lost results would be 16 MB
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 8 << 10


@pytest.mark.parametrize("width_px", [1, 2, 3])
def test_no_light_is_conducted_across_an_open_crack(width_px, device):
    # the photograph is dark on the left and bright on the right; between, all pixels are free
    n = 35
    columns = np.broadcast_to(np.arange(n), (n, n))
    source = np.where(columns < n // 2, 0.2, 0.8)[None]
    middle = (columns >= n // 2) & (columns < n // 2 + width_px)
    support = (columns > 0) & (columns < n - 1)
    sealed = Problem(source, np.full((1, n, n), 0.5), middle.astype(float), support, 64.0, 1e-4)
    found, conducting = (
        solve([p], device, torch.float64, tolerance=1e-10).image[0, 0].cpu().numpy()
        for p in (sealed, replace(sealed, conductivity=1.0))
    )
    assert_allclose(found[:, n // 2 - 1], 0.2, atol=0.03)
    assert_allclose(found[:, n // 2 + width_px], 0.8, atol=0.03)
    assert conducting[:, n // 2 - 1].min() > 0.4  # and it was the crack that kept the sides apart


def test_conductivity_falls_from_the_material_to_the_opening(device, dtype, tolerance):
    coverage = torch.tensor([[[0.0, 0.5, 1.0]]], device=device, dtype=dtype)
    found = link_conductivity(coverage, 0.01).cpu().double().numpy()
    assert_allclose(found, [[[1.0, 0.505, 0.01]]], atol=tolerance.rounding)


def test_where_nothing_is_kept_the_rendering_alone_guides(rng, device, dtype, tolerance):
    # the rendering meets the source at the support's border, so its own gradients give it back as it is
    support = disc(30, 34, center=(15, 17), radius=9)
    source = torch.from_numpy(rng.random((1, 3, 30, 34))).to(device, dtype)
    part = torch.from_numpy(support)[None].to(device)
    rendering = torch.where(part[:, None], 0.5 + 0.05 * source.flip(2), source)
    nothing = torch.zeros(part.shape, dtype=dtype, device=device)
    how = {
        "screening_px": SCREENING_PX,
        "crack_conductivity": CONDUCTIVITY,
        "tolerance": tolerance.solver,
        "max_cycles": 5000,
    }
    found = harmonise(source, rendering, nothing, part, kept=nothing, **how)
    assert_allclose(found.image.cpu(), rendering.cpu(), atol=tolerance.solution)
    mixed = harmonise(source, rendering, nothing, part, **how)
    assert (mixed.image - rendering).abs().max() > 0.05
