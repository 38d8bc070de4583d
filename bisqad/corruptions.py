"""Corruptions of sound samples, by name: what a Synthesis Quality Estimator learns to tell from sound ones.

Each takes a sample, other samples of the same size and a random generator, and gives another picture and mask; the
source and the part stay as they are. Each leaves all but what it is named after as sound as it can:

====================  ================================================================================================
shuffled_mask         the mask is that of another sample
shifted_mask          the mask lies beside the change, by up to its own size
resized_mask          the mask is grown, or shrunk to its core
broken_blend          the change ends in a step, a halo, or on a pedestal, at the border of its support
off_part              change and mask lie off the part, wholly or in part
invisible             the change is too weak to be seen
wrong_shading         the change is inverted, or a relief is lit from the other side
pasted_rectangle      a rectangle of another picture, pasted and labelled
wrong_camera          the picture in the mask is blurred, or noisier than the camera
ghost                 the change occurs a second time, unlabelled
====================  ================================================================================================

A sample that a corruption cannot make unsound (no background to move onto, no room for a second change) gives None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from bisqad.cells import eight_bit_colour
from manifests import Corpus, Sample

__all__ = ["CORRUPTIONS", "Specimen", "corrupt", "others_by_group", "specimen_of"]

Picture = NDArray[np.uint8]
Mask = NDArray[np.bool_]
_Floats = NDArray[np.float32]
_Draw = np.random.Generator
_Array = TypeVar("_Array", NDArray[np.bool_], NDArray[np.float32])

_VISIBLE_LEVELS: Final = 8.0  # of 255, as label.visible_threshold
_LEAST_DISAGREEMENT: Final = 0.35  # 1 - overlap / union, from which on a mask is another one
_TRIES: Final = 40
_OTHERS: Final = 12  # samples of a group that its corrupted ones borrow from


@dataclass(frozen=True)
class Specimen:
    """What is corrupted: ``image`` and ``source`` (S, S, 3) uint8, ``mask`` and ``part`` (S, S) bool."""

    image: Picture
    mask: Mask
    source: Picture
    part: Mask

    @property
    def change(self) -> _Floats:
        """Image less source, (S, S, 3), grey levels."""
        return self.image.astype(np.float32) - self.source

    @property
    def support(self) -> Mask:
        """Where anything changed, and the mask."""
        return np.asarray((self.image != self.source).any(axis=2) | self.mask)

    def with_change(self, change: _Floats, mask: Mask | None = None) -> Specimen:
        """The source with another change, and another mask if there is one."""
        image = np.clip(np.rint(self.source + change), 0, 255).astype(np.uint8)
        return Specimen(image, self.mask if mask is None else mask, self.source, self.part)


_Corruption = Callable[[Specimen, Sequence[Specimen], _Draw], Specimen | None]


def specimen_of(sample: Sample) -> Specimen:
    """A stored sample of 8 or 16 bits, grey or colour."""
    return Specimen(eight_bit_colour(sample.image), sample.mask > 0, eight_bit_colour(sample.source), sample.foreground)


def others_by_group(corpus: Corpus) -> dict[int, list[tuple[str, Specimen]]]:
    """What corrupted samples may borrow from: of each group up to 12 samples with their ids, evenly over the corpus."""
    groups = np.array(corpus.table["group"].to_pylist())
    found = {}
    for group in np.unique(groups).tolist():
        at = np.flatnonzero(groups == group)
        chosen = at[np.unique(np.linspace(0, len(at) - 1, _OTHERS).astype(np.int64))]
        found[group] = [(corpus[k].record.id, specimen_of(corpus[k])) for k in chosen.tolist()]
    return found


def corrupt(kind: str, specimen: Specimen, others: Sequence[Specimen], *, seed: int) -> Specimen | None:
    """A corrupted copy of a sample.

    Parameters
    ----------
    kind : str
        One of `CORRUPTIONS`.
    specimen : Specimen
        A sound sample.
    others : sequence of Specimen
        Sound samples of the same size that masks and pictures may be taken from; at least one.
    seed : int
        Same seed, same result.

    Returns
    -------
    Specimen or None
        None where this kind cannot make this sample unsound.

    Raises
    ------
    ValueError
        There is no such kind, no other sample, or one of another size.
    """
    if kind not in CORRUPTIONS:
        raise ValueError(f"no corruption {kind!r}; there are {', '.join(CORRUPTIONS)}")
    if not others or any(other.mask.shape != specimen.mask.shape for other in others):
        raise ValueError(f"others: expected at least one sample, all {specimen.mask.shape} as the one to corrupt")
    if not specimen.mask.any():
        return None
    position = (seed, list(CORRUPTIONS).index(kind))
    return CORRUPTIONS[kind](specimen, others, np.random.default_rng(position))


# ---------------------------------------------------------------- masks


def _shuffled_mask(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    for k in rng.permutation(len(others))[:_TRIES].tolist():
        mask = others[k].mask & specimen.part
        if mask.any() and _disagreement(mask, specimen.mask) > _LEAST_DISAGREEMENT:
            return Specimen(specimen.image, mask, specimen.source, specimen.part)
    return None


def _shifted_mask(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    del others
    reach = max(6.0, 0.5 * _side(specimen.mask))
    for _ in range(_TRIES):
        angle, length = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.0) * reach
        mask = _moved(specimen.mask, round(length * np.sin(angle)), round(length * np.cos(angle))) & specimen.part
        kept = _count(mask) > 0.7 * _count(specimen.mask)
        if kept and _disagreement(mask, specimen.mask) > _LEAST_DISAGREEMENT:
            return Specimen(specimen.image, mask, specimen.source, specimen.part)
    return None


def _resized_mask(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    del others
    depth = ndimage.distance_transform_edt(specimen.mask)
    wide = float(depth.max())
    if wide > 4 and rng.random() < 0.5:
        mask = depth > rng.uniform(0.3, 0.6) * wide
    else:
        away = ndimage.distance_transform_edt(~specimen.mask)
        mask = (away <= rng.uniform(0.5, 1.5) * max(wide, 5.0)) & specimen.part
    if not mask.any() or _disagreement(mask, specimen.mask) <= _LEAST_DISAGREEMENT:
        return None
    return Specimen(specimen.image, mask, specimen.source, specimen.part)


# ---------------------------------------------------------------- pictures


def _broken_blend(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    """A pedestal over the support grown by some pixels, a halo along its border, or a step: texture of elsewhere."""
    del others
    support = _dilated(specimen.support, int(rng.integers(2, 8))) & specimen.part
    level = rng.choice([-1.0, 1.0]) * rng.uniform(10, 30)
    variant = rng.integers(3)
    if variant == 0:
        extra = level * support[..., None]
    elif variant == 1:
        width = int(rng.integers(1, 4))
        extra = level * (support & _dilated(~support, width))[..., None]
    else:
        size = len(support)
        elsewhere = np.roll(specimen.source, rng.integers(size // 4, 3 * size // 4, 2), axis=(0, 1))
        patch = elsewhere.astype(np.float32) - specimen.source
        extra = (patch + 0.5 * level) * (support & ~specimen.mask)[..., None]
    made = specimen.with_change(specimen.change + np.asarray(extra, dtype=np.float32))
    return made if _seen(made, support & ~specimen.mask) > 0.3 else None


def _off_part(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    """Moved until at least a third of the mask lies off the part."""
    del others
    free = ~specimen.part
    if _count(free) < 0.5 * _count(specimen.mask):
        return None
    size = len(free)
    places, middle = np.argwhere(free), np.argwhere(specimen.mask).mean(axis=0)
    for _ in range(_TRIES):
        down, right = (np.rint(places[rng.integers(len(places))] - middle)).astype(int)
        down, right = int(np.clip(down, -size, size)), int(np.clip(right, -size, size))
        mask = _moved(specimen.mask, down, right)
        area = _count(mask)
        if area > 0.5 * _count(specimen.mask) and _count(mask & free) > area / 3:
            return specimen.with_change(_moved(specimen.change, down, right), mask)
    return None


def _invisible(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    del others
    strength = float(np.quantile(np.abs(specimen.change).max(axis=2)[specimen.mask], 0.9))
    wanted = rng.uniform(0.0, 0.7) * _VISIBLE_LEVELS
    return specimen.with_change(specimen.change * np.float32(wanted / strength)) if strength > wanted else None


def _wrong_shading(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    """Inverted; or, where dark and light are balanced as on a relief, turned by half a turn within its mask's box."""
    del others
    change = specimen.change
    tones = change.mean(axis=2)[specimen.mask]
    balanced = abs(float(tones.mean())) < 0.35 * float(np.abs(tones).mean())
    if not balanced or rng.random() < 0.5:
        made = specimen.with_change(-change)
        return made if _seen(made, specimen.mask) > 0.5 else None  # black and white cannot be inverted
    rows, columns = _box(specimen.support)
    turned, mask = np.zeros_like(change), np.zeros_like(specimen.mask)
    turned[rows, columns] = change[rows, columns][::-1, ::-1]
    mask[rows, columns] = specimen.mask[rows, columns][::-1, ::-1]
    if _count(mask & ~specimen.part):
        return specimen.with_change(-change)
    return specimen.with_change(turned, mask)


