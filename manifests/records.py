"""Records: what is known of every source, planned sample, finished sample and finished shard.

All are validated when made, immutable, and round-trip to JSON. The description of a column ends with its unit
in brackets where it has one; docs/format.md is written from them. A commit record reads, shortened::

    {"schema_version": 1, "stage": "samples", "key": "builtin/brick", "shard": 0,
     "config_sha256": "9f…", "code_version": "0.1.0+3f…", "inputs_sha256": "c1…",
     "files": [{"path": "data/builtin/brick/image/c/0/0/0/0", "bytes": 33881, "sha256": "77…"}],
     "rows": [{"id": "b2…", "status": "ok", …}]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

from manifests import layout
from manifests.config import ForegroundMode
from manifests.hashing import canonical_json, sha256_bytes

__all__ = [
    "COMMIT_PARSERS",
    "SCHEMA_VERSION",
    "AnyCommit",
    "BankRecord",
    "CommitRecord",
    "DefectRecord",
    "FileRecord",
    "PlanRow",
    "PlannedDefect",
    "RowT",
    "SampleRecord",
    "SampleStatus",
    "SourceRecord",
    "SourceStatus",
    "StageName",
    "parse_commit",
    "plan_row_id",
]

SCHEMA_VERSION = 1
StageName = Literal["sources", "bank", "samples"]


class SourceStatus(StrEnum):
    """What became of a photograph. The text after the name says what to do."""

    OK = "ok"
    EMPTY = "empty"  # 0 bytes: copy the file again
    NOT_AN_IMAGE = "not_an_image"  # no decoder knows it: remove it or convert it
    CORRUPT = "corrupt"  # truncated or damaged: copy the file again
    TOO_LARGE = "too_large"  # more pixels than max_pixels: raise it if the file can be trusted
    TOO_SMALL = "too_small"  # a side below 16 pixels: nothing to see a defect on
    UNREADABLE = "unreadable"  # the system refused to read it: check permissions


class SampleStatus(StrEnum):
    """What became of a sample, or of one defect of it, after the last attempt. The text after the name says what to
    do.
    """

    OK = "ok"
    OFF_FOREGROUND = "off_foreground"  # no place on the part was found: look at `maphc2f inspect`
    INVISIBLE = "invisible"  # nothing differs visibly: raise the mechanism's area or lower label.visible_threshold
    AREA_BELOW = "area_below"  # smaller than label.min_area
    AREA_ABOVE = "area_above"  # larger than label.max_area
    NOT_CONVERGED = "not_converged"  # npcF's residual stayed above npcf.tolerance: raise npcf.max_cycles
    HIDDEN = "hidden"  # the material's texture hides it: raise its severity or lower label.least_visibility
    POOR = "poor"  # its quality is below sqe.least: lower that, or look at what the estimator takes offence at
    CRASHED = "crashed"  # making it ended its process each time: log/crashes.jsonl says how
    CROWDED = "crowded"  # a defect alone: no free place beside the others: lower placement.defects or the areas


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _added(default: bool | int, description: str) -> Any:
    """A column that older corpora lack: they are read with this value."""
    return Field(default, description=description, json_schema_extra={"added": True})


class SourceRecord(_Record):
    """One photograph that was found, usable or not."""

    dataset: str = Field(description="data set, as the recipe names it")
    category: str = Field(description="kind of part within the data set")
    path: str = Field(description="relative to the data set's root, POSIX; `builtin:<category>/<k>` for embedded ones")
    sha256: str = Field(description="of the file's bytes; of the pixels for embedded ones; empty if unreadable")
    bytes: int = Field(description="size of the file [B]")
    width_px: int = Field(description="of the photograph as stored, upright [px]")
    height_px: int = Field(description="of the photograph as stored, upright [px]")
    channels: int = Field(description="1 or 3 as used; 0 if not decoded")
    bit_depth: int = Field(description="1, 8 or 16 as stored; 0 if not decoded [bit]")
    licence: str = Field(description="licence text, in the words of the recipe or of the reader")
    status: SourceStatus = Field(description="what became of the photograph")
    detail: str = Field("", description="what the decoder said, for one that is not usable")
    index: int = Field(-1, description="row in the category's `source` array; -1 if not usable")
    foreground_mode: ForegroundMode = Field("texture", description="how the part was found, decided for the category")
    foreground_fraction: float = Field(0.0, description="part / picture")
    light_y: float = Field(-1.0, description="unit vector towards the light, in the picture, downwards")
    light_x: float = Field(0.0, description="the same, to the right")
    light_directional: float = Field(0.0, description="share of the light that has a direction, 0..1")
    gloss: float = Field(0.0, description="share of the light that is thrown back mirror-like, 0..1")
    blur_px: float = Field(0.0, description="standard deviation of the point spread, at the corpus size [px]")
    noise: float = Field(0.0, description="standard deviation of the camera's noise, picture values 0..1")
    brightest: tuple[float, ...] = Field((), description="brightest light on the part, 0..1, by channel")


class PlannedDefect(_Record):
    """One defect as planned."""

    mechanism: str = Field(description="what made the defect")
    trajectory: int = Field(description="number of the simulation in the mechanism's bank")
    snapshot: int = Field(description="state of the trajectory, from 0")
    dihedral: int = Field(description="0..7: quarter turns (value % 4), after a left-right mirror if value >= 4")
    angle_deg: float = Field(description="further rotation, counter-clockwise as seen [deg]")
    from_edge: bool = Field(description="it comes in from the edge of the part")
    anchor_y: float = Field(
        description="where it is put / side of the picture, downwards: its middle, or its mouth at the part's edge"
    )
    anchor_x: float = Field(description="the same, to the right")
    asked_area: float = Field(description="area of the defect / picture that the recipe's distribution asks for")
    asked_severity: float = Field(description="how far along its trajectory the recipe's distribution asks for, 0..1")
    width: float = Field(description="widest opening / side of the picture; 0 for a mechanism that opens nothing")
    donor: int = _added(
        -1, "row in the category's `source` array of the photograph that gives foreign material; -1 where none does"
    )


class _SampleRow(_Record):
    """Which sample it is."""

    id: str = Field(description="16 hexadecimal digits: content hash of the plan row")
    index: int = Field(description="position in the whole corpus, from 0")
    dataset: str = Field(description="data set, as the recipe names it")
    category: str = Field(description="kind of part within the data set")
    shard: int = Field(description="shard within the category's arrays")
    row: int = Field(description="row within the category's arrays")
    source: int = Field(description="row in the category's `source` and `foreground` arrays")
    source_sha256: str = Field(description="of the photograph, as `sha256` in the inventory")
    group: int = Field(description="sources and trajectories of one group appear in no other")
    seed_path: str = Field(description="root of the sample's random stream; the attempt is appended")


class PlanRow(PlannedDefect, _SampleRow):
    """One sample as planned, before any computing: its first defect, and others where the recipe asks for several."""

    others: tuple[PlannedDefect, ...] = Field((), description="the picture's further defects")

    def planned(self) -> tuple[PlannedDefect, ...]:
        """All defects, the first one first."""
        first = PlannedDefect(**{name: getattr(self, name) for name in PlannedDefect.model_fields})
        return (first, *self.others)

    def photographs(self) -> tuple[int, ...]:
        """Rows in the category's `source` array of all photographs that it is made from."""
        donors = {defect.donor for defect in self.planned() if defect.donor >= 0}
        return tuple(sorted({self.source, *donors}))


