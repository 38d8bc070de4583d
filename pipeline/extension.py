"""Append samples to a corpus: further segments of its plan, which change no shard that is there.

config.json lists the extensions, so that any run goes on with them. It is written after what says that the corpus is
finished has been taken away: a finished corpus has all of its extensions, an unfinished one still needs its last.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from manifests import layout
from manifests.durable import write_atomic
from manifests.errors import ConfigError, OutputError
from manifests.records import SourceStatus
from pipeline.generate import Outcome, generate, prepare, stored_sources
from pipeline.planning import bank_ranges
from pipeline.progress import Progress, SilentProgress
from pipeline.recipe import Recipe
from pipeline.store import (
    Identity,
    lock_output,
    mark_unfinished,
    open_output,
    output_errors,
    read_identity,
)

__all__ = ["Wish", "extend"]

_MOST = 100_000_000  # samples in all, as Recipe.count


@dataclass(frozen=True)
class Wish:
    """So many samples more, or so many in all: one of the two."""

    more: int | None = None
    total: int | None = None


def extend(
    out: Path,
    wish: Wish,
    *,
    workers: int,
    progress: Progress | None = None,
    announce: Callable[[], None] | None = None,
    shared_bank: Path | None = None,
) -> Outcome | None:
    """Append samples to a corpus, finished or not, or go on with that.

    Parameters
    ----------
    out : Path
        The corpus folder.
    wish : Wish
        How many. An extension that is not finished is gone on with, not made a second time.
    workers, progress, announce, shared_bank
        As for `pipeline.generate.generate`.

    Returns
    -------
    Outcome or None
        None: the corpus is finished and has as many as were wished for in all.

    Raises
    ------
    CorpusError
        ``out`` is no corpus.
    InputError
        The wish cannot be granted, or the folder not be written.
    Interrupted
        A stop was asked for; the same call goes on from there.
    """
    progress = progress or SilentProgress()
    identity = read_identity(out)
    recipe = identity.recipe
    open_output(out, recipe)  # refuses another code version
    finished = (out / layout.CORPUS).is_file()
    extensions = _wanted(out, identity, wish, finished=finished)
    if extensions == identity.extensions and finished:
        return None
    if extensions != identity.extensions:
        if stored_sources(out, recipe) is None:
            prepare(out, recipe, workers=workers, progress=progress)
        _record(out, identity, extensions, progress)
    else:
        progress.note(
            f"going on with the extension by {extensions[-1]:,}" if extensions else "going on with the corpus"
        )
    return generate(
        out, recipe, workers=workers, progress=progress, announce=announce, shared_bank=shared_bank, stored=True
    )


def _wanted(out: Path, identity: Identity, wish: Wish, *, finished: bool) -> tuple[int, ...]:
    """Extensions that the corpus is to have.

    Raises
    ------
    ConfigError
        Not with this number, or not yet.
    """
    have, had = identity.total, identity.extensions
    more = wish.more if wish.total is None else wish.total - have
    if more is None:
        raise ConfigError("expected --count N, samples to append, or --to N, samples in all")
    if more < 0:
        raise ConfigError(f"--to {wish.total}: {out} has {have} samples already; a corpus does not shrink")
    if not finished and had:
        if more == (had[-1] if wish.total is None else 0):
            return had
        raise ConfigError(
            f"{out}: its extension by {had[-1]} is not finished; finish it first with "
            f"`maphc2f extend {out} --count {had[-1]}`"
        )
    if have + more > _MOST:
        raise ConfigError(f"{out}: would have {have + more} samples; at most {_MOST} can be numbered")
    return (*had, more) if more else had


def _record(out: Path, identity: Identity, extensions: Sequence[int], progress: Progress) -> None:
    """Write down that the corpus is to have these, once it is sure that they can be made.

    Raises
    ------
    ConfigError
        They cannot: the bank is too small.
    OutputError
        Another process is writing here, or has extended the corpus since ``identity`` was read.
    """
    recipe = identity.recipe
    bank_ranges(recipe, _usable(out, recipe), extensions)
    with lock_output(out), output_errors(out):
        if read_identity(out) != identity:
            raise OutputError(
                f"{out}: another maphc2f has extended it just now; look at it, then say again what you want"
            )
        mark_unfinished(out)
        scores = sorted((out / layout.SCORES).glob("*"))
        for path in scores:  # they lack the samples to come, and would count for nothing in silence
            path.unlink()
        if scores:
            progress.note(f"{len(scores)} tables of scores taken away: run `maphc2f score` again afterwards")
        write_atomic(out / layout.CONFIG, Identity.of(recipe, extensions).to_bytes())


def _usable(out: Path, recipe: Recipe) -> list[int]:
    """Usable photographs of each category."""
    records = stored_sources(out, recipe) or []
    return [sum(row.status is SourceStatus.OK for row in record.rows) for record in records]
