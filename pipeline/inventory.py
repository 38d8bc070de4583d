"""First stage: every photograph found, decoded once, fitted, its foreground estimated, and stored with its record.

One task reads one category: whether the category is grey, and where its parts are, is decided over all its images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from manifests.config import ForegroundMode
from manifests.errors import SourceError
from manifests.hashing import canonical_json, code_version, sha256_bytes
from manifests.layout import DATA, commit_name
from manifests.pictures import Pixels, eight_bits, is_grey
from manifests.records import CommitRecord, SourceRecord, SourceStatus
from pipeline.foreground import Foreground, estimate_foreground
from pipeline.inspection import InspectedCategory
from pipeline.planning import shard_rows
from pipeline.recipe import Recipe, config_sha256
from pipeline.single_writer import publish_shard
from pipeline.sources.readers import Category, LoadedSource, list_categories, read_source
from pipeline.stage_clock import timed
from pipeline.store import ArraySpec, StagedFile, create_array, stage_shard
from refine.passes import OpticsArrays, measure_optics

__all__ = [
    "CategoryScan",
    "SourcesSpec",
    "create_source_arrays",
    "find_categories",
    "inspect_category",
    "scan_category",
    "store_sources",
]

_LOOK = 64  # photographs of a category that a quick look reads


@dataclass(frozen=True)
class SourcesSpec:
    """One category to take in."""

    out: Path
    recipe: Recipe
    category: Category

    @property
    def key(self) -> str:
        """``<dataset>/<category>``."""
        return f"{self.category.dataset}/{self.category.category}"

    @property
    def commit_name(self) -> str:
        """File name of the category's record: one, however many shards its photographs fill."""
        return commit_name("sources", self.key, 0)

    @property
    def inputs_sha256(self) -> str:
        """Identity of what the stage reads: files and masks by name and size, so that a mended one is noticed."""
        root, masks = self.category.root, self.category.masks
        read = [
            [file, _bytes(root and root / file), _bytes(masks and masks / f"{PurePosixPath(file).stem}.png")]
            for file in self.category.files
        ]
        return sha256_bytes(canonical_json([self.key, *read]))


@dataclass(frozen=True)
class CategoryScan:
    """A category as read: records of all files; pictures and foreground of the usable ones.

    The pictures are (N, S, S, C), uint8 or uint16 as the recipe's ``bit_depth`` says.
    """

    records: tuple[SourceRecord, ...]
    images: Pixels
    foreground: Foreground


def find_categories(recipe: Recipe) -> list[Category]:
    """Categories of all sources of a recipe, in its order.

    Raises
    ------
    SourceError
        A folder is missing or laid out differently, or two sources have a category of one name.
    """
    found: list[Category] = []
    seen: set[tuple[str, str]] = set()
    for spec in recipe.sources:
        for category in list_categories(spec):
            key = (category.dataset, category.category)
            if key in seen:
                raise SourceError(
                    f"category {key[0]}/{key[1]} comes from two sources; give one of them another `name` in the recipe"
                )
            seen.add(key)
            found.append(category)
    return found


def scan_category(recipe: Recipe, category: Category, *, limit: int | None = None) -> CategoryScan:
    """Read, fit and segment the photographs of one category.

    Parameters
    ----------
    recipe : Recipe
        Size, fit, bit depth and foreground settings.
    category : Category
        Where the files are.
    limit : int, optional
        Read at most this many files, evenly spread over the list: for a quick look.

    Raises
    ------
    SourceError
        Not one photograph is usable.
    """
    files = category.files
    if limit is not None and len(files) > limit:
        files = tuple(files[k] for k in np.linspace(0, len(files) - 1, limit).astype(int))
    loaded = [
        read_source(
            category,
            file,
            size=recipe.size,
            fit_policy=recipe.fit,
            max_pixels=recipe.max_pixels,
            bit_depth=recipe.bit_depth,
        )
        for file in files
    ]
    usable = [source for source in loaded if source.status is SourceStatus.OK]
    if not usable:
        raise SourceError(_nothing_usable(category, loaded))
    pictures = [source.image for source in usable if source.image is not None]
    images = _one_depth(pictures)
    foreground = estimate_foreground(
        eight_bits(images),
        np.stack([source.valid for source in usable if source.valid is not None]),
        mode=_foreground_mode(recipe, category),
        margin_px=recipe.foreground.margin_px,
        user_masks=[source.user_mask for source in usable],
    )
    optics = measure_optics(images, foreground.masks)
    return CategoryScan(records=_records(category, loaded, foreground, optics), images=images, foreground=foreground)


def inspect_category(recipe: Recipe, category: Category) -> InspectedCategory:
    """A quick look at a category: what `maphc2f inspect` draws."""
    scan = scan_category(recipe, category, limit=_LOOK)
    bad = tuple((row.path, f"{row.status}: {row.detail}") for row in scan.records if row.index < 0)
    return InspectedCategory(
        dataset=category.dataset,
        category=category.category,
        images=eight_bits(scan.images),
        masks=scan.foreground.masks,
        mode=scan.foreground.mode,
        evidence=scan.foreground.evidence,
        found=len(scan.records),
        unusable=bad,
    )


