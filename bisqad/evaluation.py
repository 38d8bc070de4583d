"""Judging a detector on photographs of a data set with masks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bisqad.detector import Detector
from bisqad.inspection_set import find_photographs, read_photograph
from bisqad.metrics import Detection, evaluate_scores
from manifests.errors import ConfigError

__all__ = ["evaluate"]

Advance = Callable[[int, int], None]
_LONGEST_PX = 640  # of a map that is judged: a larger photograph's is judged on its map reduced to this


def evaluate(
    detector: Detector,
    data: Path,
    *,
    category: str | None = None,
    leave_out: Sequence[Path] = (),
    seed: int = 0,
    advance: Advance | None = None,
) -> Detection:
    """Measures of a detector on the test part of a data set.

    Parameters
    ----------
    detector : Detector
        Looks at every photograph.
    data : Path
        Root of a data set in the layout of MVTec AD, VisA or BTAD, or of one of its categories.
    category : str, optional
        Only this category of the data set.
    leave_out : sequence of Path
        Photographs that something was chosen on: not judged.
    seed : int
        Of the bootstrap.
    advance : callable, optional
        Told (photographs done, of how many).

    Raises
    ------
    SourceError, ConfigError
        The data set cannot be read, or the detector does not know a category of it.
    """
    left_out = {path.resolve() for path in leave_out}
    photographs = [p for p in find_photographs(data, "test") if p.path.resolve() not in left_out]
    if category is not None:
        known = sorted({p.category for p in photographs})
        photographs = [p for p in photographs if p.category == category]
        if not photographs:
            raise ConfigError(f"--category {category}: {data} has {', '.join(known)}")
    scores, maps, masks = [], [], []
    for number, photograph in enumerate(photographs):
        image, mask = read_photograph(photograph)
        found = detector.inspect(image, photograph.category)
        step = -(-max(found.score_map.shape) // _LONGEST_PX)
        scores.append(found.score)
        maps.append(found.score_map[::step, ::step])
        masks.append(mask[::step, ::step])
        if advance is not None:
            advance(number + 1, len(photographs))
    return evaluate_scores(scores, maps, masks, [p.kind for p in photographs], seed=seed)
