"""Join what several machines made of one corpus: shards are copied, hashed on the way, and the rest follows from them.

A folder to merge is one that `generate --range` wrote, finished or not; all have the same recipe, code and extensions.
A shard that several have must be the same in all. A merge that is stopped, or lacks something, keeps what it has: the
same command, or one with more folders, goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import ValidationError

from manifests import layout
from manifests.durable import fsync_folders, fsync_path, link_or_copy, write_atomic
from manifests.errors import CorpusError, OutputError
from manifests.hashing import code_version, sha256_bytes, sha256_file
from manifests.records import COMMIT_PARSERS, AnyCommit, FileRecord
from pipeline.generate import Outcome, complete
from pipeline.progress import Progress, SilentProgress
from pipeline.store import Identity, differences, open_output, output_errors, read_identity
from pipeline.verification import verify_corpus

__all__ = ["merge_corpora"]


@dataclass
class _Merge:
    """The folders to join, where to, and what was found wrong in them."""

    parts: Sequence[Path]
    out: Path
    identity: Identity
    link: bool
    progress: Progress
    damaged: list[str] = field(default_factory=list)

    def fill(self) -> None:
        """Bring every shard that any folder holds into ``out``, its record last."""
        names = sorted({path.name for part in self.parts for path in (part / layout.COMMITS).glob("*.json")})
        self.progress.stage("merging", len(names), 0)
        for name in names:
            self._bring(name)
            self.progress.advance(1, 0)
        self._bring_inventory()

    def _bring(self, name: str) -> None:
        """One shard, from the first folder in which it is whole."""
        held = [(part, *found) for part in self.parts if (found := self._record(part, name))]
        if len({data for _, data, _ in held}) > 1:
            a, b = held[0][0], next(part for part, data, _ in held if data != held[0][1])
            raise OutputError(
                f"{name.removesuffix('.json')}: {a} and {b} hold different shards, though recipe and code are the "
                f"same; verify both, and leave out the one that is wrong"
            )
        target = self.out / layout.COMMITS / name
        if held and target.is_file() and target.read_bytes() == held[0][1]:
            return  # by an earlier run: its files were there first
        for part, data, record in held:
            if all(self._copy(part, file) for file in record.files):
                with output_errors(self.out):
                    write_atomic(target, data)
                return

    def _record(self, part: Path, name: str) -> tuple[bytes, AnyCommit] | None:
        """A commit record that can be trusted, and its bytes."""
        try:
            data = (part / layout.COMMITS / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise OutputError(f"{part / layout.COMMITS / name}: cannot be read ({error.strerror})") from None
        try:
            record = COMMIT_PARSERS[name.split("--")[0]](data)
        except (ValidationError, KeyError):
            record = None
        ours = (self.identity.config_sha256, self.identity.code_version)
        if (
            record is None
            or record.to_bytes() != data
            or record.commit_name != name
            or (record.config_sha256, record.code_version) != ours
        ):
            self.damaged.append(f"{part}/{layout.COMMITS}/{name}")
            return None
        return data, record

    def _copy(self, part: Path, file: FileRecord) -> bool:
        """Copy or link a file of a shard, unless it is not what its record says."""
        try:
            source = layout.safe_join(part, file.path)
            target = layout.safe_join(self.out, file.path)
            data = b"" if self.link else source.read_bytes()
            sha256 = sha256_file(source) if self.link else sha256_bytes(data)
        except (OSError, ValueError):
            sha256 = ""
        if sha256 != file.sha256:
            self.damaged.append(f"{part}/{file.path}")
            return False
        with output_errors(self.out):
            target.parent.mkdir(parents=True, exist_ok=True)
            if self.link:
                link_or_copy(source, target)
                fsync_path(target)
            else:
                write_atomic(target, data)
            fsync_folders(self.out / file.path, self.out)
        return True

    def _bring_inventory(self) -> None:
        """The order of the categories; its rows are held against the records before they are used."""
        found = [part / layout.INVENTORY for part in self.parts if (part / layout.INVENTORY).is_file()]
        if found and not (self.out / layout.INVENTORY).is_file():
            with output_errors(self.out):
                write_atomic(self.out / layout.INVENTORY, found[0].read_bytes())


def merge_corpora(
    parts: Sequence[Path],
    out: Path,
    *,
    link: bool = False,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
    advance: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Join folders that hold parts of one corpus into a whole and verified one.

    Parameters
    ----------
    parts : sequence of Path
        At least one.
    out : Path
        New, empty, or begun by such a merge.
    link : bool
        Hard-link files instead of copying them, where they are on one file system.
    progress, announce
        As for `pipeline.generate.generate`.
    advance : callable, optional
        Hears of the verification: (done, total) records.

    Raises
    ------
    OutputError
        The folders do not fit together, or what they hold is not all.
    CorpusError
        What came of it does not verify.
    """
    identity = _common_identity(parts)
    if any(part.resolve() == out.resolve() for part in parts):
        raise OutputError(f"{out}: is one of the folders to merge; give a new or empty one")
    open_output(out, identity.recipe, identity.extensions)
    job = _Merge(parts, out, identity, link, progress or SilentProgress())
    outcome, missing = complete(out, identity.recipe, job.fill, progress=progress, announce=announce)
    if outcome is None:
        damaged = f" ({len(job.damaged)} files are damaged, first {job.damaged[0]})" if job.damaged else ""
        raise OutputError(
            f"{out}: not whole, missing are {missing}{damaged}; make them with `maphc2f generate … --range` and merge "
            "again with that folder, too"
        )
    report = verify_corpus(out, advance=advance)
    if report.problems:
        raise CorpusError(f"{out}: {len(report.problems)} problems after merging, first: {report.problems[0]}")
    return outcome


def _common_identity(parts: Sequence[Path]) -> Identity:
    """What all folders are parts of.

    Raises
    ------
    OutputError
        They are of different corpora, or of another code version than this.
    """
    first = read_identity(parts[0])
    for part in parts[1:]:
        other = read_identity(part)
        if found := next(_unlike(first, other), None):
            raise OutputError(f"{parts[0]} and {part} are not of one corpus: {found}; merge what one recipe made")
    if first.code_version != code_version():
        raise OutputError(
            f"{parts[0]}: was made by code version {first.code_version}, this is {code_version()}; merge with that one"
        )
    return first


def _unlike(a: Identity, b: Identity) -> Iterator[str]:
    for name in ("schema_version", "code_version", "extensions"):
        if getattr(a, name) != getattr(b, name):
            yield f"{name} is {getattr(a, name)} and {getattr(b, name)}"
    yield from differences(
        a.recipe.model_dump(mode="json"), b.recipe.model_dump(mode="json"), "in the first", "in the other"
    )
