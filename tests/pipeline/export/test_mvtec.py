"""Exports in the folders of MVTec AD, read by the rules that anomalib documents for its MVTecAD and Folder datamodules.

Rules of MVTecAD, per category: every ``*.png`` at ``<category>/<split>/<label>/<name>``; label ``good`` is normal, all
others are not; pictures of train and test, and masks of ground_truth, each sorted by path, belong together in that
order, and a picture's stem must be in its mask's. Rules of Folder: normal, abnormal, normal test and mask folders are
named one by one, and a mask belongs to the picture at the same place in sorted order.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from manifests import Corpus, layout
from manifests.corpus import read_array
from manifests.errors import ConfigError
from tests.pipeline.export.conftest import Exported, opened, pixels_of, plain


@dataclass(frozen=True)
class Item:
    path: Path
    split: str
    label: str
    mask: Path | None


def read_mvtec(category: Path) -> list[Item]:
    """All pictures of a category, by the rules of MVTecAD."""
    found = [(path, *path.parts[-3:-1]) for path in sorted(category.rglob("*.png"), key=str)]
    masks = iter([path for path, split, _ in found if split == "ground_truth"])
    items = []
    for path, split, label in found:
        if split != "ground_truth":
            mask = next(masks) if split == "test" and label != "good" else None
            assert mask is None or path.stem in mask.stem
            items.append(Item(path, split, label, mask))
    assert next(masks, None) is None
    return items


def read_folder(root: Path, label: str) -> list[tuple[Path, Path]]:
    """Abnormal pictures with their masks, by the rules of Folder."""
    return list(zip(*(sorted((root / part / label).glob("*.png")) for part in ("test", "ground_truth")), strict=True))


def categories(dest: Path) -> list[Path]:
    return sorted(path for path in dest.iterdir() if path.is_dir())


def test_every_defect_loads_with_its_mask(corpus: Corpus, exported: Exported) -> None:
    dest = exported(corpus, "mvtec")
    samples = {sample.record.id: sample for sample in corpus}
    abnormal = [item for category in categories(dest) for item in read_mvtec(category) if item.label != "good"]
    assert abnormal
    for item in abnormal:
        sample = samples[item.path.stem]
        assert item.split == "test"
        assert item.path.parts[-4] == sample.record.category
        assert_array_equal(pixels_of(item.path.read_bytes()), plain(sample), strict=True)
        assert item.mask is not None
        assert_array_equal(opened(item.mask.read_bytes()), sample.mask, strict=True)
        there = {defect.mechanism for defect in sample.record.defects if defect.instance}
        assert item.label == (there.pop() if len(there) == 1 else "combined")


def test_every_photograph_is_in_train_or_in_test_good(corpus: Corpus, exported: Exported) -> None:
    dest = exported(corpus, "mvtec")
    for category in categories(dest):
        (key,) = [key for key in corpus.info.counts.by_category if key.endswith(f"/{category.name}")]
        rows = []
        for item in read_mvtec(category):
            if item.label == "good":
                row = int(item.path.stem)
                stored = read_array(corpus.path, layout.DATA, key, "source", row, row + 1)[0]
                assert_array_equal(pixels_of(item.path.read_bytes()), stored.squeeze(), strict=True)
                rows.append(row)
        sources = sum(entry.sources for entry in corpus.info.licences if key == f"{entry.dataset}/{entry.category}")
        assert sorted(rows) == list(range(sources))


def test_no_photograph_is_in_both_halves(corpus: Corpus, exported: Exported) -> None:
    samples = {sample.record.id: sample.record for sample in corpus}
    for category in categories(exported(corpus, "mvtec")):
        items = read_mvtec(category)
        learnt = {int(item.path.stem) for item in items if item.split == "train"}
        assert learnt
        assert learnt.isdisjoint(int(item.path.stem) for item in items if (item.split, item.label) == ("test", "good"))
        assert learnt.isdisjoint(samples[item.path.stem].source for item in items if item.label != "good")


def test_folder_rules_pair_pictures_and_masks(rich: Path, exported: Exported) -> None:
    dest = exported(Corpus(rich), "mvtec")
    for category in categories(dest):
        for label in {item.label for item in read_mvtec(category)} - {"good"}:
            for picture, mask in read_folder(category, label):
                assert mask.stem == f"{picture.stem}_mask"


def test_table_says_which_samples_are_not_physical(deep: Path, exported: Exported) -> None:
    dest = exported(Corpus(deep), "mvtec", seed=2)
    rows = pq.read_table(dest / "samples.parquet").to_pylist()
    assert {row["physical"] for row in rows} == {True, False}
    for row in rows:
        assert row["physical"] == (row["mechanism"] != "cutpaste")
        assert (dest / row["image"]).is_file()
        assert (dest / row["mask"]).is_file()


def test_two_categories_of_one_name_have_folders_of_their_own(photographs: Path, tmp_path: Path) -> None:
    from pipeline.export.job import Options, export_corpus
    from pipeline.generate import generate
    from pipeline.recipe import Recipe

    (photographs / "brick").mkdir()
    for path in photographs.glob("*.png"):
        path.rename(photographs / "brick" / path.name)
    sources = [{"kind": "builtin", "categories": ["brick"]}, {"kind": "folder", "path": str(photographs)}]
    settings = {"count": 8, "size": 32, "sources": sources, "bank": {"trajectories": 2, "groups": 2}}
    settings["mechanisms"] = {"pitting": {"grid": 32, "snapshots": 4}}
    generate(tmp_path / "out", Recipe.model_validate(settings | {"label": {"least_visibility": 0.0}}), workers=1)
    export_corpus(tmp_path / "out", tmp_path / "dest", Options("mvtec"))
    assert [path.name for path in categories(tmp_path / "dest")] == ["builtin_brick", "folder_brick"]


def test_shares_that_leave_a_half_empty_are_refused(finished: Path, exported: Exported) -> None:
    with pytest.raises(ConfigError, match=r"no val, so its share must be 0, got 0\.1"):
        exported(Corpus(finished), "mvtec", shares=(0.8, 0.1, 0.1))
    with pytest.raises(ConfigError, match="none falls into train; give another --seed"):
        exported(Corpus(finished), "mvtec", shares=(0.0, 0.0, 1.0))
