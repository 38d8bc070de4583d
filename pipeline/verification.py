"""Is a stored corpus what it says it is? Every file is hashed again, every chunk decoded, every count taken.

Checked, and each problem named with its file or sample:

- every commit record parses, belongs to this config, and its files have the recorded size and sha256;
- every shard of the plan has a record, and no shard file lies about that no record names;
- every chunk decodes; the bytes of each image and mask hash to what the record says;
- what the record says of a mask (area, bounding box) is so, and an accepted one keeps the configured area bounds;
- against the stored source: no visible change outside the mask, every mask pixel within one pixel of a visible
  change, the mask on the foreground, failed samples equal to their source;
- the manifest equals the records row for row, and corpus.json counts what the manifest holds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from scipy import ndimage

from manifests import layout
from manifests.config import LabelConfig, Recipe, config_sha256
from manifests.corpus import CorpusInfo
from manifests.errors import CorpusError
from manifests.hashing import sha256_bytes, sha256_file
from manifests.records import (
    AnyCommit,
    BankRecord,
    CommitRecord,
    PlanRow,
    SampleRecord,
    SampleStatus,
    SourceRecord,
)
from manifests.tables import from_table, read_table
from pipeline.store import Identity, read_identity, read_rows, shard_files

__all__ = ["Problem", "VerificationReport", "verify_corpus"]

_PARSERS: dict[str, Callable[[bytes], AnyCommit]] = {
    "sources": CommitRecord[SourceRecord].model_validate_json,
    "bank": CommitRecord[BankRecord].model_validate_json,
    "samples": CommitRecord[SampleRecord].model_validate_json,
}


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong: the file or sample, and what."""

    where: str
    what: str

    def __str__(self) -> str:
        """``where: what``."""
        return f"{self.where}: {self.what}"


@dataclass(frozen=True)
class VerificationReport:
    """What was looked at, and every problem found."""

    files: int
    bytes: int
    samples: int
    problems: tuple[Problem, ...]


def verify_corpus(out: Path, *, advance: Callable[[int, int], None] | None = None) -> VerificationReport:
    """Check a finished corpus from its files up.

    Parameters
    ----------
    out : Path
        The corpus folder.
    advance : callable, optional
        Called with (done, total) commit records as they are checked.

    Raises
    ------
    CorpusError
        The folder is not a corpus at all.
    """
    identity = read_identity(out)
    problems: list[Problem] = []
    commits = list(_read_commits(out, identity, problems))
    files = total_bytes = samples = 0
    for done, commit in enumerate(commits):
        broken = list(_check_files(out, commit))
        problems.extend(broken)
        files += len(commit.files)
        total_bytes += sum(file.bytes for file in commit.files)
        if commit.stage == "samples" and not broken:
            problems.extend(_check_shard(out, identity.recipe, commit))
            samples += len(commit.rows)
        elif not broken:
            problems.extend(_check_decodes(out, commit))
        if advance is not None:
            advance(done + 1, len(commits))
    problems.extend(_check_strays(out, commits))
    problems.extend(_check_tables(out, commits))
    return VerificationReport(files=files, bytes=total_bytes, samples=samples, problems=tuple(problems))


def _read_commits(out: Path, identity: Identity, problems: list[Problem]) -> Iterator[AnyCommit]:
    folder = out / layout.COMMITS
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        where = f"{layout.COMMITS}/{path.name}"
        if path.name.split("--")[0] not in _PARSERS or path.suffix != ".json":
            problems.append(Problem(where, "is not a commit record; remove it, or run generate again to sweep it"))
            continue
        try:
            commit = _PARSERS[path.name.split("--")[0]](path.read_bytes())
        except (ValidationError, OSError) as error:
            problems.append(Problem(where, f"cannot be read as a commit record ({str(error).splitlines()[0]})"))
            continue
        if layout.commit_name(commit.stage, commit.key, commit.shard) != path.name:
            problems.append(Problem(where, f"holds the record of {commit.stage} {commit.key} shard {commit.shard}"))
        if commit.to_bytes() != path.read_bytes():
            problems.append(Problem(where, "is not in canonical form: it was edited"))
        if (commit.config_sha256, commit.code_version) != (config_sha256(identity.recipe), identity.code_version):
            problems.append(Problem(where, "was made with another config or code version than config.json says"))
        yield commit


def _check_files(out: Path, commit: AnyCommit) -> Iterator[Problem]:
    for file in commit.files:
        try:
            path = layout.safe_join(out, file.path)
        except ValueError as error:
            yield Problem(layout.commit_name(commit.stage, commit.key, commit.shard), str(error))
            continue
        if not path.is_file():
            yield Problem(file.path, "is missing")
        elif path.stat().st_size != file.bytes:
            yield Problem(file.path, f"has {path.stat().st_size} bytes, the record says {file.bytes}")
        elif sha256_file(path) != file.sha256:
            yield Problem(file.path, "has other content than the record says (sha256 differs)")


