"""Make good what verification finds wrong in a corpus, and touch nothing else.

All shards that are whole are hard-linked into a twin of the corpus, in OUT/log, and the usual job goes on with that: it
makes exactly what is missing there, to the same bytes, tables and metadata included. Then files of the twin that differ
from those of the corpus take their places by rename, shards before records, records before tables, corpus.json last.
So until everything has been made again the corpus is as it was, and a repair that is killed can be run again.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Self

from pydantic import ValidationError

from manifests import layout
from manifests.corpus import CorpusInfo, ScoreInfo
from manifests.durable import TEMPORARY_SUFFIX, fsync_folders, link_or_copy, write_atomic
from manifests.errors import ConfigError, CorpusError, OutputError
from manifests.hashing import canonical_json, code_version, sha256_bytes, sha256_file
from manifests.records import AnyCommit, BankRecord, SampleRecord, SourceRecord
from pipeline.generate import generate
from pipeline.inventory import create_source_arrays
from pipeline.progress import Progress
from pipeline.recipe import Recipe, config_sha256
from pipeline.scoring import list_score, read_score, score_corpus, shipped_sha256
from pipeline.store import (
    Identity,
    lock_output,
    metadata_files,
    output_errors,
    read_commits,
    read_identity,
    shard_files,
)
from pipeline.verification import Problem, VerificationReport, verify_corpus
from refine.scoring import Scorer

__all__ = ["Repaired", "repair_corpus"]

_TWIN = f"{layout.LOG}/repair"
_TABLES = (layout.INVENTORY, layout.PLAN, layout.MANIFEST)
# in this order files take their places: what says that others are whole comes after them
_ORDER = (layout.DATA, layout.BANK, layout.COMMITS, layout.CONFIG, *_TABLES, layout.SCORES, layout.CORPUS)
Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Repaired:
    """Files that were put right, files that were removed, samples made again, and the verification afterwards."""

    restored: tuple[str, ...]
    removed: tuple[str, ...]
    samples: int
    report: VerificationReport


def repair_corpus(
    out: Path,
    *,
    recipe: Recipe | None = None,
    sqe: Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
    advance: Advance | None = None,
) -> Repaired:
    """Restore every damaged or lost file of a finished corpus.

    Parameters
    ----------
    out : Path
        The corpus folder.
    recipe : Recipe, optional
        What the corpus was made from: needed only where config.json and corpus.json are both damaged.
    sqe : Path, optional
        An estimator: needed only where a table of its scores is damaged, and it is not the one that ships.
    workers, progress, announce
        As for `pipeline.generate.generate`.
    advance : callable, optional
        Hears of the two verifications: (done, total) records.

    Raises
    ------
    CorpusError
        There is nothing to repair from: the corpus is not finished, or what is made again is another corpus.
    InputError
        Something is needed that was not given.
    """
    if not any((out / name).is_file() for name in (layout.CORPUS, layout.MANIFEST)):
        raise CorpusError(f"{out}: is not finished; run `maphc2f generate` again, it makes anew what is not whole")
    identity = _identity(out, recipe)
    with output_errors(out):
        (out / layout.LOG).mkdir(exist_ok=True)
    with lock_output(out), _twin(out) as twin:
        found = _Damage.of(out, identity, twin, advance)
        if not found.report.problems:
            return Repaired((), (), 0, found.report)
        scores = list(found.scores(sqe))
        found.link_whole_files(twin)
        outcome = generate(twin, identity.recipe, workers=workers, progress=progress, announce=announce, stored=True)
        _add_scores(out, twin, scores)
        restored, removed = found.put_right(twin)
    return Repaired(restored, removed, outcome.made, verify_corpus(out, advance=advance))


@contextmanager
def _twin(out: Path) -> Iterator[Path]:
    """An empty folder on the same file system, which does not outlive its use."""
    twin = out / _TWIN
    shutil.rmtree(twin, ignore_errors=True)  # of a repair that was killed
    twin.mkdir()
    try:
        yield twin
    finally:
        shutil.rmtree(twin, ignore_errors=True)


def _identity(out: Path, recipe: Recipe | None) -> Identity:
    """What config.json says or, where it is damaged, should say.

    Raises
    ------
    ConfigError
        Nothing that is whole tells.
    OutputError
        Another code version made the corpus.
    """
    identity = _identity_of_info(out) or _identity_of_config(out)
    if identity is None and recipe is not None:
        identity = _identity_of_recipe(out, recipe)
    if identity is None:
        raise ConfigError(
            f"{out / layout.CONFIG}: is damaged, and {layout.CORPUS}, which repeats it, too; say by --config and "
            "options what the corpus was made from"
        )
    if identity.code_version != code_version():
        raise OutputError(
            f"{out}: was made by code version {identity.code_version}, this is {code_version()}; repair it with that"
        )
    return identity


def _identity_of_info(out: Path) -> Identity | None:
    """From corpus.json, which says what config.json does, and the hash of that."""
    info = _read_info(out)
    if info is None:
        return None
    try:
        identity = Identity.model_validate({name: getattr(info, name) for name in Identity.model_fields})
    except ValidationError:
        return None
    listed = {file.path: file.sha256 for file in info.files}
    return identity if sha256_bytes(identity.to_bytes()) == listed.get(layout.CONFIG) else None


def _identity_of_config(out: Path) -> Identity | None:
    try:
        identity = read_identity(out)
    except CorpusError:
        return None
    whole = (out / layout.CONFIG).read_bytes() == identity.to_bytes()
    return identity if whole and identity.config_sha256 == config_sha256(identity.recipe) else None


def _identity_of_recipe(out: Path, recipe: Recipe) -> Identity:
    """From a recipe that the commit records are of; by how many samples it was extended they do not tell.

    Raises
    ------
    ConfigError
        The corpus was made from another recipe, or was extended.
    """
    commits = [commit for commit in _readable_commits(out) if commit.config_sha256 == config_sha256(recipe)]
    if not commits:
        raise ConfigError(f"{out}: was made from another recipe than --config and options say; give that one")
    if sum(len(commit.rows) for commit in commits if commit.stage == "samples") > recipe.count:
        raise ConfigError(f"{out / layout.CONFIG}: is damaged, and nothing tells of extensions; restore it from a copy")
    return Identity.of(recipe).model_copy(update={"code_version": commits[0].code_version})


def _read_info(out: Path) -> CorpusInfo | None:
    """corpus.json, if it can be read and is as it was written; its figures may still be wrong."""
    try:
        stored = (out / layout.CORPUS).read_bytes()
        info = CorpusInfo.model_validate_json(stored)
    except (OSError, ValidationError):
        return None
    return info if stored == canonical_json(info.model_dump(mode="json", exclude_unset=True)) + b"\n" else None


def _readable_commits(out: Path) -> list[AnyCommit]:
    return [
        *read_commits(out, "sources", SourceRecord),
        *read_commits(out, "bank", BankRecord),
        *read_commits(out, "samples", SampleRecord),
    ]


@dataclass(frozen=True)
class _Damage:
    """What verification said, which shards are whole nevertheless, and which files may have to change."""

    out: Path
    identity: Identity
    info: CorpusInfo | None
    report: VerificationReport
    whole: tuple[AnyCommit, ...]
    suspect: frozenset[str]

    @classmethod
    def of(cls, out: Path, identity: Identity, twin: Path, advance: Advance | None) -> Self:
        """Verify, with the config.json that there should be."""
        info, report = _read_info(out), _verify(out, identity, twin, advance)
        commits = [
            commit
            for commit in _readable_commits(out)
            if (commit.config_sha256, commit.code_version) == (identity.config_sha256, identity.code_version)
        ]
        whole = tuple(commit for commit in commits if not _is_named(commit, report.problems))
        suspect = {name for commit in commits for name in _files(commit)}
        suspect -= {name for commit in whole for name in _files(commit)}
        suspect |= {problem.where for problem in report.problems} | {layout.CORPUS}
        if info is None:  # it would have told whether they are whole
            suspect |= {*_TABLES, *metadata_files(out)}
        return cls(out, identity, info, report, whole, frozenset(suspect))

    def link_whole_files(self, twin: Path) -> None:
        """Fill the twin with shards that are whole; all else follows from them, or is made again."""
        with output_errors(self.out):
            write_atomic(twin / layout.CONFIG, self.identity.to_bytes())
            for commit in self.whole:
                if commit.stage == "sources":
                    rows = [row for row in commit.rows if isinstance(row, SourceRecord)]
                    create_source_arrays(twin, self.identity.recipe, commit.key, rows)
                for name in _files(commit):
                    link_or_copy(self.out / name, twin / name)
            if (self.out / layout.INVENTORY).is_file():  # held against the records before it is used
                link_or_copy(self.out / layout.INVENTORY, twin / layout.INVENTORY)

    def scores(self, sqe: Path | None) -> Iterator[_Score]:
        """Tables of scores that the corpus should have.

        Raises
        ------
        ConfigError
            One is damaged, and its estimator is needed to make it again.
        """
        listed = {file.path: file.sha256 for file in self.info.files} if self.info else {}
        known = {score.path: score for score in self.info.scores} if self.info else {}
        on_disk = {f"{layout.SCORES}/{path.name}" for path in (self.out / layout.SCORES).glob("*.parquet")}
        for name in sorted(on_disk | known.keys()):
            path = self.out / name
            told = read_score(path, self.out) if name in on_disk else None
            if told is None and name in known and path.is_file() and sha256_file(path) == listed.get(name):
                told = known[name]  # from before tables said whose they are
            yield _Score(told, None) if told else _Score(None, _weights_of(self.out, name, known.get(name), sqe))

    def put_right(self, twin: Path) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Move files that differ from the twin to the corpus, and remove what belongs to no shard; names of both.

        Raises
        ------
        CorpusError
            One differs that was whole.
        """
        made = {path.relative_to(twin).as_posix() for path in twin.rglob("*") if path.is_file()}
        made = {name for name in made if name.split("/")[0] != layout.LOG}
        differing = [name for name in sorted(made, key=_place) if not _same(self.out / name, twin / name)]
        if wrong := [name for name in differing if name not in self.suspect and (self.out / name).exists()]:
            raise CorpusError(
                f"{self.out}: {wrong[0]} is whole, but would come out otherwise today: photographs have changed since "
                "the corpus was made; put them back and repair again"
            )
        strays = sorted(_swept(self.out) - made)
        with output_errors(self.out):
            for name in differing:
                target = self.out / name
                target.parent.mkdir(parents=True, exist_ok=True)
                (twin / name).replace(target)
                fsync_folders(target, self.out)
            for name in strays:
                (self.out / name).unlink()
        return tuple(differing), tuple(strays)


