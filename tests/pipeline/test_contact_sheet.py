"""The contact sheet: which samples are shown, and that what is drawn is theirs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from manifests import Corpus
from manifests.errors import CorpusError
from pipeline.contact_sheet import choose_evenly, draw_sheet


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


def test_filter_that_leaves_nothing_chooses_nothing(corpus: Corpus) -> None:
    assert choose_evenly(corpus.where(category="brick").where(status="invisible"), 5) == []
