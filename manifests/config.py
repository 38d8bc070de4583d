"""Sections of the recipe that no mechanism owns: sources, foreground, bank, placement, passes, label, store.

`pipeline.recipe` joins them with the parameters of the mechanisms. All are frozen and parsed once, at the edge; inner
code receives these objects and never a dict.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar, get_args

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from manifests.errors import ConfigError

__all__ = [
    "AUTO",
    "AllocationPolicy",
    "BankConfig",
    "BitDepth",
    "FitPolicy",
    "ForegroundConfig",
    "ForegroundMode",
    "LabelConfig",
    "NpcfConfig",
    "NpcfppConfig",
    "PlacementConfig",
    "PoorPolicy",
    "ProductKind",
    "Range",
    "RefineStage",
    "RenderConfig",
    "SourceKind",
    "SourceSpec",
    "SqeConfig",
    "StoreConfig",
    "WaveletMode",
    "expand_path",
    "explain_validation",
    "parse_source",
]

SourceKind = Literal["builtin", "folder", "mvtec", "visa", "btad"]
FitPolicy = Literal["crop", "pad", "stretch"]
ForegroundMode = Literal["auto", "object", "texture", "masks"]
AllocationPolicy = Literal["equal", "proportional"]
ProductKind = Literal["rust", "black", "white"]
RefineStage = Literal["paste", "render", "npcf"]
BitDepth = Literal[8, 16]
PoorPolicy = Literal["redraw", "drop"]
# how a signal goes on beyond its ends, by the names of PyWavelets
WaveletMode = Literal[
    "zero",
    "constant",
    "symmetric",
    "reflect",
    "periodic",
    "smooth",
    "antisymmetric",
    "antireflect",
    "periodization",
]
AUTO: Literal["auto"] = "auto"

_Number = TypeVar("_Number", int, float)

MIN_SIZE_PX = 32
MAX_SIZE_PX = 4096


def _ordered(value: tuple[_Number, _Number]) -> tuple[_Number, _Number]:
    if not value[0] <= value[1]:
        raise ValueError("a range is [low, high] with low <= high")
    return value


def _auto_or_positive(value: object) -> object:
    if value == AUTO or (isinstance(value, int) and not isinstance(value, bool) and value >= 1):
        return value
    raise ValueError("expected a whole number >= 1, or auto")


NonNegative = Annotated[float, Field(ge=0)]
Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Range = Annotated[tuple[NonNegative, NonNegative], AfterValidator(_ordered)]
PositiveRange = Annotated[tuple[Positive, Positive], AfterValidator(_ordered)]
ShareRange = Annotated[tuple[Share, Share], AfterValidator(_ordered)]
Count = Annotated[int, Field(ge=1, le=16)]
CountRange = Annotated[tuple[Count, Count], AfterValidator(_ordered)]
# One check for both forms: a union would be reported once for each of its members, with its type in the key.
AutoOrPositive = Annotated[
    Annotated[int, Field(ge=1)] | Literal["auto"], BeforeValidator(_auto_or_positive, json_schema_input_type=int | str)
]


class Section(BaseModel):
    """A frozen part of the recipe; unknown keys and infinite numbers are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceSpec(Section):
    """Where normal photographs come from."""

    kind: SourceKind = Field(description="builtin, folder, mvtec, visa or btad")
    path: str | None = Field(
        None, min_length=1, description="root folder; ${NAME} is read from the environment when used"
    )
    name: str | None = Field(
        None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="data set name; default: the kind"
    )
    categories: tuple[str, ...] = Field((), description="which categories to take; empty: all that are found")
    split_file: str | None = Field(
        None, description="visa: the official split CSV; default: split_csv/1cls.csv under path"
    )
    masks: str | None = Field(
        None, description="folder of foreground masks, <category>/<image stem>.png; white is the part"
    )
    licence: str | None = Field(None, description="licence text kept with every source of this data set")

    @model_validator(mode="after")
    def _path_given(self) -> Self:
        if (self.path is None) != (self.kind == "builtin"):
            raise ValueError(
                "kind builtin takes no path" if self.kind == "builtin" else f"kind {self.kind} needs a path"
            )
        return self

    @property
    def dataset(self) -> str:
        """Name of the data set in the corpus."""
        return self.name or self.kind


class ForegroundConfig(Section):
    """Where on a picture the part is."""

    mode: ForegroundMode = Field(
        "auto", description="auto decides by measured evidence for each category; texture is the whole picture"
    )
    overrides: dict[str, ForegroundMode] = Field(
        default_factory=dict, description="mode by category, where auto is wrong"
    )
    margin_px: int = Field(2, ge=0, le=64, description="pixels eroded from the part's outline, at the corpus size")


