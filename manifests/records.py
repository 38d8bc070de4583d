"""Records: what is known of every source, planned sample, finished sample and finished shard.

All are validated when made, immutable, and round-trip to JSON. A commit record reads, shortened::

    {"schema_version": 1, "stage": "samples", "key": "builtin/brick", "shard": 0,
     "config_sha256": "9f…", "code_version": "0.1.0+3f…", "inputs_sha256": "c1…",
     "files": [{"path": "data/builtin/brick/image/c/0/0/0/0", "bytes": 33881, "sha256": "77…"}],
     "rows": [{"id": "b2…", "status": "ok", …}]}
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar, cast

from pydantic import BaseModel, ConfigDict, Field

from manifests.config import ForegroundMode
from manifests.hashing import canonical_json, sha256_bytes

__all__ = [
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


def _added(default: bool | int) -> Any:
    """A column that older corpora lack: they are read with this value."""
    return Field(default, json_schema_extra={"added": True})


class SourceRecord(_Record):
    """One photograph that was found, usable or not."""

    dataset: str
    category: str
    path: str  # relative to the data set's root, POSIX; "builtin:<category>/<k>" for embedded ones
    sha256: str  # of the file's bytes; of the pixels for embedded ones; "" if unreadable
    bytes: int
    width_px: int
    height_px: int
    channels: int  # 1 or 3 as used; 0 if not decoded
    bit_depth: int  # 1, 8 or 16 as stored; 0 if not decoded
    licence: str
    status: SourceStatus
    detail: str = ""  # what the decoder said, for one that is not usable
    index: int = -1  # row in the category's `source` array; -1 if not usable
    foreground_mode: ForegroundMode = "texture"  # decided for the category: object, texture or masks
    foreground_fraction: float = 0.0  # share of the picture that is part
    light_y: float = -1.0  # unit vector towards the light, in the picture
    light_x: float = 0.0
    light_directional: float = 0.0  # share of the light that has a direction, 0..1
    gloss: float = 0.0  # share of the light that is thrown back mirror-like, 0..1
    blur_px: float = 0.0  # standard deviation of the point spread, at the corpus size
    noise: float = 0.0  # standard deviation of the camera's noise, picture values 0..1
    brightest: tuple[float, ...] = ()  # brightest light on the part, 0..1, by channel


class PlannedDefect(_Record):
    """One defect as planned."""

    mechanism: str
    trajectory: int
    snapshot: int
    dihedral: int  # 0..7: quarter turns (value % 4), then a mirror if value >= 4
    angle_deg: float  # further rotation, counter-clockwise as seen, degrees
    from_edge: bool  # it comes in from the edge of the part
    anchor_y: float  # where the defect is put / side of the picture: its middle, or its mouth at the part's edge
    anchor_x: float
    asked_area: float  # area of the defect / picture that the recipe's distribution asks for
    asked_severity: float  # how far along its trajectory, 0..1
    width: float  # widest opening / side of the picture; 0 for a mechanism that opens nothing
    # row in the category's `source` array of the photograph that gives foreign material; -1 where none does
    donor: int = _added(-1)


class _SampleRow(_Record):
    """Which sample it is."""

    id: str  # 16 hexadecimal digits: content hash of the row
    index: int  # position in the whole corpus
    dataset: str
    category: str
    shard: int  # shard within the category
    row: int  # row within the category's arrays
    source: int  # row in the category's `source` array
    source_sha256: str
    group: int  # sources and trajectories of one group appear in no other
    seed_path: str  # root of the sample's random stream; the attempt is appended


class PlanRow(PlannedDefect, _SampleRow):
    """One sample as planned, before any computing: its first defect, and others where the recipe asks for several."""

    others: tuple[PlannedDefect, ...] = ()

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

    status: SampleStatus
    physical: bool = _added(True)  # it was simulated; false for reference generators, and a picture with one of theirs
    attempts: int  # draws used, >= 1
    extent: float  # side of the simulated square / side of the picture
    center_y: float  # centre of the simulated square / side of the picture
    center_x: float
    severity: float  # growth at the snapshot / at the end of its trajectory, 0..1
    length_px: float  # length of open crack in pixels; 0 for a mechanism that opens nothing
    relief_px: float  # deepest or highest point of the surface, pixels; 0 for a mechanism without relief
    residual: float  # npcF: relative residual reached
    cycles: int  # npcF: multigrid cycles used
    area_px: int  # pixels of the mask
    area_fraction: float
    contrast: float  # mean change of what visibly changed in the mask, grey levels of 255
    visibility: float  # change in the mask / texture of the material around it, 0..4; see `refine.visibility`
    bbox_y0: int  # bounding box of the mask, half open; all 0 if empty
    bbox_x0: int
    bbox_y1: int
    bbox_x1: int


class DefectRecord(_Outcome, PlannedDefect):
    """One defect of a sample as made: the plan with the placement finally used, and what came of it.

    One whose status is not ok is not in the picture: its instance, its mask and its area are empty.
    """

    instance: int  # its value in the `instance` array: 1 for the first planned, ...; 0 if it is not in the picture
    window_y: int  # first row and column, and side, of the window that was worked on: it changed nothing beyond
    window_x: int
    window_side: int


class SampleRecord(_Outcome, PlannedDefect, _SampleRow):
    """One sample as made.

    The columns of `PlannedDefect`, ``attempts``, ``extent``, ``center_y``, ``center_x`` and ``severity`` are those of
    the first defect that is in the picture, or of the first planned where none is. All others are the picture's:
    ``length_px`` is the sum over its defects, ``relief_px``, ``residual`` and ``cycles`` the largest, and
    ``visibility`` the smallest.
    """

    faint_px: int  # pixels outside the mask that changed, but less than label.visible_threshold
    unlabelled_px: int  # pixels outside the mask that changed visibly; this and all below are 0 in a sound corpus
    unseen_px: int  # pixels of the mask without a visible change within one pixel
    outside_px: int  # pixels outside npcF's support that changed
    off_part_px: int  # pixels of the mask off the part
    touching_px: int  # pixels of one defect's mask within one pixel of another's
    sqe: float = 0.0  # calibrated quality, 0..1; 0 where there is no defect, or nothing was scored
    defects: tuple[DefectRecord, ...] = Field(min_length=1)  # all that were planned, in that order
    image_sha256: str  # of the image's bytes in C order
    mask_sha256: str


class BankRecord(_Record):
    """One simulated trajectory of the bank."""

    trajectory: int
    mechanism: str
    group: int
    from_edge: bool
    seed_path: str
    severity: tuple[float, ...]  # growth at every snapshot / at the last
    area: tuple[float, ...]  # share of the square that is affected at every snapshot; see `physics.mechanism`
    facts: dict[str, tuple[float, ...]]  # what the mechanism tells of itself, such as the load; unit in the name


class FileRecord(_Record):
    """A file of the corpus, relative to its root."""

    path: str
    bytes: int
    sha256: str


RowT = TypeVar("RowT", SourceRecord, BankRecord, SampleRecord)


class CommitRecord(_Record, Generic[RowT]):
    """Proof that a shard is whole: written last, by rename. A shard without one does not exist."""

    schema_version: Literal[1] = 1
    stage: StageName
    key: str  # "<dataset>/<category>" or the mechanism
    shard: int
    config_sha256: str
    code_version: str
    inputs_sha256: str  # of everything the shard was computed from
    files: tuple[FileRecord, ...]
    rows: tuple[RowT, ...]

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


def plan_row_id(fields: dict[str, object]) -> str:
    """Content hash of a plan row's fields but ``id``, ``shard`` and ``row``; a donor counts where there is one."""
    kept = {name: value for name, value in fields.items() if name not in {"id", "shard", "row"}}
    return sha256_bytes(canonical_json(_without_no_donor(kept)))[:16]


def _without_no_donor(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_no_donor(item) for key, item in value.items() if (key, item) != ("donor", -1)}
    return [_without_no_donor(item) for item in value] if isinstance(value, list | tuple) else value