@dataclass(frozen=True)
class _Score:
    """A table of scores: either what it is, or the estimator that makes it again."""

    whole: ScoreInfo | None
    weights: Path | None


def _verify(out: Path, identity: Identity, twin: Path, advance: Advance | None) -> VerificationReport:
    """What verification says, of config.json as well as of all that is to be judged by it."""
    if (out / layout.CONFIG).is_file() and (out / layout.CONFIG).read_bytes() == identity.to_bytes():
        return verify_corpus(out, advance=advance)
    with output_errors(out):
        for path in sorted(out.rglob("*")):
            name = path.relative_to(out)
            if path.is_file() and name.parts[0] != layout.LOG and name.as_posix() != layout.CONFIG:
                link_or_copy(path, twin / name)
        write_atomic(twin / layout.CONFIG, identity.to_bytes())
    report = verify_corpus(twin, advance=advance)
    shutil.rmtree(twin)
    twin.mkdir()
    return replace(report, problems=(Problem(layout.CONFIG, "is damaged or missing"), *report.problems))


def _files(commit: AnyCommit) -> list[str]:
    """Files of a shard, its record last."""
    return [*(file.path for file in commit.files), f"{layout.COMMITS}/{commit.commit_name}"]


def _is_named(commit: AnyCommit, problems: Iterable[Problem]) -> bool:
    """Whether a problem is one of this shard: of a file, a sample, or an array or group that it is part of."""
    root = layout.BANK if commit.stage == "bank" else layout.DATA
    groups = {str(parent) for file in commit.files for parent in PurePosixPath(file.path).parents}
    places = {*_files(commit), *groups, commit.key, f"{root}/{commit.key}"}
    ids = {row.id for row in commit.rows if isinstance(row, SampleRecord)}
    return any(
        problem.where in places or (problem.where.startswith("sample ") and problem.where.split()[1] in ids)
        for problem in problems
    )


