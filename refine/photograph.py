"""What a photograph says of its own making: where the light comes from, how hard and glossy, how sharp, how noisy.

A picture value v stands for the radiance v^2.2; rho is the radiance / the mean of the part around it. Where a cue is
a mean over the part, its scatter over 8 x 8 blocks gives its standard error, and it is trusted as far as it stands out
of that. What the part does not show, the estimates leave at what is usual.

Direction: the sum of three cues, each as long as it is trusted.

- Slope: the plane that best fits log v over the part rises towards the light.
- Axis: on a relief that is rough in all directions alike, I = 1 - cot(elevation) dh/dl to first order for light from
  l, and grad I has a variance along l up to three times that across: structure tensor with coherence
  (l1 - l2) / (l1 + l2) <= 1/2. It leaves two ways; the other cues, or else the way up, decide.
- Side: bodies that bulge rise out of a dark gap into light at once and fade towards the next gap, so that the third
  moment of the gradient, <grad I |grad I|^2> / <|grad I|^2>^(3/2), points away from the light. A relief of Gaussian
  heights without cast shadows has none; one of hollows has the reverse, and tells of the wrong side.

Grain (grooves, bricks, wood) is told from light by the fourth harmonic of second derivatives, <D^2> / <|D|^2> with
D = I_xx - I_yy + 2i I_xy: a lit isotropic relief has none, as its spectrum goes with cos^2 of the angle to the light.
Where there is grain, axis and side say nothing. Where no cue is trusted, light comes from above.

Directional share: 1 - rho of the darkest 2 % of pixels, as far as the texture is known to be lit relief, which throws
shadows: what direct light does not reach has the ambient share of the radiance. A shallow relief without shadows is
taken for softer light than there is; dark spots of the material in a lit relief for harder. A steep slope of
brightness over the part counts as directional too.

Gloss: the excess of highlights over what a matt relief as deep as the shadows are dark would show,
log rho_99.5% - log(1 + 1.2 (1 - rho_2%)) with rho / its median; Lambert's cosine falls and rises alike. Colour must
agree where the material has one: highlights have the colour of the lamp (dichromatic reflection). Bright spots of
grey material look the same.

Sharpness: an edge seen through a point spread of width sigma, blurred once more by sigma_0, keeps
1 / R = sqrt(sigma^2 / (sigma^2 + sigma_0^2)) of its gradient, so that sigma = sigma_0 / sqrt(R^2 - 1). Where the
gradient of the blurred picture stands out most from its surroundings counts as an edge, as slow shading and wide glints
do not; the noise is taken from both energies. Much of what counts so is a soft detail of the material: the sharper
third tells, 65 % of R^2, less what the noise alone spreads them.

Noise: second differences along both axes in the blocks whose coarser details are the weakest, less what the texture
leaves there as far as the ratio of its details at two coarser scales tells. Compression and reduction correlate the
noise and take its finest part: what is found is the white part of it that the picture still has. Less than a third of
a level of the picture is not seen.

References
----------
Pentland, "Finding the illuminant direction", JOSA 72 (1982).
Koenderink & Pont, "Irradiation direction from texture", JOSA A 20 (2003).
Motoyoshi et al., "Image statistics and the perception of surface qualities", Nature 447 (2007).
Shafer, "Using color to separate reflection components", Color Research & Application 10 (1985).
Zhuo & Sim, "Defocus map estimation from a single image", Pattern Recognition 44 (2011).
Immerkaer, "Fast noise variance estimation", Computer Vision and Image Understanding 64 (1996).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from refine.camera import gaussian_blur, radiance
from refine.stencils import box_mean, central_gradient

__all__ = ["Optics", "estimate_optics"]

_SURROUNDINGS_PX = 31
_DARKEST = 1e-4  # radiance, so that black has a logarithm
_INNER_PX = 7  # texture is read where a square of this side lies on the part
_TEXTURE_BLUR_PX = 1.0
_TEXTURE_CLIP = 1.5  # of log rho: marks and edges count no more than deep relief
_GRID = 8  # blocks per side
_LEAST = 1e-9  # energies of texture below this are rounding

_SLOPE_SEEN = 0.2  # change of log v across the picture that says where the light is
_SLOPE_FULL = 1.0  # and at which it is fully directional
_SLOPE_ROUNDING = 0.01
_AXIS_COHERENCE = (0.1, 0.3)  # from isotropic to lit
_GRAIN_COHERENCE = (0.6, 0.8)  # from lit to grained
_GRID_HARMONIC = -0.15  # fourth harmonic that differences on a square grid give an isotropic texture
_GRAIN_HARMONIC = (0.2, 0.5)
_SIDE_MOMENT = 0.1

_LEAST_DIRECTIONAL = 0.35
_SHADOW_SHARE, _HIGHLIGHT_SHARE, _BRIGHT_SHARE = 0.02, 0.005, 0.05
_MATT_TAIL = 1.2  # rise of a matt relief's 99.5 % / fall of its 2 %
_MATT_EXCESS = 0.1  # deep matt relief has that much
_COLOURED = 0.15  # saturation from which the colour of highlights tells

_REBLUR_PX = 1.0
_STENCIL_PX2 = 1 / 3  # variance of the box, two pixels wide, over which a central difference averages the gradient
_REBLURRED_NOISE = 0.0507  # share of white noise's gradient energy that the reblur leaves
_SHARPEST_PX = 0.45  # the box of one pixel, as a Gaussian, is already 0.29 wide
_SOFTEST_PX = 1.6
_BORDER_PX = 4  # that a blur does not know how to go on beyond
_SHARP_QUANTILE, _SHARP_DEVIATES = 0.65, 0.385  # of the edges, and of a normal distribution
_NOISE_SPREAD = 2.0 * 0.5**0.5  # relative spread of a gradient's energy / (noise / gradient)
_EDGE_SHARE = 0.01  # this share of pixels counts as edges
_RIDGE_PX = 5

_BLOCK_PX = 16
_MARGINS_PX = (3, 4)  # that the stencils need before and behind a pixel
_FLAT_SHARE = 0.25
_BLACK, _WHITE = 0.02, 0.98


@dataclass(frozen=True)
class Optics:
    """Light, gloss, sharpness and noise of B photographs.

    Attributes
    ----------
    light : (B, 2) tensor
        Unit vector (y, x) in the picture towards the light.
    directional : (B,) tensor
        Share of the light that has a direction, 0.35..1; the rest is ambient.
    gloss : (B,) tensor
        Strength of the highlights, 0..1.
    blur_px : (B,) tensor
        Standard deviation of the point spread, 0.45..1.6 pixels.
    noise : (B,) tensor
        Standard deviation of the camera's noise in each channel, picture values.
    brightest : (B, C) tensor
        Largest value of each channel on the part after averaging over 8 x 8 pixels, 0..1.
    """

    light: Tensor
    directional: Tensor
    gloss: Tensor
    blur_px: Tensor
    noise: Tensor
    brightest: Tensor


@dataclass(frozen=True)
class _Cue:
    """Unit vectors (B, 2), (y, x), and how far they are to be trusted, (B,), 0..1."""

    direction: Tensor
    trust: Tensor


@dataclass(frozen=True)
class _Texture:
    """What the texture of B photographs says of the light: an axis, up to its sign, a side, and the grain (B,) 0..1."""

    axis: _Cue
    side: _Cue
    grain: Tensor


def estimate_optics(image: Tensor, foreground: Tensor) -> Optics:
    """Estimate light, gloss, sharpness and noise.

    Parameters
    ----------
    image : (B, C, H, W) float tensor
        Photographs, 0..1.
    foreground : (B, H, W) bool tensor
        Where the part is; at least one pixel each.
    """
    grey = image.mean(dim=1)
    relative = _relative_radiance(grey, foreground)
    texture = _texture(relative, foreground)
    slope, shading = _brightness_slope(grey, foreground)
    sparse = relative[:, ::2, ::2], foreground[:, ::2, ::2]  # enough for shares of the part
    shadow, median, bright, highlight = _quantiles(
        *sparse, (_SHADOW_SHARE, 0.5, 1 - _BRIGHT_SHARE, 1 - _HIGHLIGHT_SHARE)
    )
    tinted = _lamp_coloured(image[:, :, ::2, ::2], *sparse, torch.stack([median, bright, highlight]))
    noise = _noise(image, foreground)
    return Optics(
        light=_direction(shading, texture),
        directional=_directional_share(slope, shading, texture, 1 - (shadow - median).exp()),
        gloss=_gloss(shadow - median, highlight - median) * tinted * (1 - texture.grain),
        blur_px=_edge_width(grey, foreground, noise / image.shape[1] ** 0.5),  # channels have noise of their own
        noise=noise,
        brightest=functional.avg_pool2d(image * foreground[:, None], 8, ceil_mode=True).amax(dim=(2, 3)),
    )


def _relative_radiance(grey: Tensor, foreground: Tensor) -> Tensor:
    """Logarithm of rho (B, H, W); 0 off the part."""
    part = foreground.to(grey.dtype)
    light = radiance(grey) + _DARKEST
    around = box_mean(torch.stack([light * part, part], dim=1), _SURROUNDINGS_PX)
    mean = around[:, 0] / around[:, 1].clamp_min(_LEAST)
    return torch.where(foreground, (light / mean.clamp_min(_DARKEST)).log(), 0.0)


# ---------------------------------------------------------------- light


def _direction(shading: _Cue, texture: _Texture) -> Tensor:
    """Unit vector (B, 2) towards the light."""
    above = torch.zeros_like(shading.direction)
    above[:, 0] = -1.0
    seen = shading.trust[:, None] * shading.direction + texture.side.trust[:, None] * texture.side.direction
    unseen = ((1 - shading.trust) * (1 - texture.side.trust))[:, None]
    lit = texture.axis.trust[:, None]
    opposed = (texture.axis.direction * (seen + unseen * above)).sum(dim=1, keepdim=True) < 0
    axis = torch.where(opposed, -texture.axis.direction, texture.axis.direction)
    return _unit(seen + lit * axis + (1 - lit) * unseen * above, above)


def _directional_share(slope: Tensor, shading: _Cue, texture: _Texture, in_shadow: Tensor) -> Tensor:
    lit = torch.maximum(texture.axis.trust, texture.side.trust)
    above_least = 1 - _LEAST_DIRECTIONAL
    shaded = _LEAST_DIRECTIONAL + above_least * shading.trust * _length(slope) / _SLOPE_FULL
    shadowed = torch.lerp(torch.full_like(lit, _LEAST_DIRECTIONAL), in_shadow, lit)
    return torch.maximum(shaded, shadowed).clamp(_LEAST_DIRECTIONAL, 1)


def _brightness_slope(grey: Tensor, foreground: Tensor) -> tuple[Tensor, _Cue]:
    """Least-squares slope (B, 2) of log v over the part, per side of the picture, and as a cue.

    Blocks of the part are taken to be independent, pixels of one block not: a sandwich estimator of its error.
    """
    height, width = grey.shape[1:]
    weight = foreground.to(grey.dtype)
    y = torch.linspace(-0.5, 0.5, height, dtype=grey.dtype, device=grey.device)
    x = torch.linspace(-0.5, 0.5, width, dtype=grey.dtype, device=grey.device)
    value = (grey + _BLACK).log() * weight
    beside = weight * x
    rows, rows_x, rows_xx, rows_v, rows_xv = (f.sum(dim=2) for f in (weight, beside, beside * x, value, value * x))
    total = _in_order(rows).clamp_min(1.0)
    sums = (rows * y, rows_x, rows_v, rows * y * y, rows_xx, rows_x * y, rows_v * y, rows_xv)
    my, mx, mv, yy, xx, yx, yv, xv = (_in_order(f) / total for f in sums)
    ridge = 1e-4  # a part one pixel wide has no slope across
    yy, xx, yx = yy - my * my + ridge, xx - mx * mx + ridge, yx - my * mx
    determinant = yy * xx - yx * yx

    def solve(yv: Tensor, xv: Tensor) -> Tensor:
        return torch.stack([(xx * yv - yx * xv) / determinant, (yy * xv - yx * yv) / determinant], dim=-1)

    slope = solve(yv - my * mv, xv - mx * mv)
    down, right = (y - my[:, None])[:, :, None], (x - mx[:, None])[:, None]
    plane = mv[:, None, None] + slope[:, 0, None, None] * down + slope[:, 1, None, None] * right
    rest = value - plane * weight
    pulls = solve(*((_blocks(away * rest) / total[:, None]).T for away in (down, right)))  # (N, B, 2)
    error = _in_order(pulls.square().sum(dim=2).T).sqrt() + _SLOPE_ROUNDING
    steepness = _length(slope)
    trust = (steepness / _SLOPE_SEEN).clamp(0, 1) * _significance(steepness, error)
    return slope, _Cue(_unit(slope, torch.zeros_like(slope)), trust)


def _texture(relative: Tensor, foreground: Tensor) -> _Texture:
    """Axis, side and grain from means over blocks, so that no few edges decide."""
    part = foreground.to(relative.dtype)
    inner = (box_mean(part[:, None], _INNER_PX)[:, 0] > 1 - 1e-3).to(relative.dtype)
    pixels = _blocks(inner)
    weight = pixels / pixels.amax(dim=1, keepdim=True).clamp_min(1)
    width = torch.full_like(relative[:, 0, 0], _TEXTURE_BLUR_PX)
    smooth = gaussian_blur(relative.clamp(-_TEXTURE_CLIP, _TEXTURE_CLIP)[:, None], width)[:, 0]
    down, right = central_gradient(smooth)
    down_down, down_right = central_gradient(down)
    _, right_right = central_gradient(right)
    down, right = down * inner, right * inner
    across, skewed = (right_right - down_down) * inner, -2 * down_right * inner
    yy, xx = down * down, right * right
    energy = _blocks(yy + xx)
    mean_energy = energy / pixels.clamp_min(1)
    weight = weight * (mean_energy > _LEAST)

    def mean(first: Tensor, second: Tensor, scale: Tensor) -> tuple[Tensor, Tensor]:
        vectors = torch.stack([_blocks(first), _blocks(second)], dim=2) / scale.clamp_min(_LEAST**1.5)[..., None]
        return _weighted_mean(vectors, weight)

    # angles from the right, counter-clockwise; twice that of the axis, four times that of the grain
    double, double_error = mean(xx - yy, -2 * down * right, energy)
    cubed = energy * mean_energy.sqrt()
    away, away_error = mean((yy + xx) * down, (yy + xx) * right, cubed)
    fourfold, _ = mean(
        across * across - skewed * skewed, 2 * across * skewed, _blocks(across * across + skewed * skewed)
    )
    fourfold = fourfold - torch.tensor([_GRID_HARMONIC, 0.0], dtype=fourfold.dtype, device=fourfold.device)
    coherence = _length(double)
    grain = torch.maximum(_rise(_length(fourfold), *_GRAIN_HARMONIC), _rise(coherence, *_GRAIN_COHERENCE))
    half = 0.5 * torch.atan2(double[:, 1], double[:, 0])
    axis = torch.stack([-torch.sin(half), torch.cos(half)], dim=1)
    lit = _rise(coherence, *_AXIS_COHERENCE) * _significance(coherence, double_error) * (1 - grain)
    moment = _length(away)
    sided = (moment / _SIDE_MOMENT).clamp(0, 1) * _significance(moment, away_error) * (1 - grain)
    return _Texture(_Cue(axis, lit), _Cue(_unit(-away, torch.zeros_like(away)), sided), grain)


def _weighted_mean(vectors: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (B, 2) over blocks of vectors (B, N, 2), and its standard error (B,)."""
    total = _in_order(weight).clamp_min(_LEAST)
    mean = _in_order((vectors * weight[..., None]).movedim(2, 1)) / total[:, None]
    scatter = _in_order((vectors - mean[:, None]).square().sum(dim=2) * weight) / total
    number = total * total / _in_order(weight * weight).clamp_min(_LEAST)
    return mean, (scatter / (number - 1).clamp_min(0.1)).sqrt()


