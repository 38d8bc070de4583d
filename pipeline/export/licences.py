"""``LICENCES.txt``: under which terms the photographs are that an export's pictures were made from."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.export.contract import Export, Part

__all__ = ["LICENCES", "licences_text"]

LICENCES = "LICENCES.txt"
_HEAD = """\
The pictures here were made by MaPhC2F from photographs of normal parts, and keep the licences of those:

"""
_NOT_PHYSICAL = """
Not physical, but made by reference generators: {names}.
"""


def licences_text(export: Export, parts: Sequence[Part]) -> str:
    """The text, of the categories that are in the parts."""
    table = export.corpus.take([row for part in parts for row in part.rows]).table
    pairs = zip(table["dataset"].to_pylist(), table["category"].to_pylist(), strict=True)
    keys = {f"{dataset}/{category}" for dataset, category in pairs}
    entries = [entry for entry in export.info.licences if f"{entry.dataset}/{entry.category}" in keys]
    lines = [f"{entry.dataset}/{entry.category}: {entry.licence}" for entry in entries]
    odd = sorted({name for name in table["mechanism"].to_pylist() if not export.info.mechanisms[name].physical})
    tail = _NOT_PHYSICAL.format(names=", ".join(odd)) if odd else ""
    return _HEAD + "".join(f"{line}\n" for line in sorted(lines)) + tail