def _weights_of(out: Path, name: str, score: ScoreInfo | None, sqe: Path | None) -> Path | None:
    """The estimator whose table this is, by the beginning of its hash; None for the one that ships."""
    begins = PurePosixPath(name).stem
    if shipped_sha256().startswith(begins):
        return None
    if sqe is not None and Scorer(sqe).sha256.startswith(begins):
        return sqe
    raise ConfigError(
        f"{out / name}: is damaged; give the estimator {score.sqe_sha256 if score else begins} by --sqe FILE, "
        "or remove the table and score again later"
    )


def _add_scores(out: Path, twin: Path, scores: Iterable[_Score]) -> None:
    """Tables that are whole as they are, and others made again."""
    for score in scores:
        if score.whole is None:
            score_corpus(twin, score.weights)
            continue
        with output_errors(out):
            link_or_copy(out / score.whole.path, twin / score.whole.path)
            list_score(twin, score.whole)


def _same(a: Path, b: Path) -> bool:
    return a.is_file() and (a.samefile(b) or filecmp.cmp(a, b, shallow=False))


def _place(name: str) -> tuple[int, str]:
    return _ORDER.index(name.split("/")[0]), name


def _swept(out: Path) -> set[str]:
    """Files that have to be named by something: shards, metadata, records, and temporary ones."""
    commits = {f"{layout.COMMITS}/{path.name}" for path in (out / layout.COMMITS).glob("*")}
    temporary = {path.relative_to(out).as_posix() for path in out.glob(f"*{TEMPORARY_SUFFIX}")}
    return shard_files(out) | metadata_files(out) | commits | temporary
