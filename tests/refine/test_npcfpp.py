"""npcF++ on materials whose grain and optics are known: what is missing comes back, what is there is left alone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from manifests.config import NpcfppConfig
from refine.npcfpp import BoundarySynergy

SIDE = 96
OFF = {"edge": 0.0, "energy": 0.0, "grain": 1.0}


def disc(radius: float, side: int = SIDE) -> NDArray[np.float64]:
    """Signed distance to a circle about the middle, negative inside."""
    y, x = np.mgrid[:side, :side] + 0.5
    return np.hypot(y - side / 2, x - side / 2) - radius


def finish(
    source: NDArray[np.float64],
    coarse: NDArray[np.float64],
    distance: NDArray[np.float64],
    device: torch.device,
    dtype: torch.dtype,
    *,
    support: NDArray[np.bool_] | None = None,
    blur_px: float = 0.6,
    fill: float = 0.0,
    **config: object,
) -> NDArray[np.float64]:
    """One grey picture through the pass."""

    def one(values: NDArray[np.generic]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float64))[None].to(device, dtype)

    everywhere = np.ones(source.shape, dtype=bool) if support is None else support
    part = torch.from_numpy(everywhere)[None].to(device)
    blur = torch.tensor([blur_px], dtype=dtype, device=device)
    synergy = BoundarySynergy(NpcfppConfig(**config)).to(device)
    with torch.no_grad():
        noise = torch.from_numpy(np.random.default_rng(9).standard_normal((1, 3, *source.shape))).to(device, dtype)
        found = synergy(one(source)[:, None], one(coarse)[:, None], one(distance), part, blur, fill * noise)
    return found[0, 0].cpu().double().numpy()


def grain(rng: np.random.Generator, *, along: float = 0.7) -> NDArray[np.float64]:
    """Material of mean 0.5: isotropic, or grooves that run down if ``along`` is large."""
    texture = ndimage.gaussian_filter(rng.standard_normal((SIDE, SIDE)), (along, 0.7), mode="wrap")
    return 0.5 + 0.05 * texture / texture.std()


def wiped(source: NDArray[np.float64], distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The material with its texture gone inside the outline."""
    return np.where(distance < 0, source.mean(), source)


