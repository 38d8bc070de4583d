"""A publication: a folder that holds a finished corpus and all that a data repository expects beside it.

::

    DEST/
    ├── README.md, datasheet.md, LICENCES.md, CITATION.cff, overview.jpg     for people
    ├── croissant.json, splits.json                                          for programs
    ├── preview/<split>-<k>-of-<n>.parquet                                   thumbnails
    ├── corpus/                  the corpus without log/, hard-linked where the file system can
    ├── archives/                its many files as tar, where usual hosts take fewer
    ├── SHA256SUMS               of every file above
    └── publication.json         last: its presence says that the publication is whole

While it is being made, publishing.json says of which corpus; the same command goes on from what is there.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydantic import BaseModel, ConfigDict, ValidationError

from manifests import layout
from manifests.corpus import Corpus
from manifests.durable import TEMPORARY_SUFFIX, fsync_path, write_atomic
from manifests.errors import CorpusError, OutputError
from manifests.hashing import canonical_json, code_version, sha256_file
from manifests.splits import SPLITS, split_of_group
from pipeline.contact_sheet import choose_evenly, draw_sheet
from pipeline.destination import hold_folder, overlap
from pipeline.publishing.croissant import croissant_json
from pipeline.publishing.documents import citation_file, datasheet, describe, licences, readme
from pipeline.publishing.facts import About, Facts
from pipeline.publishing.placing import ARCHIVES, HOSTS, HostLimits, is_packed, must_pack, pack_files, place_files
from pipeline.publishing.preview import PREVIEW, preview_files, write_preview
from pipeline.store import output_errors
from pipeline.verification import corpus_files, verify_corpus

__all__ = ["Publication", "Watcher", "publish"]

PUBLICATION = "publication.json"
UNFINISHED = "publishing.json"
SUMS = "SHA256SUMS"
CORPUS_FOLDER = "corpus"
_SHOWN = 8


class Watcher(Protocol):
    """Hears how far the steps are; `manifests.console.ConsoleProgress` is one."""

    def count(self, name: str, unit: str) -> Callable[[int, int], None]:
        """A function that is told (done, total) of a step."""


class _Unwatched:
    def count(self, name: str, unit: str) -> Callable[[int, int], None]:
        return lambda done, total: None


class Publication(BaseModel):
    """publication.json: what is published, and that it is whole."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = 1
    name: str
    corpus_sha256: str  # of corpus/corpus.json
    code_version: str  # of the program that published it
    verified: bool  # the corpus was verified right before
    packed: bool
    files: int  # all but this one
    bytes: int
    sums_sha256: str  # of SHA256SUMS