# ---------------------------------------------------------------- gloss


def _gloss(shadow: Tensor, highlight: Tensor) -> Tensor:
    """Highlights (B,) that a matt relief with such shadows would not have; both as logarithms, to the median."""
    matt = (_MATT_TAIL * (1 - shadow.exp())).log1p()
    return (highlight - matt - _MATT_EXCESS).clamp(0, 1)


def _lamp_coloured(image: Tensor, relative: Tensor, foreground: Tensor, levels: Tensor) -> Tensor:
    """How far (B,) highlights have lost the material's colour; 1 where it has none.

    ``levels`` (3, B) are the median, the level below which a pixel counts as matt, and that of highlights.
    """
    if image.shape[1] == 1:
        return torch.ones_like(levels[0])
    median, bright, highlight = levels[:, :, None, None]
    matt = _saturation(image, foreground & (relative >= median) & (relative <= bright))
    shiny = _saturation(image, foreground & (relative >= highlight))
    lost = (2 * (1 - shiny / matt.clamp_min(1e-3))).clamp(0, 1)
    return torch.lerp(torch.ones_like(lost), lost, (matt / _COLOURED).clamp(0, 1))


def _saturation(image: Tensor, where: Tensor) -> Tensor:
    """1 - smallest / largest channel (B,) of the mean colour."""
    batch, channels = image.shape[:2]
    colour = _total((image * where[:, None]).flatten(0, 1)).reshape(batch, channels)
    return 1 - colour.amin(dim=1) / colour.amax(dim=1).clamp_min(1e-6)


