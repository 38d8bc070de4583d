"""Detection metrics against their definitions, taken at every distinct score, and what the intervals hold."""

from __future__ import annotations

import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from numpy.typing import NDArray
from scipy import ndimage
from torchmetrics.functional.classification import binary_auroc

from bisqad import metrics
from bisqad.metrics import (
    Detection,
    Estimate,
    aupro,
    evaluate_scores,
    image_auroc,
    pixel_auroc,
    pixel_average_precision,
)

Maps = list[NDArray[np.float64]]
Masks = list[NDArray[np.bool_]]


def brute_force(maps: Maps, masks: Masks, limit: float) -> float:
    """AUPRO from its definition: both rates at every distinct score."""
    regions = [(k, ndimage.label(m, np.ones((3, 3)))[0] == r) for k, m in enumerate(masks) for r in _labels(m)]
    normals = sum(int((~m).sum()) for m in masks)
    x, y = [0.0], [0.0]
    for threshold in np.unique(np.concatenate([m.ravel() for m in maps]))[::-1]:
        found = [m >= threshold for m in maps]
        x.append(sum(int((f & ~m).sum()) for f, m in zip(found, masks, strict=True)) / normals)
        y.append(float(np.mean([(found[k] & region).sum() / region.sum() for k, region in regions])))
    area = 0.0
    for x0, x1, y0, y1 in zip(x[:-1], x[1:], y[:-1], y[1:], strict=True):
        end = min(x1, limit)
        if end > x0:
            area += (end - x0) * (y0 + y0 + (y1 - y0) * (end - x0) / (x1 - x0)) / 2
    return area / limit


def _labels(mask: NDArray[np.bool_]) -> range:
    return range(1, ndimage.label(mask, np.ones((3, 3)))[1] + 1)


def cases(seed: int, *, levels: int = 1000, images: int = 4) -> tuple[Maps, Masks]:
    """Small images of different sizes; few levels give many ties."""
    rng = np.random.default_rng(seed)
    maps, masks = [], []
    for _ in range(images):
        shape = tuple(rng.integers(3, 12, 2))
        mask = rng.random(shape) < 0.2
        maps.append(
            np.round(rng.normal(size=shape) + 0.8 * mask, 3) if levels == 1000 else rng.integers(0, levels, shape) * 1.0
        )
        masks.append(mask)
    masks[0][0, 0] = True
    return maps, masks


def detector(
    rng: np.random.Generator, *, good: int = 30, defects: int = 40, side: int = 48
) -> tuple[NDArray[np.float64], Maps, Masks, list[str]]:
    """A detector that is fair at images and pixels: scores, maps, masks and kinds."""
    kinds = ["good"] * good + ["crack", "dent"] * (defects // 2)
    maps, masks = [], []
    for kind in kinds:
        mask = np.zeros((side, side), np.bool_)
        if kind != "good":
            y, x = rng.integers(0, side - 12, 2)
            mask[y : y + rng.integers(3, 12), x : x + rng.integers(3, 12)] = True
        noise = ndimage.gaussian_filter(rng.normal(size=mask.shape), 2) * 4
        maps.append(noise + rng.normal(1.2, 0.8) * mask)
        masks.append(mask)
    return np.array([m.max() for m in maps]), maps, masks, kinds


# --- AUPRO ---


@given(
    seed=st.integers(0, 2**32 - 1),
    levels=st.sampled_from([1, 2, 3, 7, 1000]),
    limit=st.sampled_from([0.05, 0.3, 0.5, 1.0]),
)
def test_aupro_is_the_area_of_its_definition(seed: int, levels: int, limit: float) -> None:
    maps, masks = cases(seed, levels=levels)
    assert_allclose(aupro(maps, masks, limit=limit), brute_force(maps, masks, limit), rtol=1e-12, atol=1e-14)


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([2, 5, 1000]))
def test_aupro_of_one_region_up_to_rate_1_is_the_auroc(seed: int, levels: int) -> None:
    maps, _ = cases(seed, levels=levels, images=1)
    mask = np.zeros(maps[0].shape, np.bool_)
    mask[1:3, 1:3] = True
    area = binary_auroc(torch.sigmoid(torch.from_numpy(maps[0])).ravel(), torch.from_numpy(mask).ravel())
    assert_allclose(aupro(maps, [mask], limit=1.0), float(area), atol=1e-6)


