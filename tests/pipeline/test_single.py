"""One sample made again to the byte from its record, and shown: every kind of sample, and what is said of others."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from numpy.testing import assert_array_equal
from PIL import Image

from manifests import Corpus
from manifests.errors import ConfigError, CorpusError
from manifests.layout import CONFIG, CORPUS
from manifests.pictures import decode
from manifests.records import SampleStatus
from pipeline import cli
from pipeline.generate import generate
from pipeline.inspection_card import draw_card
from pipeline.lookup import find_sample
from pipeline.png import png
from pipeline.recipe import Recipe
from pipeline.reproduction import reproduce, write_sample
from pipeline.store import place_shard, stage_shard
from tests.pipeline.conftest import RECIPE, ROOT, CommandLine, surface


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


Say = Callable[..., Said]


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path) -> Say:
    """The entry point within this process, run in an empty folder."""

    def run(*arguments: str | Path) -> Said:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["maphc2f", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, *capfd.readouterr())

    return run


def generated(out: Path, **changes: Any) -> Path:
    generate(out, Recipe.model_validate({**yaml.safe_load(RECIPE), **changes}), workers=1)
    return out


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """16-bit photographs, clones from donors beside pits, several in a picture; some samples fail."""
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "deep").mkdir()
    for k in range(4):
        low = np.random.default_rng(k).integers(0, 256, (64, 64), dtype=np.uint16)
        Image.fromarray(surface(k, (64, 64)).astype(np.uint16) * 256 + low).save(folder / f"deep/{k}.png")
    return generated(
        folder / "corpus",
        count=12,
        bit_depth=16,
        sources=[{"kind": "folder", "path": str(folder / "deep")}],
        mechanisms={"poisson": {}, "pitting": {"grid": 32, "snapshots": 4}},
        bank={"trajectories": 12, "groups": 2},
        placement={"defects": [1, 2]},
        label={"least_visibility": 0.3, "attempts": 1},
        store={"shard_images": 6, "stages": ["render"]},
    )


@pytest.fixture
def damaged(finished: Path, tmp_path: Path) -> Path:
    """A copy in which the image of sample 7 has other pixels, though its shard is sound."""
    out = Path(shutil.copytree(finished, tmp_path / "damaged"))
    sample = Corpus(out, statuses=None)[7]
    key, per_shard = f"{sample.record.dataset}/{sample.record.category}", 5
    first = sample.record.shard * per_shard
    last = min(first + per_shard, 12)
    rows = Corpus(out).read("image", key, range(first, last))
    rows[sample.record.row - first, :2, 0] += 3
    place_shard(out, stage_shard(out, "data", key, {"image": rows}, shard=sample.record.shard))
    return out


# ---------------------------------------------------------------- made again


@pytest.mark.parametrize("bank_stored", [False, True], ids=["simulated", "stored bank"])
def test_samples_with_several_defects_and_stages_come_out_to_the_byte(several: Path, bank_stored: bool) -> None:
    corpus = Corpus(several, statuses=None)
    most = int(np.argmax([len(sample.record.defects) for sample in corpus]))
    found = reproduce(corpus, most, bank_stored=bank_stored)
    assert len(corpus[most].record.defects) > 1
    assert found.differences == ()
    assert {"image", "mask", "instance", "stage_paste", "stage_render", "stage_npcf", "opening", "depth"} <= {
        *found.arrays
    }
    assert (found.simulated == 0) == bank_stored


def test_clones_in_16_bits_and_failed_samples_come_out_to_the_byte(foreign: Path) -> None:
    corpus = Corpus(foreign, statuses=None)
    records = [sample.record for sample in corpus]
    failed = next(k for k, record in enumerate(records) if record.status is not SampleStatus.OK)
    cloned = next(
        k for k, record in enumerate(records) if any(d.mechanism == "poisson" and d.instance for d in record.defects)
    )
    assert corpus[cloned].image.dtype == np.uint16
    for position in (failed, cloned):
        assert reproduce(corpus, position).differences == ()


def test_what_differs_is_named_with_its_size(damaged: Path) -> None:
    found = reproduce(Corpus(damaged, statuses=None), 7)
    channels = Corpus(damaged, statuses=None)[7].image.shape[2]
    values = 64 * 64 * channels
    assert found.differences == (f"image: {2 * channels:,} of {values:,} values ({100 * 2 / 64**2:.2g} %), by up to 3",)
    assert found.reason.startswith("the code is the same")


def test_another_code_version_is_the_likely_reason(damaged: Path, say: Say) -> None:
    for name in (CONFIG, CORPUS):
        told = json.loads((damaged / name).read_bytes())
        (damaged / name).write_text(json.dumps(told | {"code_version": "0.0.1+000000000000"}), encoding="utf-8")
    done = say("reproduce", damaged, Corpus(damaged, statuses=None)[7].record.id)
    assert done.code == 1
    assert "differs" in done.err
    assert "image: " in done.err
    assert "made by code version 0.0.1+000000000000, this is" in done.err
    assert len(done.err.splitlines()) == 1


def test_a_changed_physics_is_seen_in_the_simulation(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Corpus(finished, statuses=None)
    pits = next(k for k, sample in enumerate(corpus) if sample.record.mechanism == "pitting")
    from pipeline import bank

    monkeypatch.setattr(bank, "bank_stream", lambda *_: np.random.default_rng(0))
    found = reproduce(corpus, pits)
    assert any(text.startswith("simulation pitting") for text in found.differences)
    assert any(text.startswith("image: ") for text in found.differences)
    assert any(text.startswith("record: image_sha256") for text in found.differences)


def test_the_command_makes_a_sample_again_and_writes_it(several: Path, say: Say, tmp_path: Path) -> None:
    sample = Corpus(several)[3]
    done = say("reproduce", several, sample.record.id[:12], "--out", "again")
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines()[-1].startswith(f"the same: {sample.record.id}, every byte of record, image, mask")
    folder = tmp_path / "again"
    assert sorted(path.name for path in folder.iterdir()) == ["fields.npz", "image.png", "mask.png"]
    assert_array_equal(np.asarray(Image.open(folder / "image.png")), sample.image.squeeze())
    assert_array_equal(np.asarray(Image.open(folder / "mask.png")), sample.mask)
    with np.load(folder / "fields.npz") as fields:
        assert set(fields) == set(sample.fields)
        for name, field in sample.fields.items():
            assert_array_equal(fields[name], field.values)


def test_files_of_a_sample_are_the_same_bytes_each_time(finished: Path, tmp_path: Path) -> None:
    made = reproduce(Corpus(finished), 2, bank_stored=True).made
    first, second = (write_sample(tmp_path / name, made) for name in ("a", "b"))
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_png_keeps_every_bit(channels: int, dtype: type, rng: np.random.Generator) -> None:
    picture = rng.integers(0, np.iinfo(dtype).max, (20, 31, channels), dtype=dtype, endpoint=True)
    depth = 8 * np.dtype(dtype).itemsize
    found = decode(png(picture), max_pixels=1000, bit_depth=depth)
    assert found.bit_depth == depth
    assert_array_equal(found.pixels, picture)


# ---------------------------------------------------------------- found by its id


def test_the_beginning_of_an_id_is_enough_where_no_other_begins_so(finished: Path) -> None:
    corpus = Corpus(finished, statuses=None)
    for position, sample in enumerate(corpus):
        assert find_sample(corpus, sample.record.id) == position
        assert find_sample(corpus, sample.record.id[:9].upper()) == position
    with pytest.raises(ConfigError, match=r"[0-9]+ ids of .* begin so \(.*\); give more"):
        find_sample(corpus, max("0123456789abcdef", key=lambda c: sum(s.record.id[0] == c for s in corpus)))


@pytest.mark.parametrize("slip", ["swapped", "lost", "added"])
def test_an_unknown_id_is_one_line_with_the_nearest(finished: Path, slip: str) -> None:
    corpus = Corpus(finished, statuses=None)
    known = corpus[11].record.id
    wrong = {
        "swapped": known[:4] + known[5] + known[4] + known[6:],
        "lost": known[:7] + known[8:],
        "added": known + "0",
    }
    with pytest.raises(ConfigError, match=f"not in .*; the nearest id is {known}"):
        find_sample(corpus, wrong[slip] if wrong[slip] != known else f"{known[:-1]}x")


@pytest.mark.parametrize("command", ["show", "reproduce"])
@pytest.mark.parametrize("identity", ["", "zzzz", "[red]"])
def test_an_id_that_is_none_is_bad_input(finished: Path, say: Say, command: str, identity: str) -> None:
    done = say(command, finished, identity)
    assert (done.code, done.out) == (2, "")
    assert len(done.err.splitlines()) == 1
    assert "Traceback" not in done.err


def test_a_plan_that_was_tampered_with_is_found(finished: Path, tmp_path: Path) -> None:
    from manifests.records import PlanRow
    from manifests.tables import from_table, read_table, to_table, write_table

    out = Path(shutil.copytree(finished, tmp_path / "tampered"))
    rows = from_table(read_table(out / "plan.parquet"), PlanRow)
    changed = [rows[0].model_copy(update={"anchor_x": rows[0].anchor_x + 0.1}), *rows[1:]]
    write_table(out / "plan.parquet", to_table(changed, PlanRow))
    with pytest.raises(CorpusError, match="not the one that the id was made of"):
        reproduce(Corpus(out, statuses=None), 0)


# ---------------------------------------------------------------- shown


def test_show_prints_the_record_and_writes_the_card(several: Path, say: Say, tmp_path: Path) -> None:
    record = Corpus(several)[0].record
    done = say("show", several, record.id[:10], "--out", "card.png")
    assert (done.code, done.err) == (0, "")
    said = " ".join(done.out.split())
    assert f"sample {record.id}" in said
    assert f"{record.dataset}/{record.category}" in said
    assert f"{record.area_px:,} px, {100 * record.area_fraction:.3f} % of the picture" in said
    for number, defect in enumerate(record.defects, start=1):
        assert f"{number} {defect.mechanism}" in said
    with Image.open(tmp_path / "card.png") as card:
        assert card.width > 5 * 256


def test_a_card_without_stages_shows_fields_image_and_mask(finished: Path) -> None:
    corpus = Corpus(finished)
    sample = corpus[0]
    panels = 1 + len(sample.fields) + 2 - ("displacement_y" in sample.fields)
    assert draw_card(corpus, 0).width == 2 * 28 + panels * (256 + 8) - 8


def test_a_failed_sample_and_16_bits_are_shown(foreign: Path, say: Say, tmp_path: Path) -> None:
    corpus = Corpus(foreign, statuses=None)
    failed = next(sample.record for sample in corpus if sample.record.status is not SampleStatus.OK)
    done = say("show", foreign, failed.id, "--out", "failed.png")
    assert done.code == 0, done.err
    assert failed.status.value in done.out
    assert "none" in done.out
    assert (tmp_path / "failed.png").is_file()


def test_without_a_desktop_show_says_how_to_get_the_picture(
    finished: Path, say: Say, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    done = say("show", finished, Corpus(finished)[0].record.id)
    assert done.code == 0
    assert "--out card.png writes it" in done.out


def test_on_a_desktop_show_opens_its_viewer(finished: Path, tmp_path: Path) -> None:
    viewer = tmp_path / "bin" / "xdg-open"
    viewer.parent.mkdir()
    viewer.write_text(f'#!/bin/sh\ncp "$1" {tmp_path}/seen.png\n', encoding="utf-8")
    viewer.chmod(0o755)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DISPLAY": ":9"}
    environment["PATH"] = f"{viewer.parent}:{environment['PATH']}"
    done = CommandLine(tmp_path, environment).run("show", finished, Corpus(finished)[0].record.id)
    assert done.returncode == 0, done.stderr
    assert "--out" not in done.stdout
    with Image.open(tmp_path / "seen.png") as card:
        assert card.width > 3 * 256
