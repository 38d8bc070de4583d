"""The pages of a report in a real browser, opened from disk: what is seen is what the corpus holds."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from PIL import Image

from manifests import Corpus, layout
from manifests.records import SourceRecord
from manifests.tables import from_table, read_table
from tests.pipeline.report.browser import Browser

READY = "document.documentElement.dataset.ready === '1'"
DRAWN = "[...document.querySelectorAll('.cell')].every(cell => cell.dataset.drawn)"
LOADED = "document.getElementById('detail').getAttribute('aria-busy') === 'false'"


@pytest.fixture(scope="module")
def corpus(several: Path) -> Corpus:
    return Corpus(several, statuses=None)


@pytest.fixture
def gallery(browser: Browser, pages: Path) -> Browser:
    browser.open(pages / "gallery.html")
    browser.wait(READY)
    browser.wait(DRAWN)
    return browser


def shown(browser: Browser) -> list[int]:
    """Numbers of the samples in the grid, in the order of the page."""
    return [int(k) for k in browser.run("[...document.querySelectorAll('.cell')].map(cell => cell.dataset.sample)")]


def choose(browser: Browser, name: str, value: str) -> None:
    """Set a control of the filters as a user does."""
    browser.run(
        f"(() => {{ const control = document.forms[0].elements[{name!r}]; control.value = {value!r};"
        "control.dispatchEvent(new Event('input', {bubbles: true})); })()"
    )


def open_sample(browser: Browser, number: int) -> None:
    browser.run(f"document.querySelector('.cell[data-sample=\"{number}\"]').click()")
    browser.wait(LOADED)


def pixels(picture: bytes) -> NDArray[np.float64]:
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB"), dtype=np.float64)


def stage_of(browser: Browser) -> NDArray[np.float64]:
    """What is seen of the picture in the detail."""
    browser.run("document.querySelectorAll('#d-stage img').forEach(image => image.decode())")
    browser.wait("[...document.querySelectorAll('#d-stage img')].every(image => image.complete)")
    browser.run("new Promise(done => setTimeout(done, 250))")  # the mask fades in
    box = browser.run(
        "(b => [b.left, b.top, b.right, b.bottom])(document.getElementById('d-stage').getBoundingClientRect())"
    )
    left, top, right, bottom = (round(v) for v in box)
    return pixels(browser.screenshot())[top + 4 : bottom - 4, left + 4 : right - 4]


def detailed_number(browser: Browser) -> int:
    """A sample that has all its pictures, and a defect."""
    return int(
        browser.run(
            "(async () => { for (const cell of document.querySelectorAll('.cell:not(.failed)')) { cell.click();"
            f"while (!({LOADED})) await new Promise(r => setTimeout(r, 10));"
            "const all = !document.getElementById('d-tools').hidden; document.getElementById('detail').close();"
            "if (all) return Number(cell.dataset.sample); } })()"
        )
    )


@pytest.mark.parametrize("name", ["index.html", "gallery.html"])
@pytest.mark.parametrize(("width", "phone"), [(1360, False), (390, True)])
def test_page_opens_from_disk_without_complaint_and_fits(
    browser: Browser, pages: Path, name: str, width: int, phone: bool
) -> None:
    browser.look_as(width, 844, phone=phone)
    browser.open(pages / name)
    if name == "gallery.html":
        browser.wait(READY)
        browser.wait(DRAWN)
    assert browser.complaints() == []
    assert {url.split(":")[0] for url in browser.requested()} <= {"file", "about", "data"}
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert pixels(browser.screenshot()).std() > 20


def test_gallery_shows_every_sample_as_it_is(gallery: Browser, corpus: Corpus) -> None:
    assert shown(gallery) == list(range(24))
    assert "24 samples" in gallery.run("document.getElementById('tally').textContent")
    screen = pixels(gallery.screenshot())
    for number in (0, 9):
        box = gallery.run(
            f"(b => [b.left, b.top, b.width])(document.querySelector('[data-sample=\"{number}\"] canvas')"
            ".getBoundingClientRect())"
        )
        left, top, side = (round(v) for v in box)
        seen = Image.fromarray(screen[top : top + side, left : left + side].astype(np.uint8)).resize((64, 64))
        expected = np.broadcast_to(corpus[number].image, (64, 64, 3)).astype(np.float64)
        inside = slice(6, 58)  # the corners are round
        difference = np.asarray(seen, dtype=np.float64)[inside, inside] - expected[inside, inside]
        assert np.abs(difference).mean() < 8


def has(mechanism: str) -> Callable[[Any], bool]:
    """A defect of it is in the picture, or was the first planned of one without any."""
    return lambda r: mechanism in ({d.mechanism for d in r.defects if d.instance} or {r.mechanism})


@pytest.mark.parametrize(
    ("control", "value", "kept"),
    [
        ("mechanism", "pitting", has("pitting")),
        ("mechanism", "fracture", has("fracture")),
        ("category", "builtin/brick", lambda record: record.category == "brick"),
        ("status", "ok", lambda record: record.status == "ok"),
    ],
)
def test_filter_leaves_what_the_manifest_says(
    gallery: Browser, corpus: Corpus, control: str, value: str, kept: Callable[[Any], bool]
) -> None:
    choose(gallery, control, value)
    assert shown(gallery) == [sample.record.index for sample in corpus if kept(sample.record)]


@pytest.mark.parametrize("name", ["severity", "sqe"])
@pytest.mark.parametrize("end", ["from", "to"])
def test_range_leaves_what_lies_within(gallery: Browser, corpus: Corpus, name: str, end: str) -> None:
    values = np.round(np.array(corpus.table[name].to_pylist()), 4)
    bound = int(100 * np.median(values))
    choose(gallery, f"{name}-{end}", str(bound))
    within = values >= bound / 100 if end == "from" else values <= bound / 100
    assert 0 < within.sum() < 24
    assert shown(gallery) == np.flatnonzero(within).tolist()


def test_filter_survives_in_the_address(gallery: Browser, pages: Path) -> None:
    choose(gallery, "mechanism", "pitting")
    choose(gallery, "sort", "-sqe")
    before = shown(gallery)
    fragment = gallery.run("location.hash")
    gallery.open(pages / "gallery.html", fragment)
    gallery.wait(READY)
    assert shown(gallery) == before
    assert before != sorted(before)


@pytest.mark.parametrize(
    ("sort", "column", "sign"), [("-sqe", "sqe", -1), ("sqe", "sqe", 1), ("-area", "area_fraction", -1)]
)
def test_sorting_sorts(gallery: Browser, corpus: Corpus, sort: str, column: str, sign: int) -> None:
    choose(gallery, "sort", sort)
    values = np.array(corpus.table[column].to_pylist())
    seen = sign * np.round(values[shown(gallery)], 4)
    assert (np.diff(seen) >= 0).all()
    assert sorted(shown(gallery)) == list(range(24))


def test_outlines_are_drawn_over_the_thumbnails(gallery: Browser) -> None:
    plain = pixels(gallery.screenshot())
    gallery.run("document.forms[0].elements.outlines.click()")
    gallery.wait(DRAWN)
    outlined = pixels(gallery.screenshot())
    orange = lambda screen: ((screen[..., 0] > 200) & (screen[..., 2] < 90)).sum()  # noqa: E731
    assert orange(outlined) > orange(plain) + 500


def test_detail_tells_where_the_sample_comes_from(gallery: Browser, corpus: Corpus) -> None:
    number = detailed_number(gallery)
    open_sample(gallery, number)
    record = corpus[number].record
    sources = from_table(read_table(corpus.path / layout.INVENTORY), SourceRecord)
    (source,) = [s for s in sources if (s.category, s.index) == (record.category, record.source)]
    said = gallery.run("document.getElementById('detail').innerText")
    for text in (record.id, record.seed_path, record.image_sha256, source.path, source.sha256, source.licence):
        assert text in said
    assert f"maphc2f reproduce OUT {record.id}" in said
    assert f"maphc2f sheet OUT sample.png --sample {record.id}" in said
    for defect in record.defects:
        assert f"{defect.trajectory}" in said


def test_detail_shows_every_field_with_its_unit_and_its_values(gallery: Browser, corpus: Corpus) -> None:
    number = detailed_number(gallery)
    open_sample(gallery, number)
    fields = corpus[number].fields
    gallery.wait(f"document.querySelectorAll('.field-figure').length === {len(fields)}")
    gallery.wait("[...document.querySelectorAll('.field-picture canvas')].every(canvas => canvas.width === 64)")
    for k, (name, field) in enumerate(fields.items()):
        figure = f"document.querySelectorAll('.field-figure')[{k}]"
        assert gallery.run(f"{figure}.querySelector('b').textContent") == name.replace("_", " ")
        high = gallery.run(f"{figure}.querySelector('.ends').lastChild.textContent")
        value, _, unit = high.partition(" ")
        assert_allclose(float(value), max(0.0, float(field.values.max())), rtol=0.01)
        assert unit == ("" if field.unit == "1" or value == "0" else field.unit)
        y, x = np.unravel_index(int(np.argmax(field.values)), field.values.shape)
        said = gallery.run(
            f"(() => {{ const canvas = {figure}.querySelector('canvas'), b = canvas.getBoundingClientRect();"
            f"canvas.dispatchEvent(new PointerEvent('pointermove', {{clientX: b.left + ({x} + .5) * b.width / 64,"
            f"clientY: b.top + ({y} + .5) * b.height / 64}})); return {figure}.querySelector('.at').textContent; }})()"
        )
        assert said.endswith(f"at {x}, {y}")
        assert_allclose(float(said.split()[0]), float(field.values.max()), rtol=0.01, atol=1e-6)


def test_slider_slides_between_photograph_and_result(gallery: Browser, corpus: Corpus) -> None:
    number = detailed_number(gallery)
    open_sample(gallery, number)
    seen = {}
    for value in (0, 100):
        gallery.run(
            f"(() => {{ const slider = document.getElementById('d-slider'); slider.value = {value};"
            "slider.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
        seen[value] = stage_of(gallery)
    sample = corpus[number]
    side = seen[0].shape[0] - 40
    for value, expected in ((0, sample.image), (100, sample.source)):
        inside = Image.fromarray(seen[value].astype(np.uint8)).resize((64, 64))
        wanted = np.broadcast_to(expected, (64, 64, 3)).astype(np.float64)
        assert np.abs(np.asarray(inside, dtype=np.float64)[4:60, 4:60] - wanted[4:60, 4:60]).mean() < 8
    assert side > 300
    assert np.abs(seen[0] - seen[100])[:, 40:-40].max() > 20


def test_mask_is_laid_over_the_result(gallery: Browser, corpus: Corpus) -> None:
    number = detailed_number(gallery)
    open_sample(gallery, number)
    before = stage_of(gallery)
    gallery.press("m")
    after = stage_of(gallery)
    changed = np.abs(after - before).max(axis=2) > 12
    marked = np.asarray(Image.fromarray(changed).resize((64, 64)))
    mask = corpus[number].mask > 0
    assert (marked & mask)[3:61, 3:61].sum() > 0.7 * mask[3:61, 3:61].sum()
    assert marked[~mask].mean() < 0.05
    gallery.press("m")


def test_keys_move_open_and_close(gallery: Browser) -> None:
    across = int(gallery.run("document.getElementById('grid').getAttribute('aria-colcount')"))
    gallery.run("document.querySelector('.cell[tabindex=\"0\"]').focus()")
    for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowDown"):
        gallery.press(key)
    focused = "document.activeElement.dataset.sample"
    assert int(gallery.run(focused)) == 2 * across
    assert gallery.run("document.activeElement.matches(':focus-visible')")
    assert gallery.run("getComputedStyle(document.activeElement.querySelector('canvas')).boxShadow") != "none"
    gallery.press("Enter")
    gallery.wait(LOADED)
    assert gallery.run("document.getElementById('detail').open")
    gallery.press("ArrowRight")
    gallery.wait(LOADED)
    gallery.press("Escape")
    # the sample that was seen last; a dialog tells that it was closed a moment after it is
    gallery.wait(f"!document.getElementById('detail').open && {focused} === '{2 * across + 1}'")
    gallery.press("End")
    assert int(gallery.run(focused)) == 23
    gallery.press("Home")
    assert int(gallery.run(focused)) == 0


def test_sample_without_all_pictures_says_so(gallery: Browser) -> None:
    number = detailed_number(gallery)
    gallery.run(
        "(async () => { for (const cell of document.querySelectorAll('.cell')) { cell.click();"
        f"while (!({LOADED})) await new Promise(r => setTimeout(r, 10));"
        "if (document.getElementById('d-tools').hidden) return; } })()"
    )
    note = gallery.run("document.getElementById('d-note').innerText")
    assert "Thumbnail only: this report has all pictures of 10 of 24 samples" in note
    assert stage_of(gallery).std() > 5
    assert number != int(gallery.run("new URLSearchParams(location.hash.slice(1)).get('sample')"))


@pytest.mark.parametrize("by", ["id", "number"])
def test_sample_is_found_by(gallery: Browser, corpus: Corpus, by: str) -> None:
    record = corpus[17].record
    gallery.run("document.forms[0].elements.find.focus()")
    gallery.run(f"document.forms[0].elements.find.value = '{record.id if by == 'id' else 17}'")
    gallery.press("Enter")
    gallery.wait("document.getElementById('detail').open")
    gallery.wait(LOADED)
    assert record.id in gallery.run("document.getElementById('d-facts').innerText")


def test_colours_follow_the_system_until_they_are_chosen(browser: Browser, pages: Path) -> None:
    background = "getComputedStyle(document.body).backgroundColor.match(/[\\d.]+/g).map(Number)[0]"
    browser.look_as(1360, 900, dark=True)
    browser.open(pages / "index.html")
    assert browser.run(background) < 60
    browser.run("document.getElementById('theme').click()")  # light
    assert browser.run(background) > 200
    browser.open(pages / "gallery.html")  # it is kept
    assert browser.run(background) > 200
    browser.run("document.getElementById('theme').click()")  # dark
    browser.look_as(1360, 900, dark=False)
    assert browser.run(background) < 60
    browser.run("document.getElementById('theme').click()")  # as the system
    assert browser.run(background) > 200


@pytest.mark.parametrize("name", ["index.html", "gallery.html"])
def test_everything_that_can_be_used_has_a_name(browser: Browser, pages: Path, name: str) -> None:
    browser.open(pages / name)
    if name == "gallery.html":
        browser.wait(DRAWN)
        open_sample(browser, detailed_number(browser))
    nodes = browser.command("Accessibility.getFullAXTree")["nodes"]
    roles = {"button", "link", "combobox", "slider", "checkbox", "searchbox", "image", "grid", "gridcell", "dialog"}
    used = [n for n in nodes if not n.get("ignored") and n.get("role", {}).get("value") in roles]
    assert len(used) > 10
    assert [n["role"]["value"] for n in used if not n.get("name", {}).get("value", "").strip()] == []
