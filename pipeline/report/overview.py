"""What the first page of a report says: counts, distributions, promises kept, time, failures and licences."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from manifests.corpus import CorpusInfo
from manifests.records import SampleStatus, SourceStatus
from pipeline.remedies import REMEDIES
from pipeline.report.charts import Histogram, Scale, histogram
from pipeline.report.columns import Columns
from pipeline.run_log import RunEntry, StageLine, read_runs, stage_lines

__all__ = ["Overview", "read_stages", "summarise"]

# what must not be, in the order of the page: name in CorpusInfo.invariants, words, unit
_PROMISES = (
    ("changed_outside_support_px", "changed outside the support", "px"),
    ("unlabelled_px", "visibly changed outside the mask", "px"),
    ("unseen_px", "in the mask without a visible change", "px"),
    ("off_part_px", "in the mask, off the part", "px"),
    ("empty_masks", "accepted with an empty mask", "samples"),
    ("out_of_bounds", "accepted with an area out of bounds", "samples"),
    ("instances_touching", "with defects that touch", "samples"),
)


@dataclass(frozen=True)
class Share:
    """Samples of one category or mechanism: how many, how many accepted, and how three figures are spread."""

    name: str
    title: str
    summary: str
    total: int
    accepted: int
    area: Histogram
    severity: Histogram
    sqe: Histogram


@dataclass(frozen=True)
class Failure:
    """Samples without a defect, by status, and what to do about them."""

    status: str
    number: int
    remedy: str


@dataclass(frozen=True)
class Times:
    """What the log says of the runs that made the corpus; stages by their CPU seconds, the longest first."""

    runs: int
    samples: int
    wall_s: float
    stages: tuple[StageLine, ...]


@dataclass(frozen=True)
class Overview:
    """All of the first page."""

    info: CorpusInfo
    total: int
    accepted: int
    photographs: int
    unusable: Mapping[str, int]
    trajectories: int
    categories: tuple[Share, ...]
    mechanisms: tuple[Share, ...]
    promises: tuple[tuple[str, int, str], ...]
    failures: tuple[Failure, ...]
    times: Times | None
    licences: tuple[tuple[str, tuple[str, ...], int], ...]


def read_stages(out: Path) -> Times | None:
    """What all runs in the log took together; None where there is no log, which is no part of a corpus."""
    runs = read_runs(out)
    if not runs:
        return None
    cpu_s: defaultdict[str, float] = defaultdict(float)
    for run in runs:
        for name, seconds in run.cpu_s.items():
            cpu_s[name] += seconds
    together = RunEntry(
        samples=sum(run.samples for run in runs),
        simulated={},
        stage_s={},
        cpu_s=cpu_s,
        wall_s=sum(run.wall_s for run in runs),
    )
    stages = sorted((line for line in stage_lines(together) if line.cpu_s), key=lambda line: -line.cpu_s)
    return Times(len(runs), together.samples, together.wall_s, tuple(stages))


def summarise(info: CorpusInfo, columns: Columns, times: Times | None) -> Overview:
    """The first page of a corpus."""
    accepted = columns.status == columns.statuses.index(SampleStatus.OK)
    scale = Scale.around(columns.area[accepted], log=True)
    licences: defaultdict[str, list[str]] = defaultdict(list)
    sources: Counter[str] = Counter()
    for entry in info.licences:
        licences[entry.licence].append(f"{entry.dataset}/{entry.category}")
        sources[entry.licence] += entry.sources
    counts = info.counts
    return Overview(
        info=info,
        total=len(columns),
        accepted=int(accepted.sum()),
        photographs=counts.sources.get(SourceStatus.OK.value, 0),
        unusable={name: n for name, n in sorted(counts.sources.items()) if name != SourceStatus.OK},
        trajectories=sum(counts.trajectories.values()),
        categories=tuple(
            _share(columns, columns.category == k, accepted, scale, name) for k, name in enumerate(columns.categories)
        ),
        mechanisms=tuple(
            _share(columns, columns.present >> k & 1 > 0, accepted, scale, name, m.title, m.summary)
            for k, (name, m) in enumerate(info.mechanisms.items())
        ),
        promises=tuple((words, int(getattr(info.invariants, name)), unit) for name, words, unit in _PROMISES),
        failures=tuple(
            Failure(status, int(number), REMEDIES[status])
            for k, status in enumerate(columns.statuses)
            if status in REMEDIES and (number := np.count_nonzero(columns.status == k))
        ),
        times=times,
        licences=tuple((text, tuple(sorted(names)), sources[text]) for text, names in sorted(licences.items())),
    )


def _share(
    columns: Columns,
    members: NDArray[np.bool_],
    accepted: NDArray[np.bool_],
    scale: Scale,
    name: str,
    title: str = "",
    summary: str = "",
) -> Share:
    seen = members & accepted
    return Share(
        name=name,
        title=title or name,
        summary=summary,
        total=int(members.sum()),
        accepted=int(seen.sum()),
        area=histogram(columns.area[seen], scale),
        severity=histogram(columns.severity[seen], Scale(0.0, 1.0)),
        sqe=histogram(columns.sqe[seen], Scale(0.0, 1.0)),
    )
