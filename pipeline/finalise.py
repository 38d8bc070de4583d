"""Last stage: manifest and corpus.json, built from the commit records alone, and written whole or not at all.

corpus.json lists, with its sha256, every file that no commit record names; commit records list the rest. So all bytes
of a corpus hang on this one file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import ValidationError

from manifests import layout
from manifests.corpus import (
    CorpusCounts,
    CorpusInfo,
    DistributionInfo,
    LicenceInfo,
    MechanismInfo,
    ScoreInfo,
    Spread,
)
from manifests.distributions import Distribution
from manifests.durable import write_atomic
from manifests.hashing import canonical_json, code_version, sha256_file
from manifests.policy import QuarteredDistribution
from manifests.records import (
    SCHEMA_VERSION,
    BankRecord,
    FileRecord,
    SampleRecord,
    SourceRecord,
    SourceStatus,
)
from manifests.tables import to_table, written_table
from physics.registry import MECHANISMS
from pipeline.invariants import sum_invariants
from pipeline.planning import opening_width
from pipeline.recipe import Recipe, config_sha256
from pipeline.sample_columns import FIGURES, SampleColumns
from pipeline.scoring import shipped_sha256
from pipeline.store import metadata_files

__all__ = ["finalise", "summarise"]

_SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)


def finalise(
    out: Path,
    recipe: Recipe,
    *,
    sources: Sequence[SourceRecord],
    bank: Sequence[BankRecord],
    samples: Iterable[Sequence[SampleRecord]],
    extensions: Sequence[int] = (),
) -> CorpusInfo:
    """Write manifest.parquet, then corpus.json, whose presence says that the corpus is finished.

    ``samples`` are all of them in order of index, in pieces, of which one is in memory at a time.
    """
    with written_table(out / layout.MANIFEST, SampleRecord) as manifest:
        tables = (to_table(rows, SampleRecord) for rows in samples)
        info = summarise(recipe, sources=sources, bank=bank, samples=map(manifest.add, tables), extensions=extensions)
    scores = _scores_kept(out)
    files = sorted([*_unrecorded_files(out), *(_file_record(out, s.path) for s in scores)], key=lambda f: f.path)
    info = info.model_copy(update={"files": files, "scores": scores})
    write_atomic(out / layout.CORPUS, canonical_json(info.model_dump(mode="json")) + b"\n")
    return info


def _unrecorded_files(out: Path) -> list[FileRecord]:
    tables = {layout.CONFIG, layout.INVENTORY, layout.PLAN, layout.MANIFEST}
    commits = {f"{layout.COMMITS}/{path.name}" for path in (out / layout.COMMITS).iterdir()}
    return [_file_record(out, name) for name in sorted(tables | commits | metadata_files(out))]


def _file_record(out: Path, name: str) -> FileRecord:
    return FileRecord(path=name, bytes=(out / name).stat().st_size, sha256=sha256_file(out / name))


def _scores_kept(out: Path) -> list[ScoreInfo]:
    """Scores of an earlier corpus.json whose tables are still what it says."""
    try:
        before = CorpusInfo.model_validate_json((out / layout.CORPUS).read_bytes())
    except (OSError, ValidationError):
        return []
    listed = {file.path: file.sha256 for file in before.files}
    return [s for s in before.scores if (out / s.path).is_file() and sha256_file(out / s.path) == listed.get(s.path)]


def summarise(
    recipe: Recipe,
    *,
    sources: Sequence[SourceRecord],
    bank: Sequence[BankRecord],
    samples: Iterable[pa.Table],
    extensions: Sequence[int] = (),
) -> CorpusInfo:
    """Counts, statistics and licences of a corpus; ``samples`` are the rows of its manifest, in pieces."""
    rows = SampleColumns.of(samples)
    by_category: dict[str, dict[str, int]] = {}
    for (dataset, category, status), number in rows.count("dataset", "category", "status").items():
        by_category.setdefault(f"{dataset}/{category}", {})[status] = number
    licences = Counter((row.dataset, row.category, row.licence) for row in sources if row.status is SourceStatus.OK)
    return CorpusInfo(
        schema_version=SCHEMA_VERSION,
        name=recipe.name,
        extensions=list(extensions),
        config=recipe.model_dump(mode="json"),
        config_sha256=config_sha256(recipe),
        code_version=code_version(),
        counts=CorpusCounts(
            total=len(rows),
            by_status={status: number for (status,), number in rows.count("status").items()},
            by_category=by_category,
            by_mechanism=dict(Counter(rows.planned_first)),
            defects=dict(Counter(rows.present["mechanism"])),
            sources=dict(Counter(row.status.value for row in sources)),
            trajectories=dict(Counter(row.mechanism for row in bank)),
        ),
        invariants=sum_invariants(rows, recipe.label, picture_px=recipe.size**2),
        mechanisms={
            name: MechanismInfo(
                title=MECHANISMS[name].title,
                summary=MECHANISMS[name].summary,
                fields=list(MECHANISMS[name].fields),
                physical=MECHANISMS[name].physical,
            )
            for name in recipe.mechanism_weights()
        },
        distributions=_distributions(recipe, rows),
        statistics={name: _spread(rows.figures[name][rows.accepted]) for name in FIGURES},
        sqe_sha256=shipped_sha256() if recipe.sqe.enabled else "",
        licences=[
            LicenceInfo(dataset=dataset, category=category, licence=licence, sources=count)
            for (dataset, category, licence), count in licences.items()
        ],
    )


def _distributions(recipe: Recipe, rows: SampleColumns) -> list[DistributionInfo]:
    """What the recipe asked for, beside what the defects of the accepted samples have."""
    accepted = rows.accepted[rows.present["sample"]]
    found = []
    for name in recipe.mechanism_weights():
        mine = accepted & (rows.present["mechanism"] == name)
        found.append(_compare(name, "area", recipe.asked_area(name), rows.present["area_fraction"][mine]))
        found.append(_compare(name, "severity", recipe.asked_severity(name), rows.present["severity"][mine]))
        if width := opening_width(recipe.params(name)):
            found.append(_compare(name, "width", width, rows.present["width"][mine]))
    return found


def _compare(
    mechanism: str, quantity: str, asked: Distribution | QuarteredDistribution, got: NDArray[np.float64]
) -> DistributionInfo:
    values = np.sort(got)
    number = max(len(values), 1)
    # both sides of every step: a distribution that is one point steps too
    at = asked.cdf(values) - np.searchsorted(values, values, side="right") / number
    before = asked.cdf(np.nextafter(values, -np.inf)) - np.searchsorted(values, values, side="left") / number
    gap = max(np.abs(at).max(initial=0.0), np.abs(before).max(initial=0.0))
    return DistributionInfo(
        mechanism=mechanism,
        quantity=quantity,
        unit="1",
        asked=[asked.quantile(share) for share in _SHARES],
        got=[float(v) for v in np.quantile(values, _SHARES)] if len(values) else [],
        distance=float(gap),
        samples=len(values),
    )


def _spread(found: NDArray[np.float64]) -> Spread:
    if not found.size:
        return Spread(least=0.0, p05=0.0, median=0.0, mean=0.0, p95=0.0, most=0.0)
    p05, median, p95 = (float(v) for v in np.percentile(found, (5, 50, 95)))
    return Spread(
        least=float(found.min()), p05=p05, median=median, mean=float(found.mean()), p95=p95, most=float(found.max())
    )