class BankConfig(Section):
    """The bank of simulated trajectories that samples draw from."""

    trajectories: AutoOrPositive = Field(
        AUTO, description="simulations of each mechanism; auto: one for every 24 samples, between 20 and 2,000"
    )
    groups: int = Field(10, ge=2, le=100, description="leak-free parts: sources and trajectories never cross them")

    @model_validator(mode="after")
    def _at_least_one_per_group(self) -> Self:
        if self.trajectories != AUTO and self.trajectories < self.groups:
            raise ValueError(f"trajectories must be at least groups ({self.groups}), got {self.trajectories}")
        return self


class PlacementConfig(Section):
    """How a trajectory is laid on a picture. Lengths relative to the picture's side, so sizes look alike."""

    extent: PositiveRange = Field(
        (0.1, 1.5),
        description="bounds of the side of the simulated square / side of the picture; within them the area decides",
    )
    defects: CountRange = Field(
        (1, 1), description="defects in one picture: every number from low to high equally often; at most 16"
    )


class RenderConfig(Section):
    """How fields become appearance: each sample draws from these ranges."""

    depth_to_width: PositiveRange = Field((2.0, 8.0), description="depth of a crack / its width: sets its darkness")
    lip_height: Range = Field((0.0, 0.35), description="raised and rounded lips: slope of the relief at the edge")
    roughness: Range = Field((0.03, 0.2), description="ragged lips: standard deviation of the edge / half width")
    debris: Range = Field((0.0, 0.2), description="dirt left along the crack: optical density")
    glint: Range = Field((0.0, 0.35), description="light thrown back by a lip / brightest light on the part")
    gloss: Range = Field(
        (0.5, 1.5), description="mirror-like light of a relief / what the photograph's own highlights tell of"
    )
    gloss_exponent: PositiveRange = Field(
        (8.0, 40.0), description="sharpness of that reflection; higher is more polished"
    )
    pit_floor: ShareRange = Field((0.35, 0.9), description="reflectance of a pit's floor / that of the sound surface")
    products: tuple[ProductKind, ...] = Field(
        ("rust", "black", "white"), min_length=1, description="corrosion products, one drawn for each sample"
    )


class NpcfConfig(Section):
    """The coarse pass: div(kappa grad u) - lambda (u - c) = div(v) on the support."""

    support_px: int = Field(6, ge=2, le=64, description="how far the support reaches beyond the defect, in pixels")
    screening_px: float = Field(6.0, gt=0.5, le=64, description="1 / sqrt(lambda): how far a correction carries")
    crack_conductivity: float = Field(1e-2, gt=0, le=1, description="kappa inside an opening; 1 outside")
    tolerance: float = Field(1e-3, gt=0, lt=0.1, description="relative residual that a sample must reach")
    max_cycles: int = Field(50, ge=1, le=10_000, description="bound on the multigrid cycles of the solver")


class NpcfppConfig(Section):
    """The fine pass: wavelet sub-bands and boundary synergy blocks in a band around the defect's outline."""

    wavelet: str = Field("db2", description="a discrete wavelet of PyWavelets")
    mode: WaveletMode = Field("symmetric", description="how the picture goes on beyond its border")
    levels: int = Field(2, ge=1, le=6, description="levels of the transform: 2 reaches waves of about 8 pixels")
    band_px: float = Field(6.0, gt=0, le=64, description="width of the band around the outline, in pixels")
    edge: float = Field(1.0, ge=0, le=4, description="edge block: share of the sharpness that the optics allow")
    energy: float = Field(1.0, ge=0, le=4, description="energy block: share of the surroundings' sub-band energy")
    grain: float = Field(2.0, ge=0, le=4, description="grain block: how far the grain runs on, by its coherence")


class LabelConfig(Section):
    """What is a visible change, and which samples are kept."""

    visible_threshold: int = Field(
        8, ge=1, le=128, description="grey levels (of 255) by which a pixel must differ to be called changed"
    )
    coherent_px: int = Field(
        7, ge=1, le=63, description="side of the square, odd, over which a weak change must be visible on average"
    )
    fade_px: int = Field(
        3, ge=0, le=64, description="within how many pixels of the mask an invisible change fades to the photograph"
    )
    restored_below: int = Field(
        3, ge=1, le=128, description="a change outside the mask by fewer grey levels is taken back to the photograph"
    )
    least_visibility: float = Field(
        1.5, ge=0, le=4, description="a defect less visible (column `visibility`, 0 to 4) is drawn again"
    )
    min_area: float = Field(2e-4, gt=0, lt=1, description="smallest mask / picture")
    max_area: float = Field(0.25, gt=0, le=1, description="largest mask / picture")
    attempts: int = Field(16, ge=1, le=256, description="draws before a sample is recorded as failed")

    @model_validator(mode="after")
    def _bounds_ordered(self) -> Self:
        if self.min_area >= self.max_area:
            raise ValueError(f"min_area must be below max_area, got {self.min_area} and {self.max_area}")
        if self.coherent_px % 2 == 0:
            raise ValueError(f"coherent_px must be odd, so that the square has a middle, got {self.coherent_px}")
        if self.restored_below > self.visible_threshold:
            got = f"{self.restored_below} and {self.visible_threshold}"
            raise ValueError(f"restored_below must not be above visible_threshold, got {got}")
        return self


