"""Exports read by pycocotools: defect by defect what the corpus's array of instances holds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from manifests import Corpus
from pipeline.export.coco import run_lengths
from tests.pipeline.export.conftest import Exported, opened, pixels_of, plain

# pycocotools' own: its masks do not yet take NumPy 2's copy argument
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def test_pycocotools_gives_back_every_defect(corpus: Corpus, exported: Exported) -> None:
    dest = exported(corpus, "coco")
    seen = set()
    samples = {sample.record.id: sample for sample in corpus}
    for path in dest.glob("annotations/instances_*.json"):
        split = path.stem.removeprefix("instances_")
        coco = COCO(str(path))
        for image in coco.loadImgs(coco.getImgIds()):
            data = (dest / split / image["file_name"]).read_bytes()
            sample = samples[image["sample"]["id"]]
            seen.add(sample.record.id)
            assert_array_equal(pixels_of(data), plain(sample), strict=True)
            assert opened(data).shape[:2] == (image["height"], image["width"])
            drawn = np.zeros(sample.mask.shape, np.uint8)
            for annotation in coco.loadAnns(coco.getAnnIds(image["id"])):
                value = annotation["id"] % 256
                mask = coco.annToMask(annotation)
                assert_array_equal(mask, sample.instances == value)
                assert annotation["area"] == mask.sum() == coco_mask.area(coco.annToRLE(annotation))
                assert_array_equal(annotation["bbox"], coco_mask.toBbox(coco.annToRLE(annotation)))
                (defect,) = [defect for defect in sample.record.defects if defect.instance == value]
                assert coco.cats[annotation["category_id"]]["name"] == defect.mechanism
                drawn[mask > 0] = value
            assert_array_equal(drawn, sample.instances)
    assert seen == set(samples)


def test_a_perfect_detector_scores_one(rich: Path, exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    dest = exported(Corpus(rich), "coco", shares=(1.0, 0.0, 0.0))
    truth = COCO(str(dest / "annotations/instances_train.json"))
    found = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "segmentation": truth.annToRLE(a), "score": 0.9}
        for a in truth.loadAnns(truth.getAnnIds())
    ]
    scores = COCOeval(truth, truth.loadRes(found), "segm")
    scores.evaluate()
    scores.accumulate()
    scores.summarize()
    capsys.readouterr()
    assert scores.stats[0] == pytest.approx(1.0)


def test_a_category_says_whether_it_is_simulated(deep: Path, exported: Exported) -> None:
    dest = exported(Corpus(deep), "coco", shares=(1.0, 0.0, 0.0))
    about = json.loads((dest / "annotations/instances_train.json").read_text())
    kinds = {category["name"]: category["supercategory"] for category in about["categories"]}
    assert kinds == {"cutpaste": "not physical", "fracture": "simulated", "pitting": "simulated"}
    licences = {entry["id"]: entry["name"] for entry in about["licenses"]}
    assert all("CC0" in licences[image["license"]] for image in about["images"])


@given(arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.booleans()))
def test_run_lengths_are_those_of_coco(mask: NDArray[np.bool_]) -> None:
    counted = {"size": list(mask.shape), "counts": run_lengths(mask)}
    packed = coco_mask.frPyObjects(counted, *mask.shape)
    assert_array_equal(coco_mask.decode(packed), mask)
    assert packed == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