def test_aupro_counts_a_small_region_as_much_as_a_large_one() -> None:
    mask = np.zeros((20, 20), np.bool_)
    mask[:10, :10] = True  # 100 pixels, found
    mask[15, 15] = True  # 1 pixel, scored last
    scores = np.where(mask, 1.0, 0.5)
    scores[15, 15] = 0.0
    assert_allclose(aupro([scores], [mask]), 0.5)


def test_pixels_that_touch_at_a_corner_are_one_region() -> None:
    mask = np.eye(6, dtype=np.bool_)
    detection = evaluate_scores([1.0], [mask * 1.0], [mask], ["crack"], seed=0, resamples=2)
    assert detection.regions == 1


def test_aupro_is_interpolated_at_the_limit() -> None:
    """Ten normals tie with half of the region: the curve runs straight from (0, 1/2) to (1, 1)."""
    mask = np.zeros((3, 4), np.bool_)
    mask[0, :2] = True
    scores = np.zeros((3, 4))
    scores[0, 0] = 1.0
    assert_allclose(aupro([scores], [mask], limit=0.3), 0.5 + 0.3 * 0.5 / 2)


def test_perfect_map_reaches_1_and_a_reversed_one_0() -> None:
    _, masks = cases(3)
    perfect = [m * 1.0 for m in masks]
    assert (aupro(perfect, masks), pixel_auroc(perfect, masks), pixel_average_precision(perfect, masks)) == (1, 1, 1)
    reverse = [-p for p in perfect]
    assert_allclose([aupro(reverse, masks, limit=1e-9), pixel_auroc(reverse, masks)], 0.0, atol=1e-9)


@pytest.mark.parametrize("limit", [0.0, -0.1, 1.1, math.nan])
def test_limit_outside_0_to_1_is_refused(limit: float) -> None:
    with pytest.raises(ValueError, match="false-positive rate"):
        aupro(*cases(0), limit=limit)


# --- AUROC and AP ---


@given(seed=st.integers(0, 2**32 - 1), levels=st.sampled_from([2, 5, 1000]))
def test_pixel_measures_are_those_of_their_definitions(seed: int, levels: int) -> None:
    maps, masks = cases(seed, levels=levels)
    scores, truth = (np.concatenate([a.ravel() for a in arrays]) for arrays in (maps, masks))
    pairs = np.sign(scores[truth][:, None] - scores[~truth])
    assert_allclose(pixel_auroc(maps, masks), (1 + pairs.mean()) / 2, atol=2e-6)
    thresholds = np.unique(scores)[::-1]
    recall = np.array([truth[scores >= t].sum() / truth.sum() for t in thresholds])
    precision = np.array([truth[scores >= t].mean() for t in thresholds])
    expected = np.sum(np.diff(recall, prepend=0.0) * precision)
    assert_allclose(pixel_average_precision(maps, masks), expected, atol=2e-6)


def test_scores_that_a_sigmoid_would_merge_stay_apart() -> None:
    scores = np.array([1e6, 2e6, 3e6, -1e-30, -2e-30, 0.0])
    truth = np.array([False, True, True, False, False, True])
    assert_allclose(image_auroc(scores, truth), 8 / 9, atol=1e-6)


def test_only_the_order_of_scores_matters(rng: np.random.Generator) -> None:
    scores, maps, masks, kinds = detector(rng, good=6, defects=6)
    one = evaluate_scores(scores, maps, masks, kinds, seed=1, resamples=20)
    other = evaluate_scores(np.exp(scores), [np.exp(3 * m) - 7 for m in maps], masks, kinds, seed=1, resamples=20)
    assert one == other


