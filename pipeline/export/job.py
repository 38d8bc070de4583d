"""The export of a corpus: what is in it, in which parts, and part by part until it is whole.

A part is a pure function of the corpus and its own spec, so parts may be written by several processes, and a run that
was killed is gone on with: the bytes at the end are the same. Only one sample at a time is in memory, or, of Parquet,
one row group.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Final

from manifests import Corpus, layout
from manifests.durable import fsync_path, write_atomic
from manifests.errors import CorpusError, OutputError
from manifests.hashing import canonical_json, code_version, sha256_file
from manifests.records import FileRecord
from manifests.splits import Shares
from pipeline.destination import overlap
from pipeline.executor import Interruption, make_executor
from pipeline.export import coco, mvtec, parquet, webdataset, yolo
from pipeline.export.choice import choose, cut
from pipeline.export.contract import Export, Format, Part
from pipeline.export.files import PartFiles
from pipeline.export.licences import LICENCES, licences_text
from pipeline.export.state import (
    DONE,
    SUMS,
    UNFINISHED,
    ExportInfo,
    Identity,
    MechanismCount,
    Written,
    begin,
    check_sums,
    claim,
    clear,
    commit,
    read_commit,
    sums_line,
)
from pipeline.progress import Interrupted, Progress
from pipeline.store import lock_output, output_errors

__all__ = ["FORMATS", "Options", "Outcome", "export_corpus"]

FORMATS: Final = MappingProxyType[str, Format](
    {"mvtec": mvtec, "webdataset": webdataset, "parquet": parquet, "coco": coco, "yolo": yolo}
)
_PART_BYTES: Final = 128_000_000  # of pixels: a tar or Parquet file of some 70 MB
_PART_MOST: Final = 1000


@dataclass(frozen=True)
class Options:
    """What to export.

    Attributes
    ----------
    format : str
        One of `FORMATS`.
    where : str, optional
        An expression on the manifest's columns, see `manifests.selection`.
    limit : int, optional
        At most so many samples, spread evenly over all that there are.
    shares : (train, val, test), optional
        By default the format's own.
    seed : int
        Of the split.
    part_samples : int, optional
        Samples in a part; by default what comes to a file of moderate size.
    """

    format: str
    where: str | None = None
    limit: int | None = None
    shares: Shares | None = None
    seed: int = 0
    part_samples: int | None = None


@dataclass(frozen=True)
class Outcome:
    """What the folder holds now, and whether this run wrote any of it."""

    info: ExportInfo
    changed: bool


@dataclass(frozen=True)
class _PartSpec:
    """A part as a process of its own takes it."""

    out: Path
    dest: Path
    format: str
    part: Part


def export_corpus(
    out: Path,
    dest: Path,
    options: Options,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
) -> Outcome:
    """Export the accepted samples of a corpus, or go on with an export that was stopped.

    Parameters
    ----------
    out : Path
        The corpus folder.
    dest : Path
        Folder to write: new, empty, or begun by the same call.
    options : Options
        What to export, and as what.
    workers : int
        Processes that write parts.
    progress : Progress, optional
        Hears how far it is.
    announce : callable, optional
        Called when a first Ctrl-C is taken in.

    Raises
    ------
    ConfigError
        An option cannot be used, or selects nothing.
    CorpusError
        The corpus is not finished or damaged, or a finished export was changed.
    OutputError
        DEST holds something else, or cannot be written.
    Interrupted
        A stop was asked for.
    """
    export = Export(Corpus(out))
    _check_ids(export)
    _check_apart(out, dest)
    form = FORMATS[options.format]
    chosen = choose(
        export, form, where=options.where, limit=options.limit, shares=options.shares or form.SHARES, seed=options.seed
    )
    per_part = options.part_samples or _usual_part(export)
    parts = cut(chosen, per_part)
    identity = _identity(export, options, per_part)
    with output_errors(dest):
        begin(dest, identity)
        with lock_output(dest / UNFINISHED), Interruption(announce) as stop:
            finished = claim(dest, identity)
            clear(dest)
            if finished is not None:
                check_sums(dest, finished)
                return Outcome(finished, changed=False)
            _write_missing(out, dest, options.format, parts, workers, progress, stop)
            return Outcome(_conclude(export, dest, identity, parts), changed=True)


def _check_ids(export: Export) -> None:
    """Ids become file names."""
    ids = export.corpus.table["id"].to_pylist()
    if odd := [text for text in ids if not re.fullmatch(r"[0-9a-f]{16}", text)] or [
        text for text, times in Counter(ids).items() if times > 1
    ]:
        raise CorpusError(f"{export.corpus.path}: {odd[0]!r} is no id of one sample; run `maphc2f verify`")


def _check_apart(out: Path, dest: Path) -> None:
    if overlap(dest, out):
        raise OutputError(f"{dest}: and the corpus {out} lie one within the other; give a folder beside it")


def _usual_part(export: Export) -> int:
    config = export.info.config
    picture_bytes = 3 * config["size"] ** 2 * config.get("bit_depth", 8) // 8
    return int(min(_PART_MOST, max(1, _PART_BYTES // picture_bytes)))


def _identity(export: Export, options: Options, per_part: int) -> Identity:
    return Identity(
        format=options.format,
        corpus=export.info.name,
        config_sha256=export.info.config_sha256,
        manifest_sha256=sha256_file(export.corpus.folder / layout.MANIFEST),
        code_version=code_version(),
        where=options.where,
        limit=options.limit,
        shares=options.shares or FORMATS[options.format].SHARES,
        seed=options.seed,
        part_samples=per_part,
    )


def _write_missing(
    out: Path,
    dest: Path,
    form: str,
    parts: Sequence[Part],
    workers: int,
    progress: Progress | None,
    stop: Interruption,
) -> None:
    missing = [part for part in parts if read_commit(dest, part.number) is None]
    if progress is not None:
        progress.stage("pictures", sum(map(_size, parts)), sum(map(_size, parts)) - sum(map(_size, missing)))
    executor = make_executor(min(workers, max(1, len(missing))), warm=_nothing)
    finished = 0
    try:
        specs = [_PartSpec(out.absolute(), dest.absolute(), form, part) for part in missing]
        for spec, _ in executor.run(_write_part, specs, stop=lambda: stop.requested):
            finished += 1
            if progress is not None:
                progress.advance(_size(spec.part), 0)
    finally:
        executor.close()
    if finished < len(missing):
        raise Interrupted


def _size(part: Part) -> int:
    return len(part.rows) + len(part.normals)


def _nothing(number: int) -> None:
    """A process that writes parts needs no warming."""


@lru_cache(maxsize=1)
def _opened(out: Path) -> Export:
    return Export(Corpus(out))


def _write_part(spec: _PartSpec) -> int:
    """Write a part, then its commit record; its number."""
    with output_errors(spec.dest):
        files = PartFiles(spec.dest)
        fragment = FORMATS[spec.format].write_part(_opened(spec.out), spec.part, files)
        commit(spec.dest, Written(part=spec.part.number, files=files.settle(), fragment=fragment))
    return spec.part.number


def _conclude(export: Export, dest: Path, identity: Identity, parts: Sequence[Part]) -> ExportInfo:
    """Write what is about all parts, then SHA256SUMS, then export.json, and clear away the rest."""

    def written(part: Part) -> Written:
        found = read_commit(dest, part.number)
        if found is None:
            raise CorpusError(f"{dest}: part {part.number} has gone while it was exported; run the same command again")
        return found

    index = PartFiles(dest)
    FORMATS[identity.format].write_index(export, parts, lambda part: written(part).fragment, index)
    index.put(LICENCES, licences_text(export, parts).encode())
    about = index.settle()
    tally = [0, 0]
    last = PartFiles(dest)
    with last.open(SUMS) as stream:
        for records in (about, *(written(part).files for part in parts)):
            for file in records:
                stream.write(sums_line(file))
                tally[0] += 1
                tally[1] += file.bytes
    (sums,) = last.settle()
    info = _info(export, identity, parts, files=tally[0], size=tally[1], sums=sums)
    write_atomic(dest / DONE, canonical_json(info.model_dump(mode="json")) + b"\n")
    fsync_path(dest.absolute().parent)
    clear(dest)
    return info


def _info(
    export: Export, identity: Identity, parts: Sequence[Part], *, files: int, size: int, sums: FileRecord
) -> ExportInfo:
    splits: Counter[str] = Counter()
    for part in parts:
        splits[part.split] += len(part.rows)
    rows = [row for part in parts for row in part.rows]
    mechanisms = Counter(export.corpus.take(rows).table["mechanism"].to_pylist())
    return ExportInfo(
        **identity.model_dump(),
        samples=len(rows),
        normals=sum(len(part.normals) for part in parts),
        splits={split: number for split, number in splits.items() if number},
        mechanisms={
            name: MechanismCount(samples=number, physical=export.info.mechanisms[name].physical)
            for name, number in sorted(mechanisms.items())
        },
        classes=list(export.classes),
        files=files,
        bytes=size,
        sums_sha256=sums.sha256,
    )
