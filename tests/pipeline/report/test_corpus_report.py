"""The report as files: whole or not there, the same bytes, nothing foreign overwritten, and text that stays text."""

from __future__ import annotations

import base64
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.report_scale import RepeatedPictures, repeated
from manifests import Corpus, layout
from manifests.corpus import LicenceInfo
from manifests.errors import OutputError
from manifests.records import SourceRecord
from manifests.tables import from_table, read_table
from pipeline.report import corpus_report
from pipeline.report.columns import CHUNK, read_columns
from pipeline.report.corpus_report import write_pages, write_report
from pipeline.report.details import choose_details
from pipeline.report.overview import read_stages
from pipeline.report.site import build_site, script_json
from pipeline.run_log import read_runs
from tests.pipeline.conftest import ROOT, CommandLine, digest
from tests.pipeline.report.browser import Browser

HOSTILE = '</script><script>window.hacked=1</script>"\'><img src=x onerror="window.hacked=2"> & {{ 7*7 }}'
READY = "document.documentElement.dataset.ready === '1'"


def test_report_is_the_same_bytes_and_replaces_an_earlier_one(several: Path, pages: Path, tmp_path: Path) -> None:
    dest = tmp_path / "again"
    for _ in range(2):
        write_report(several, dest, details=10)
        assert digest(dest) == digest(pages)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_killed_build_leaves_the_earlier_report_and_goes_on(several: Path, pages: Path, tmp_path: Path) -> None:
    dest = tmp_path / "report"
    shutil.copytree(pages, dest)
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline.report.corpus_report import write_report;"
        "kill = lambda done, total: os.kill(os.getpid(), signal.SIGKILL);"
        "write_report(Path(sys.argv[1]), Path(sys.argv[2]), details=3, advance=kill)"
    )
    killed = subprocess.run([sys.executable, "-c", code, several, dest], cwd=ROOT, check=False)
    assert killed.returncode == -9
    assert digest(dest) == digest(pages)
    building = tmp_path / ".report.building"
    sheet = building / "data" / "sheets" / "00000.webp"
    made = sheet.stat().st_mtime_ns, sheet.stat().st_ino
    (building / "data" / "sheets" / "00000.webp.1.writing").write_bytes(b"half")
    write_report(several, dest, details=3)
    kept = dest / "data" / "sheets" / "00000.webp"
    assert (kept.stat().st_mtime_ns, kept.stat().st_ino) == made  # not drawn again
    write_report(several, tmp_path / "fresh", details=3)
    assert digest(dest) == digest(tmp_path / "fresh")


def test_build_of_other_options_is_not_gone_on_with(several: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_report(several, tmp_path / "report", details=24, advance=lambda done, total: 1 // 0)
    write_report(several, tmp_path / "report", details=2)
    assert len(list((tmp_path / "report" / "data" / "details").iterdir())) == 2


@pytest.mark.parametrize("kind", ["foreign", "comparison", "file", "corpus"])
def test_what_is_no_report_is_left_as_it_is(several: Path, tmp_path: Path, maphc2f: CommandLine, kind: str) -> None:
    dest = tmp_path / "there"
    if kind == "file":
        dest.write_text("mine")
    elif kind == "comparison":
        with build_site(dest, kind="comparison"):
            pass
    elif kind == "corpus":
        dest = several / "report"
    else:
        dest.mkdir()
        (dest / "thesis.tex").write_text("mine")
    before = digest(tmp_path), digest(several)
    done = maphc2f.run("report", several, dest)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(dest) in done.stderr
    assert (digest(tmp_path), digest(several)) == before


def test_two_builds_of_one_report_do_not_mix(several: Path, tmp_path: Path) -> None:
    with build_site(tmp_path / "report", kind="report"), pytest.raises(OutputError, match="another run"):
        write_report(several, tmp_path / "report")


def test_command_writes_a_report_and_says_how_to_open_it(several: Path, tmp_path: Path, maphc2f: CommandLine) -> None:
    done = maphc2f.run("report", several, "pages/report", "--details", "0")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "pages" / "report" / "index.html").as_uri() in done.stdout
    assert not (tmp_path / "pages" / "report" / "data" / "details").exists()


def test_command_refuses_what_is_no_corpus(tmp_path: Path, maphc2f: CommandLine) -> None:
    (tmp_path / "photographs").mkdir()
    for name in ("photographs", "nowhere"):
        done = maphc2f.run("report", name, "report")
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "report").exists()