class SqeConfig(Section):
    """The Synthesis Quality Estimator: how good a sample is, 0 to 1, and what becomes of a poor one."""

    enabled: bool = Field(True, description="score every sample as it is made; `maphc2f score` does it later")
    least: float = Field(0.0, ge=0, le=1, description="quality below which a sample is poor; 0 keeps all")
    below: PoorPolicy = Field("redraw", description="a poor sample is drawn again, or dropped: kept as a normal")
    redraws: int = Field(2, ge=0, le=16, description="times that a poor sample is drawn again before it is dropped")


class StoreConfig(Section):
    """How arrays are laid in files."""

    shard_images: AutoOrPositive = Field(
        AUTO,
        description="images in one shard; auto: about 50 MB before compression, at most 256; less in a small corpus",
    )
    zstd_level: int = Field(1, ge=1, le=19, description="compression level; every chunk has a checksum")
    stages: tuple[RefineStage, ...] = Field(
        (), description="stages kept beside the final image: paste, render, npcf; for ablations and inspection cards"
    )


def parse_source(text: str) -> SourceSpec:
    """``KIND`` or ``KIND:PATH`` of the command line.

    Raises
    ------
    ConfigError
        Unknown kind, a path missing, or a path where none belongs.
    """
    kind, _, path = text.partition(":")
    kinds = get_args(SourceKind)
    if kind not in kinds:
        raise ConfigError(
            f"--source {text!r}: expected KIND:PATH with KIND one of {', '.join(kinds)}{_nearest(kind, kinds)}"
        )
    try:
        return SourceSpec.model_validate({"kind": kind, "path": path or None})
    except ValidationError as error:
        raise ConfigError(f"--source {text!r}: {explain_validation(error, SourceSpec)}") from None


def expand_path(path: str) -> Path:
    """Path with ``${NAME}`` read from the environment and ``~`` resolved.

    Raises
    ------
    ConfigError
        A variable is not set or empty (an empty one would quietly name another folder), or ``~name`` is nobody's.
    """
    missing = [name for name in re.findall(r"\$\{(\w+)\}", path) if not os.environ.get(name)]
    if missing:
        raise ConfigError(f"path {path!r}: environment variable {missing[0]} is not set; export it or use --source")
    try:
        return Path(os.path.expandvars(path)).expanduser()
    except RuntimeError as error:
        raise ConfigError(f"path {path!r}: {str(error).rstrip('.')}; write the folder out") from None


def _nearest(name: str, known: tuple[str, ...] | list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


_PLAIN_WORDS = {
    "tuple_type": "expected a list",
    "model_type": "expected a mapping of settings",
    "dict_type": "expected a mapping",
    "string_type": "expected text (put 01 or 2024 in quotes)",
}


def explain_validation(error: ValidationError, model: type[BaseModel]) -> str:
    """First problem of a validation error, as one line."""
    errors = error.errors()
    first = errors[0]
    if first["type"] == "missing":  # more often a slip in its name than forgotten
        beside = [e for e in errors if e["type"] == "extra_forbidden" and e["loc"][:-1] == first["loc"][:-1]]
        first = beside[0] if beside else first
    loc = first["loc"]
    where = ".".join(str(part) for part in loc)
    if first["type"] == "extra_forbidden":
        known = _fields_at(model, loc[:-1])
        hint = _nearest(str(loc[-1]), known) or f"; known: {', '.join(known)}"
        return f"unknown key {where!r}{hint}"
    message = _PLAIN_WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
    got = first["input"]
    shown = f", got {got!r}" if isinstance(got, str | int | float | bool | list | tuple | None) else ""
    return f"{where}: {message}{shown}" if where else message


def _fields_at(model: type[BaseModel], loc: tuple[str | int, ...]) -> list[str]:
    """Field names of the model found by walking a pydantic location."""
    current = model
    for part in loc:
        if not isinstance(part, str) or part not in current.model_fields:
            continue
        annotation = current.model_fields[part].annotation
        for candidate in (annotation, *get_args(annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                current = candidate
    return list(current.model_fields)