def _quantiles(field: Tensor, foreground: Tensor, shares: tuple[float, ...]) -> tuple[Tensor, ...]:
    """Values (B,) below which these shares of the part lie."""
    values = torch.where(foreground, field, torch.inf).flatten(1).sort(dim=1).values
    number = foreground.flatten(1).sum(dim=1)
    places = ((share * (number - 1).clamp_min(0)).round().long() for share in shares)
    return tuple(torch.where(number > 0, values.gather(1, place[:, None])[:, 0], 0.0) for place in places)


# ---------------------------------------------------------------- sharpness and noise


def _edge_width(grey: Tensor, foreground: Tensor, noise: Tensor) -> Tensor:
    """Width (B,) of the point spread from the steepest edges on the part, pixels."""
    width = torch.full_like(noise, _REBLUR_PX)
    sharp, soft = (_gradient_energy(field) for field in (grey, gaussian_blur(grey[:, None], width)[:, 0]))
    count = max(8, int(_EDGE_SHARE * grey.shape[1] * grey.shape[2]))
    narrow = (soft - box_mean(soft[:, None], _RIDGE_PX)[:, 0]) * foreground * _inner(grey, _BORDER_PX)
    where = narrow.flatten(1).topk(min(count, narrow[0].numel()), dim=1).indices
    variance = (noise * noise)[:, None]
    kept = (soft.flatten(1).gather(1, where) - _REBLURRED_NOISE * variance).clamp_min(1e-12)
    given = (sharp.flatten(1).gather(1, where) - variance).clamp_min(1e-12)
    ratio = _sharpest(given / kept, (variance / given).sqrt())
    seen = _REBLUR_PX**2 / (ratio - 1).clamp_min(1e-3)  # of the point spread and the stencil together
    return (seen - _STENCIL_PX2).clamp_min(0).sqrt().clamp(_SHARPEST_PX, _SOFTEST_PX)


