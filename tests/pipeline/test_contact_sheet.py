"""The contact sheet: which samples are shown, and that what is drawn is theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manifests import Corpus
from manifests.errors import CorpusError
from pipeline.contact_sheet import as_rgb, choose_evenly, coloured, draw_sheet, scale_ends


@pytest.fixture(scope="module")
def corpus(finished: Path) -> Corpus:
    return Corpus(finished)


@pytest.mark.parametrize("count", [1, 2, 3, 7, 23, 24, 100])
def test_samples_are_spread_over_categories(count: int, corpus: Corpus) -> None:
    chosen = choose_evenly(corpus, count)
    assert len(chosen) == len(set(chosen)) == min(count, 24)
    assert chosen == sorted(chosen)
    by_category = [sum(corpus[k].record.category == name for k in chosen) for name in ("brick", "hex_nut")]
    assert abs(by_category[0] - by_category[1]) <= 1


def test_small_category_leaves_its_share_to_the_others(corpus: Corpus) -> None:
    uneven = corpus[10:]  # 2 of one category, 12 of the other
    assert len(choose_evenly(uneven, 10)) == 10


def test_every_sample_has_five_panels(corpus: Corpus) -> None:
    one = draw_sheet(corpus, [0])
    assert one.width > 5 * 170
    assert draw_sheet(corpus, [0, 1, 2]).height > 3 * 170
    assert draw_sheet(corpus, list(range(24))).width > 10 * 170


def test_picture_shows_source_and_image_side_by_side(corpus: Corpus) -> None:
    sheet = np.asarray(draw_sheet(corpus, [0])).astype(float)
    top, left, thumb, step = 64, 24, 176, 182
    source, image, mask = (sheet[top : top + thumb, left + k * step : left + k * step + thumb] for k in range(3))
    assert source.mean() == pytest.approx(corpus[0].source.mean(), abs=1.5)
    assert np.abs(image - source).max() > 8
    white = (mask > 128).mean()
    assert white == pytest.approx(corpus[0].record.area_fraction, rel=0.2)


def test_nothing_to_draw_is_an_error(corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match="nothing to draw"):
        draw_sheet(corpus, [])


def test_16_bit_picture_is_shown_as_its_8_bit_one(rng: np.random.Generator) -> None:
    grey, colour = (rng.integers(0, 256, (8, 9, channels), dtype=np.uint8) for channels in (1, 3))
    np.testing.assert_array_equal(as_rgb(grey.astype(np.uint16) * 257), as_rgb(grey))
    np.testing.assert_array_equal(as_rgb(colour.astype(np.uint16) * 257), colour)
    np.testing.assert_array_equal(as_rgb(grey), np.repeat(grey, 3, axis=2))


def test_colours_of_a_field_grow_lighter_from_zero_to_both_signs() -> None:
    shown = coloured(np.linspace(-2.0, 2.0, 101)[None]).astype(int)[0]
    lightness = shown @ [0.2126, 0.7152, 0.0722]
    assert np.argmin(lightness) == 50
    assert (np.diff(lightness[50:]) >= 0).all()
    assert (np.diff(lightness[:51]) <= 0).all()
    assert (shown[:40, 2] > shown[:40, 0]).all(), "blue below zero"
    assert (shown[66:, 0] > shown[66:, 2]).all(), "red and yellow above, but for the first violet"


def test_colour_of_zero_does_not_depend_on_the_other_values() -> None:
    zeros = [coloured(np.array([[0.0, value]]))[0, 0] for value in (0.0, 1e-3, 5.0, -5.0)]
    np.testing.assert_array_equal(zeros, np.repeat(zeros[:1], 4, axis=0))


def test_scale_of_a_field_holds_zero() -> None:
    assert scale_ends(np.array([[0.5, 2.0]])) == (0.0, 2.0)
    assert scale_ends(np.array([[-0.5, 2.0]])) == (-0.5, 2.0)
    assert scale_ends(np.array([[-0.5, -0.25]])) == (-0.5, 0.0)


def test_filter_that_leaves_nothing_chooses_nothing(corpus: Corpus) -> None:
    assert choose_evenly(corpus.where(category="brick").where(status="invisible"), 5) == []
