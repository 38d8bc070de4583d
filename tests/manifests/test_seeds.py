"""Random streams: named by position, independent, and fixed for ever."""

from __future__ import annotations

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from manifests.seeds import Stage, name_key, seed_path, stream
from physics.registry import MECHANISMS

PLACES = st.tuples(
    st.integers(0, 2**63 - 1),
    st.sampled_from(list(Stage)),
    st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=3).map(tuple),
)


def numbers(seed: int, stage: Stage, *position: int) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
    return stream(seed, stage, *position).integers(0, 2**64, size=4, dtype=np.uint64)


def test_stage_numbers_never_change() -> None:
    numbers_by_name = {"BUILTIN": 1, "PLAN": 2, "BANK": 3, "SAMPLE": 4, "ROUGHNESS": 5, "NOISE": 6}
    assert {stage.name: int(stage) for stage in Stage} == numbers_by_name


def test_stream_is_numpys_own_for_this_spawn_key() -> None:
    sequence = np.random.SeedSequence(7, spawn_key=(4, 12, 0))
    expected = np.random.Generator(np.random.PCG64(sequence)).standard_normal(8)
    assert_array_equal(stream(7, Stage.SAMPLE, 12, 0).standard_normal(8), expected)


@given(PLACES)
def test_stream_starts_anew_at_every_call(place: tuple[int, Stage, tuple[int, ...]]) -> None:
    seed, stage, position = place
    assert_array_equal(numbers(seed, stage, *position), numbers(seed, stage, *position))


@given(PLACES, PLACES)
def test_two_places_have_two_streams(
    one: tuple[int, Stage, tuple[int, ...]], other: tuple[int, Stage, tuple[int, ...]]
) -> None:
    same = np.array_equal(numbers(one[0], one[1], *one[2]), numbers(other[0], other[1], *other[2]))
    assert same == (one == other)


def test_neighbouring_places_differ_in_every_coordinate() -> None:
    places: list[tuple[int, Stage, tuple[int, ...]]] = [
        (0, Stage.SAMPLE, (0,)),
        (1, Stage.SAMPLE, (0,)),
        (0, Stage.BANK, (0,)),
        (0, Stage.SAMPLE, (1,)),
        (0, Stage.SAMPLE, (0, 0)),
        (0, Stage.SAMPLE, (0, 1)),
        (0, Stage.SAMPLE, (1, 0)),
        (0, Stage.SAMPLE, ()),
    ]
    drawn = {numbers(seed, stage, *position).tobytes() for seed, stage, position in places}
    assert len(drawn) == len(places)


def test_seed_0_is_a_seed_and_repeats() -> None:
    assert_array_equal(numbers(0, Stage.PLAN), numbers(0, Stage.PLAN))


def test_streams_of_neighbours_are_uncorrelated() -> None:
    draws = np.stack([stream(0, Stage.SAMPLE, i).standard_normal(4096) for i in range(16)])
    correlation = np.corrcoef(draws) - np.eye(16)
    # 120 pairs of 4,096 normal numbers: 5 standard errors are passed by chance once in 14,000 sets.
    assert np.abs(correlation).max() < 5 / np.sqrt(4096)


@pytest.mark.parametrize("place", [(-1, 0), (0, -1)])
def test_negative_seed_or_position_is_refused(place: tuple[int, int]) -> None:
    seed, index = place
    with pytest.raises(ValueError, match="negative"):
        stream(seed, Stage.SAMPLE, index)


def test_global_generator_is_left_alone() -> None:
    np.random.seed(5)  # noqa: NPY002 - the global generator is the subject
    expected = np.random.random(3)  # noqa: NPY002
    np.random.seed(5)  # noqa: NPY002
    stream(5, Stage.SAMPLE, 1).random(100)
    assert_array_equal(np.random.random(3), expected)  # noqa: NPY002


def test_seed_path_spells_out_the_place() -> None:
    assert seed_path(7, Stage.SAMPLE, 12, 0) == "7/SAMPLE/12/0"
    assert seed_path(0, Stage.PLAN) == "0/PLAN"


def test_key_of_a_name_never_changes() -> None:
    """CRC-32 check value as published by Ross Williams, and the names that corpora already hold."""
    assert name_key("123456789") == 0xCBF43926
    assert (name_key("fracture"), name_key("pitting")) == (zlib.crc32(b"fracture"), zlib.crc32(b"pitting"))


@given(st.text())
def test_key_of_a_name_is_a_place_in_a_stream(name: str) -> None:
    assert 0 <= name_key(name) < 2**32
    stream(0, Stage.BANK, name_key(name), 0)


def test_mechanisms_have_keys_of_their_own() -> None:
    assert len({name_key(name) for name in MECHANISMS}) == len(MECHANISMS)