def _inner(field: Tensor, margin: int) -> Tensor:
    """1 within a map (B, H, W), 0 near its border, where a blur does not know how the picture goes on."""
    inner = torch.zeros_like(field[:1])
    inner[:, margin:-margin, margin:-margin] = 1
    return inner


def _sharpest(ratio: Tensor, unsure: Tensor) -> Tensor:
    """Upper quantile (B,) of ratios (B, N), less what their uncertainty through noise, relative, adds to it."""
    middle = ratio.median(dim=1).values
    above = ratio.quantile(_SHARP_QUANTILE, dim=1) - middle
    chance = _SHARP_DEVIATES * _NOISE_SPREAD * unsure.median(dim=1).values * middle
    return middle + (above.square() - chance.square()).clamp_min(0).sqrt()


def _gradient_energy(field: Tensor) -> Tensor:
    down, right = central_gradient(field)
    return down * down + right * right


def _noise(image: Tensor, foreground: Tensor) -> Tensor:
    """Standard deviation (B,) of white noise in each channel of (B, C, H, W).

    From the quarter of blocks with the weakest details at two pixels, among those that lie on the part and are neither
    black nor white; where there is no such block, from all of the part.
    """
    clear = (foreground[:, None] & (image > _BLACK) & (image < _WHITE)).all(dim=1)
    if min(image.shape[2:]) <= sum(_MARGINS_PX):
        return torch.zeros_like(image[:, 0, 0, 0])
    finest, coarse, coarser = _detail_energies(image)
    before, behind = _MARGINS_PX
    inside = clear[:, before:-behind, before:-behind].to(image.dtype)
    whole, *energies = (_tile_means(field) for field in (inside, finest, coarse, coarser))
    usable = whole > 1 - 1e-6
    rank = torch.where(usable, energies[1], torch.inf).argsort(dim=1, stable=True)
    number = (_FLAT_SHARE * usable.sum(dim=1)).round().clamp_min(1)
    flat = (torch.arange(rank.shape[1], device=rank.device) < number[:, None]).to(image.dtype)
    found = (_in_order(energy.gather(1, rank) * flat) / number for energy in energies)
    pixels = _total(inside).clamp_min(1)
    of_all = (_total(energy * inside) / pixels for energy in (finest, coarse, coarser))
    some = usable.any(dim=1)
    return _white_part(*(torch.where(some, a, b) for a, b in zip(found, of_all, strict=True)))


