"""What decides how the maps are joined was not learned from, nor anything like it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bisqad import calibration
from bisqad.cells import SampleCells
from manifests import Corpus


def cells(corpus: Corpus, mechanisms: dict[str, bool]) -> SampleCells:
    """Two samples of each mechanism, simulated or not."""
    template = corpus[0].record
    records = [
        template.model_copy(update={"mechanism": name, "physical": physical})
        for name, physical in mechanisms.items()
        for _ in range(2)
    ]
    nothing = torch.zeros(len(records), 1)
    return SampleCells(nothing[..., None], nothing, nothing, tuple(records))


def test_of_one_family_each_mechanism_is_scored_by_what_learned_from_the_others(brick_path: Path) -> None:
    samples = cells(Corpus(brick_path), {"fracture": True, "pitting": True, "dent": True})
    assert calibration._unlike(samples) == {
        "dent": {"fracture", "pitting"},
        "fracture": {"dent", "pitting"},
        "pitting": {"dent", "fracture"},
    }


def test_of_two_families_each_is_scored_by_what_learned_from_the_other(brick_path: Path) -> None:
    samples = cells(Corpus(brick_path), {"fracture": True, "pitting": True, "cutpaste": False, "perlin": False})
    assert calibration._unlike(samples) == {
        "cutpaste": {"fracture", "pitting"},
        "perlin": {"fracture", "pitting"},
        "fracture": {"cutpaste", "perlin"},
        "pitting": {"cutpaste", "perlin"},
    }


@pytest.mark.parametrize("physical", [True, False])
def test_of_a_mechanism_alone_nothing_is_left_out(brick_path: Path, physical: bool) -> None:
    assert calibration._unlike(cells(Corpus(brick_path), {"craze": physical})) == {}
