"""Exports read by the webdataset package: every sample once, pixel by pixel what the corpus holds."""

from __future__ import annotations

import gc
import tarfile
from pathlib import Path
from typing import Any

import pytest
import webdataset
from numpy.testing import assert_array_equal
from PIL import Image

from manifests import Corpus
from tests.pipeline.export.conftest import Exported, as_pillow_reads, opened, pixels_of, plain

pytestmark = pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # webdataset leaves its tars open


def samples_in(dest: Path, split: str, *handlers: str, only: list[str] | None = None) -> list[dict[str, Any]]:
    shards = sorted(str(path) for path in dest.glob(f"{split}-*.tar"))
    found = list(webdataset.WebDataset(shards, shardshuffle=False).decode(*handlers, only=only))
    gc.collect()  # the tars, while their warning is ignored
    return found


def read(dest: Path) -> dict[str, dict[str, Any]]:
    """Samples by id; pictures as bytes, class and record decoded."""
    found = samples_in(dest, "*", only=["cls", "json"])
    assert len({sample["__key__"] for sample in found}) == len(found)
    return {sample["__key__"]: sample for sample in found}


def test_webdataset_gives_back_every_sample(corpus: Corpus, exported: Exported) -> None:
    found = read(exported(corpus, "webdataset"))
    assert set(found) == {sample.record.id for sample in corpus}
    classes = sorted(corpus.info.mechanisms)
    for sample in corpus:
        own = found[sample.record.id]
        assert_array_equal(pixels_of(own["png"]), plain(sample), strict=True)
        assert_array_equal(opened(own["png"]), as_pillow_reads(sample.image), strict=True)
        assert_array_equal(opened(own["mask.png"]), sample.mask, strict=True)
        assert classes[own["cls"]] == sample.record.mechanism
        record = own["json"]
        assert record.pop("split") in {"train", "val", "test"}
        assert record == sample.record.model_dump(mode="json")
        assert ("instances.png" in own) == sample.keeps_instances
        if sample.keeps_instances:
            assert_array_equal(opened(own["instances.png"]), sample.instances, strict=True)


def test_a_colour_decoder_of_webdataset_reads_the_pictures(finished: Path, exported: Exported) -> None:
    for sample in samples_in(exported(Corpus(finished), "webdataset"), "train", "pil"):
        assert isinstance(sample["png"], Image.Image)
        assert sample["png"].size == sample["mask.png"].size == (64, 64)


def test_tar_holds_neither_times_nor_owners(finished: Path, exported: Exported) -> None:
    for path in exported(Corpus(finished), "webdataset").glob("*.tar"):
        with tarfile.open(path) as tar:
            assert {(entry.mtime, entry.uid, entry.gid, entry.uname, entry.mode) for entry in tar} == {
                (0, 0, 0, "", 0o644)
            }
