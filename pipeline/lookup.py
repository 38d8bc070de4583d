"""One sample of a corpus by its id, or by the beginning of it."""

from __future__ import annotations

import difflib

import numpy as np

from manifests.corpus import Corpus
from manifests.errors import ConfigError

__all__ = ["find_sample"]

_SHOWN = 4


def find_sample(corpus: Corpus, wanted: str) -> int:
    """Position of the one sample whose id is this, or begins so.

    Parameters
    ----------
    corpus : Corpus
        Where to look; failed samples are found in one that was opened with ``statuses=None``.
    wanted : str
        An id of 16 hexadecimal digits, or its beginning.

    Raises
    ------
    ConfigError
        No sample is called so, or several are.
    """
    ids: list[str] = corpus.table.column("id").to_pylist()
    start = wanted.strip().lower()
    if not start:
        raise ConfigError("SAMPLE_ID: expected a sample's id or the beginning of it, got nothing; ids are in the table")
    fitting = [position for position, known in enumerate(ids) if known.startswith(start)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        shown = ", ".join(ids[position] for position in fitting[:_SHOWN]) + (", ..." if len(fitting) > _SHOWN else "")
        raise ConfigError(f"sample {wanted!r}: {len(fitting)} ids of {corpus.path} begin so ({shown}); give more")
    if not ids:
        raise ConfigError(f"sample {wanted!r}: {corpus.path} holds no samples at all")
    raise ConfigError(f"sample {wanted!r}: not in {corpus.path}; the nearest id is {_nearest(start, ids)}")


def _nearest(wanted: str, ids: list[str]) -> str:
    """The id with the most digits in common, place by place; one that lost or gained a digit is found as well."""
    close = difflib.get_close_matches(wanted, ids, n=1, cutoff=0.85)
    if close:
        return close[0]
    padded = wanted.ljust(max(map(len, ids)), "?")
    same = [sum(a == b for a, b in zip(padded, known, strict=False)) for known in ids]
    return ids[int(np.argmax(same))]