def test_order_of_images_does_not_change_values(rng: np.random.Generator) -> None:
    scores, maps, masks, kinds = detector(rng, good=6, defects=6)
    turned = evaluate_scores(scores[::-1], maps[::-1], masks[::-1], kinds[::-1], seed=1, resamples=20)
    straight = evaluate_scores(scores, maps, masks, kinds, seed=1, resamples=20)
    for name in metrics._NAMES:
        assert_allclose(getattr(turned, name).value, getattr(straight, name).value, atol=1e-6)


def test_single_precision_maps_give_what_double_ones_of_the_same_values_give(rng: np.random.Generator) -> None:
    scores, maps, masks, kinds = detector(rng, good=5, defects=4)
    narrow = [m.astype(np.float32) for m in maps]
    wide = [m.astype(np.float64) for m in narrow]
    assert evaluate_scores(scores, narrow, masks, kinds, seed=0, resamples=10) == evaluate_scores(
        scores, wide, masks, kinds, seed=0, resamples=10
    )


# --- by type of defect ---


def test_each_type_is_measured_against_all_normals(rng: np.random.Generator) -> None:
    scores, maps, masks, kinds = detector(rng, good=8, defects=12)
    detection = evaluate_scores(scores, maps, masks, kinds, seed=0, resamples=50)
    assert list(detection.by_defect) == ["crack", "dent"]
    for kind, own in detection.by_defect.items():
        rows = [k for k, name in enumerate(kinds) if name in ("good", kind)]
        part = [maps[k] for k in rows], [masks[k] for k in rows]
        assert (own.normals, own.defects) == (8, 6)
        assert own.image_auroc.value == image_auroc(scores[rows], [kinds[k] == kind for k in rows])
        assert own.pixel_auroc.value == pixel_auroc(*part)
        assert own.pixel_ap.value == pixel_average_precision(*part)
        assert_allclose(own.aupro.value, aupro(*part), rtol=1e-12)
        alone = evaluate_scores(scores[rows], *part, [kinds[k] for k in rows], seed=0, resamples=50)
        assert_allclose(own.aupro.low, alone.aupro.low, atol=0.01)


def test_counts_are_of_images_and_regions(rng: np.random.Generator) -> None:
    scores, maps, masks, kinds = detector(rng, good=5, defects=6)
    masks[-1][:] = False
    masks[-1][0, 0] = masks[-1][40, 40] = True
    detection = evaluate_scores(scores, maps, masks, kinds, seed=0, resamples=5)
    assert (detection.normals, detection.defects, detection.regions) == (5, 6, 7)
    assert (detection.by_defect["dent"].defects, detection.by_defect["dent"].regions) == (3, 4)


# --- intervals ---


@pytest.fixture(scope="module")
def measured() -> tuple[tuple[NDArray[np.float64], Maps, Masks, list[str]], Detection]:
    data = detector(np.random.default_rng(7))
    return data, evaluate_scores(*data, seed=3)


def test_resamples_come_close_to_exact_ones(
    measured: tuple[tuple[NDArray[np.float64], Maps, Masks, list[str]], Detection],
) -> None:
    (_, maps, masks, kinds), _ = measured
    weights = metrics._bootstrap_weights(np.array(kinds) == "good", 3, 1000)[:5]
    binned = metrics._Histograms.of(metrics._Pixels.of(maps, masks)).measures(weights)
    for k, row in enumerate(weights):
        rows = np.repeat(np.arange(len(kinds)), row.astype(int))
        drawn = [maps[r] for r in rows], [masks[r] for r in rows]
        exact = [pixel_auroc(*drawn), pixel_average_precision(*drawn), aupro(*drawn)]
        assert_allclose([made[k] for made in binned], exact, atol=3e-3)


def test_interval_of_images_is_that_of_exact_resampling(
    measured: tuple[tuple[NDArray[np.float64], Maps, Masks, list[str]], Detection],
) -> None:
    (scores, _, _, kinds), detection = measured
    normal = np.array(kinds) == "good"
    drawn = [
        image_auroc(scores[rows], ~normal[rows])
        for row in metrics._bootstrap_weights(normal, 3, 1000)
        for rows in [np.repeat(np.arange(len(kinds)), row.astype(int))]
    ]
    estimate = detection.image_auroc
    assert_allclose([estimate.low, estimate.high], np.quantile(drawn, [0.025, 0.975]), atol=2e-6)


