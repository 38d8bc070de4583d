"""The report of one corpus: an overview, and a gallery of every sample that opens from disk.

::

    REPORT/
    ├── index.html             what the corpus is
    ├── gallery.html           every sample
    ├── report.json            says that this folder is a report
    ├── assets/                style and scripts
    ├── pictures/              samples on the first page
    └── data/
        ├── corpus.js          names, units, colours: what the gallery needs at once
        ├── columns/00000.js   what it filters and sorts by, 16,384 samples a file
        ├── ids.js             read when an id is searched for
        ├── sheets/00000.webp  thumbnails, 32 a file, and outlines/ of their masks
        ├── facts/00000.js     provenance, 256 samples a file
        └── details/0000123.js the pictures of one sample

Samples go through in blocks of one sheet, so memory does not grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import manifests
from manifests import layout
from manifests.corpus import Corpus, CorpusInfo, Sample
from manifests.errors import CorpusError, OutputError
from manifests.hashing import sha256_file
from manifests.records import SampleStatus, SourceRecord
from pipeline.contact_sheet import INSTANCE_COLOURS, as_rgb
from pipeline.destination import overlap
from pipeline.inspection_card import photographs
from pipeline.report.columns import CHUNK, STEPS, Columns, read_columns
from pipeline.report.details import choose_details, colour_scales, sample_detail
from pipeline.report.facts import PER_CHUNK, SECTIONS, fact_chunk
from pipeline.report.overview import Times, read_stages, summarise
from pipeline.report.site import FORMAT, Site, build_site
from pipeline.report.sprites import ACROSS, PER_SHEET, SIDE_PX, encode, sheets, thumbnail

__all__ = ["CorpusPictures", "Pictures", "refuse_inside", "write_pages", "write_report"]

_SHOWN_FIRST = 12  # samples on the first page
_SHOWN_SIDE_PX = 256

Advance = Callable[[int, int], None]
Sources = Mapping[tuple[str, str, int], SourceRecord]


class Pictures(Protocol):
    """Where the pictures of a report come from."""

    def block(self, start: int, stop: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Results (S, S, 3) and masks (S, S) of the samples from ``start`` to ``stop``."""
        ...

    def sample(self, position: int) -> Sample:
        """The sample at a position."""
        ...


class CorpusPictures:
    """Pictures of a stored corpus, read a sheet's worth of rows at a time."""

    def __init__(self, corpus: Corpus) -> None:
        self._corpus = corpus

    def block(self, start: int, stop: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.bool_]]]:
        """Results (S, S, 3) and masks (S, S) of the samples from ``start`` to ``stop``."""
        for sample in sorted(self._corpus[start:stop], key=lambda sample: sample.record.index):  # read shard by shard
            yield as_rgb(sample.image), sample.mask > 0

    def sample(self, position: int) -> Sample:
        """The sample at a position."""
        return self._corpus[position]


def refuse_inside(dest: Path, *inputs: Path) -> None:
    """Refuse a report in a folder that it is about: verification would find foreign files there.

    Raises
    ------
    OutputError
        It lies in one of them, or is one.
    """
    for folder in inputs:
        if overlap(dest, folder):
            raise OutputError(f"{dest}: lies in {folder}, or holds it; give a folder beside it for the report")


def write_report(out: Path, dest: Path, *, details: int = 2000, advance: Advance | None = None) -> int:
    """Write the report of a finished corpus to a folder; an earlier report there is replaced.

    Parameters
    ----------
    out, dest : Path
        The corpus, and the report.
    details : int
        How many samples have all their pictures in the report; the others have a thumbnail.
    advance : function of (done, total), optional
        Told of samples.

    Returns
    -------
    int
        Samples with all their pictures.

    Raises
    ------
    OutputError
        The report cannot be written there.
    CorpusError
        The corpus is damaged, or holds nothing.
    """
    refuse_inside(dest, out)
    corpus = Corpus(out, statuses=None)
    if not len(corpus):
        raise CorpusError(f"{out}: holds no sample; run `maphc2f generate` again")
    sources = photographs(corpus)
    options = [sha256_file(out / layout.CORPUS), manifests.__version__, details]
    with build_site(dest, kind="report", options=options) as site:
        return write_pages(
            site,
            corpus.table,
            corpus.info,
            sources,
            CorpusPictures(corpus),
            times=read_stages(out),
            details=details,
            advance=advance,
        )