def store_sources(spec: SourcesSpec) -> CommitRecord[SourceRecord]:
    """Scan a category and write its ``source`` and ``foreground`` arrays; the record last."""
    with timed("scan"):
        scan = scan_category(spec.recipe, spec.category)
    arrays: dict[str, Pixels] = {"source": scan.images, "foreground": scan.foreground.masks.astype(np.uint8)}
    per_shard = create_source_arrays(spec.out, spec.recipe, spec.key, scan.records)
    staged: list[StagedFile] = []
    for shard, start in enumerate(range(0, len(scan.images), per_shard)):
        block = {name: values[start : start + per_shard] for name, values in arrays.items()}
        staged.extend(stage_shard(spec.out, DATA, spec.key, block, shard=shard))
    record = CommitRecord[SourceRecord](
        stage="sources",
        key=spec.key,
        shard=0,
        config_sha256=config_sha256(spec.recipe),
        code_version=code_version(),
        inputs_sha256=spec.inputs_sha256,
        files=(),
        rows=scan.records,
    )
    return publish_shard(spec.out, staged, record)


def create_source_arrays(out: Path, recipe: Recipe, key: str, records: Sequence[SourceRecord]) -> int:
    """Lay out the arrays of one category's photographs, which follow from its records; rows of one shard."""
    usable = [row for row in records if row.index >= 0]
    channels, plane = len(usable[0].brightest), (len(usable), recipe.size, recipe.size)
    per_shard = shard_rows(recipe, channels, len(usable))
    for name, shape, dtype, meaning in (
        ("source", (*plane, channels), f"uint{recipe.bit_depth}", "normal photograph, fitted"),
        ("foreground", plane, "uint8", "1 where the part is"),
    ):
        about = (("unit", "1"), ("meaning", meaning))
        spec = ArraySpec(name=name, shape=shape, dtype=dtype, shard_rows=per_shard, attributes=about)
        create_array(out, DATA, key, spec, zstd_level=recipe.store.zstd_level)
    return per_shard


def _bytes(path: Path | None) -> int:
    """Size of a file; -1 if there is none."""
    try:
        return -1 if path is None else path.stat().st_size
    except OSError:
        return -1


def _foreground_mode(recipe: Recipe, category: Category) -> ForegroundMode:
    override = recipe.foreground.overrides.get(category.category)
    if override is not None:
        return override
    return "masks" if category.masks is not None else recipe.foreground.mode


def _one_depth(pictures: Sequence[Pixels]) -> Pixels:
    """Stack to (N, S, S, C): one channel if every picture is grey, else three."""
    channels = 1 if all(is_grey(picture) for picture in pictures) else 3
    stacked: Pixels = np.empty((len(pictures), *pictures[0].shape[:2], channels), dtype=pictures[0].dtype)
    for place, picture in zip(stacked, pictures, strict=True):
        place[:] = picture[:, :, :channels]  # of grey ones among coloured ones, the one channel three times
    return stacked


def _records(
    category: Category, loaded: Sequence[LoadedSource], foreground: Foreground, optics: OpticsArrays
) -> tuple[SourceRecord, ...]:
    records = []
    index = 0
    for source in loaded:
        usable = source.status is SourceStatus.OK
        measured = _measured(foreground, optics, index) if usable else {}
        records.append(
            SourceRecord(
                dataset=category.dataset,
                category=category.category,
                path=source.path,
                sha256=source.sha256,
                bytes=source.bytes,
                width_px=source.width_px,
                height_px=source.height_px,
                channels=source.channels,
                bit_depth=source.bit_depth,
                licence=category.licence,
                status=source.status,
                detail=source.detail,
                foreground_mode=foreground.mode,
            ).model_copy(update=measured)
        )
        index += usable
    return tuple(records)


def _measured(foreground: Foreground, optics: OpticsArrays, index: int) -> dict[str, object]:
    """What is known of a usable source beyond its file."""
    return {
        "index": index,
        "foreground_fraction": float(foreground.masks[index].mean()),
        "light_y": float(optics.light[index, 0]),
        "light_x": float(optics.light[index, 1]),
        "light_directional": float(optics.directional[index]),
        "gloss": float(optics.gloss[index]),
        "blur_px": float(optics.blur_px[index]),
        "noise": float(optics.noise[index]),
        "brightest": tuple(float(v) for v in optics.brightest[index]),
    }


def _nothing_usable(category: Category, loaded: Sequence[LoadedSource]) -> str:
    where = f"{category.dataset}/{category.category}"
    if not loaded:
        return f"category {where}: no photographs found in {category.root}; put normal pictures there"
    first = loaded[0]
    return (
        f"category {where}: none of its {len(loaded)} files is a usable photograph "
        f"(first: {first.path}: {first.status}, {first.detail}); replace them or leave the category out"
    )
