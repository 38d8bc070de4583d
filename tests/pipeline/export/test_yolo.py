"""Exports as YOLO outlines, read by the rules that Ultralytics documents, and drawn as OpenCV's fillPoly would."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from numpy.testing import assert_array_equal

from manifests import Corpus
from tests.pipeline.export.conftest import Exported, pixels_of, plain
from tests.pipeline.export.test_outlines import filled


def test_outlines_give_back_every_defect(corpus: Corpus, exported: Exported) -> None:
    dest = exported(corpus, "yolo")
    about = yaml.safe_load((dest / "data.yaml").read_text())
    names = about["names"]
    seen = set()
    samples = {sample.record.id: sample for sample in corpus}
    for split in ("train", "val", "test"):
        for picture in (dest / about[split]).glob("*.png"):
            label = Path(str(picture).replace("/images/", "/labels/")).with_suffix(".txt")  # as Ultralytics finds it
            sample = samples[picture.stem]
            seen.add(picture.stem)
            assert_array_equal(pixels_of(picture.read_bytes()), plain(sample), strict=True)
            drawn = {mechanism: np.zeros(sample.mask.shape, bool) for mechanism in names.values()}
            for line in label.read_text().splitlines():
                number, *points = line.split()
                corners = np.array(points, float).reshape(-1, 2)[:, ::-1]
                assert len(corners) >= 3
                assert corners.min() >= 0
                assert corners.max() <= 1
                drawn[names[int(number)]] |= filled(corners * sample.mask.shape, sample.mask.shape)
            for mechanism, found in drawn.items():
                own = [d.instance for d in sample.record.defects if d.instance and d.mechanism == mechanism]
                assert_array_equal(found, np.isin(sample.instances, own))
    assert seen == set(samples)


def test_data_file_says_what_is_not_physical(deep: Path, exported: Exported) -> None:
    about = yaml.safe_load((exported(Corpus(deep), "yolo") / "data.yaml").read_text())
    assert about["names"] == {0: "cutpaste", 1: "fracture", 2: "pitting"}
    assert about["physical"] == {0: False, 1: True, 2: True}
