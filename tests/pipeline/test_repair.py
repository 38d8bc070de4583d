"""Repair: whatever is damaged or lost comes back to the same bytes, and no other file is touched."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from manifests import layout
from manifests.errors import ConfigError, CorpusError, SourceError
from pipeline import cli
from pipeline.generate import generate
from pipeline.recipe import load_recipe
from pipeline.repair import repair_corpus
from pipeline.scoring import score_corpus
from pipeline.verification import verify_corpus
from tests.pipeline.conftest import digest
from tests.pipeline.test_generate import small_recipe, wait_for
from tests.pipeline.test_verification import files, flip, kind

if TYPE_CHECKING:
    from tests.pipeline.conftest import CommandLine

Stamps = dict[str, tuple[int, int]]


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory, extended: Path) -> Path:
    """An extended corpus with a table of scores; not to be changed."""
    out = Path(shutil.copytree(extended, tmp_path_factory.mktemp("scored") / "corpus"))
    score_corpus(out, None)
    return out


@pytest.fixture
def out(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "out"))


def stamps(out: Path) -> Stamps:
    """When each file was last written, and which file it is."""
    return {name: ((out / name).stat().st_mtime_ns, (out / name).stat().st_ino) for name in files(out)}


def verify_said(out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """What `maphc2f verify` says of a corpus that is wrong."""
    monkeypatch.setattr("sys.argv", ["maphc2f", "verify", str(out)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize("seed", range(3))
def test_any_flipped_bits_are_named_and_restored_and_nothing_else_is_touched(
    seed: int, scored: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    moments = np.random.default_rng([20, seed])
    by_kind: dict[str, list[str]] = {}
    for name in files(out):
        by_kind.setdefault(kind(name), []).append(name)
    kinds = sorted(by_kind.keys() - {layout.CONFIG, layout.CORPUS})
    chosen = [str(moments.choice(by_kind[kind])) for kind in moments.choice(kinds, size=9, replace=False)]
    chosen.append((layout.CONFIG, layout.CORPUS, "commits/bank--fracture--00002.json")[seed])
    before = stamps(out)
    for name in dict.fromkeys(chosen):
        flip(out / name, int(moments.integers((out / name).stat().st_size)), bit=int(moments.integers(8)))
    if seed == 0:
        assert layout.CONFIG in verify_said(out, monkeypatch, capsys)
    else:
        said = verify_said(out, monkeypatch, capsys)
        assert [name for name in chosen if name not in said] == []
    done = repair_corpus(out)
    assert done.report.problems == ()
    assert digest(out) == digest(scored)
    assert set(done.restored) == set(chosen)
    after = stamps(out)
    assert [name for name in before if name not in chosen and after[name] != before[name]] == []


def test_lost_files_come_back_with_those_that_follow_from_them(scored: Path, out: Path) -> None:
    lost = {kind(name): name for name in files(out) if name not in {layout.CONFIG, layout.CORPUS}}.values()
    before = stamps(out)
    for name in lost:
        (out / name).unlink()
    assert set(repair_corpus(out).restored) == set(lost)
    assert digest(out) == digest(scored)
    after = stamps(out)
    assert [name for name in before if name not in lost and after[name] != before[name]] == []


def test_lost_corpus_json_and_config_json_come_back_one_by_the_other(scored: Path, out: Path) -> None:
    for name in (layout.CORPUS, layout.CONFIG):
        (out / name).unlink()
        assert repair_corpus(out).restored == (name,)
        assert digest(out) == digest(scored)


def test_damaged_table_of_scores_that_nothing_tells_of_is_named(out: Path) -> None:
    table = next((out / layout.SCORES).iterdir())
    (out / layout.CORPUS).unlink()
    table.rename(table.with_name("0123456789ab.parquet")).write_bytes(b"torn")
    with pytest.raises(ConfigError, match=r"0123456789ab\.parquet: is damaged; give the estimator"):
        repair_corpus(out)


def test_whole_corpus_is_left_alone(out: Path) -> None:
    before = stamps(out)
    done = repair_corpus(out)
    assert (done.restored, done.removed, done.samples) == ((), (), 0)
    assert stamps(out) == before
    assert not (out / "log/repair").exists()


def test_damaged_table_of_scores_is_scored_again_by_the_same_estimator(scored: Path, out: Path) -> None:
    table = next((out / layout.SCORES).iterdir())
    flip(table, 300)
    done = repair_corpus(out)
    assert done.restored == (table.relative_to(out).as_posix(),)
    assert digest(out) == digest(scored)


def test_estimator_of_a_damaged_table_is_asked_for(out: Path) -> None:
    table = next((out / layout.SCORES).iterdir())
    table.rename(table.with_name("0123456789ab.parquet"))
    flip(table.with_name("0123456789ab.parquet"), 300)
    corpus = out / layout.CORPUS
    corpus.write_bytes(corpus.read_bytes().replace(table.stem.encode(), b"0123456789ab"))
    with pytest.raises(ConfigError, match=r"0123456789ab\.parquet: is damaged; give the estimator"):
        repair_corpus(out)


@pytest.mark.parametrize("torn", [True, False])
def test_recipe_is_asked_for_only_where_nothing_tells_it(
    torn: bool, copied: Path, recipe_file: Path, finished_digest: dict[str, str]
) -> None:
    for name in (layout.CONFIG, layout.CORPUS):
        flip(copied / name, 0) if torn else (copied / name).unlink()
    with pytest.raises(ConfigError, match=r"config\.json: is damaged, and corpus\.json, .* say by --config"):
        repair_corpus(copied)
    with pytest.raises(ConfigError, match="was made from another recipe"):
        repair_corpus(copied, recipe=load_recipe(recipe_file, overrides={"seed": 3}))
    repair_corpus(copied, recipe=load_recipe(recipe_file, overrides={}))
    assert digest(copied) == finished_digest


def test_strays_among_the_shards_are_removed_and_others_reported(out: Path, scored: Path) -> None:
    for name in ("data/builtin/brick/image/c/77/0/0/0", "commits/samples--builtin--brick--00077.json", "notes.txt"):
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("stray")
    done = repair_corpus(out)
    assert len(done.removed) == 2
    assert [problem.where for problem in done.report.problems] == ["notes.txt"]
    (out / "notes.txt").unlink()
    assert digest(out) == digest(scored)


def test_unfinished_corpus_is_not_finished_by_a_repair(copied: Path) -> None:
    for name in (layout.CORPUS, layout.MANIFEST):
        (copied / name).unlink()
    with pytest.raises(CorpusError, match="is not finished; run `maphc2f generate` again"):
        repair_corpus(copied)


def test_killed_repair_leaves_the_corpus_as_it_was_and_can_be_run_again(
    out: Path, scored: Path, maphc2f: CommandLine
) -> None:
    flip(out / "bank/fracture/damage/c/0/0/0/0", 500)
    before = digest(out)
    process = maphc2f.start("repair", out)
    wait_for(lambda: (out / "log/repair/bank/fracture/damage/c/0/0/0/0").exists(), process)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert digest(out) == before
    done = maphc2f.run("repair", out)
    assert done.returncode == 0, done.stderr
    assert "restored bank/fracture/damage/c/0/0/0/0" in done.stdout
    assert digest(out) == digest(scored)


def test_photographs_are_needed_only_to_repair_what_is_stored_of_them(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    generate(out, small_recipe(photographs, count=2), workers=1)
    whole = digest(out)
    away = photographs.rename(tmp_path / "away")
    flip(out / "data/folder/photographs/mask/c/0/0/0", 60)
    flip(out / "data/folder/photographs/source/zarr.json", 60)
    repair_corpus(out)
    assert digest(out) == whole
    flip(out / "data/folder/photographs/source/c/0/0/0/0", 60)
    with pytest.raises(SourceError, match=str(photographs)):
        repair_corpus(out)
    away.rename(photographs)
    repair_corpus(out)
    assert digest(out) == whole
    assert verify_corpus(out).problems == ()