def _white_part(finest: Tensor, coarse: Tensor, coarser: Tensor) -> Tensor:
    """Standard deviation (B,) of noise, from the energies of details, (1, 1/4, 1/16) of its variance.

    Of a texture's energy at two pixels half the squared ratio to that at four is left in the finest details.
    """
    steepness = ((coarse - finest / 4) / (coarser - finest / 16).clamp_min(1e-12)).clamp(0, 1)
    left = 0.5 * steepness * steepness
    return ((finest - left * coarse).clamp_min(0) / (1 - left / 4)).sqrt()


def _detail_energies(image: Tensor) -> list[Tensor]:
    """Mean squares over the channels of details at one, two and four pixels, (B, H - 7, W - 7), from pixel 3 on."""
    batch, channels, height, width = image.shape
    height, width = height - sum(_MARGINS_PX), width - sum(_MARGINS_PX)
    flat = image.flatten(0, 1)
    second = flat[:, 2:] - 2 * flat[:, 1:-1] + flat[:, :-2]
    finest = (second[:, :, 2:] - 2 * second[:, :, 1:-1] + second[:, :, :-2]) / 6
    twos = 0.25 * _corners(flat, 1, 1)
    fours = 0.25 * _corners(twos, 2, 1)
    details = (finest[:, 2:, 2:], 0.5 * _corners(twos, 2, -1)[:, 2:, 2:], 0.5 * _corners(fours, 4, -1))
    return [d[:, :height, :width].square().reshape(batch, channels, height, width).mean(dim=1) for d in details]


