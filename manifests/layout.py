"""Where everything lies in a corpus folder.

::

    OUT/
    ├── config.json            the recipe, canonical JSON, and the code version: OUT's identity
    ├── inventory.parquet      every photograph found, usable or not
    ├── plan.parquet           one row a sample, before any computing
    ├── data/                  Zarr v3: <dataset>/<category>/{image,mask,<fields>,source,foreground}, and where
    │                         the recipe asks for them instance and stage_{paste,render,npcf}
    ├── bank/                  Zarr v3: <mechanism>/{severity,area,<fields>,segments,opening}
    ├── commits/               one JSON a finished shard; without it a shard does not exist
    ├── manifest.parquet       one row a sample, built from the commit records alone
    ├── corpus.json            schema version, recipe, counts, statistics, licences
    ├── scores/                one table an estimator that scored the corpus later; named in corpus.json
    └── log/                   timings, host facts, progress: no part of the corpus
"""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePosixPath

__all__ = [
    "BANK",
    "COMMITS",
    "CONFIG",
    "CORPUS",
    "DATA",
    "INSTANCE",
    "INVENTORY",
    "LOG",
    "MANIFEST",
    "PLAN",
    "SAMPLE_ARRAYS",
    "SCORES",
    "SOURCE_ARRAYS",
    "STAGES",
    "TOP_LEVEL",
    "commit_name",
    "safe_join",
    "shard_file",
    "stage_array",
]

CONFIG = "config.json"
INVENTORY = "inventory.parquet"
PLAN = "plan.parquet"
DATA = "data"
BANK = "bank"
COMMITS = "commits"
MANIFEST = "manifest.parquet"
CORPUS = "corpus.json"
SCORES = "scores"
LOG = "log"
TOP_LEVEL = frozenset({CONFIG, INVENTORY, PLAN, DATA, BANK, COMMITS, MANIFEST, CORPUS, SCORES, LOG})

SAMPLE_ARRAYS = ("image", "mask")  # and the fields of the mechanisms that take part
STAGES = ("paste", "render", "npcf")  # that can be kept beside the image, in the order of the passes
INSTANCE = "instance"  # beside them where a picture may hold several defects
SOURCE_ARRAYS = ("source", "foreground")


def stage_array(stage: str) -> str:
    """Name of the array that keeps a refinement stage."""
    return f"stage_{stage}"


def commit_name(stage: str, key: str, shard: int) -> str:
    """File name of a commit record: ``samples--builtin--brick--00003.json``; no two keys share one."""
    # within a part of the key no two hyphens stay together, nor one at an end: `a/b--c` is not `a--b/c`
    parts = [re.sub(r"^-|(?<=-)-|-$", "%2D", part.replace("%", "%25")) for part in key.split("/")]
    return "--".join([stage, *parts, f"{shard:05d}.json"])


def shard_file(root: str, key: str, array: str, shard: int, ndim: int) -> str:
    """POSIX path, relative to OUT, of the one file that holds a shard of an array."""
    return str(PurePosixPath(root, key, array, "c", str(shard), *["0"] * (ndim - 1)))


def safe_join(root: Path, relative: str) -> Path:
    """Join a path that came from data, refusing to leave the root.

    Raises
    ------
    ValueError
        The path is absolute or climbs out of ``root``.
    """
    path = Path(os.path.realpath(root / relative))  # resolve() would raise RuntimeError for links in a circle
    if not path.is_relative_to(os.path.realpath(root)):
        raise ValueError(f"path {relative!r} leaves {root}")
    return path