class _Unfinished(BaseModel):
    """publishing.json: what a publication that is being made is of."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    corpus_sha256: str
    code_version: str
    archive_bytes: int
    verified: bool = False


@dataclass(frozen=True)
class _Made:
    """The corpus as it lies in the publication."""

    sha256: dict[str, str]  # of its files that lie open, and of archives, by path in the publication
    archives: list[str]
    bytes: int
    files: int


def publish(
    out: Path,
    dest: Path,
    about: About,
    *,
    verify: bool = True,
    pack: bool = False,
    limits: HostLimits = HOSTS,
    watcher: Watcher | None = None,
) -> Publication:
    """Write a publication of a finished corpus; doing it again changes nothing.

    Parameters
    ----------
    out, dest : Path
        The corpus folder, and the folder to write: new, empty, or begun by the same command.
    about : About
        What the publisher says of it.
    verify : bool
        Verify the corpus first, and refuse one that is not sound. Hashes of files are compared in any case.
    pack : bool
        Pack the corpus into archives even where usual hosts would take its files.
    limits : HostLimits
        What usual hosts take.
    watcher : Watcher, optional
        Hears how far it is.

    Returns
    -------
    Publication
        publication.json.

    Raises
    ------
    CorpusError
        The corpus is not finished, not sound, or holds no accepted sample.
    OutputError
        The folder holds something else, lies within the corpus or around it, or cannot be written.
    """
    watcher = watcher or _Unwatched()
    corpus = Corpus(out)
    if not len(corpus):
        raise CorpusError(f"{out}: holds no accepted sample: nothing to publish; see `maphc2f info {out}`")
    _refuse_overlap(out, dest)
    with output_errors(dest), _hold(dest):
        state = _open(out, dest, limits)
        if verify and not state.verified:
            _must_be_sound(out, watcher)
            state = state.model_copy(update={"verified": True})
            write_atomic(dest / UNFINISHED, canonical_json(state.model_dump()) + b"\n")
        made = _place(out, dest, pack=pack, limits=limits, watcher=watcher)
        facts = _facts(corpus, about, made, state)
        write_preview(dest, corpus, facts.groups, advance=watcher.count("previewing", "samples"))
        _write_documents(dest, corpus, facts, made)
        if sha256_file(out / layout.CORPUS) != state.corpus_sha256:
            raise CorpusError(f"{out}: was changed while it was published; run the same command again")
        return _finish(dest, facts, made)


def _refuse_overlap(out: Path, dest: Path) -> None:
    if overlap(dest, out):
        raise OutputError(f"{dest}: lies within the corpus {out} or around it; give a folder beside it")


@contextmanager
def _hold(dest: Path) -> Iterator[None]:
    """Make DEST, and hold it for this process."""
    if dest.exists() and not dest.is_dir():
        raise OutputError(f"{dest}: is a file; give a folder")
    dest.mkdir(parents=True, exist_ok=True)
    with hold_folder(dest, refusal="another maphc2f is writing here; wait for it"):
        yield


def _open(out: Path, dest: Path, limits: HostLimits) -> _Unfinished:
    """Begin, or go on where an earlier run was; what says that the publication is whole is taken away first."""
    wanted = _Unfinished(
        corpus_sha256=sha256_file(out / layout.CORPUS),
        code_version=code_version(),
        archive_bytes=limits.archive_bytes,
    )
    found = _begun(dest)
    if found is None:
        present = sorted(path.name for path in dest.iterdir() if not _is_first_file(path.name))
        if present:
            shown = ", ".join(present[:3]) + (", …" if len(present) > 3 else "")
            raise OutputError(f"{dest}: holds something else ({shown}); give a new or empty folder")
    elif found.corpus_sha256 != wanted.corpus_sha256:
        raise OutputError(
            f"{dest}: is a publication of another corpus, or of an earlier state of it; give a new folder"
        )
    state = found if found and found.model_copy(update={"verified": False}) == wanted else wanted
    write_atomic(dest / UNFINISHED, canonical_json(state.model_dump()) + b"\n")
    for name in (PUBLICATION, SUMS):
        (dest / name).unlink(missing_ok=True)
    fsync_path(dest)
    _sweep(dest, keep=None if state is found else set())
    return state


def _is_first_file(name: str) -> bool:
    return name.startswith(UNFINISHED) and name.endswith(TEMPORARY_SUFFIX)


def _begun(dest: Path) -> _Unfinished | None:
    """What the publication in DEST is of: one under way, or one that is whole, which is made anew."""
    try:
        if (dest / UNFINISHED).is_file():
            return _Unfinished.model_validate_json((dest / UNFINISHED).read_bytes())
        whole = Publication.model_validate_json((dest / PUBLICATION).read_bytes())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise OutputError(f"{dest}: its {UNFINISHED} or {PUBLICATION} is damaged; give a new folder") from None
    return _Unfinished(corpus_sha256=whole.corpus_sha256, code_version="", archive_bytes=0)


def _sweep(dest: Path, *, keep: set[str] | None) -> None:
    """Remove temporary files, and of our own folders what is not to be kept; None keeps all that is whole."""
    ours = [path for name in (CORPUS_FOLDER, ARCHIVES, PREVIEW) for path in (dest / name).rglob("*")]
    files = [path for path in ours if not path.is_dir()]
    gone = [path for path in (*files, *dest.iterdir()) if path.name.endswith(TEMPORARY_SUFFIX)]
    if keep is not None:
        gone += [path for path in files if path.relative_to(dest).as_posix() not in keep]
    for path in gone:
        path.unlink(missing_ok=True)
    for folder in sorted((path for path in ours if path.is_dir()), reverse=True):
        if not any(folder.iterdir()):
            folder.rmdir()


def _must_be_sound(out: Path, watcher: Watcher) -> None:
    problems = verify_corpus(out, advance=watcher.count("verifying", "shards")).problems
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise CorpusError(f"{out}: is not sound: {problems[0]}{more}; see `maphc2f verify {out}`")


def _place(out: Path, dest: Path, *, pack: bool, limits: HostLimits, watcher: Watcher) -> _Made:
    files = corpus_files(out)
    pack = pack or must_pack([f"{CORPUS_FOLDER}/{file.path}" for file in files], limits)
    packed = [file for file in files if pack and is_packed(file.path)]
    open_files = [file for file in files if not (pack and is_packed(file.path))]
    advance = watcher.count("placing", "files")
    placed = place_files(out, dest / CORPUS_FOLDER, open_files, advance=advance)
    archives = []
    if packed:
        packing = watcher.count("packing", "files")
        archives = pack_files(out, dest, packed, inside=CORPUS_FOLDER, limits=limits, advance=packing)
    sha256 = {f"{CORPUS_FOLDER}/{path}": digest for path, digest in placed.items()}
    sha256 |= {name: sha256_file(dest / name) for name in archives}
    return _Made(sha256, archives, sum(file.bytes for file in files), len(files))


def _facts(corpus: Corpus, about: About, made: _Made, state: _Unfinished) -> Facts:
    groups = corpus.table["group"].to_pylist()
    split_of, counts = split_of_group(groups), Counter(groups)
    by_split = {name: [group for group, split in split_of.items() if split == name] for name in SPLITS}
    samples = {name: sum(counts[group] for group in members) for name, members in by_split.items()}
    return Facts(
        info=corpus.info,
        about=about,
        corpus_sha256=state.corpus_sha256,
        groups=by_split,
        samples=samples,
        preview=preview_files(samples),
        archives=made.archives,
        bytes=made.bytes,
        files=made.files,
        verified=state.verified,
    )


def _write_documents(dest: Path, corpus: Corpus, facts: Facts, made: _Made) -> None:
    shown = choose_evenly(corpus, _SHOWN)
    sink = io.BytesIO()
    draw_sheet(corpus, shown).save(sink, "JPEG", quality=88)
    splits = {"groups": facts.groups, "samples": facts.samples}
    preview = {name: sha256_file(dest / name) for names in facts.preview.values() for name in names}
    made.sha256.update(preview)
    documents = {
        "overview.jpg": sink.getvalue(),
        "splits.json": (json.dumps(splits, indent=2) + "\n").encode(),
        "LICENCES.md": licences(facts),
        "datasheet.md": datasheet(facts),
        "CITATION.cff": citation_file(facts),
        "croissant.json": croissant_json(facts, made.sha256, description=describe(facts)),
        "README.md": readme(facts, shown=len(shown)),
    }
    for name, data in documents.items():
        if data is None:
            (dest / name).unlink(missing_ok=True)
            continue
        write_atomic(dest / name, data)
        made.sha256[name] = sha256_file(dest / name)


def _finish(dest: Path, facts: Facts, made: _Made) -> Publication:
    """Hashes of all files, then the file that says that all is there."""
    _sweep(dest, keep=set(made.sha256))
    sums = "".join(f"{digest}  {path}\n" for path, digest in sorted(made.sha256.items())).encode()
    write_atomic(dest / SUMS, sums)
    publication = Publication(
        name=facts.info.name,
        corpus_sha256=facts.corpus_sha256,
        code_version=code_version(),
        verified=facts.verified,
        packed=bool(made.archives),
        files=len(made.sha256) + 1,
        bytes=sum((dest / path).stat().st_size for path in made.sha256) + len(sums),
        sums_sha256=sha256_file(dest / SUMS),
    )
    write_atomic(dest / PUBLICATION, canonical_json(publication.model_dump()) + b"\n")
    (dest / UNFINISHED).unlink()
    fsync_path(dest)
    return publication
