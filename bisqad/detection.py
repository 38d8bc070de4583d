"""Inspecting photographs: a score, a verdict and a heat map for each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from bisqad.detector import Detector
from bisqad.heat_map import side_by_side
from bisqad.inspection_set import read_image
from manifests.durable import write_atomic
from manifests.errors import OutputError, SourceError

__all__ = ["Inspected", "detect"]


@dataclass(frozen=True)
class Inspected:
    """What came of one photograph: ``heat_map`` is the name of its picture, ``error`` what kept it from being read."""

    image: Path
    score: float
    anomalous: bool
    heat_map: str
    error: str = ""


def detect(
    detector: Detector,
    images: Sequence[Path],
    out: Path,
    *,
    category: str | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> list[Inspected]:
    """Write a heat map of each photograph into a folder.

    One that cannot be read is told of in its row, and does not stop the others.

    Raises
    ------
    OutputError
        The folder cannot be written to.
    ConfigError
        The detector does not know the category.
    """
    key = detector.category_key(category)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out}: cannot be made ({error.strerror}); give another --out") from None
    found, names = [], _names(images)
    for image, name in zip(images, names, strict=True):
        if any((out / name).resolve() == other.resolve() for other in images):
            raise OutputError(f"{out / name}: is a photograph to look at ({image.name}); give another --out")
    for number, (image, name) in enumerate(zip(images, names, strict=True)):
        found.append(_inspected(detector, image, out / name, key))
        if advance is not None:
            advance(number + 1, len(images))
    return found


def _inspected(detector: Detector, image: Path, heat_map: Path, key: str) -> Inspected:
    try:
        pixels = read_image(image)
    except SourceError as error:
        return Inspected(image, float("nan"), False, "", str(error))
    seen = detector.inspect(pixels, key)
    top = max(float(seen.score_map.max()), 2 * detector.pixel_threshold)  # a normal part must not glow
    picture = side_by_side(pixels, seen.score_map, threshold=detector.pixel_threshold, highest=top)
    data = BytesIO()
    picture.save(data, "PNG")
    try:
        write_atomic(heat_map, data.getvalue())
    except OSError as error:
        raise OutputError(f"{heat_map}: cannot be written ({error.strerror})") from None
    return Inspected(image, seen.score, seen.anomalous, heat_map.name)


def _names(images: Sequence[Path]) -> list[str]:
    """File names for the heat maps, no two alike."""
    names: list[str] = []
    for image in images:
        name, number = f"{image.stem}.png", 2
        while name in names:
            name, number = f"{image.stem}-{number}.png", number + 1
        names.append(name)
    return names