def _pasted_rectangle(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    size = len(specimen.mask)
    for _ in range(_TRIES):
        other = others[int(rng.integers(len(others)))].source
        height, width = (int(n) for n in np.rint(size * rng.uniform(0.04, 0.25, 2)).clip(4, size))
        top, left = int(rng.integers(size - height + 1)), int(rng.integers(size - width + 1))
        down, right = int(rng.integers(size - height + 1)), int(rng.integers(size - width + 1))
        mask = np.zeros_like(specimen.mask)
        mask[top : top + height, left : left + width] = True
        if not specimen.part[mask].all():
            continue
        image = specimen.source.copy()
        image[mask] = other[down : down + height, right : right + width].reshape(-1, 3)
        made = Specimen(image, mask, specimen.source, specimen.part)
        if _seen(made, mask) > 0.3:
            return made
    return None


def _wrong_camera(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    """A mask's surroundings softened out of focus, or with noise that the rest of the picture does not have."""
    del others
    image = specimen.image.astype(np.float32)
    where = _dilated(specimen.mask, 1)
    if rng.random() < 0.6:
        width = rng.uniform(1.8, 3.5)
        made = ndimage.gaussian_filter(image, (width, width, 0))
    else:
        strength = rng.uniform(1.5, 3.0) * max(_detail(specimen.source, where), 3.0)
        made = image + rng.normal(0.0, strength, image.shape[:2])[..., None].astype(np.float32)
    change = np.where(where[..., None], made, image) - specimen.source
    found = specimen.with_change(change.astype(np.float32))
    altered = np.abs(found.image.astype(np.float32) - image).mean(axis=2)[specimen.mask].mean()
    return found if altered > _LEAST_ALTERED else None


_LEAST_ALTERED: Final = 2.0  # grey levels: an even material looks the same out of focus


def _ghost(specimen: Specimen, others: Sequence[Specimen], rng: _Draw) -> Specimen | None:
    del others
    size = len(specimen.mask)
    support = _dilated(specimen.support, 2)
    for _ in range(_TRIES):
        down, right = (int(n) for n in rng.integers(-size // 2, size // 2 + 1, 2))
        again = _moved(specimen.mask, down, right)
        inside = _count(again & specimen.part) > 0.7 * _count(specimen.mask)
        if inside and not np.any(again & support):
            second = _moved(specimen.change, down, right) * specimen.part[..., None] * ~support[..., None]
            made = specimen.with_change(specimen.change + second.astype(np.float32))
            return made if _seen(made, again) > 0.3 else None
    return None


CORRUPTIONS: Final[Mapping[str, _Corruption]] = MappingProxyType(
    {
        "shuffled_mask": _shuffled_mask,
        "shifted_mask": _shifted_mask,
        "resized_mask": _resized_mask,
        "broken_blend": _broken_blend,
        "off_part": _off_part,
        "invisible": _invisible,
        "wrong_shading": _wrong_shading,
        "pasted_rectangle": _pasted_rectangle,
        "wrong_camera": _wrong_camera,
        "ghost": _ghost,
    }
)


# ---------------------------------------------------------------- shared


def _disagreement(first: Mask, second: Mask) -> float:
    """1 - overlap / union."""
    return 1.0 - _count(first & second) / max(_count(first | second), 1)


def _count(mask: Mask) -> int:
    return int(np.count_nonzero(mask))


def _side(mask: Mask) -> float:
    """Root of the area, pixels."""
    return float(np.sqrt(_count(mask)))


def _seen(specimen: Specimen, where: Mask) -> float:
    """Share of a region that changed visibly."""
    visible = np.abs(specimen.change).max(axis=2) >= _VISIBLE_LEVELS
    return _count(visible & where) / max(_count(where), 1)


def _detail(picture: Picture, where: Mask) -> float:
    """Standard deviation of a picture's detail of single pixels over a region, grey levels."""
    grey = picture.astype(np.float32).mean(axis=2)
    return float((grey - ndimage.gaussian_filter(grey, 1.0))[where].std())


def _box(mask: Mask) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)


def _dilated(mask: Mask, reach_px: int) -> Mask:
    return np.asarray(ndimage.binary_dilation(mask, np.ones((3, 3), dtype=np.bool_), iterations=reach_px))


def _moved(array: _Array, down: int, right: int) -> _Array:
    """By whole pixels; 0 where nothing comes in."""
    size = len(array)
    moved = np.zeros_like(array)
    if abs(down) < size and abs(right) < size:
        to_rows, to_columns = (slice(max(n, 0), size + min(n, 0)) for n in (down, right))
        rows, columns = (slice(max(-n, 0), size + min(-n, 0)) for n in (down, right))
        moved[to_rows, to_columns] = array[rows, columns]
    return moved
