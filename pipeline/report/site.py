"""A folder of pages that is there as a whole or not at all, and that opens from disk.

A page opened as ``file://`` may not fetch, so data lies in scripts that hand one JSON value to the page::

    maphc2f("columns", 0, {"count": 16384, "status": "AAAA…"});

The folder is built beside its destination as ``.NAME.building`` and renamed at the end. Files there are whole, and a
build that was stopped goes on with those of the same corpus and options.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from manifests.durable import TEMPORARY_SUFFIX, fsync_path, write_atomic
from manifests.errors import OutputError
from manifests.hashing import canonical_json, sha256_bytes
from pipeline.destination import hold_folder
from pipeline.store import output_errors

__all__ = ["FORMAT", "Site", "build_site", "script_json"]

FORMAT = 1  # of the data in a report; other data is not gone on with
_MARKER = "report.json"
_KEY = ".key"


def script_json(value: object) -> str:
    """JSON that can stand in a script or in HTML: ASCII, without ``<``, ``>`` and ``&``, keys sorted."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, sort_keys=True, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pipeline.report"),
        autoescape=select_autoescape(default=True, default_for_string=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = lambda number: f"{number:,}"
    environment.filters["figure"] = lambda value: f"{value:.3g}"
    return environment


@dataclass(frozen=True)
class Site:
    """A report under construction."""

    folder: Path

    def has(self, name: str) -> bool:
        """An earlier build left this file, and it is whole."""
        return (self.folder / name).is_file()

    def write(self, name: str, data: bytes) -> None:
        """Write a file, whole or not at all; ``name`` is relative to the report."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)

    def write_script(self, name: str, kind: str, key: int | str, value: object) -> None:
        """A script that hands the page one value."""
        self.write(name, f"maphc2f({script_json(kind)},{script_json(key)},{script_json(value)});\n".encode("ascii"))

    def write_page(self, name: str, template: str, values: Mapping[str, object]) -> None:
        """A page from a template; all values are escaped."""
        text = _environment().get_template(template).render(values)
        self.write(name, text.encode("utf-8", "backslashreplace"))

    def write_assets(self, *names: str) -> None:
        """Style and scripts that ship with the program."""
        for name in names:
            self.write(f"assets/{name}", (files("pipeline.report") / "static" / name).read_bytes())


@contextmanager
def build_site(dest: Path, *, kind: str, options: object = None) -> Iterator[Site]:
    """A site to be filled; it takes the place of ``dest`` when the block ends without an error.

    Parameters
    ----------
    dest : Path
        Where the report is to be: nothing, an empty folder, or a report of the same kind, which is replaced.
    kind : str
        ``"report"`` or ``"comparison"``.
    options : JSON value
        What the data depends on: a build that was stopped is gone on with if it is the same. None: always from anew.

    Raises
    ------
    OutputError
        ``dest`` is something else, cannot be written, or another build of it is under way.
    """
    dest = Path(os.path.abspath(dest))  # noqa: PTH100 - resolve() would write through a link
    building = dest.with_name(f".{dest.name}.building")
    before = dest.with_name(f".{dest.name}.before")
    with output_errors(dest):
        dest.parent.mkdir(parents=True, exist_ok=True)
        if before.exists() and not dest.exists():  # stopped between two renames
            before.rename(dest)
        must_be_replaceable(dest, kind)
        building.mkdir(exist_ok=True)
        with hold_folder(building, refusal="another run is building this report; wait for it, or stop it"):
            _clear_unless(building, sha256_bytes(canonical_json([FORMAT, kind, options])), keep=options is not None)
            site = Site(building)
            yield site
            site.write(_MARKER, canonical_json({"maphc2f": kind, "format": FORMAT}) + b"\n")
            _put(building, dest, before)


def must_be_replaceable(dest: Path, kind: str) -> None:
    """Refuse a destination that holds anything but an earlier report of this kind."""
    if not dest.exists() and not dest.is_symlink():
        return
    remedy = "give the name of a new folder"
    if not dest.is_dir():
        raise OutputError(f"{dest}: expected a folder for the {kind}, found a file; {remedy}")
    if not any(dest.iterdir()):
        return
    try:
        marker = json.loads((dest / _MARKER).read_bytes())
        found = marker.get("maphc2f") if isinstance(marker, dict) else None
    except (OSError, ValueError):
        found = None
    if found != kind:
        raise OutputError(f"{dest}: holds something that is no {kind} of maphc2f, and is left as it is; {remedy}")


def _clear_unless(building: Path, key: str, *, keep: bool) -> None:
    """Leave what an earlier build of the same key has finished, and nothing else."""
    kept = (building / _KEY).read_text(encoding="ascii", errors="replace") if (building / _KEY).is_file() else ""
    if keep and kept == key:
        for path in building.rglob(f"*{TEMPORARY_SUFFIX}"):
            path.unlink()
        return
    for path in building.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    write_atomic(building / _KEY, key.encode("ascii"))


def _put(building: Path, dest: Path, before: Path) -> None:
    (building / _KEY).unlink()
    for folder in [building, *(path for path in building.rglob("*") if path.is_dir())]:
        fsync_path(folder)
    if before.exists():
        shutil.rmtree(before)
    if dest.exists():
        dest.rename(before)
    building.rename(dest)
    fsync_path(dest.parent)
    if before.exists():
        shutil.rmtree(before)