@pytest.mark.parametrize("name", ["image_auroc", "pixel_auroc", "pixel_ap", "aupro"])
def test_interval_lies_around_the_value(
    name: str, measured: tuple[tuple[NDArray[np.float64], Maps, Masks, list[str]], Detection]
) -> None:
    estimate = getattr(measured[1], name)
    assert 0 < estimate.low < estimate.value < estimate.high < 1
    assert estimate.high - estimate.low < 0.3


def test_binning_changes_a_resample_by_little(
    measured: tuple[tuple[NDArray[np.float64], Maps, Masks, list[str]], Detection],
) -> None:
    (_, maps, masks, _), detection = measured
    binned = metrics._Histograms.of(metrics._Pixels.of(maps, masks)).measures(np.ones((1, len(maps))))
    exact = [detection.pixel_auroc.value, detection.pixel_ap.value, detection.aupro.value]
    assert_allclose(np.concatenate(binned), exact, atol=2e-3)


def test_histograms_hold_every_pixel_and_region(
    measured: tuple[tuple[NDArray[np.float64], Maps, Masks, list[str]], Detection],
) -> None:
    (_, maps, masks, _), _ = measured
    histograms = metrics._Histograms.of(metrics._Pixels.of(maps, masks))
    assert_array_equal(histograms.positive.sum(axis=1), [m.sum() for m in masks])
    assert_array_equal(histograms.negative.sum(axis=1), [(~m).sum() for m in masks])
    assert_allclose(histograms.overlap.sum(axis=1), histograms.regions)


def test_resampling_keeps_the_number_of_normals_and_of_defects() -> None:
    normal = np.array([True] * 5 + [False] * 9)
    weights = metrics._bootstrap_weights(normal, 0, 200)
    assert_array_equal(weights[:, normal].sum(axis=1), 5)
    assert_array_equal(weights[:, ~normal].sum(axis=1), 9)


def test_a_seed_gives_one_interval_and_another_seed_another(rng: np.random.Generator) -> None:
    data = detector(rng, good=8, defects=8)
    first, again, other = (evaluate_scores(*data, seed=seed, resamples=100) for seed in (1, 1, 2))
    assert first == again
    assert first.pixel_auroc.value == other.pixel_auroc.value
    assert first.pixel_auroc != other.pixel_auroc


def test_interval_holds_the_expected_value_in_most_of_many_data_sets() -> None:
    """Scores of normals N(0, 1), of defects N(1, 1): the AUROC is Phi(1 / sqrt 2)."""
    truth = 0.5 * (1 + math.erf(0.5))
    rng = np.random.default_rng(11)
    flat = [np.zeros((1, 1))] * 80
    masks = [np.zeros((1, 1), np.bool_)] * 80
    kinds = ["good"] * 40 + ["crack"] * 40
    held = 0
    for seed in range(200):
        scores = np.append(rng.normal(size=40), rng.normal(1.0, size=40))
        estimate = evaluate_scores(scores, flat, masks, kinds, seed=seed, resamples=300).image_auroc
        held += estimate.low <= truth <= estimate.high
    assert 0.90 <= held / 200 <= 0.98


# --- nothing to measure ---


def nothing(estimate: Estimate) -> bool:
    return math.isnan(estimate.value) and math.isnan(estimate.low) and math.isnan(estimate.high)


@pytest.mark.parametrize("images", [0, 1, 3])
def test_without_defects_nothing_is_measured(images: int, rng: np.random.Generator) -> None:
    maps = [rng.random((4, 5)) for _ in range(images)]
    masks = [np.zeros((4, 5), np.bool_)] * images
    detection = evaluate_scores(np.arange(images), maps, masks, ["good"] * images, seed=0, resamples=10)
    assert all(nothing(getattr(detection, name)) for name in metrics._NAMES)
    assert detection.by_defect == {}
    assert detection.normals == images


