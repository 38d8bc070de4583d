"""What corpus.json says of a corpus: counts, figures, and what was asked beside what came out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from manifests.corpus import CorpusInfo, DistributionInfo
from manifests.records import BankRecord, DefectRecord, SampleRecord, SampleStatus, SourceRecord, SourceStatus
from manifests.tables import to_table
from physics.registry import MECHANISMS
from pipeline.finalise import summarise
from pipeline.recipe import Recipe

RECIPE = Recipe.model_validate(
    {
        "mechanisms": {
            "fracture": {
                "severity": {"low": 0.2, "high": 1.0},
                "area": {"kind": "loguniform", "low": 0.001, "high": 0.1},
                "width": {"low": 0.01, "high": 0.02},
            },
            "pitting": {"area": {"low": 0.02, "high": 0.04}, "severity": {"low": 0.5, "high": 0.5}},
        }
    }
)


def defect(number: int, mechanism: str, status: SampleStatus, **figures: float) -> DefectRecord:
    return DefectRecord(
        mechanism=mechanism, trajectory=0, snapshot=0, dihedral=0, angle_deg=0.0, from_edge=False, anchor_y=0.5,
        anchor_x=0.5, asked_area=0.01, asked_severity=0.5, width=figures.get("width", 0.0), status=status, attempts=1,
        extent=0.5, center_y=0.5, center_x=0.5, severity=figures.get("severity", 0.5), length_px=9.0, relief_px=0.5,
        residual=1e-4, cycles=7, area_px=int(figures.get("area_px", 100)), area_fraction=figures.get("area", 0.03),
        contrast=20.0, visibility=2.0, bbox_y0=0, bbox_x0=0, bbox_y1=2, bbox_x1=3,
        instance=number if status is SampleStatus.OK else 0, window_y=0, window_x=0, window_side=48,
    )  # fmt: skip


def sample_of(index: int, defects: Sequence[DefectRecord], **counts: int) -> SampleRecord:
    """A sample with these defects; its own columns are those of the first that is there."""
    present = [row for row in defects if row.instance]
    leading = (present or list(defects))[0]
    shared = {name: getattr(leading, name) for name in DefectRecord.model_fields if name in SampleRecord.model_fields}
    own = {
        "id": f"{index:016x}", "index": index, "dataset": "made", "category": "brick" if index % 2 else "tile",
        "shard": 0, "row": index, "source": 0, "source_sha256": "", "group": 0, "seed_path": "0/SAMPLE/0",
        "faint_px": 0, "unlabelled_px": 0, "unseen_px": 0, "outside_px": 0, "off_part_px": 0, "touching_px": 0,
        "area_px": sum(row.area_px for row in present), "defects": tuple(defects), "image_sha256": "",
        "mask_sha256": "",
    }  # fmt: skip
    return SampleRecord.model_validate(shared | own | counts)


def sample(index: int, mechanism: str, *, ok: bool = True, **figures: float) -> SampleRecord:
    return sample_of(index, [defect(1, mechanism, SampleStatus.OK if ok else SampleStatus.INVISIBLE, **figures)])


def photograph(index: int, status: SourceStatus, licence: str = "CC0") -> SourceRecord:
    return SourceRecord(
        dataset="made", category="brick", path=f"{index}.png", sha256="", bytes=9, width_px=16, height_px=16,
        channels=1, bit_depth=8, licence=licence, status=status, index=index,
    )  # fmt: skip


def trajectory(number: int, mechanism: str) -> BankRecord:
    return BankRecord(
        trajectory=number, mechanism=mechanism, group=0, from_edge=False, seed_path="", severity=(1.0,), area=(0.1,),
        facts={},
    )  # fmt: skip


def summary(samples: Sequence[SampleRecord]) -> CorpusInfo:
    return summarise(RECIPE, sources=[], bank=[], samples=tables_of(samples))


def tables_of(samples: Sequence[SampleRecord]) -> list[pa.Table]:
    """As they come from shards of three."""
    return [to_table(samples[k : k + 3], SampleRecord) for k in range(0, len(samples), 3)]


def row_of(info: CorpusInfo, mechanism: str, quantity: str) -> DistributionInfo:
    (found,) = [row for row in info.distributions if (row.mechanism, row.quantity) == (mechanism, quantity)]
    return found


def test_counts_are_those_of_the_records() -> None:
    samples = [sample(k, "fracture" if k < 5 else "pitting", ok=k != 3) for k in range(7)]
    sources = [
        photograph(0, SourceStatus.OK),
        photograph(1, SourceStatus.OK, "CC BY"),
        photograph(-1, SourceStatus.EMPTY),
    ]
    bank = [trajectory(k, "fracture") for k in range(3)] + [trajectory(k, "pitting") for k in range(2)]
    info = summarise(RECIPE, sources=sources, bank=bank, samples=tables_of(samples))
    counts = info.counts
    assert counts.total == 7
    assert counts.by_status == {"ok": 6, "invisible": 1}
    assert counts.by_category == {"made/tile": {"ok": 4}, "made/brick": {"ok": 2, "invisible": 1}}
    assert counts.by_mechanism == {"fracture": 5, "pitting": 2}
    assert counts.sources == {"ok": 2, "empty": 1}
    assert counts.trajectories == {"fracture": 3, "pitting": 2}
    assert [(entry.licence, entry.sources) for entry in info.licences] == [("CC0", 1), ("CC BY", 1)]


def test_defects_are_counted_where_they_are_and_samples_by_the_first_that_was_planned() -> None:
    ok, crowded, below = SampleStatus.OK, SampleStatus.CROWDED, SampleStatus.AREA_BELOW
    counts = summary(
        [
            sample_of(0, [defect(1, "fracture", ok), defect(2, "pitting", ok), defect(3, "pitting", crowded)]),
            sample_of(1, [defect(1, "fracture", below), defect(2, "pitting", ok)]),  # its columns are the pit's
            sample_of(2, [defect(1, "pitting", below)]),
        ]
    ).counts
    assert counts.by_mechanism == {"fracture": 2, "pitting": 1}
    assert counts.defects == {"fracture": 1, "pitting": 2}
    assert counts.by_status == {"ok": 2, "area_below": 1}


def test_distributions_are_those_of_all_defects_that_are_there() -> None:
    ok, crowded = SampleStatus.OK, SampleStatus.CROWDED
    info = summary(
        [
            sample_of(0, [defect(1, "fracture", ok, area=0.01), defect(2, "pitting", ok, area=0.02)]),
            sample_of(1, [defect(1, "pitting", ok, area=0.04), defect(2, "pitting", crowded, area=0.5)]),
        ]
    )
    area = row_of(info, "pitting", "area")
    assert (area.samples, area.got[0], area.got[-1]) == (2, pytest.approx(0.021), pytest.approx(0.039))
    assert row_of(info, "fracture", "area").got == [0.01] * 5


def test_invariants_are_the_sums_of_the_records() -> None:
    ok = SampleStatus.OK
    area_px = round(0.03 * RECIPE.size**2)
    two = [defect(number, "pitting", ok, area_px=area_px) for number in (1, 2)]
    info = summary(
        [
            sample_of(0, two[:1], faint_px=100, unlabelled_px=1, outside_px=4),
            sample_of(1, two, faint_px=200, unseen_px=2, off_part_px=5, touching_px=7),
            sample_of(2, [defect(1, "pitting", SampleStatus.INVISIBLE)]),
            sample_of(3, [defect(1, "pitting", ok, area_px=0)]),
            sample_of(4, two, touching_px=3),
        ]
    ).invariants
    assert info.model_dump() == {
        "samples": 5, "mask_px": 5 * area_px, "changed_outside_support_px": 4, "unlabelled_px": 1, "unseen_px": 2,
        "off_part_px": 5, "faint_px": 300, "faint_share": 300 / (5 * area_px), "empty_masks": 1, "out_of_bounds": 1,
        "instances_touching": 2,
    }  # fmt: skip
    assert summary([]).invariants.faint_share == 0.0


@pytest.mark.parametrize(
    ("shares", "outside"),
    [([0.2], 0), ([0.26], 1), ([1e-4], 1), ([0.1, 0.1], 0), ([0.1, 1e-4], 1), ([0.15, 0.15], 1)],
)
def test_area_is_bounded_for_each_defect_and_from_above_for_all_together(shares: list[float], outside: int) -> None:
    """Between 2e-4 and 0.25 of the picture."""
    defects = [
        defect(k, "pitting", SampleStatus.OK, area_px=round(share * RECIPE.size**2))
        for k, share in enumerate(shares, 1)
    ]
    assert summary([sample_of(0, defects)]).invariants.out_of_bounds == outside


def test_mechanisms_that_take_part_are_told_with_their_fields_and_no_others() -> None:
    info = summary([])
    assert list(info.mechanisms) == ["fracture", "pitting"]
    for name, told in info.mechanisms.items():
        known = MECHANISMS[name]
        assert (told.title, told.summary, told.fields) == (known.title, known.summary, list(known.fields))
        assert told.physical == known.physical


def test_every_distribution_of_the_recipe_is_compared_and_width_only_of_what_opens() -> None:
    found = [(row.mechanism, row.quantity, row.unit) for row in summary([]).distributions]
    assert found == [
        ("fracture", "area", "1"),
        ("fracture", "severity", "1"),
        ("fracture", "width", "1"),
        ("pitting", "area", "1"),
        ("pitting", "severity", "1"),
    ]


def test_policy_is_part_of_what_was_asked() -> None:
    policy = {"corpus": "last", "samples": 9, "mechanisms": {"pitting": {"area": [2, 2, 1, 3]}}}
    recipe = Recipe.model_validate({**RECIPE.model_dump(mode="json"), "policy": policy})
    as_asked = [recipe.asked_area("pitting").quantile((k + 0.5) / 400) for k in range(400)]
    samples = [sample(k, "pitting", area=area) for k, area in enumerate(as_asked)]
    area = row_of(summarise(recipe, sources=[], bank=[], samples=tables_of(samples)), "pitting", "area")
    assert area.distance == pytest.approx(0.5 / 400)
    np.testing.assert_allclose(area.asked[2], 0.02 + 0.02 * 0.5)  # 2 + 2 of 8 lie below the second quarter's end
    np.testing.assert_allclose(area.asked, area.got, rtol=0.01)


def test_without_samples_nothing_was_got() -> None:
    for row in summary([sample(0, "pitting", ok=False)]).distributions:
        assert (row.got, row.samples, row.distance) == ([], 0, 0.0)
        assert len(row.asked) == 5


def test_asked_quantiles_are_those_of_the_recipe() -> None:
    info = summary([])
    assert row_of(info, "fracture", "severity").asked == pytest.approx([0.24, 0.4, 0.6, 0.8, 0.96])
    assert row_of(info, "fracture", "area").asked == pytest.approx(
        [1e-3 * 100**share for share in (0.05, 0.25, 0.5, 0.75, 0.95)]
    )
    assert row_of(info, "pitting", "severity").asked == [0.5] * 5


def test_got_are_the_quantiles_of_a_mechanisms_own_accepted_samples() -> None:
    samples = [sample(k, "pitting", area=0.02 + 0.001 * k) for k in range(21)]
    samples += [sample(100 + k, "fracture", area=0.5, severity=1.0, width=0.015) for k in range(4)]
    samples += [sample(200, "pitting", ok=False, area=0.9)]
    info = summary(samples)
    area = row_of(info, "pitting", "area")
    assert area.samples == 21
    assert area.got == pytest.approx([0.021, 0.025, 0.03, 0.035, 0.039])
    assert area.distance == pytest.approx(1 / 21), "20 steps of 1/20 against 21 of 1/21"
    width = row_of(info, "fracture", "width")
    assert (width.samples, width.got, width.distance) == (4, [0.015] * 5, pytest.approx(0.5))


@pytest.mark.parametrize(
    ("areas", "expected"),
    [
        ([0.03], 0.5),
        ([0.025, 0.035], 0.25),
        ([0.02] * 3, 1.0),
        ([0.04] * 3, 1.0),
        ([0.001, 0.5], 0.5),
        ([0.9] * 4, 1.0),
        (list(0.02 + 0.02 * (np.arange(50) + 0.5) / 50), 0.01),
    ],
)
def test_distance_of_known_samples(areas: list[float], expected: float) -> None:
    info = summary([sample(k, "pitting", area=area) for k, area in enumerate(areas)])
    assert row_of(info, "pitting", "area").distance == pytest.approx(expected)


@pytest.mark.parametrize(
    ("severity", "expected"), [([0.5, 0.5, 0.5], 0.0), ([0.5, 0.6], 0.5), ([0.4], 1.0), ([0.6], 1.0)]
)
def test_distance_from_a_distribution_of_one_point_is_the_share_that_misses_it(
    severity: list[float], expected: float
) -> None:
    info = summary([sample(k, "pitting", severity=value) for k, value in enumerate(severity)])
    assert row_of(info, "pitting", "severity").distance == pytest.approx(expected)


@given(st.lists(st.floats(1e-4, 0.2), min_size=1, max_size=30))
def test_distance_is_that_of_kolmogorov_and_smirnov(areas: list[float]) -> None:
    info = summary([sample(k, "fracture", area=area) for k, area in enumerate(areas)])
    reference = stats.kstest(areas, stats.loguniform(0.001, 0.1).cdf).statistic
    assert row_of(info, "fracture", "area").distance == pytest.approx(reference, abs=1e-9)


def test_figures_are_spread_over_accepted_samples_alone() -> None:
    samples = [sample(k, "fracture", area=0.01 * (k + 1)) for k in range(11)]
    spread = summary([*samples, sample(50, "fracture", ok=False, area=0.9)]).statistics["area_fraction"]
    found = (spread.least, spread.p05, spread.median, spread.mean, spread.p95, spread.most)
    assert found == pytest.approx((0.01, 0.015, 0.06, 0.06, 0.105, 0.11))
    assert summary([]).statistics["relief_px"].most == 0.0
