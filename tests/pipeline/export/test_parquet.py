"""Exports read by Hugging Face datasets: pictures are pictures, and pixel by pixel what the corpus holds."""

from __future__ import annotations

from pathlib import Path

import datasets
import numpy as np
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_array_equal

from manifests import Corpus
from tests.pipeline.export.conftest import Exported, as_pillow_reads, pixels_of, plain


@pytest.fixture(autouse=True)
def _quiet_and_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def load(dest: Path) -> datasets.DatasetDict:
    return datasets.load_dataset(str(dest), cache_dir=str(dest.parent / "cache"))


def test_datasets_gives_back_every_sample(corpus: Corpus, exported: Exported) -> None:
    dest = exported(corpus, "parquet")
    rows = {row["id"]: row | {"in": name} for name, split in load(dest).items() for row in split}
    assert set(rows) == {sample.record.id for sample in corpus}
    for sample in corpus:
        row = rows[sample.record.id]
        assert_array_equal(np.asarray(row["image"]), as_pillow_reads(sample.image), strict=True)
        assert_array_equal(np.asarray(row["mask"]), sample.mask, strict=True)
        assert row["split"] == row["in"]
        record = sample.record.model_dump(mode="json")
        assert {name: row[name] for name in record} == record
        if sample.keeps_instances:
            assert_array_equal(np.asarray(row["instances"]), sample.instances, strict=True)


def test_features_name_pictures_and_classes(rich: Path, exported: Exported) -> None:
    features = load(exported(Corpus(rich), "parquet"))["train"].features
    assert [name for name, kind in features.items() if isinstance(kind, datasets.Image)] == [
        "image",
        "mask",
        "instances",
    ]
    assert features["label"].names == ["fracture", "pitting"]
    assert features["physical"] == datasets.Value("bool")


def test_parquet_keeps_all_sixteen_bits(deep: Path, exported: Exported) -> None:
    dest = exported(Corpus(deep), "parquet")
    rows = [row for path in sorted(dest.glob("data/*.parquet")) for row in pq.read_table(path).to_pylist()]
    stored = {row["id"]: row["image"]["bytes"] for row in rows}
    for sample in Corpus(deep):
        assert_array_equal(pixels_of(stored[sample.record.id]), plain(sample), strict=True)


def test_a_row_can_be_fetched_without_the_whole_file(finished: Path, exported: Exported) -> None:
    dest = exported(Corpus(finished), "parquet", shares=(1.0, 0.0, 0.0), part_samples=24)
    file = pq.ParquetFile(next(dest.glob("data/train-00000-of-00001.parquet")))
    assert file.metadata.num_rows == 24
    assert file.metadata.row_group(0).column(0).has_offset_index