class _Outcome(_Record):
    """What came of a defect, or of a whole picture."""

    status: SampleStatus = Field(description="what became of it")
    physical: bool = _added(
        True, "it was simulated; false for reference generators, and for a picture with one of theirs"
    )
    attempts: int = Field(description="draws used, >= 1")
    extent: float = Field(description="side of the simulated square / side of the picture")
    center_y: float = Field(description="centre of the simulated square / side of the picture, downwards")
    center_x: float = Field(description="the same, to the right")
    severity: float = Field(description="growth at the snapshot / at the end of its trajectory, 0..1")
    length_px: float = Field(description="length of open crack; 0 for a mechanism that opens nothing [px]")
    relief_px: float = Field(
        description="deepest or highest point of the surface; 0 for a mechanism without relief [px]"
    )
    residual: float = Field(
        description="relative residual that npcF, or a `poisson` clone, reached; 0 where neither was run: for other "
        "foreign material, and for a defect that was hidden as rendered"
    )
    cycles: int = Field(description="multigrid cycles that it used")
    area_px: int = Field(description="pixels of the mask [px]")
    area_fraction: float = Field(description="mask / picture")
    contrast: float = Field(
        description="mean change of what visibly changed in the mask; 0 where hidden as rendered [grey levels of 255]"
    )
    visibility: float = Field(
        description="change in the mask / texture of the material around it, times (mask / 1024 px)^(1/4) where that "
        "is below 1; 0 to 4; below `label.least_visibility` it is hidden"
    )
    bbox_y0: int = Field(
        description="first row of the mask's bounding box; the box is half open, all 0 if the mask is empty [px]"
    )
    bbox_x0: int = Field(description="first column [px]")
    bbox_y1: int = Field(description="row after the last [px]")
    bbox_x1: int = Field(description="column after the last [px]")


class DefectRecord(_Outcome, PlannedDefect):
    """One defect of a sample as made: the plan with the placement finally used, and what came of it.

    One whose status is not ok is not in the picture: its instance, its mask and its area are empty.
    """

    instance: int = Field(
        description="its value in the `instance` array: 1 for the first planned, ...; 0 if it is not in the picture"
    )
    window_y: int = Field(
        description="first row of the square window that was worked on: it changed nothing beyond [px]"
    )
    window_x: int = Field(description="first column of that window [px]")
    window_side: int = Field(description="side of that window [px]")