def _check_decodes(out: Path, commit: AnyCommit) -> Iterator[Problem]:
    root = layout.BANK if commit.stage == "bank" else layout.DATA
    per_array: dict[str, int] = {}
    for file in commit.files:
        name = file.path.split("/c/")[0].rsplit("/", 1)[1]
        per_array[name] = per_array.get(name, 0) + 1
    rows = [row for row in commit.rows if not (isinstance(row, SourceRecord) and row.index < 0)]
    first = rows[0].trajectory if rows and isinstance(rows[0], BankRecord) else 0
    for name in per_array:
        try:
            for k in range(len(rows)):
                read_rows(out, root, commit.key, name, first + k, first + k + 1)
        except CorpusError as error:
            yield Problem(f"{root}/{commit.key}/{name}", str(error))


def _check_shard(out: Path, recipe: Recipe, commit: AnyCommit) -> Iterator[Problem]:
    """All samples of a shard, arrays against record and invariants."""
    rows = [row for row in commit.rows if isinstance(row, SampleRecord)]
    start, stop = rows[0].row, rows[-1].row + 1
    try:
        image, mask, opening, _ = (
            read_rows(out, layout.DATA, commit.key, name, start, stop) for name in layout.SAMPLE_ARRAYS
        )
        used = sorted({row.source for row in rows})
        pictures = {
            k: (
                read_rows(out, layout.DATA, commit.key, "source", k, k + 1)[0],
                read_rows(out, layout.DATA, commit.key, "foreground", k, k + 1)[0] > 0,
            )
            for k in used
        }
    except CorpusError as error:
        yield Problem(commit.key, str(error))
        return
    for k, row in enumerate(rows):
        source, foreground = pictures[row.source]
        for what in _sample_problems(row, image[k], mask[k], opening[k], source, foreground, recipe.label):
            yield Problem(f"sample {row.id} ({commit.key} row {row.row})", what)


def _sample_problems(
    row: SampleRecord,
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    opening: NDArray[np.float16],
    source: NDArray[np.uint8],
    foreground: NDArray[np.bool_],
    label: LabelConfig,
) -> Iterator[str]:
    if sha256_bytes(np.ascontiguousarray(image).data) != row.image_sha256:
        yield "image differs from the record's sha256"
    if sha256_bytes(np.ascontiguousarray(mask).data) != row.mask_sha256:
        yield "mask differs from the record's sha256"
    inside = mask > 0
    if not np.isin(mask, (0, 255)).all():
        yield "mask holds values other than 0 and 255"
    if int(inside.sum()) != row.area_px or (row.bbox_y0, row.bbox_x0, row.bbox_y1, row.bbox_x1) != _box(inside):
        yield f"mask covers {int(inside.sum())} px in {_box(inside)}, the record says {row.area_px}"
    if row.status is not SampleStatus.OK:
        if inside.any() or not np.array_equal(image, source):
            yield f"status is {row.status}, but the picture is not its unchanged source"
        return
    if not label.min_area <= inside.mean() <= label.max_area:
        yield f"mask covers {inside.mean():.2e} of the picture, outside [{label.min_area}, {label.max_area}]"
    change = np.abs(image.astype(np.int16) - source.astype(np.int16)).max(axis=2)
    visible = change >= label.visible_threshold
    if (visible & ~inside).any():
        yield f"{int((visible & ~inside).sum())} px changed visibly outside the mask"
    if (inside & ~ndimage.binary_dilation(visible, structure=np.ones((3, 3), dtype=bool))).any():
        yield "the mask labels pixels with no visible change within one pixel"
    if (inside & ~foreground).any():
        yield f"{int((inside & ~foreground).sum())} px of the mask lie off the part"
    if not np.isfinite(opening).all() or ((opening > 0) & ~foreground).any():
        yield "the opening field is not finite or lies off the part"


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    found = ndimage.find_objects(mask.astype(np.int8))
    if not found or found[0] is None:
        return 0, 0, 0, 0
    return found[0][0].start, found[0][1].start, found[0][0].stop, found[0][1].stop


def _check_strays(out: Path, commits: Sequence[AnyCommit]) -> Iterator[Problem]:
    named = {file.path for commit in commits for file in commit.files}
    for path in sorted(shard_files(out) - named):
        yield Problem(path, "belongs to no commit record; run generate again to sweep it")


def _check_tables(out: Path, commits: Sequence[AnyCommit]) -> Iterator[Problem]:
    rows = sorted(
        (row for commit in commits for row in commit.rows if isinstance(row, SampleRecord)), key=lambda row: row.index
    )
    try:
        plan = from_table(read_table(out / layout.PLAN), PlanRow)
        manifest = from_table(read_table(out / layout.MANIFEST), SampleRecord)
        info = CorpusInfo.model_validate_json((out / layout.CORPUS).read_bytes())
    except (OSError, ValueError, CorpusError) as error:
        yield Problem(str(out), f"is not finished or damaged ({str(error).splitlines()[0]})")
        return
    missing = {row.id for row in plan} - {row.id for row in rows}
    if missing:
        yield Problem(layout.PLAN, f"{len(missing)} planned samples have no commit record (first: {min(missing)})")
    if manifest != rows:
        differing = sum(a != b for a, b in zip(manifest, rows, strict=False)) + abs(len(manifest) - len(rows))
        yield Problem(layout.MANIFEST, f"{differing} rows differ from the commit records; run generate again")
    counts = {status: sum(row.status == status for row in manifest) for status in {row.status for row in manifest}}
    if info.counts.total != len(manifest) or {k: v for k, v in info.counts.by_status.items() if v} != counts:
        yield Problem(layout.CORPUS, "its counts differ from the manifest; run generate again")