def _corners(field: Tensor, apart: int, sign: int) -> Tensor:
    """Sum of the four corners of a square of this side, those of one diagonal with a sign."""
    rows = field[:, :-apart] + sign * field[:, apart:]
    return rows[:, :, :-apart] + sign * rows[:, :, apart:]


def _tile_means(field: Tensor) -> Tensor:
    """Means (B, N) of a map (B, H, W) over squares; over the map itself where it is smaller than one."""
    side = min(_BLOCK_PX, *field.shape[1:])
    down, right = (n // side for n in field.shape[1:])
    rows = field[:, : down * side, : right * side].reshape(len(field), down, side, right, side)
    means: Tensor = rows.transpose(2, 3).flatten(3).sum(dim=3).flatten(1) / (side * side)
    return means


# ---------------------------------------------------------------- sums in an order of their own, and vectors


def _total(field: Tensor) -> Tensor:
    """Sum (B,) of a map (B, H, W): row by row, so that neither threads nor the batch change its bits."""
    return _in_order(field.contiguous().sum(dim=2))


def _in_order(values: Tensor) -> Tensor:
    """Sum over the last axis from first to last."""
    return values.contiguous().cumsum(dim=-1)[..., -1]


def _blocks(field: Tensor) -> Tensor:
    """Sums (B, 64) of a map (B, H, W) over 8 x 8 blocks."""
    batch, height, width = field.shape
    side_y, side_x = -(-height // _GRID), -(-width // _GRID)
    missing = (0, _GRID * side_x - width, 0, _GRID * side_y - height)
    if any(missing):
        field = functional.pad(field, missing)
    rows = field.reshape(batch, _GRID, side_y, _GRID, side_x).sum(dim=4)
    return rows.transpose(2, 3).contiguous().sum(dim=3).flatten(1)


def _length(vectors: Tensor) -> Tensor:
    """Length (B,) of vectors (B, 2)."""
    return torch.hypot(vectors[:, 0], vectors[:, 1])


def _unit(vectors: Tensor, otherwise: Tensor) -> Tensor:
    length = _length(vectors)[:, None]
    return torch.where(length > _LEAST, vectors / length.clamp_min(_LEAST), otherwise)


def _rise(value: Tensor, start: float, end: float) -> Tensor:
    return ((value - start) / (end - start)).clamp(0, 1)


def _significance(size: Tensor, error: Tensor) -> Tensor:
    """Trust (B,) in a vector: none below two standard errors, which chance passes once in fifty, full from four."""
    return _rise(size / error.clamp_min(_LEAST), 2.0, 4.0)
