"""Last stage: manifest and corpus.json, built from the commit records alone, and written whole or not at all.

corpus.json lists, with its sha256, every file that no commit record names; commit records list the rest. So all bytes
of a corpus hang on this one file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from manifests import layout
from manifests.config import Recipe, config_sha256
from manifests.corpus import CorpusCounts, CorpusInfo, LicenceInfo, Spread
from manifests.hashing import canonical_json, code_version, sha256_file
from manifests.records import (
    SCHEMA_VERSION,
    BankRecord,
    FileRecord,
    SampleRecord,
    SampleStatus,
    SourceRecord,
    SourceStatus,
)
from manifests.tables import to_table, write_table
from pipeline.store import metadata_files, write_atomic

__all__ = ["finalise", "summarise"]


def finalise(
    out: Path,
    recipe: Recipe,
    *,
    sources: Sequence[SourceRecord],
    bank: Sequence[BankRecord],
    samples: Sequence[SampleRecord],
) -> CorpusInfo:
    """Write manifest.parquet, then corpus.json, whose presence says that the corpus is finished."""
    ordered = sorted(samples, key=lambda row: row.index)
    write_table(out / layout.MANIFEST, to_table(ordered, SampleRecord))
    info = summarise(recipe, sources=sources, bank=bank, samples=ordered)
    info = info.model_copy(update={"files": _unrecorded_files(out)})
    write_atomic(out / layout.CORPUS, canonical_json(info.model_dump(mode="json")) + b"\n")
    return info


def _unrecorded_files(out: Path) -> list[FileRecord]:
    tables = {layout.CONFIG, layout.INVENTORY, layout.PLAN, layout.MANIFEST}
    commits = {f"{layout.COMMITS}/{path.name}" for path in (out / layout.COMMITS).iterdir()}
    return [
        FileRecord(path=name, bytes=(out / name).stat().st_size, sha256=sha256_file(out / name))
        for name in sorted(tables | commits | metadata_files(out))
    ]


def summarise(
    recipe: Recipe,
    *,
    sources: Sequence[SourceRecord],
    bank: Sequence[BankRecord],
    samples: Sequence[SampleRecord],
) -> CorpusInfo:
    """Counts, statistics and licences of a corpus."""
    usable = [row for row in samples if row.status is SampleStatus.OK]
    by_category: dict[str, Counter[str]] = {}
    for row in samples:
        by_category.setdefault(f"{row.dataset}/{row.category}", Counter())[row.status.value] += 1
    licences = Counter((row.dataset, row.category, row.licence) for row in sources if row.status is SourceStatus.OK)
    return CorpusInfo(
        schema_version=SCHEMA_VERSION,
        name=recipe.name,
        config=recipe.model_dump(mode="json"),
        config_sha256=config_sha256(recipe),
        code_version=code_version(),
        counts=CorpusCounts(
            total=len(samples),
            by_status=dict(Counter(row.status.value for row in samples)),
            by_category={key: dict(counts) for key, counts in by_category.items()},
            by_mechanism=dict(Counter(row.mechanism for row in samples)),
            sources=dict(Counter(row.status.value for row in sources)),
            trajectories=len(bank),
        ),
        statistics={
            name: _spread(float(getattr(row, name)) for row in usable)
            for name in ("area_fraction", "severity", "length_px", "contrast", "residual", "iterations", "attempts")
        },
        licences=[
            LicenceInfo(dataset=dataset, category=category, licence=licence, sources=count)
            for (dataset, category, licence), count in licences.items()
        ],
    )


def _spread(values: Iterable[float]) -> Spread:
    found = np.fromiter(values, dtype=np.float64)
    if not found.size:
        return Spread(least=0.0, p05=0.0, median=0.0, mean=0.0, p95=0.0, most=0.0)
    p05, median, p95 = (float(v) for v in np.percentile(found, (5, 50, 95)))
    return Spread(
        least=float(found.min()), p05=p05, median=median, mean=float(found.mean()), p95=p95, most=float(found.max())
    )
