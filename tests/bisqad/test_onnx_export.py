"""The detector in ONNX: what ONNX Runtime finds is what the detector finds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from bisqad.cells import eight_bit_colour
from bisqad.detector import Detector
from bisqad.features import FeatureExtractor, to_working_size
from bisqad.head import SegmentationHead
from bisqad.inspection_set import read_image
from bisqad.onnx_export import onnx_model
from bisqad.run import DETECTOR
from manifests import Corpus, __version__
from manifests.errors import ConfigError

pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")

DOCS = Path(__file__).resolve().parents[2] / "docs" / "bisqad.md"
# In spreads of normal cells. A distance of zero is the root of a rounding error: up to 1e-3 next to a remembered cell.
ATOL = 5e-5
RTOL = 2e-5  # sums of hundreds of float32 terms, in another order on every kind of processor
ATOL_REMEMBERED = 2e-2
REMEMBERED = 0.05  # distance below which a cell is next to a remembered one


class Exported:
    """A detector, and its model as bytes and in ONNX Runtime."""

    def __init__(self, detector: Detector, category: str | None = None) -> None:
        self.detector, self.key = detector, detector.category_key(category)
        self.model = onnx_model(detector, category)
        self.session = onnxruntime.InferenceSession(self.model)

    def found(self, working: NDArray[np.uint8]) -> tuple[NDArray[np.float32], float]:
        score_map, score = self.session.run(["score_map", "score"], {"picture": working[None]})
        assert (score_map.dtype, score.dtype, score.shape) == (np.float32, np.float32, (1,))
        return score_map[0], float(score[0])

    def assert_finds_the_same(self, working: NDArray[np.uint8]) -> None:
        """On a picture of the working size, as the detector itself."""
        with torch.inference_mode():
            head, distance = self.detector.maps(working, self.key)
            wanted = self.detector.found(head, distance, working.shape[:2], working.shape[:2])
        score_map, score = self.found(working)
        assert score_map.shape == working.shape[:2]
        assert_allclose(score, wanted.score, rtol=RTOL, atol=ATOL)
        remembered = ndimage.minimum_filter(distance.numpy(), size=7) < REMEMBERED
        remembered = remembered.repeat(4, 0).repeat(4, 1)[: working.shape[0], : working.shape[1]]
        assert_allclose(score_map, wanted.score_map, rtol=0, atol=ATOL_REMEMBERED)
        assert_allclose(score_map[~remembered], wanted.score_map[~remembered], rtol=RTOL, atol=ATOL)


def stretching(detector: Detector) -> Detector:
    config = detector.config.model_copy(update={"fit": "stretch"})
    return replace(detector, config=config, extractor=FeatureExtractor(config))


def enlarging(detector: Detector) -> Detector:
    """The detector with a second look, at the enlarged picture; its head is one that learned nothing."""
    config = detector.config.model_copy(update={"enlarged_blocks": (2, 4)})
    extractor = FeatureExtractor(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        head = SegmentationHead(extractor.channels, config.hidden)
    return replace(detector, config=config, extractor=extractor, head=head.eval())


@pytest.fixture(scope="module")
def free(run_path: Path) -> Exported:
    """Of a detector that looks twice at pictures of any working size; a hundredth of the cells makes the score."""
    detector = enlarging(Detector.load(run_path / DETECTOR))
    detector = replace(detector, fusion=replace(detector.fusion, highest=0.01))
    return Exported(detector)


@pytest.fixture(scope="module")
def fixed(run_path: Path) -> Exported:
    """Of a detector that stretches every picture to 128 x 128."""
    detector = stretching(Detector.load(run_path / DETECTOR))
    return Exported(detector)


def test_photographs_are_scored_as_the_detector_scores_them(fixed: Exported, free: Exported, brick_path: Path) -> None:
    for sample in Corpus(brick_path)[:6]:
        fixed.assert_finds_the_same(eight_bit_colour(sample.image))
        free.assert_finds_the_same(eight_bit_colour(sample.image))


@pytest.mark.parametrize(
    "shape", [(128, 128), (128, 192), (128, 131), (129, 128), (333, 128), (128, 4), (5, 128), (64, 70), (480, 360)]
)
def test_a_picture_of_any_size_is_scored_as_the_detector_scores_it(
    free: Exported, rng: np.random.Generator, shape: tuple[int, int]
) -> None:
    free.assert_finds_the_same(rng.integers(0, 255, (*shape, 3), dtype=np.uint8))


@pytest.mark.parametrize("highest", [0.0, 0.03])
def test_several_nearest_cells_and_any_share_of_the_highest_are_kept(
    run_path: Path, rng: np.random.Generator, highest: float
) -> None:
    detector = stretching(Detector.load(run_path / DETECTOR))
    fusion, normality = replace(detector.fusion, highest=highest), replace(detector.normality, neighbours=3)
    exported = Exported(replace(detector, fusion=fusion, normality=normality))
    exported.assert_finds_the_same(rng.integers(0, 255, (128, 128, 3), dtype=np.uint8))


def test_the_model_is_valid_and_says_what_must_be_known(fixed: Exported, free: Exported) -> None:
    for exported, shape, resize in (
        (fixed, [1, 128, 128, 3], "RGB, bicubic as in Pillow, to 128 x 128"),
        (free, [1, "height", "width", 3], "RGB, bicubic as in Pillow, short side to 128, the other in proportion"),
    ):
        model = onnx.load_from_string(exported.model)
        onnx.checker.check_model(model, full_check=True)
        session = exported.session
        assert [(i.name, i.shape, i.type) for i in session.get_inputs()] == [("picture", shape, "tensor(uint8)")]
        outputs = [(o.name, o.shape, o.type) for o in session.get_outputs()]
        assert outputs == [("score_map", shape[:3], "tensor(float)"), ("score", [1], "tensor(float)")]
        about = session.get_modelmeta().custom_metadata_map
        assert about["bisqad"] == __version__
        assert about["category"] == "builtin/brick"
        assert float(about["image_threshold"]) == exported.detector.image_threshold
        assert float(about["pixel_threshold"]) == exported.detector.pixel_threshold
        assert (about["fit"], about["size"]) == (exported.detector.config.fit, "128")
        assert about["features"] == exported.detector.extractor.identity
        assert about["resize"] == resize


def test_the_model_does_not_name_the_folders_it_was_made_in(fixed: Exported, free: Exported) -> None:
    for exported in (fixed, free):
        for folder in (DOCS.parents[1], Path(sys.prefix), Path(onnx.__file__).parent):
            assert str(folder).encode() not in exported.model
        assert b".py" not in exported.model


def test_of_several_categories_each_has_its_own_memory(run_path: Path, rng: np.random.Generator) -> None:
    detector = stretching(Detector.load(run_path / DETECTOR))
    memory = detector.normality.memory["builtin/brick"]
    two = {"mine/nut": memory, "mine/bolt": memory[:40]}
    several = replace(detector, normality=replace(detector.normality, memory=two))
    with pytest.raises(ConfigError, match="knows mine/nut, mine/bolt"):
        onnx_model(several)
    pixels = rng.integers(0, 255, (128, 128, 3), dtype=np.uint8)
    bolt = Exported(several, "bolt")
    bolt.assert_finds_the_same(pixels)
    assert np.abs(bolt.found(pixels)[0] - several.inspect(pixels, "nut").score_map).max() > 100 * ATOL


def test_two_processes_write_the_same_bytes(
    run_path: Path, tmp_path: Path, python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    done = python("-m", "bisqad.cli", "export", run_path, "--onnx", tmp_path / "sub" / "detector.onnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"done: .*detector\.onnx; docs/bisqad\.md shows how to use it\n", done.stdout)
    assert [path.name for path in (tmp_path / "sub").iterdir()] == ["detector.onnx"]
    assert (tmp_path / "sub" / "detector.onnx").read_bytes() == onnx_model(Detector.load(run_path / DETECTOR))


@pytest.fixture(scope="module")
def documented() -> str:
    """The program that docs/bisqad.md prints."""
    block = re.search(r"```python\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    return block.group(1)


def test_the_documented_program_gives_the_detectors_verdict(
    fixed: Exported,
    free: Exported,
    documented: str,
    inspection_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    crack = min((inspection_root / "test" / "fracture").iterdir())
    shutil.copy(crack, tmp_path / "part-17.png")
    monkeypatch.chdir(tmp_path)
    for exported in (fixed, free):
        (tmp_path / "detector.onnx").write_bytes(exported.model)
        names: dict[str, Any] = {}
        exec(documented, names)  # noqa: S102 - our own page
        wanted = exported.detector.inspect(read_image(crack))
        assert_allclose(names["score"][0], wanted.score, rtol=RTOL, atol=ATOL)
        assert names["anomalous"] == wanted.anomalous
        assert names["abnormal"].shape == wanted.score_map.shape


@pytest.mark.parametrize("fit", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("shape", [(150, 301), (301, 150), (128, 128), (3, 400)])
def test_the_documented_way_to_resize_is_the_detectors(
    free: Exported, documented: str, rng: np.random.Generator, fit: str, shape: tuple[int, int]
) -> None:
    names: dict[str, Any] = {}
    exec(documented.partition("session =")[0], names)  # noqa: S102 - our own page
    pixels = rng.integers(0, 255, (*shape, 3), dtype=np.uint8)
    config = free.detector.config.model_copy(update={"fit": fit})
    given = names["working_size"](Image.fromarray(pixels), {"fit": fit, "size": str(config.size)})
    assert_array_equal(np.asarray(given), to_working_size(pixels, config))
