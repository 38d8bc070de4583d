"""From two maps to one score."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from torch import Tensor

from bisqad import fusion
from bisqad.fusion import Fusion, HeldOutMaps, choose_fusion
from bisqad.profile import BorderProfile

SIDE = 24
PLAIN = BorderProfile((0.0,) * 13, (1.0,) * 13)


def _maps(rng: np.random.Generator, *, head: float, distance: float, name: str = "fracture") -> HeldOutMaps:
    """15 normals and 15 samples; the two sorts of maps are by so many spreads higher on the defect."""
    labels = []
    for k in range(30):
        label = torch.zeros(SIDE, SIDE, dtype=torch.bool)
        if k >= 15:
            y, x = rng.integers(2, SIDE - 8, 2)
            label[y : y + 5, x : x + 5] = True
        labels.append(label)
    noise = torch.from_numpy(rng.normal(size=(2, 30, SIDE, SIDE)).astype(np.float32))
    heads, distances = ([noise[n, k] + by * labels[k] for k in range(30)] for n, by in enumerate((head, distance)))
    return HeldOutMaps(name, heads, distances, labels)


def _chosen(*held_out: HeldOutMaps) -> Fusion:
    return choose_fusion(held_out, head=PLAIN, distance=PLAIN)


def test_the_share_is_1_where_only_the_head_tells_defects_from_normals(rng: np.random.Generator) -> None:
    found = _chosen(_maps(rng, head=1.2, distance=-1.0))
    assert (found.map_share, found.image_share) == (1.0, 1.0)


def test_the_share_is_0_where_only_the_distance_tells_defects_from_normals(rng: np.random.Generator) -> None:
    """The head is loud, but in specks on sound parts."""
    maps = _maps(rng, head=0.0, distance=1.2)
    specks = [9.0 * (torch.from_numpy(rng.random((SIDE, SIDE))) < 0.03) for _ in maps.head]
    parts = zip(maps.head, specks, maps.labels, strict=True)
    heads = [head if label.any() else head + speck for head, speck, label in parts]
    found = _chosen(replace(maps, head=heads))
    assert (found.map_share, found.image_share) == (0.0, 0.0)


def test_a_head_that_falls_silent_on_defects_does_no_harm(rng: np.random.Generator) -> None:
    maps = _maps(rng, head=-1.0, distance=1.2)
    found, without = _chosen(maps), _chosen(replace(maps, head=[torch.zeros(SIDE, SIDE)] * 30))
    assert found.map_share == 0.0
    assert found.pixel_ap >= without.pixel_ap
    assert found.image_auroc >= without.image_auroc


def test_a_head_that_is_silent_takes_nothing_from_what_is_far_from_normal() -> None:
    head, distance = torch.zeros(2, 10, 12)
    distance[4, 5] = 30.0
    loud, silent = _fusion(), _fusion()
    calm = loud.score_map(head + 1, distance) - loud.score_map(head + 1, distance * 0)
    hushed = silent.score_map(head - 9, distance) - silent.score_map(head - 9, distance * 0)
    assert_allclose(hushed.numpy(), calm.numpy(), atol=1e-5)
    least, far = 0.25 * 0.05 * (-10 / 2 - 2), in_company((distance - 3) / 0.5)
    assert float(silent.score_map(head - 9, distance)[0, 0]) == pytest.approx(least + 0.75 * far[0, 0], abs=1e-5)


def spoken(head: Tensor) -> Tensor:
    """What counts of a head, in spreads of normals: the whole of what is above two, a twentieth of the rest."""
    return torch.where(head > 2, head - 2, 0.05 * (head - 2))


def in_company(distance: Tensor) -> NDArray[np.float64]:
    """Each cell, twice the mean of the 33 x 33 about it as far as there are any, and the mean of all."""
    values = distance.double().numpy()
    found = np.empty_like(values)
    for y, x in np.ndindex(values.shape):
        around = values[max(0, y - 16) : y + 17, max(0, x - 16) : x + 17]
        found[y, x] = values[y, x] + 2 * around.mean() + values.mean()
    return found


def test_a_weak_flaw_that_fills_half_a_picture_stands_out_of_the_map_more_than_single_cells_do() -> None:
    rng = np.random.default_rng(4)
    distance = torch.from_numpy(rng.normal(3.0, 0.5, (64, 64)).astype(np.float32))
    distance[:, 32:] += 0.4
    found = _fusion(map_share=0.0).score_map(torch.zeros(64, 64), distance)
    alone = BorderProfile((3.0,) * 13, (0.5,) * 13).standardised(distance)
    apart = [float((m[:, 32:].mean() - m[:, :32].mean()) / m[:, :32].std()) for m in (found, alone)]
    assert apart[0] > 1.3 * apart[1]
    assert float(found[:, :32].mean()) > float(alone[:, :32].mean())  # the picture as a whole is suspect


def test_two_maps_that_tell_the_same_are_mixed_evenly(rng: np.random.Generator) -> None:
    found = _chosen(_maps(rng, head=1.0, distance=1.0))
    assert 0.3 <= found.map_share <= 0.7


def test_where_all_mixtures_do_equally_well_the_even_one_is_chosen(rng: np.random.Generator) -> None:
    found = _chosen(_maps(rng, head=40.0, distance=40.0))
    assert (found.map_share, found.image_share) == (0.5, 0.5)
    assert (found.pixel_ap, found.image_auroc) == pytest.approx((1.0, 1.0))


def test_figures_are_means_over_mechanisms(rng: np.random.Generator) -> None:
    easy, hard = _maps(rng, head=40, distance=40), _maps(rng, head=0.3, distance=0.3, name="pitting")
    both, alone = _chosen(easy, hard), _chosen(hard)
    assert both.pixel_ap == pytest.approx((1 + alone.pixel_ap) / 2, abs=0.02)


def test_maps_are_measured_by_their_normals_alone(rng: np.random.Generator) -> None:
    maps = _maps(rng, head=5, distance=5)
    shifted = replace(maps, head=[3 + 7 * one for one in maps.head])
    for first, second in zip(maps.standardised()[0], shifted.standardised()[0], strict=True):
        assert_allclose(first.numpy(), second.numpy(), atol=1e-4)
    sound = torch.stack(maps.standardised()[1][:15])
    assert float(sound.mean()) == pytest.approx(0, abs=1e-5)


def _fusion(**changes: float) -> Fusion:
    values = {"map_share": 0.25, "image_share": 0.75, "highest": 0.0, "image_auroc": 0.9, "pixel_ap": 0.4}
    head = BorderProfile((1.0,) * 13, (2.0,) * 13)
    return Fusion(head=head, distance=BorderProfile((3.0,) * 13, (0.5,) * 13), **{**values, **changes})


def _pair() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(2)
    head, distance = torch.from_numpy(rng.normal(size=(2, 10, 12)))
    return 4 * head, distance  # on both sides of what counts


def test_maps_are_mixed_in_spreads_of_normals() -> None:
    head, distance = _pair()
    wanted = 0.25 * spoken((head - 1) / 2).numpy() + 0.75 * in_company((distance - 3) / 0.5)
    assert_allclose(_fusion().score_map(head, distance).numpy(), wanted)


def test_surroundings_are_33_cells_a_side_as_far_as_the_picture_goes() -> None:
    distance = torch.from_numpy(np.random.default_rng(8).normal(3.0, 0.5, (40, 50)))
    found = _fusion(map_share=0.0).score_map(torch.zeros(40, 50), distance)
    assert_allclose(found.numpy(), in_company((distance - 3) / 0.5), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("highest", "cells"), [(0.0, 1), (0.001, 1), (0.1, 12)])
def test_a_picture_scores_the_mean_of_its_highest_cells(highest: float, cells: int) -> None:
    head, distance = _pair()
    mixed = 0.75 * spoken((head - 1) / 2) + 0.25 * (distance - 3) / 0.5
    wanted = np.sort(mixed.numpy().ravel())[-cells:].mean()
    assert _fusion(highest=highest).image_score(head, distance) == pytest.approx(wanted)


def test_a_way_through_json_changes_nothing(rng: np.random.Generator) -> None:
    found = _chosen(_maps(rng, head=1.0, distance=0.5))
    assert Fusion.from_json(json.loads(json.dumps(asdict(found)))) == found


@pytest.mark.parametrize("missing", ["head", "highest"])
def test_json_without_a_part_is_refused(missing: str) -> None:
    values = asdict(_fusion())
    del values[missing]
    with pytest.raises(KeyError):
        Fusion.from_json(values)


def test_of_choices_no_worse_than_chance_all_are_kept_and_of_others_none() -> None:
    reached = {
        "best": np.array([0.90, 0.80, 0.85, 0.95]),
        "as good": np.array([0.95, 0.70, 0.90, 0.93]),  # better here, worse there
        "a little worse everywhere": np.array([0.89, 0.79, 0.84, 0.94]),
        "poor": np.array([0.60, 0.55, 0.50, 0.58]),
    }
    assert fusion._as_good_as_the_best(reached) == ["best", "as good"]


def test_of_one_mechanism_the_best_choice_alone_is_kept() -> None:
    assert fusion._as_good_as_the_best({0.1: np.array([0.8]), 0.5: np.array([0.79])}) == [0.1]