def test_without_normals_pixels_are_measured_and_images_are_not(rng: np.random.Generator) -> None:
    scores, maps, masks, kinds = detector(rng, good=0, defects=6)
    detection = evaluate_scores(scores, maps, masks, kinds, seed=0, resamples=30)
    assert nothing(detection.image_auroc)
    assert detection.pixel_auroc.low <= detection.pixel_auroc.value <= detection.pixel_auroc.high


def test_without_defect_pixels_images_are_measured_and_pixels_are_not(rng: np.random.Generator) -> None:
    scores, maps, masks, kinds = detector(rng, good=6, defects=6)
    detection = evaluate_scores(scores, maps, [np.zeros_like(m) for m in masks], kinds, seed=0, resamples=30)
    assert nothing(detection.pixel_auroc)
    assert nothing(detection.pixel_ap)
    assert nothing(detection.aupro)
    assert detection.image_auroc.low <= detection.image_auroc.value <= detection.image_auroc.high


def test_masks_without_a_single_free_pixel_measure_nothing() -> None:
    mask = np.ones((3, 3), np.bool_)
    detection = evaluate_scores([1.0], [np.ones((3, 3))], [mask], ["crack"], seed=0, resamples=5)
    assert nothing(detection.pixel_auroc)
    assert nothing(detection.pixel_ap)
    assert nothing(detection.aupro)


def test_resamples_that_miss_every_region_are_left_out() -> None:
    mask = np.zeros((8, 8), np.bool_)
    mask[2, 2] = True
    masks = [np.zeros((8, 8), np.bool_), mask, np.zeros((8, 8), np.bool_)]
    maps = [m + 0.0 for m in masks]
    detection = evaluate_scores([0.0, 1.0, 0.5], maps, masks, ["good", "crack", "crack"], seed=0, resamples=50)
    assert detection.aupro == Estimate(1.0, 1.0, 1.0)


def test_nothing_to_measure_is_null_in_json() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        detection = evaluate_scores([0.5], [np.zeros((2, 2))], [np.zeros((2, 2), np.bool_)], ["good"], seed=0)
        stored = json.loads(json.dumps(detection.to_json(), allow_nan=False))
    assert stored["image_auroc"] is None
    assert stored["confidence_95"]["aupro"] is None
    assert stored["by_defect"] == {}


def test_json_has_the_documented_keys(
    measured: tuple[tuple[NDArray[np.float64], Maps, Masks, list[str]], Detection],
) -> None:
    detection = measured[1]
    stored = json.loads(json.dumps(detection.to_json(), allow_nan=False))
    keys = ["image_auroc", "pixel_auroc", "pixel_ap", "aupro", "confidence_95", "normals", "defects", "regions"]
    assert list(stored) == [*keys, "by_defect"]
    assert list(stored["by_defect"]["crack"]) == keys
    assert stored["confidence_95"]["pixel_ap"] == [detection.pixel_ap.low, detection.pixel_ap.high]
    assert stored["aupro"] == detection.aupro.value


# --- what is refused ---


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_scores": [0.0]}, "as many"),
        ({"kinds": ["good"]}, "as many"),
        ({"image_scores": [0.0, math.nan]}, "image 1: its score is not finite"),
        ({"score_maps": [np.zeros((2, 3)), np.zeros((3, 2))]}, "image 1: expected a score map"),
        ({"score_maps": [np.full((2, 3), math.inf), np.zeros((2, 3))]}, "image 0: its score map"),
        ({"masks": [np.zeros((2, 3), np.uint8), np.zeros((2, 3), np.bool_)]}, "image 0: .*uint8"),
        ({"masks": [np.ones((2, 3), np.bool_)] * 2}, "image 0: its kind is 'good'"),
    ],
)
def test_arguments_that_disagree_are_refused(change: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {
        "image_scores": [0.0, 1.0],
        "score_maps": [np.zeros((2, 3))] * 2,
        "masks": [np.zeros((2, 3), np.bool_)] * 2,
        "kinds": ["good", "crack"],
    }
    with pytest.raises(ValueError, match=message):
        evaluate_scores(**{**arguments, **change}, seed=0)  # type: ignore[arg-type]
