"""The export as a whole: what it selects, how it is split, that it is whole or says it is not, and that it goes on."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import weakref
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
import pytest

from manifests import Corpus
from manifests.errors import ConfigError, CorpusError, OutputError
from manifests.splits import group_of_source, split_of_group
from pipeline.export.choice import choose, cut
from pipeline.export.contract import Export, samples_of
from pipeline.export.job import FORMATS, Options, export_corpus
from tests.pipeline.conftest import ROOT, digest
from tests.pipeline.export.conftest import Exported

if TYPE_CHECKING:
    from tests.pipeline.conftest import CommandLine

DEFAULT = (0.8, 0.1, 0.1)


def rows_of(dest: Path) -> list[dict[str, object]]:
    return pq.read_table(dest / "samples.parquet").to_pylist()


# ---------------------------------------------------------------- what is in it


def test_a_condition_selects_samples(finished: Path, exported: Exported) -> None:
    corpus = Corpus(finished)
    dest = exported(corpus, "coco", where="mechanism == 'pitting' and area_px > 60")
    wanted = {s.record.id for s in corpus if s.record.mechanism == "pitting" and s.record.area_px > 60}
    assert 0 < len(wanted) < 12
    assert {row["id"] for row in rows_of(dest)} == wanted


def test_a_limit_takes_evenly_of_categories_and_mechanisms(finished: Path, exported: Exported) -> None:
    dest = exported(Corpus(finished), "yolo", limit=8)
    cells = [(row["category"], row["mechanism"]) for row in rows_of(dest)]
    assert len(cells) == 8
    assert {cells.count(cell) for cell in set(cells)} == {2}


def test_a_limit_holds_what_a_smaller_one_holds(finished: Path) -> None:
    def chosen(limit: int) -> set[int]:
        found = choose(Export(Corpus(finished)), FORMATS["coco"], where=None, limit=limit, shares=DEFAULT, seed=0)
        return {row for rows, _ in found.values() for row in rows}

    assert all(chosen(limit) < chosen(limit + 1) for limit in range(1, 24))


@pytest.mark.parametrize("name", ["coco", "webdataset"])
def test_the_split_of_a_sample_is_that_of_its_group_whatever_is_selected(
    name: str, finished: Path, exported: Exported
) -> None:
    corpus = Corpus(finished)
    splits = split_of_group(corpus.table["group"].to_pylist())
    export = Export(corpus)
    for where in (None, "mechanism = 'fracture'", "index > 15"):
        found = choose(export, FORMATS[name], where=where, limit=None, shares=DEFAULT, seed=0)
        for split, (rows, _) in found.items():
            assert all(splits[corpus[row].record.group] == split for row in rows)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_no_source_and_no_trajectory_is_in_two_splits(name: str, rich: Path) -> None:
    export = Export(Corpus(rich))
    found = choose(export, FORMATS[name], where=None, limit=None, shares=FORMATS[name].SHARES, seed=3)
    seen: dict[tuple[str, object], set[str]] = {}
    for split, (rows, normals) in found.items():
        for row in rows:
            record = export.corpus[row].record
            for defect in record.defects:
                seen.setdefault((defect.mechanism, defect.trajectory), set()).add(split)
            seen.setdefault((f"{record.dataset}/{record.category}", record.source), set()).add(split)
        for normal in normals:
            seen.setdefault((normal.key, normal.row), set()).add(split)
    assert all(len(splits) == 1 for splits in seen.values())


def test_a_photograph_has_the_group_that_the_manifest_says(finished: Path) -> None:
    corpus = Corpus(finished)
    groups = corpus.info.config["bank"]["groups"]
    assert all(group_of_source(s.record.source, groups=groups) == s.record.group for s in corpus)


def test_parts_are_of_nearly_one_size() -> None:
    parts = cut({"train": (range(11), ()), "test": ((20, 21), ())}, 4)
    assert [(part.number, part.split, part.place, part.of, len(part.rows)) for part in parts] == [
        (0, "train", 0, 3, 3),
        (1, "train", 1, 3, 4),
        (2, "train", 2, 3, 4),
        (3, "test", 0, 1, 2),
    ]
    assert [row for part in parts for row in part.rows] == [*range(11), 20, 21]


def test_samples_are_let_go_one_by_one(finished: Path) -> None:
    export = Export(Corpus(finished))
    (part, *_) = cut(choose(export, FORMATS["coco"], where=None, limit=None, shares=DEFAULT, seed=0), 24)
    alive: list[weakref.ref[object]] = []
    for sample in samples_of(export, part):
        alive.append(weakref.ref(sample))
        assert sum(reference() is not None for reference in alive) <= 2
    assert len(alive) == len(part.rows) > 12


def test_licences_travel_with_every_format(deep: Path, tmp_path: Path) -> None:
    for name in FORMATS:
        export_corpus(deep, tmp_path / name, Options(name, where="category = 'brick'", seed=2))
        text = (tmp_path / name / "LICENCES.txt").read_text()
        assert "builtin/brick: CC0-1.0 (CC0Textures Bricks25, bundled with scikit-image)" in text
        assert "cast_plaster" not in text
        about = json.loads((tmp_path / name / "export.json").read_text())
        assert ("cutpaste" in about["mechanisms"]) == ("made by reference generators: cutpaste" in text)
        assert all(kind["physical"] == (mechanism != "cutpaste") for mechanism, kind in about["mechanisms"].items())


def test_a_changed_picture_is_not_exported(copied: Path, tmp_path: Path) -> None:
    (copied / "data/builtin/brick/image/c/0/0/0/0").write_bytes(
        (copied / "data/builtin/brick/image/c/1/0/0/0").read_bytes()  # decodes, but is another's
    )
    with pytest.raises(CorpusError, match=r"sample [0-9a-f]{16} \(row \d of builtin/brick\) is not what the manifest"):
        export_corpus(copied, tmp_path / "dest", Options("coco"))
    assert not (tmp_path / "dest/export.json").exists()


# ---------------------------------------------------------------- whole or not


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_every_file_is_named_with_its_hash(name: str, finished: Path, exported: Exported) -> None:
    dest = exported(Corpus(finished), name)
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=dest, check=True)
    named = {line.split("  ")[1] for line in (dest / "SHA256SUMS").read_text().splitlines()}
    assert named == set(digest(dest)) - {"SHA256SUMS", "export.json"}
    about = json.loads((dest / "export.json").read_text())
    assert about["files"] == len(named)
    assert about["sums_sha256"] == hashlib.sha256((dest / "SHA256SUMS").read_bytes()).hexdigest()
    assert about["config_sha256"] == Corpus(finished).info.config_sha256


def test_workers_give_the_same_bytes(rich: Path, tmp_path: Path) -> None:
    export_corpus(rich, tmp_path / "one", Options("coco", part_samples=5))
    export_corpus(rich, tmp_path / "two", Options("coco", part_samples=5), workers=2)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_again_gives_the_same_bytes_and_over_a_finished_one_changes_nothing(
    name: str, rich: Path, tmp_path: Path
) -> None:
    options = Options(name, part_samples=5)
    assert export_corpus(rich, tmp_path / "one", options).changed
    assert export_corpus(rich, tmp_path / "two", options).changed
    expected = digest(tmp_path / "one")
    assert digest(tmp_path / "two") == expected
    assert not export_corpus(rich, tmp_path / "one", options).changed
    assert digest(tmp_path / "one") == expected


# As for generate: forks before each run, dies at the n-th rename, just before and just after it in turn; then goes on.
_DIE_AT_EVERY_RENAME = """
import os, shutil, signal, sys
from pathlib import Path
from pipeline.export.job import Options, export_corpus

