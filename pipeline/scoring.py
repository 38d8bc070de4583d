"""Quality of samples: as they are made, and of a finished corpus by another estimator, without touching a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from manifests import Corpus, layout
from manifests.corpus import Picture, ScoreInfo
from manifests.durable import write_atomic
from manifests.errors import CorpusError, OutputError
from manifests.hashing import canonical_json, sha256_bytes, sha256_file
from manifests.object_store import Place
from manifests.records import FileRecord
from manifests.tables import read_table, write_table
from pipeline.store import output_errors
from refine.scoring import Scorer

__all__ = ["list_score", "quality_of", "read_score", "score_corpus", "shipped_sha256"]

_DECIMALS = 6
Judged = tuple[Picture, NDArray[np.bool_], Picture, NDArray[np.bool_]]


@lru_cache(maxsize=2)
def _scorer(weights: Path | None) -> Scorer:
    return Scorer(weights)


def shipped_sha256() -> str:
    """Of the weights that score samples as they are made."""
    return _scorer(None).sha256


def quality_of(samples: Sequence[Judged]) -> list[float]:
    """Calibrated quality of samples (picture, mask, source, part), 0..1, by the estimator that ships."""
    shapes: dict[tuple[int, ...], list[int]] = {}
    for number, (image, *_) in enumerate(samples):
        shapes.setdefault((*image.shape, image.dtype.itemsize), []).append(number)
    found = np.zeros(len(samples))
    for numbers in shapes.values():
        parts = [np.stack(part) for part in zip(*(samples[k] for k in numbers), strict=True)]
        found[numbers] = _scorer(None).quality(*parts)
    return [round(float(value), _DECIMALS) for value in found]


def score_corpus(out: Place, weights: Path | None, *, advance: Callable[[int, int], None] | None = None) -> ScoreInfo:
    """Score all accepted samples of a finished corpus; adds a table beside the others, and a line to corpus.json.

    The table is written first and corpus.json last, each whole or not at all: a run that is stopped leaves the corpus
    as it was. The same estimator scores the same corpus once.

    Parameters
    ----------
    out : Path or ObjectPath
        The corpus folder, or its prefix in a bucket.
    weights : Path, optional
        The estimator; by default the one that ships.
    advance : callable, optional
        Told (samples done, of how many).

    Returns
    -------
    ScoreInfo
        Where the scores are, and by which estimator.

    Raises
    ------
    CorpusError, InputError, OutputError
        No finished corpus, no estimator, or the folder cannot be written.
    """
    corpus = Corpus(out)
    scorer = _scorer(weights)
    known = [score for score in corpus.info.scores if score.sqe_sha256 == scorer.sha256]
    if known and (out / known[0].path).is_file():
        return known[0]
    rows = list(_scored(corpus, scorer, advance))
    name = f"{layout.SCORES}/{scorer.sha256[:12]}.parquet"
    table = _to_table(rows, scorer.sha256)
    info = ScoreInfo(path=name, sqe_sha256=scorer.sha256, samples=len(rows))
    from pipeline.mirror import worked_on  # it knows the stages, and they score samples by this module

    with worked_on(out) as site, output_errors(site.folder):
        (site.folder / layout.SCORES).mkdir(exist_ok=True)
        write_table(site.folder / name, table)
        list_score(site.folder, info)
    return info


def _to_table(rows: Sequence[tuple[str, float, float]], sqe_sha256: str) -> pa.Table:
    """The scores; the file itself says by whom they are and what they are, should corpus.json be lost."""
    table = pa.table(
        {
            "id": pa.array([row[0] for row in rows], pa.string()),
            "quality": pa.array([row[1] for row in rows], pa.float64()),
            "weight": pa.array([row[2] for row in rows], pa.float64()),
        }
    )
    return table.replace_schema_metadata({"sqe_sha256": sqe_sha256, "rows_sha256": _digest(rows)})


def _digest(rows: Sequence[tuple[str, float, float]]) -> str:
    return sha256_bytes(canonical_json([list(row) for row in rows]))


def read_score(path: Path, out: Path) -> ScoreInfo | None:
    """What a table of scores says of itself; None if it is damaged, or from before tables said anything."""
    try:
        table = read_table(path)
        content = table.to_pydict()
        rows = list(zip(content["id"], content["quality"], content["weight"], strict=True))
        told = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        if told["rows_sha256"] != _digest(rows):
            return None
        sqe_sha256 = told["sqe_sha256"]
    except (CorpusError, KeyError, ValueError, pa.ArrowException):
        return None
    return ScoreInfo(path=path.relative_to(out).as_posix(), sqe_sha256=sqe_sha256, samples=len(rows))


def _scored(
    corpus: Corpus, scorer: Scorer, advance: Callable[[int, int], None] | None
) -> Iterable[tuple[str, float, float]]:
    """Id, quality and training weight's score of every sample."""
    done = 0
    for _, samples in corpus.iter_shards():
        quality, weight = scorer.score(
            np.stack([sample.image for sample in samples]),
            np.stack([sample.mask > 0 for sample in samples]),
            np.stack([sample.source for sample in samples]),
            np.stack([sample.foreground for sample in samples]),
        )
        for sample, first, second in zip(samples, quality, weight, strict=True):
            yield sample.record.id, round(float(first), _DECIMALS), round(float(second), _DECIMALS)
        done += len(samples)
        if advance is not None:
            advance(done, len(corpus))


def list_score(out: Path, score: ScoreInfo) -> None:
    """Name a table of scores in corpus.json."""
    path = out / score.path
    record = FileRecord(path=score.path, bytes=path.stat().st_size, sha256=sha256_file(path))
    if not (out / layout.CORPUS).is_file():
        raise OutputError(f"{out}: its {layout.CORPUS} has gone; run `maphc2f generate` again")
    info = Corpus(out).info
    scores = sorted([*(s for s in info.scores if s.path != score.path), score], key=lambda s: s.path)
    files = sorted([*(f for f in info.files if f.path != score.path), record], key=lambda f: f.path)
    changed = info.model_copy(update={"scores": scores, "files": files})
    write_atomic(out / layout.CORPUS, canonical_json(changed.model_dump(mode="json")) + b"\n")