def write_pages(
    site: Site,
    table: pa.Table,
    info: CorpusInfo,
    sources: Sources,
    pictures: Pictures,
    *,
    times: Times | None,
    details: int,
    advance: Advance | None = None,
) -> int:
    """Fill a site from a manifest, whatever its pictures come from; the number of samples in detail."""
    columns = read_columns(table, info)
    detailed = choose_details(columns, details)
    _write_blocks(site, table, sources, pictures, set(detailed.tolist()), advance)
    for number in range(-(-len(columns) // CHUNK)):
        site.write_script(f"data/columns/{number:05d}.js", "columns", number, columns.chunk(number))
    site.write_script("data/ids.js", "ids", 0, columns.identities())
    site.write_script("data/corpus.js", "corpus", 0, _corpus_facts(columns, info, detailed))
    shown = _write_shown(site, columns, pictures)
    site.write_assets("report.css", "theme.js", "gallery.js")
    page = {"name": info.name, "version": info.code_version, "kind": "report"}
    overview = {"here": "overview", "overview": summarise(info, columns, times), "shown": shown}
    site.write_page("index.html", "overview.html", {**page, **overview})
    gallery = {"here": "gallery", "total": len(columns)}
    site.write_page("gallery.html", "gallery.html", {**page, **gallery})
    return len(detailed)


def _write_blocks(
    site: Site, table: pa.Table, sources: Sources, pictures: Pictures, detailed: set[int], advance: Advance | None
) -> None:
    """Sheets, facts and details; what an earlier build has written is left."""
    total = len(table)
    for start in range(0, total, PER_SHEET):
        stop = min(start + PER_SHEET, total)
        names = [f"data/{folder}/{start // PER_SHEET:05d}.webp" for folder in ("sheets", "outlines")]
        if not all(site.has(name) for name in names):
            for name, data in zip(names, sheets(pictures.block(start, stop)), strict=True):
                site.write(name, data)
        if start % PER_CHUNK == 0:
            name = f"data/facts/{start // PER_CHUNK:05d}.js"
            if not site.has(name):
                facts = fact_chunk(table.slice(start, PER_CHUNK), sources)
                site.write_script(name, "facts", start // PER_CHUNK, facts)
        for position in sorted(detailed.intersection(range(start, stop))):
            name = f"data/details/{position:07d}.js"
            if not site.has(name):
                site.write_script(name, "details", position, sample_detail(pictures.sample(position)))
        if advance:
            advance(stop, total)


def _corpus_facts(columns: Columns, info: CorpusInfo, detailed: NDArray[np.int64]) -> dict[str, object]:
    """What the gallery needs at once."""
    return {
        "format": FORMAT,
        "name": info.name,
        "total": len(columns),
        "seed": str(info.config.get("seed", "")),  # may be larger than a page's numbers are exact
        "chunk": CHUNK,
        "steps": STEPS,
        "sheet": {"samples": PER_SHEET, "across": ACROSS, "side": SIDE_PX},
        "facts": {"samples": PER_CHUNK, "sections": SECTIONS},
        "categories": columns.categories,
        "mechanisms": [{"name": name, "title": m.title} for name, m in info.mechanisms.items()],
        "statuses": columns.statuses,
        "scored": bool(info.sqe_sha256),
        "details": "all" if len(detailed) == len(columns) else detailed.tolist(),
        "colours": colour_scales(),
        "instances": INSTANCE_COLOURS.tolist(),
    }


def _write_shown(site: Site, columns: Columns, pictures: Pictures) -> list[dict[str, object]]:
    """Pictures for the first page: an accepted sample of each mechanism in turn.

    Of those in categories that were shown least so far it is the one of the best quality.
    """
    accepted = columns.status == columns.statuses.index(SampleStatus.OK)
    shown: list[int] = []
    often = np.zeros(len(columns.categories), dtype=np.int64)
    for turn in range(_SHOWN_FIRST):
        bit = turn % len(columns.mechanisms)
        left = accepted & (columns.present == 1 << bit)
        left[shown] = False
        rows = np.flatnonzero(left)
        if rows.size:
            best = int(rows[np.lexsort((rows, -columns.sqe[rows], often[columns.category[rows]]))[0]])
            shown.append(best)
            often[columns.category[best]] += 1
    return [_shown(site, columns, pictures, position) for position in shown]


def _shown(site: Site, columns: Columns, pictures: Pictures, position: int) -> dict[str, object]:
    name = f"pictures/{position:07d}.webp"
    ((pixels, _),) = pictures.block(position, position + 1)
    site.write(name, encode(thumbnail(pixels, _SHOWN_SIDE_PX), quality=90))
    present = [m for k, m in enumerate(columns.mechanisms) if columns.present[position] >> k & 1]
    category = columns.categories[columns.category[position]]
    return {"index": position, "file": name, "mechanism": " + ".join(present), "category": category}