class SampleRecord(_Outcome, PlannedDefect, _SampleRow):
    """One sample as made.

    The columns of `PlannedDefect`, ``attempts``, ``extent``, ``center_y``, ``center_x`` and ``severity`` are those of
    the first defect that is in the picture, or of the first planned where none is. All others are the picture's:
    ``length_px`` is the sum over its defects, ``relief_px``, ``residual`` and ``cycles`` the largest, and
    ``visibility`` the smallest.
    """

    faint_px: int = Field(
        description="pixels outside the mask that changed, but less than label.visible_threshold [px]"
    )
    unlabelled_px: int = Field(
        description="pixels outside the mask that changed visibly; this and all below are 0 in a sound corpus [px]"
    )
    unseen_px: int = Field(description="pixels of the mask without a visible change within one pixel [px]")
    outside_px: int = Field(description="pixels outside npcF's support that changed [px]")
    off_part_px: int = Field(description="pixels of the mask off the part [px]")
    touching_px: int = Field(description="pixels of one defect's mask within one pixel of another's [px]")
    sqe: float = Field(0.0, description="calibrated quality, 0..1; 0 where there is no defect, or nothing was scored")
    defects: tuple[DefectRecord, ...] = Field(min_length=1, description="all defects that were planned, in that order")
    image_sha256: str = Field(description="of the image's pixels, see Hashes")
    mask_sha256: str = Field(description="of the mask's pixels, see Hashes")


class BankRecord(_Record):
    """One simulated trajectory of the bank."""

    trajectory: int = Field(description="number of the simulation in the mechanism's bank, from 0")
    mechanism: str = Field(description="what was simulated")
    group: int = Field(description="its group")
    from_edge: bool = Field(description="it comes in from the edge of the part")
    seed_path: str = Field(description="root of its random stream")
    severity: tuple[float, ...] = Field(description="growth at every snapshot / at the last")
    area: tuple[float, ...] = Field(description="share of the square that is affected at every snapshot")
    facts: dict[str, tuple[float, ...]] = Field(
        description="what the mechanism tells of itself, such as the load, at every snapshot; unit in the name"
    )


class FileRecord(_Record):
    """A file of the corpus, relative to its root."""

    path: str = Field(description="relative to the corpus folder, POSIX")
    bytes: int = Field(description="size [B]")
    sha256: str = Field(description="of its bytes")


RowT = TypeVar("RowT", SourceRecord, BankRecord, SampleRecord)


class CommitRecord(_Record, Generic[RowT]):
    """Proof that a shard is whole: written last, by rename. A shard without one does not exist."""

    schema_version: Literal[1] = 1
    stage: StageName = Field(description="what the shard holds")
    key: str = Field(description="`<dataset>/<category>`, or the mechanism")
    shard: int = Field(description="number of the shard within the key")
    config_sha256: str = Field(description="of the recipe, see Hashes")
    code_version: str = Field(description="release, `+`, and the first digits of a digest of the source")
    inputs_sha256: str = Field(description="of everything the shard was computed from; opaque to a reader")
    files: tuple[FileRecord, ...] = Field(description="the shard files, all arrays of the shard")
    rows: tuple[RowT, ...] = Field(description="records of what the shard holds, in the order of its arrays")

    @property
    def commit_name(self) -> str:
        """Name of its file, see `manifests.layout.commit_name`."""
        return layout.commit_name(self.stage, self.key, self.shard)

    def to_bytes(self) -> bytes:
        """Canonical JSON, the same for the same record."""
        return canonical_json(self.model_dump(mode="json")) + b"\n"


AnyCommit = CommitRecord[SourceRecord] | CommitRecord[BankRecord] | CommitRecord[SampleRecord]


def parse_commit(data: bytes, row_type: type[RowT]) -> CommitRecord[RowT]:
    """Commit record from its JSON, with rows of one type.

    Raises
    ------
    pydantic.ValidationError
        It is not one.
    """
    model = cast("type[CommitRecord[RowT]]", CommitRecord.__class_getitem__(row_type))
    return model.model_validate_json(data)


COMMIT_PARSERS: Mapping[str, Callable[[bytes], AnyCommit]] = MappingProxyType(
    {
        "sources": CommitRecord[SourceRecord].model_validate_json,
        "bank": CommitRecord[BankRecord].model_validate_json,
        "samples": CommitRecord[SampleRecord].model_validate_json,
    }
)  # by stage, with which the name of a record's file begins; errors as for `parse_commit`


def plan_row_id(fields: dict[str, object]) -> str:
    """Content hash of a plan row's fields but ``id``, ``shard`` and ``row``; a donor counts where there is one."""
    kept = {name: value for name, value in fields.items() if name not in {"id", "shard", "row"}}
    return sha256_bytes(canonical_json(_without_no_donor(kept)))[:16]


def _without_no_donor(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_no_donor(item) for key, item in value.items() if (key, item) != ("donor", -1)}
    return [_without_no_donor(item) for item in value] if isinstance(value, list | tuple) else value