def test_text_from_data_is_never_markup(browser: Browser, several: Path, tmp_path: Path) -> None:
    corpus = Corpus(several, statuses=None)
    place = corpus.table.column_names.index("category")
    table = corpus.table.set_column(
        place, corpus.table.schema.field("category"), pa.array([HOSTILE] * len(corpus), pa.string())
    )
    records = from_table(read_table(several / layout.INVENTORY), SourceRecord)
    sources = {
        (r.dataset, HOSTILE, r.index): r.model_copy(update={"path": HOSTILE, "licence": HOSTILE})
        for r in records
        if r.index >= 0
    }
    licence = LicenceInfo(dataset="d", category=HOSTILE, licence=HOSTILE, sources=1)
    info = corpus.info.model_copy(update={"licences": [licence], "name": HOSTILE})
    dest = tmp_path / "report"
    with build_site(dest, kind="report") as site:
        write_pages(site, table, info, sources, RepeatedPictures(corpus), times=None, details=24)
    for path in dest.rglob("*"):
        if path.suffix in {".html", ".js"}:
            assert b"<script>window" not in path.read_bytes()
            assert b"<img src=x" not in path.read_bytes()
    for page in ("index.html", "gallery.html"):
        browser.open(dest / page, "#sample=3" if page == "gallery.html" else "")
        if page == "gallery.html":
            browser.wait(READY)
            browser.wait("document.getElementById('detail').getAttribute('aria-busy') === 'false'")
        assert browser.run("window.hacked") is None
        assert browser.complaints() == []
        assert HOSTILE in browser.run("document.body.textContent")
    browser.run("document.getElementById('detail').close()")
    browser.run("document.forms[0].elements.category.selectedIndex = 1")
    browser.run("document.forms[0].elements.category.dispatchEvent(new Event('input', {bubbles: true}))")
    assert browser.run("document.querySelectorAll('.cell').length") == 24


def test_script_json_is_json_that_no_page_can_mistake() -> None:
    text = script_json({"a": HOSTILE + "\u2028 é"})
    assert text.isascii()
    assert not set("<>&") & set(text)
    with pytest.raises(ValueError, match="JSON"):
        script_json(float("nan"))


def test_columns_say_what_the_manifest_says_at_the_size_of_the_reference_corpus(several: Path) -> None:
    corpus = Corpus(several, statuses=None)
    table = repeated(corpus.table, 115_987, np.random.default_rng(1))
    columns = read_columns(table, corpus.info)
    chunks = [columns.chunk(k) for k in range(-(-len(table) // CHUNK))]
    assert len(chunks) == 8
    found = np.concatenate([np.frombuffer(base64.b64decode(str(c["sqe"])), "<u2") for c in chunks])
    np.testing.assert_allclose(found / 1e4, table["sqe"].to_numpy(), atol=5.1e-5)
    bits = np.concatenate([np.frombuffer(base64.b64decode(str(c["mechanisms"])), "<u2") for c in chunks])
    for k in (0, 23, 24, 115_986):
        record = corpus[k % 24].record
        present = {d.mechanism for d in record.defects if d.instance} or {record.mechanism}
        assert {m for bit, m in enumerate(columns.mechanisms) if bits[k] >> bit & 1} == present
    ids = base64.b64decode(columns.identities())
    assert ids[-8:].hex() == table["id"][-1].as_py()
    assert max(len(str(c)) for c in chunks) < 300_000  # what the first page waits for


@pytest.mark.parametrize("count", [0, 1, 5, 24, 100])
def test_details_are_spread_over_categories_and_mechanisms(several: Path, count: int) -> None:
    columns = read_columns(Corpus(several, statuses=None).table, Corpus(several).info)
    chosen = choose_details(columns, count)
    assert len(set(chosen.tolist())) == len(chosen) == min(count, 24)
    if count == 5:
        assert len({int(columns.category[k]) for k in chosen}) == 2


def test_gallery_of_many_samples_keeps_few_in_the_page(
    browser: Browser, several: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = Corpus(several, statuses=None)
    pictures = RepeatedPictures(corpus)
    full = corpus_report.sheets(pictures.block(0, 64))
    monkeypatch.setattr(corpus_report, "sheets", lambda block: full)
    table = repeated(corpus.table, CHUNK + 3000, np.random.default_rng(2))
    dest = tmp_path / "report"
    with build_site(dest, kind="report") as site:
        write_pages(site, table, corpus.info, {}, pictures, times=None, details=1)
    browser.open(dest / "gallery.html")
    browser.wait(READY)
    assert "19,384 samples" in browser.run("document.getElementById('tally').textContent")
    browser.run("document.querySelector('.cell').focus()")
    browser.press("End")
    browser.wait("document.activeElement.dataset.sample === '19383'")
    browser.wait("document.activeElement.dataset.drawn === '1'")
    assert browser.run("document.querySelectorAll('.cell').length") < 150
    browser.run("document.forms[0].elements.sort.value = '-sqe'")
    browser.run("document.forms[0].elements.sort.dispatchEvent(new Event('input', {bubbles: true}))")
    best = int(browser.run("document.querySelector('.cell').dataset.sample"))
    values = np.round(table["sqe"].to_numpy(), 4)
    assert values[best] == values.max()
    assert browser.complaints() == []


def test_times_are_cpu_seconds_of_all_runs_each_counted_once(several: Path) -> None:
    runs, times = read_runs(several), read_stages(several)
    assert times is not None
    assert (times.runs, times.samples) == (len(runs), sum(run.samples for run in runs))
    assert sum(line.cpu_s for line in times.stages) == pytest.approx(sum(sum(run.cpu_s.values()) for run in runs))
    assert sum(line.share for line in times.stages) == pytest.approx(1)
    spent = [line.cpu_s for line in times.stages]
    assert spent == sorted(spent, reverse=True)