def correlation(a: NDArray[np.float64], b: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    return float(np.corrcoef(a[where], b[where])[0, 1])


def test_outside_the_support_every_bit_is_that_of_the_coarse_result(rng, device, dtype):
    source, distance = grain(rng), disc(20.0)
    support = distance < 6
    coarse = np.where(support, wiped(source, distance), source).astype(np.float32)
    found = finish(source, coarse, distance, device, dtype, support=support)
    assert np.array_equal(found[~support], coarse.astype(np.float64)[~support])
    assert np.abs(found - coarse)[support].max() > 0.02


def test_without_strength_nothing_changes(rng, device, dtype, tolerance):
    source, distance = grain(rng), disc(20.0)
    coarse = wiped(source, distance)
    assert_allclose(finish(source, coarse, distance, device, dtype, **OFF), coarse, atol=tolerance.rounding)


def test_a_result_that_is_the_photograph_stays_it(rng, device, dtype):
    source = grain(rng)
    assert_allclose(finish(source, source, disc(20.0), device, dtype), source, atol=2e-4)


def test_where_there_is_no_outline_nothing_changes(rng, device, dtype):
    source = grain(rng)
    coarse = source * 0.8
    found = finish(source, coarse, np.full((SIDE, SIDE), 64.0), device, dtype)
    assert_allclose(found, coarse, atol=1e-6)


def test_grain_that_was_wiped_out_comes_back_at_the_rim_and_fades_inwards(rng, device, dtype):
    source, distance = grain(rng), disc(28.0)
    coarse = wiped(source, distance)
    found = finish(source, coarse, distance, device, dtype, edge=0.0)
    rings = [(distance < -low) & (distance > -high) for low, high in ((0.5, 2), (3, 5), (7, 9), (16, 24))]
    shares = [float((found - source.mean())[ring].std() / (source - source.mean())[ring].std()) for ring in rings]
    assert shares[0] > 0.5
    assert np.all(np.diff(shares) < 0)
    assert shares[-1] < 0.05
    assert correlation(found, source, rings[0]) > 0.65  # it is the photograph's own grain that goes on


def test_a_bare_surface_has_grain_of_its_own_where_that_of_the_material_ends(rng, device, dtype):
    source, distance = grain(rng), disc(28.0)
    coarse = wiped(source, distance)
    deep = distance < -16
    found = finish(source, coarse, distance, device, dtype, edge=0.0, fill=1.0)
    share = float((found - coarse)[deep].std() / (source - source.mean())[deep].std())
    assert 0.6 < share < 1.1
    assert abs(correlation(found, source, deep)) < 0.2
    outside = distance > 8
    assert_allclose(found[outside], coarse[outside], atol=2e-3)


def test_grooves_run_on_farther_than_grain_without_direction(rng, device, dtype):
    deep = (disc(28.0) < -4) & (disc(28.0) > -8)
    shares = []
    for along in (0.7, 12.0):
        source = grain(rng, along=along)
        found = finish(source, wiped(source, disc(28.0)), disc(28.0), device, dtype, edge=0.0)
        shares.append(float((found - 0.5)[deep].std() / 0.05))
    assert shares[1] > 1.3 * shares[0]


def test_under_less_light_grain_has_less_contrast(rng, device, dtype):
    source, distance = grain(rng), disc(28.0)
    ring = np.abs(distance + 1) < 1
    shares = []
    for light in (1.0, 0.5):
        coarse = np.where(distance < 0, light * source.mean(), source)
        found = finish(source, coarse, distance, device, dtype, edge=0.0)
        shares.append(float((found - coarse)[ring].std()))
    assert 0.3 < shares[1] / shares[0] < 0.75


def edge_width(picture: NDArray[np.float64], distance: NDArray[np.float64]) -> float:
    """Standard deviation of the Gaussian that a bright surrounding and a dark disc meet with, pixels."""
    near = np.abs(distance) < 6
    places = np.arange(-5, 5.01, 0.5)
    values = [picture[near & (np.abs(distance - p) < 0.5)].mean() for p in places]
    slope = np.gradient(values, places)
    slope = np.clip(slope, 0, None)
    middle = (slope * places).sum() / slope.sum()
    return float(np.sqrt((slope * (places - middle) ** 2).sum() / slope.sum()))


@pytest.mark.parametrize(("sigma", "optics"), [(1.3, 0.6), (1.1, 0.6)])
def test_an_outline_softer_than_the_optics_is_sharpened_towards_them(sigma, optics, device, dtype):
    distance = disc(24.3)
    source = np.full((SIDE, SIDE), 0.6)

    def seen(width: float) -> NDArray[np.float64]:
        return 0.2 + 0.4 * ndimage.gaussian_filter(np.clip(distance + 0.5, 0, 1), width)

    found = finish(source, seen(sigma), distance, device, dtype, blur_px=optics, energy=0.0)
    before, after, aim = (edge_width(p, distance) for p in (seen(sigma), found, seen(optics)))
    assert after < before - 0.3 * (before - aim)
    assert after > aim - 0.05
    assert found.max() < 0.6 + 0.06  # no halo to speak of


def test_an_outline_sharper_than_the_optics_is_softened(device, dtype):
    distance = disc(24.3)
    hard = np.where(distance > 0, 0.6, 0.2)
    found = finish(np.full((SIDE, SIDE), 0.6), hard, distance, device, dtype, blur_px=1.2, energy=0.0)
    assert edge_width(found, distance) > edge_width(hard, distance) + 0.1


def test_all_parameters_can_be_learned(rng, device):
    side = 16
    source = torch.from_numpy(rng.random((1, 1, side, side))).to(device)
    distance = torch.from_numpy(disc(5.0, side))[None].to(device)
    coarse = torch.where(distance[:, None] < 0, 0.3, source)
    support = torch.ones((1, side, side), dtype=torch.bool, device=device)
    blur = torch.tensor([0.7], dtype=torch.float64, device=device)
    noise = torch.from_numpy(rng.standard_normal((1, 3, side, side))).to(device)
    synergy = BoundarySynergy(NpcfppConfig()).to(device)
    names = [name for name, _ in synergy.named_parameters()]
    assert names == ["energy.strength", "grain.reach", "edge.strength"]

    def run(*values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        return torch.func.functional_call(synergy, given, (source, coarse, distance, support, blur, noise))

    values = tuple(torch.tensor(v, dtype=torch.float64, device=device, requires_grad=True) for v in (0.8, 0.9, 0.7))
    assert torch.autograd.gradcheck(run, values)


@pytest.mark.parametrize("shape", [(1, 1), (3, 3), (1, 40), (5, 64), (51, 47)])
@pytest.mark.parametrize("levels", [1, 2, 6])
@pytest.mark.parametrize("wavelet", ["haar", "db2", "bior4.4"])
def test_any_size_and_any_depth_gives_finite_pictures(shape, levels, wavelet, rng, device):
    source = rng.random(shape)
    distance = rng.uniform(-4, 4, shape)
    one_pixel = np.zeros(shape, dtype=bool)
    one_pixel[shape[0] // 2, shape[1] // 2] = True
    for support in (one_pixel, np.ones(shape, dtype=bool), np.zeros(shape, dtype=bool)):
        coarse = np.where(support, rng.random(shape), source)
        found = finish(source, coarse, distance, device, torch.float32, support=support, levels=levels, wavelet=wavelet)
        assert np.isfinite(found).all()
        assert np.array_equal(found[~support], coarse.astype(np.float32).astype(np.float64)[~support])


@pytest.fixture
def one_thread_after() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [48, 51])
def test_a_picture_s_bits_do_not_depend_on_its_batch_or_on_threads(channels, side, rng, one_thread_after):
    batch = 5
    source, coarse = (torch.from_numpy(rng.random((batch, channels, side, side), dtype=np.float32)) for _ in range(2))
    distance = torch.from_numpy(rng.uniform(-8, 8, (batch, side, side)).astype(np.float32))
    support = torch.from_numpy(rng.random((batch, side, side)) < 0.9)
    blur = torch.from_numpy(rng.uniform(0.5, 1.5, batch).astype(np.float32))
    noise = torch.from_numpy(rng.standard_normal((batch, 3, side, side), dtype=np.float32))
    synergy = BoundarySynergy(NpcfppConfig())
    torch.set_num_threads(1)
    with torch.no_grad():
        whole = synergy(source, coarse, distance, support, blur, noise)
        for threads, chosen in ((1, [4]), (2, [1, 0]), (3, [2, 2, 3, 4])):
            torch.set_num_threads(threads)
            part = synergy(*(values[chosen] for values in (source, coarse, distance, support, blur, noise)))
            for place, k in enumerate(chosen):
                assert torch.equal(part[place], whole[k])
