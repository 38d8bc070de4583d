"""The inspection card: that every stage is shown, in its place, pixel for pixel, and the crop holds the defect."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from numpy.typing import NDArray
from PIL import Image

from manifests import Corpus
from manifests.corpus import Sample
from manifests.errors import ConfigError, CorpusError
from pipeline import inspection_card as card
from pipeline.contact_sheet import as_rgb, shown_fields
from pipeline.inspection_card import MOST_CARDS, draw_cards

SIDE, GAP, MARGIN = 256, 8, 28
ROWS = 78 + 26 + 24 + 21  # header, title, facts and label: where the first band's panels begin


@pytest.fixture(scope="module")
def corpus(several: Path) -> Corpus:
    return Corpus(several)


def stages_of(sample: Sample) -> list[NDArray[np.uint8]]:
    """What a card shows at its right end, but for the mask."""
    return [*(as_rgb(picture) for picture in sample.stages.values()), as_rgb(sample.image)]


def panel(sheet: NDArray[np.uint8], column: int, *, row: int = 0) -> NDArray[np.uint8]:
    """A panel of the first band: by column from the left, or from the right if negative; row 1 is enlarged."""
    step = SIDE + GAP
    left = MARGIN + column * step if column >= 0 else sheet.shape[1] - MARGIN + GAP + column * step
    top = ROWS + row * step
    return sheet[top : top + SIDE, left : left + SIDE]


def test_stages_are_shown_whole_pixel_for_pixel(corpus: Corpus) -> None:
    sheet = np.asarray(draw_cards(corpus, [0]))
    pictures = stages_of(corpus[0])
    assert len(pictures) == 4
    for column, picture in zip(range(-5, -1), pictures, strict=True):
        framed = panel(sheet, column)  # 64 x 64 pixels in the middle
        assert_array_equal(framed[96:160, 96:160], picture)
        assert (framed[:96] == framed[0, 0]).all()


def test_enlarged_pixels_are_squares_of_four_and_the_same_part_of_every_stage(corpus: Corpus) -> None:
    sheet = np.asarray(draw_cards(corpus, [0]))
    rows, columns = card._crop(corpus[0], 64)
    for column, picture in zip(range(-5, -1), stages_of(corpus[0]), strict=True):
        expected = picture[rows, columns].repeat(4, axis=0).repeat(4, axis=1)
        assert_array_equal(panel(sheet, column, row=1), expected)


def test_mask_has_a_colour_for_each_defect_and_black_elsewhere(corpus: Corpus) -> None:
    sample = next(s for s in corpus if len(np.unique(s.instances)) > 2)
    sheet = np.asarray(draw_cards(corpus.where(id=sample.record.id), [0]))
    shown = panel(sheet, -1)[96:160, 96:160]
    colours = [np.unique(shown[sample.instances == k], axis=0) for k in np.unique(sample.instances)]
    assert [len(found) for found in colours] == [1] * len(colours)
    assert_array_equal(colours[0], [[0, 0, 0]])
    assert len(np.unique(np.concatenate(colours), axis=0)) == len(colours)


def test_fields_stand_between_photograph_and_stages(corpus: Corpus) -> None:
    for position in range(4):
        sample = corpus[position]
        sheet = np.asarray(draw_cards(corpus, [position]))
        columns = 1 + len(shown_fields(sample)) + 5
        assert sheet.shape[1] == 2 * MARGIN + columns * (SIDE + GAP) - GAP


def test_stages_stand_below_each_other_in_all_bands(corpus: Corpus) -> None:
    few, many = sorted(range(len(corpus)), key=lambda k: len(shown_fields(corpus[k])))[:: len(corpus) - 1]
    assert len(shown_fields(corpus[few])) < len(shown_fields(corpus[many]))
    sheet = np.asarray(draw_cards(corpus, [few, many]))
    assert_array_equal(panel(sheet, -2)[96:160, 96:160], as_rgb(corpus[few].image))
    height = (sheet.shape[0] - 78) // 2
    assert_array_equal(panel(sheet[height:], -2)[96:160, 96:160], as_rgb(corpus[many].image))


# --- the crop ---


def moved(sample: Sample, box: tuple[int, int, int, int], *, size: int = 512) -> Sample:
    """The sample on a larger picture, with its only change in this box."""
    record = sample.record.model_copy(
        update={"bbox_y0": box[0], "bbox_x0": box[1], "bbox_y1": box[2], "bbox_x1": box[3]}
    )
    made = replace(sample, record=record)
    source = np.zeros((size, size, 1), np.uint8)
    image = source.copy()
    image[box[0] : box[2], box[1] : box[3]] = 50
    made.__dict__.update(source=source, image=image, mask=np.where(image[..., 0] > 0, np.uint8(255), np.uint8(0)))
    return made


@pytest.mark.parametrize("box", [(200, 100, 230, 160), (0, 0, 10, 10), (500, 450, 512, 512), (100, 300, 164, 364)])
def test_crop_holds_a_small_defect_whole(box: tuple[int, int, int, int], corpus: Corpus) -> None:
    rows, columns = card._crop(moved(corpus[0], box), 64)
    assert rows.stop - rows.start == columns.stop - columns.start == 64
    assert 0 <= rows.start <= box[0] <= box[2] <= rows.stop <= 512
    assert 0 <= columns.start <= box[1] <= box[3] <= columns.stop <= 512


def test_crop_of_a_large_defect_is_where_most_has_changed(corpus: Corpus) -> None:
    sample = moved(corpus[0], (10, 10, 500, 500))
    sample.image[300:340, 120:170] = 200
    rows, columns = card._crop(sample, 64)
    assert rows.start <= 300 < 340 <= rows.stop
    assert columns.start <= 120 < 170 <= columns.stop


def test_crop_of_a_16_bit_picture_does_not_overflow(corpus: Corpus) -> None:
    sample = moved(corpus[0], (10, 10, 500, 500))
    wide = {name: sample.__dict__[name].astype(np.uint16) * 257 for name in ("source", "image")}
    wide["image"][300:340, 120:170] = 65535
    sample.__dict__.update(wide)
    rows, columns = card._crop(sample, 64)
    assert rows.start <= 300 < 340 <= rows.stop
    assert columns.start <= 120 < 170 <= columns.stop


# --- sizes ---


@pytest.mark.parametrize(("size", "side"), [(64, 256), (256, 256), (384, 384), (512, 512)])
def test_picture_up_to_512_pixels_is_shown_as_it_is(size: int, side: int, rng: np.random.Generator) -> None:
    pixels = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    shown = np.asarray(card._whole(pixels, side))
    start = (side - size) // 2
    assert_array_equal(shown[start : start + size, start : start + size], pixels)


def test_larger_picture_is_reduced_to_its_panel() -> None:
    assert card._whole(np.full((1024, 1024, 3), 90, np.uint8), 512).size == (512, 512)


# --- what is said ---


def test_facts_name_the_sample_its_defects_and_its_photograph(corpus: Corpus) -> None:
    for sample in (corpus[0], corpus[5]):
        band = card._band(sample, card.photographs(corpus))
        title, figures = card._facts(band)
        record = sample.record
        for defect in record.defects:
            assert not defect.instance or defect.mechanism in title
        assert record.id in title
        assert f"severity {record.severity:.2f}" in figures
        assert f"area {100 * record.area_fraction:.2f} %" in figures
        assert f"contrast {record.contrast:.1f} grey levels" in figures
        assert f"residual {record.residual:.1e} after {record.cycles} cycle" in figures
        assert band.source.index == record.source
        assert f"blur {band.source.blur_px:.2f} px" in figures
        assert f"noise {255 * band.source.noise:.1f} grey levels" in figures


@pytest.mark.parametrize("light", [(1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.6, -0.8)])
def test_arrow_points_away_from_the_light(light: tuple[float, float], corpus: Corpus) -> None:
    (source, *_) = card.photographs(corpus).values()
    picture = Image.new("L", (80, 80))
    lit = source.model_copy(update={"light_y": light[0], "light_x": light[1]})
    canvas = Image.new("RGB", picture.size)
    card._draw_light(card.ImageDraw.Draw(canvas), lit, (40, 40))
    drawn = np.argwhere((np.asarray(canvas) == card._MARK).all(axis=2)) - 40
    along = drawn @ np.array(light)
    across = np.abs(drawn @ np.array([-light[1], light[0]]))
    assert across[along < -10].max() > across[along > 5].max() + 3, "the head lies at the far end"


def test_corpus_without_stages_is_refused_with_both_remedies(finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"keeps no stages .* --keep-stages, .* store\.stages"):
        draw_cards(Corpus(finished), [0])


def test_nothing_to_draw_is_an_error(corpus: Corpus) -> None:
    with pytest.raises(CorpusError, match="nothing to draw"):
        draw_cards(corpus, [])


def test_more_cards_than_a_picture_takes_are_refused(corpus: Corpus) -> None:
    with pytest.raises(ConfigError, match=f"--count {MOST_CARDS + 1}: .* {MOST_CARDS} inspection cards at most"):
        draw_cards(corpus, [0] * (MOST_CARDS + 1))
