"""Extensions: what was there stays, what comes is as good as if it had been planned at once, killed or not."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from bisqad.cells import normals_of
from manifests import Corpus, layout
from manifests.errors import ConfigError, OutputError
from manifests.records import PlanRow
from manifests.tables import read_table
from pipeline.bank_summary import summarise_bank
from pipeline.extension import Wish, extend
from pipeline.generate import generate
from pipeline.planning import BANK_SHARD, bank_ranges, category_rows, make_plan
from pipeline.recipe import load_recipe
from pipeline.scoring import score_corpus
from pipeline.store import Identity, read_identity
from pipeline.verification import verify_corpus
from tests.pipeline.conftest import digest
from tests.pipeline.test_generate import wait_for
from tests.pipeline.test_planning import category, combinations, plan_of, recipe_of

if TYPE_CHECKING:
    from tests.pipeline.conftest import CommandLine

CATEGORIES = [category("few", 3), category("many", 17)]
CHANNELS = {"made/few": 1, "made/many": 1}
extensions_of_a_plan = st.lists(st.integers(1, 60), min_size=1, max_size=3)


def extended_plan(count: int, extensions: list[int], **changes: object) -> list[PlanRow]:
    recipe = recipe_of(count=count, store={"shard_images": 7}, **changes)
    return list(make_plan(recipe, CATEGORIES, CHANNELS, extensions))


# ---------------------------------------------------------------- the plan


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 60), extensions_of_a_plan)
def test_first_rows_of_an_extended_plan_are_the_plan_before(count: int, extensions: list[int]) -> None:
    before = plan_of(recipe_of(count=count, store={"shard_images": 7}), CATEGORIES)
    for number in range(1, len(extensions) + 1):
        plan = extended_plan(count, extensions[:number])
        assert plan[: len(before)] == before
        assert len(plan) == len(before) + extensions[number - 1]
        before = plan


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 60), extensions_of_a_plan)
def test_extended_plan_keeps_every_promise_of_a_plan(count: int, extensions: list[int]) -> None:
    plan = extended_plan(count, extensions)
    assert [row.index for row in plan] == list(range(len(plan)))
    assert len({row.id for row in plan}) == len({row.seed_path for row in plan}) == len(plan)
    found = combinations(plan)
    assert len(set(found)) == len(found), "no state comes twice in one turn on one photograph"
    assert all(row.trajectory % 10 == row.group == row.source % 10 for row in plan)
    for name in CHANNELS:
        mine = [row for row in plan if f"{row.dataset}/{row.category}" == name]
        assert all(row.shard == row.row // 7 for row in mine)
        assert len({row.row for row in mine}) == len(mine)
        used = np.bincount([row.source for row in mine], minlength=3)
        assert np.ptp(used) <= 1, "photographs go on in turn"


def test_segment_never_shares_a_shard_or_a_trajectory_with_another() -> None:
    plan = extended_plan(25, [9, 30])
    parts = [plan[:25], plan[25:34], plan[34:]]
    for kind in (lambda row: (row.category, row.shard), lambda row: (row.mechanism, row.trajectory // BANK_SHARD)):
        seen = [{kind(row) for row in part} for part in parts]
        assert sum(map(len, seen)) == len(set.union(*seen))


def test_trajectories_of_each_segment_begin_a_shard_of_the_bank() -> None:
    ranges = bank_ranges(recipe_of(bank={"trajectories": 37}), [12], [50, 10])
    assert ranges == {name: (range(37), range(48, 85), range(96, 133)) for name in ("fracture", "pitting")}


def test_category_without_a_sample_gets_its_shards_from_the_first_segment_that_has_one() -> None:
    lying = category_rows(recipe_of(), 1, [0, 3, 0, 4])
    assert lying.per_shard == 3
    assert lying.segments == (range(0), range(3), range(3, 3), range(3, 7))
    assert lying.used == (range(3), range(3, 7))


# ---------------------------------------------------------------- the corpus


def test_what_was_there_is_the_same_bytes_and_what_came_verifies(
    extended: Path, finished: Path, finished_digest: dict[str, str]
) -> None:
    assert verify_corpus(extended).problems == ()
    now = digest(extended)
    kept = {n: d for n, d in finished_digest.items() if "/c/" in n or n.startswith("commits/")}
    assert len(kept) > 50
    assert {name: now[name] for name in kept} == kept
    rows = [read_table(out / layout.MANIFEST).slice(0, 24).to_pylist() for out in (finished, extended)]
    assert rows[0] == rows[1]
    assert json.loads((extended / "config.json").read_bytes())["extensions"] == [12, 7]
    assert "extensions" not in json.loads((finished / "config.json").read_bytes())


def test_reader_and_trainer_see_all_samples_though_rows_have_gaps(extended: Path) -> None:
    corpus = Corpus(extended, statuses=None)
    assert len(corpus) == 43
    assert corpus.info.extensions == [12, 7]
    assert corpus.info.counts.total == 43
    by_shard = [sample for _, samples in corpus.iter_shards() for sample in samples]
    for one, other in zip(corpus[:], by_shard, strict=True):
        assert_array_equal(corpus[one.record.index].image, other.image)
        assert (one.mask.max() > 0) == (one.record.status == "ok")
    assert len(normals_of(corpus)) == len({(s.record.category, s.record.source) for s in by_shard})


def test_array_says_which_of_its_rows_hold_a_sample(extended: Path, finished: Path) -> None:
    corpus = Corpus(extended, statuses=None).where(category="brick")
    array = zarr.open_array(extended / "data/builtin/brick/mask", mode="r")
    ranges = array.attrs["rows"]
    assert ranges == [[0, 12], [15, 21], [25, 29]]
    assert [row for a, b in ranges for row in range(a, b)] == corpus.table["row"].to_pylist()
    assert array.attrs["count"] == len(corpus)
    assert "rows" not in zarr.open_array(finished / "data/builtin/brick/mask", mode="r").attrs


def test_generate_with_the_recipe_goes_on_with_the_extensions(
    extended: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(extended, tmp_path / "out"))
    (out / "commits/samples--builtin--brick--00003.json").unlink()  # of the first extension
    assert generate(out, load_recipe(recipe_file, overrides={}), workers=1).made == 5
    assert digest(out) == digest(extended)


def test_bank_counts_all_trajectories_and_draws_those_before_the_first_gap(extended: Path) -> None:
    for row in summarise_bank(extended, read_identity(extended).recipe):
        assert (row.trajectories, row.unbroken) == (60, 20)


# ---------------------------------------------------------------- killed


def test_killed_again_and_again_it_ends_with_the_bytes_of_undisturbed_extensions(
    maphc2f: CommandLine, finished: Path, extended: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    begun = (
        ("1", lambda: not (out / "corpus.json").exists()),
        ("2", lambda: any((out / "commits").glob("bank--fracture--00002*"))),
    )
    for workers, stage in begun:
        process = maphc2f.start("extend", out, "--count", "12", "--workers", workers)
        wait_for(stage, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (out / "corpus.json").exists()
    done = maphc2f.run("extend", out, "--count", "12")
    assert done.returncode == 0, done.stderr
    assert "going on with the extension by 12" in done.stdout
    extend(out, Wish(7), workers=1)
    assert digest(out) == digest(extended)


def test_corpus_that_was_not_finished_is_extended_and_finished(
    finished: Path, extended: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "out"))
    for name in (
        "corpus.json",
        "manifest.parquet",
        "inventory.parquet",
        "commits/samples--builtin--hex_nut--00001.json",
    ):
        (out / name).unlink()
    (out / "commits/sources--builtin--brick--00000.json").unlink()
    outcome = extend(out, Wish(12), workers=1)
    assert outcome is not None
    assert outcome.made == 12 + 5
    extend(out, Wish(total=43), workers=1)
    assert digest(out) == digest(extended)


# ---------------------------------------------------------------- refused


def test_extension_under_way_is_gone_on_with_and_no_other_begun(copied_extended: Path) -> None:
    out = copied_extended
    for name in ("corpus.json", "manifest.parquet"):
        (out / name).unlink()
    before = digest(out)
    with pytest.raises(ConfigError, match=r"its extension by 7 is not finished; finish it first with .* --count 7"):
        extend(out, Wish(8), workers=1)
    with pytest.raises(ConfigError, match="not finished"):
        extend(out, Wish(total=50), workers=1)
    assert digest(out) == before


@pytest.fixture
def copied_extended(extended: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(extended, tmp_path / "extended"))


def test_as_many_as_there_are_is_nothing_to_do_and_fewer_is_refused(
    copied: Path, finished_digest: dict[str, str]
) -> None:
    assert extend(copied, Wish(total=24), workers=1) is None
    with pytest.raises(ConfigError, match="has 24 samples already; a corpus does not shrink"):
        extend(copied, Wish(total=23), workers=1)
    assert digest(copied) == finished_digest


def test_bank_too_small_for_an_extension_is_refused_before_anything_changes(
    copied: Path, finished_digest: dict[str, str]
) -> None:
    with pytest.raises(ConfigError, match=r"bank\.trajectories: 20 are too few for"):
        extend(copied, Wish(100_000), workers=1)
    assert digest(copied) == finished_digest


def test_extension_by_another_process_meanwhile_is_kept_and_told(copied: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = Identity.of(read_identity(copied).recipe, [7]).to_bytes()

    def overtaken(*given: Any) -> Any:
        (copied / layout.CONFIG).write_bytes(other)
        return bank_ranges(*given)

    monkeypatch.setattr("pipeline.extension.bank_ranges", overtaken)
    with pytest.raises(OutputError, match="another maphc2f has extended it"):
        extend(copied, Wish(more=5), workers=1)
    assert (copied / layout.CONFIG).read_bytes() == other
    assert (copied / layout.CORPUS).is_file()


def test_corpus_of_another_code_version_is_refused(copied: Path) -> None:
    config = json.loads((copied / "config.json").read_bytes())
    (copied / "config.json").write_text(json.dumps(config | {"code_version": "0.0.9+abc"}))
    with pytest.raises(OutputError, match=r"begun by code version 0\.0\.9\+abc"):
        extend(copied, Wish(1), workers=1)


@pytest.mark.parametrize("options", [(), ("--count", "3", "--to", "30")])
def test_one_of_count_and_to_is_asked_for(options: tuple[str, ...], finished: Path, maphc2f: CommandLine) -> None:
    done = maphc2f.run("extend", finished, *options)
    assert done.returncode == 2
    assert "give either --count N, samples to append, or --to N" in done.stderr
    assert done.stderr.count("\n") == 1


def test_scores_of_fewer_samples_are_taken_away_and_made_again(copied_extended: Path) -> None:
    out = copied_extended
    first = score_corpus(out, None)
    extend(out, Wish(1), workers=1)
    assert not list((out / "scores").iterdir())
    assert verify_corpus(out).problems == ()
    assert Corpus(out).info.scores == []
    assert score_corpus(out, None).samples == first.samples + 1
