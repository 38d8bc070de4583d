"""What the detail of a sample says of its provenance: which columns of the manifest, under which heading and unit.

Chunks of `PER_CHUNK` rows lie in scripts of their own, column by column, and are read when a sample is opened.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypedDict

import pyarrow as pa

from manifests.records import SourceRecord

__all__ = ["PER_CHUNK", "SECTIONS", "fact_chunk", "source_facts"]

PER_CHUNK = 256
_DIGITS = 6  # of a figure, significant


class Section(TypedDict):
    """Facts under one heading: column, label and unit of each; a unit with "%" multiplies by 100."""

    title: str
    facts: tuple[tuple[str, str, str], ...]


# where the columns come from: the row of the manifest, each of its defects, the record of its photograph
SECTIONS: Mapping[str, Section] = {
    "sample": {
        "title": "What came out",
        "facts": (
            ("status", "status", ""),
            ("sqe", "quality (SQE)", ""),
            ("severity", "severity", ""),
            ("area_fraction", "area", "%"),
            ("area_px", "area", "px"),
            ("contrast", "contrast", "grey levels"),
            ("visibility", "visibility", ""),
            ("length_px", "length of crack", "px"),
            ("relief_px", "relief", "px"),
            ("physical", "simulated", ""),
        ),
    },
    "provenance": {
        "title": "Where it comes from",
        "facts": (
            ("index", "row of the plan", ""),
            ("dataset", "data set", ""),
            ("category", "category", ""),
            ("group", "group", ""),
            ("seed_path", "seed path", ""),
            ("shard", "shard", ""),
            ("row", "row in the arrays", ""),
            ("residual", "npcF residual", ""),
            ("cycles", "npcF cycles", ""),
            ("image_sha256", "sha256 of the image", ""),
            ("mask_sha256", "sha256 of the mask", ""),
        ),
    },
    "defect": {
        "title": "Defect",
        "facts": (
            ("mechanism", "mechanism", ""),
            ("status", "status", ""),
            ("trajectory", "trajectory", ""),
            ("snapshot", "snapshot", ""),
            ("severity", "severity", ""),
            ("asked_severity", "severity asked", ""),
            ("area_fraction", "area", "%"),
            ("asked_area", "area asked", "%"),
            ("width", "widest opening", "% of side"),
            ("extent", "simulated square", "% of side"),
            ("center_x", "centre x", "% of side"),
            ("center_y", "centre y", "% of side"),
            ("angle_deg", "turned by", "°"),
            ("dihedral", "quarter turns and mirror", "of 0..7"),
            ("from_edge", "from the part's edge", ""),
            ("attempts", "draws", ""),
            ("donor", "donor photograph", ""),
        ),
    },
    "source": {
        "title": "Photograph",
        "facts": (
            ("path", "file", ""),
            ("sha256", "sha256", ""),
            ("licence", "licence", ""),
            ("width_px", "width", "px"),
            ("height_px", "height", "px"),
            ("bit_depth", "bits", ""),
            ("foreground_fraction", "share that is part", "%"),
            ("light_directional", "light with a direction", "%"),
            ("blur_px", "blur", "px"),
            ("noise", "noise", "% of white"),
        ),
    },
}


def _columns(section: str) -> list[str]:
    return [name for name, _, _ in SECTIONS[section]["facts"]]


def fact_chunk(rows: pa.Table, sources: Mapping[tuple[str, str, int], SourceRecord]) -> dict[str, object]:
    """Facts of some rows of the manifest, with the photographs that they were made from."""
    names = ["id", "bbox_y0", "bbox_x0", "bbox_y1", "bbox_x1"]
    names = [*names, *dict.fromkeys(_columns("sample") + _columns("provenance"))]
    columns = {name: [_short(value) for value in rows[name].to_pylist()] for name in names}
    keys: list[tuple[str, str, int]] = list(
        zip(*(rows[name].to_pylist() for name in ("dataset", "category", "source")), strict=True)
    )
    used = {key: number for number, key in enumerate(sorted(set(keys)))}
    columns["source"] = [used[key] for key in keys]
    defects = [
        [[_short(defect[name]) for name in ("instance", *_columns("defect"))] for defect in row]
        for row in rows["defects"].to_pylist()
    ]
    return {"columns": columns, "defects": defects, "sources": [source_facts(sources.get(key)) for key in used]}


def source_facts(source: SourceRecord | None) -> list[object]:
    """Facts of a photograph; nothing where the inventory does not have it."""
    return [_short(getattr(source, name)) for name in _columns("source")] if source else []


def _short(value: object) -> object:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value