out, dest, options = Path(sys.argv[1]), Path(sys.argv[2]), Options(sys.argv[3], limit=4, part_samples=2)
rename = Path.replace

def run(die_at):
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]
    left = die_at
    def replace(self, target):
        nonlocal left
        left -= 1
        if left == 0 and die_at % 2:
            os.kill(os.getpid(), signal.SIGKILL)
        result = rename(self, target)
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    Path.replace = replace
    export_corpus(out, dest, options)
    os._exit(0)

for death in range(1, 1000):
    shutil.rmtree(dest, ignore_errors=True)
    if run(death) == 0:
        break
    whole = (dest / "export.json").exists()
    assert run(0) == 0
    shutil.copytree(dest, dest.parent / f"resumed{death}{'-whole' * whole}")
"""


@pytest.mark.parametrize("name", ["coco", "webdataset"])
def test_killed_at_any_rename_goes_on_to_the_same_bytes(name: str, finished: Path, tmp_path: Path) -> None:
    subprocess.run(
        [sys.executable, "-c", _DIE_AT_EVERY_RENAME, finished, tmp_path / "undisturbed", name],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
        check=True,
    )
    expected = digest(tmp_path / "undisturbed")
    resumed = sorted(tmp_path.glob("resumed*"))
    assert len(resumed) >= len(expected)
    assert [path.name for path in resumed if digest(path) != expected] == []
    assert len([path for path in resumed if path.name.endswith("-whole")]) <= 1  # only after the last rename of all


def stopped_midway(maphc2f: CommandLine, corpus: Path, folder: Path, stop: signal.Signals) -> tuple[Path, int, str]:
    """A folder of which the command had written parts, but not all, when the signal came; its exit code; what it said.

    On a busy machine the command may be done before the signal comes; then another is begun.
    """
    for attempt in range(20):
        dest = folder / f"dest{attempt}"
        process = maphc2f.start("export", corpus, dest, "--format", "mvtec", "--part", "1")
        while process.poll() is None and not list(dest.glob("unfinished/00*.json")):
            time.sleep(0.001)
        process.send_signal(stop)
        _, said = process.communicate(timeout=60)
        if not (dest / "export.json").exists():
            return dest, process.returncode, said
    pytest.fail("the command was done before any signal came")


def test_killed_command_goes_on_to_the_same_bytes(maphc2f: CommandLine, finished: Path, tmp_path: Path) -> None:
    dest, code, _ = stopped_midway(maphc2f, finished, tmp_path, signal.SIGKILL)
    assert code == -signal.SIGKILL
    assert (dest / "unfinished").is_dir()
    done = maphc2f.run("export", finished, dest, "--format", "mvtec", "--part", "1")
    assert done.returncode == 0, done.stderr
    assert "kept from an earlier run" in done.stdout
    export_corpus(finished, tmp_path / "other", Options("mvtec", part_samples=1))
    assert digest(dest) == digest(tmp_path / "other")


def test_interrupted_command_says_how_to_go_on(maphc2f: CommandLine, finished: Path, tmp_path: Path) -> None:
    dest, code, said = stopped_midway(maphc2f, finished, tmp_path, signal.SIGINT)
    assert code == 130
    assert "the same command goes on from there" in said
    assert (dest / "unfinished").is_dir()


# ---------------------------------------------------------------- what is refused


def refused(maphc2f: CommandLine, *arguments: str | Path) -> str:
    done = maphc2f.run("export", *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_wrong_column_is_one_line_with_the_nearest_name(maphc2f: CommandLine, finished: Path, tmp_path: Path) -> None:
    said = refused(maphc2f, finished, tmp_path / "dest", "--format", "coco", "--where", "mechansim = 'pitting'")
    assert "no column 'mechansim'; did you mean 'mechanism'?" in said
    assert not (tmp_path / "dest").exists()


def test_wrong_shares_are_one_line(maphc2f: CommandLine, finished: Path, tmp_path: Path) -> None:
    said = refused(maphc2f, finished, tmp_path / "dest", "--format", "coco", "--shares", "0.8,0.2")
    assert "expected three numbers for train, val and test" in said


def test_a_folder_begun_for_something_else_is_refused(finished: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    export_corpus(finished, dest, Options("coco"))
    left = digest(dest)
    for other in (Options("yolo"), Options("coco", where="sqe > 0"), Options("coco", limit=5), Options("coco", seed=1)):
        with pytest.raises(OutputError, match="was begun for another export"):
            export_corpus(finished, dest, other)
    (dest / "export.json").unlink()
    with pytest.raises(OutputError, match=r"holds something else \(LICENCES.txt, SHA256SUMS, annotations, …\)"):
        export_corpus(finished, dest, Options("coco"))
    assert digest(dest).items() <= left.items()


def test_an_unfinished_folder_of_another_export_is_refused(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "dest/unfinished").mkdir(parents=True)
    export_corpus(finished, tmp_path / "other", Options("coco"))
    about = json.loads((tmp_path / "other/export.json").read_text())
    identity = {name: about[name] for name in about if name in _IDENTITY}
    (tmp_path / "dest/unfinished/identity.json").write_text(json.dumps(identity))
    with pytest.raises(OutputError, match='format is "coco" there and "yolo" here'):
        export_corpus(finished, tmp_path / "dest", Options("yolo"))
    export_corpus(finished, tmp_path / "dest", Options("coco"))
    assert digest(tmp_path / "dest") == digest(tmp_path / "other")


_IDENTITY = {
    "export_version",
    "format",
    "corpus",
    "config_sha256",
    "manifest_sha256",
    "code_version",
    "where",
    "limit",
    "shares",
    "seed",
    "part_samples",
}


def test_a_folder_with_other_things_is_left_alone(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "dest").mkdir()
    (tmp_path / "dest/thesis.tex").write_text("42")
    with pytest.raises(OutputError, match=r"holds something else \(thesis.tex\); give a new or empty folder"):
        export_corpus(finished, tmp_path / "dest", Options("coco"))
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file; give a folder"):
        export_corpus(finished, tmp_path / "file", Options("coco"))
    assert digest(tmp_path / "dest").keys() == {"thesis.tex"}


def test_a_folder_within_the_corpus_is_refused(finished: Path) -> None:
    with pytest.raises(OutputError, match="lie one within the other; give a folder beside it"):
        export_corpus(finished, finished / "coco", Options("coco"))


def test_a_condition_that_nothing_meets_is_said(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no accepted sample matches 'sqe > 2'"):
        export_corpus(finished, tmp_path / "dest", Options("coco", where="sqe > 2"))
    assert not (tmp_path / "dest").exists()


def test_a_finished_export_that_was_changed_is_found_out(finished: Path, tmp_path: Path) -> None:
    export_corpus(finished, tmp_path / "dest", Options("webdataset"))
    shard = next((tmp_path / "dest").glob("train-*.tar"))
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(CorpusError, match="is missing or not what SHA256SUMS names"):
        export_corpus(finished, tmp_path / "dest", Options("webdataset"))


def test_a_link_that_leads_out_is_not_followed(finished: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    export_corpus(finished, tmp_path / "dest", Options("yolo"))
    about = json.loads((tmp_path / "dest/export.json").read_text())
    shutil.rmtree(tmp_path / "dest")
    (tmp_path / "dest/unfinished").mkdir(parents=True)
    identity = {name: about[name] for name in _IDENTITY}
    (tmp_path / "dest/unfinished/identity.json").write_text(json.dumps(identity))
    (tmp_path / "dest/images").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OutputError, match="leaves"):
        export_corpus(finished, tmp_path / "dest", Options("yolo"))
    assert not list((tmp_path / "elsewhere").iterdir())
