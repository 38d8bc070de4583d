"""One corpus by several machines: ranges in whole shards, and the parts joined to the bytes of an undisturbed run."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from manifests.errors import ConfigError, OutputError
from manifests.hashing import canonical_json
from pipeline.bank import bank_specs
from pipeline.generate import generate_share
from pipeline.merging import merge_corpora
from pipeline.planning import bank_ranges, make_plan
from pipeline.recipe import Recipe, load_recipe
from pipeline.sharing import Share, missing_of, parse_range, share_of, whole_shards
from tests.pipeline.conftest import digest
from tests.pipeline.test_planning import category, recipe_of

Command = Callable[..., tuple[int, str, str]]
CATEGORIES = [category("few", 3), category("many", 17)]
SHARED = recipe_of(count=60, store={"shard_images": 7})
PLAN = make_plan(SHARED, CATEGORIES, {"made/few": 1, "made/many": 1}, [20])
ENDS = [0, 7, 14, 21, 28, 30, 37, 44, 51, 58, 60, 67, 70, 77, 80]
BANK = bank_specs(Path("out"), SHARED, bank_ranges(SHARED, [3, 17], [20]))

# ---------------------------------------------------------------- ranges


@settings(deadline=None)
@given(st.lists(st.integers(1, 79), max_size=4, unique=True).map(sorted))
def test_ranges_that_follow_one_another_still_do_in_whole_shards(cuts: list[int]) -> None:
    parts = []
    for start, stop in pairwise([0, *cuts, 80]):
        with suppress(ConfigError):  # of less than half a shard nothing is left
            parts.append(whole_shards(Share(start, stop), PLAN))
    assert parts[0].start == 0
    assert parts[-1].stop == 80
    assert all(a.stop == b.start for a, b in pairwise(parts))
    assert {part.stop for part in parts} <= set(ENDS)


@settings(deadline=None)
@given(st.lists(st.sampled_from(ENDS[1:-1]), max_size=4, unique=True).map(sorted))
def test_parts_hold_every_shard_of_samples_once_and_all_of_the_bank(cuts: list[int]) -> None:
    shares = [share_of(Share(start, stop), PLAN, BANK) for start, stop in pairwise([0, *cuts, 80])]
    samples = [name for _, mine, _ in shares for name in mine]
    assert len(samples) == len(set(samples)) == len(ENDS) - 1
    assert set.union(*(bank for _, _, bank in shares)) == {(s.mechanism, s.shard) for s in BANK}
    for wanted, _, bank in shares:
        mine = PLAN[wanted.start : wanted.stop]
        assert {(d.mechanism, d.trajectory // 16) for row in mine for d in row.planned()} <= bank


def test_range_of_less_than_half_a_shard_names_the_whole_one() -> None:
    with pytest.raises(
        ConfigError, match=r"--range 15:17: is less than half a shard; the shard there is samples 14:21"
    ):
        whole_shards(Share(15, 17), PLAN)


@pytest.mark.parametrize("text", ["", "5", "a:b", "-3:5", "5:5", "9:2", "1:2:3", "1.5:3", "²:9"])
def test_what_is_no_range_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--range"):
        parse_range(text)


@pytest.mark.parametrize("share", [Share(80, None), Share(0, 81), Share(90, 99)])
def test_range_beyond_the_plan_is_refused_with_its_length(share: Share) -> None:
    with pytest.raises(ConfigError, match="samples 0 to 79"):
        whole_shards(share, PLAN)


def test_what_is_missing_is_told_in_ranges() -> None:
    made = {(f"made/{row.category}", row.shard) for row in PLAN if not 7 <= row.index < 21}
    assert missing_of(PLAN, made, BANK, {(s.mechanism, s.shard) for s in BANK}) == "samples 7:21 of 80"
    assert missing_of(PLAN, {(f"made/{row.category}", row.shard) for row in PLAN}, BANK, set()) == (
        f"of the bank fracture trajectories 0 to 15 and {len(BANK) - 1} more shards"
    )


# ---------------------------------------------------------------- merging


@pytest.fixture(scope="module")
def recipe(recipe_file: Path) -> Recipe:
    return load_recipe(recipe_file, overrides={})


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory, recipe: Recipe, finished: Path) -> list[Path]:
    """Samples 0 to 11 and 12 to 23, each made in a folder of its own; not to be changed."""
    folder = tmp_path_factory.mktemp("parts")
    made = [folder / "a", folder / "b"]
    for out, share, expected in zip(made, ("0:12", "12:"), (range(12), range(12, 24)), strict=True):
        wanted, outcome = generate_share(out, recipe, parse_range(share), workers=1)
        assert wanted == expected
        assert outcome is None
        assert not (out / "corpus.json").exists()
    return made


@pytest.mark.parametrize("link", [False, True])
def test_parts_are_joined_to_the_bytes_of_an_undisturbed_run(
    link: bool, parts: list[Path], finished_digest: dict[str, str], tmp_path: Path
) -> None:
    before = [digest(part) for part in parts]
    outcome = merge_corpora(parts, tmp_path / "out", link=link)
    assert outcome.made == 0
    assert digest(tmp_path / "out") == finished_digest
    assert [digest(part) for part in parts] == before
    shard = "data/builtin/brick/image/c/0/0/0/0"
    assert (tmp_path / "out" / shard).samefile(parts[0] / shard) == link


def test_parts_on_another_file_system_are_copied_where_links_were_asked_for(
    parts: list[Path], finished_digest: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refused)
    merge_corpora(parts, tmp_path / "out", link=True)
    assert digest(tmp_path / "out") == finished_digest


def test_what_is_missing_is_said_and_kept_for_the_next_try(
    parts: list[Path], finished: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match=r"not whole, missing are samples 0:12 of 24") as said:
        merge_corpora([parts[1]], out)
    assert "\n" not in str(said.value)
    assert not (out / "corpus.json").exists()
    merge_corpora([parts[0]], out)
    assert digest(out) == finished_digest


def test_finished_corpus_and_a_part_of_it_overlap_without_harm(
    parts: list[Path], finished: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    merge_corpora([parts[1], finished], tmp_path / "out")
    assert digest(tmp_path / "out") == finished_digest


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_damaged_shard_is_taken_from_another_part_or_named(
    parts: list[Path], finished: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    damaged = Path(shutil.copytree(parts[0], tmp_path / "damaged"))
    flip(damaged / "data/builtin/brick/image/c/1/0/0/0")
    with pytest.raises(OutputError, match=r"missing are samples 5:10 of 24 \(1 files are damaged, first .*image/c/1/0"):
        merge_corpora([damaged, parts[1]], tmp_path / "out")
    merge_corpora([damaged, finished], tmp_path / "out")
    assert digest(tmp_path / "out") == finished_digest


def test_parts_that_disagree_on_a_shard_are_refused(parts: list[Path], finished: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(finished, tmp_path / "other"))
    path = other / "commits/samples--builtin--brick--00001.json"
    record = json.loads(path.read_bytes())
    record["rows"][0]["sqe"] = 0.5
    path.write_bytes(canonical_json(record) + b"\n")
    with pytest.raises(OutputError, match=r"samples--builtin--brick--00001: .* hold different shards"):
        merge_corpora([parts[0], other], tmp_path / "out")


def test_parts_of_two_recipes_are_refused_with_the_difference(parts: list[Path], tmp_path: Path) -> None:
    other = Path(shutil.copytree(parts[1], tmp_path / "other"))
    config = json.loads((other / "config.json").read_bytes())
    config["config"]["seed"] = 5
    (other / "config.json").write_bytes(canonical_json(config) + b"\n")
    with pytest.raises(OutputError, match="seed is 0 in the first and 5 in the other"):
        merge_corpora([parts[0], other], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folder_cannot_be_merged_into_itself(parts: list[Path]) -> None:
    with pytest.raises(OutputError, match="is one of the folders to merge"):
        merge_corpora(parts, parts[0])


def test_command_line_shares_and_joins(
    parts: list[Path], finished_digest: dict[str, str], recipe_file: Path, command: Command, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(parts[0], tmp_path / "out"))
    code, said, _ = command("generate", out, "--config", recipe_file, "--range", "11:24", "--bank", parts[1])
    assert code == 0
    assert "samples 10:24, which are the whole shards nearest to 11:24" in said
    assert "nothing is left" in said
    assert digest(out) == finished_digest
    code, said, _ = command("merge", *parts, tmp_path / "joined")
    assert code == 0
    assert "whole and verified" in said
    assert digest(tmp_path / "joined") == finished_digest
    code, _, complaint = command("merge", parts[0], tmp_path / "half")
    assert code == 2
    assert complaint.count("\n") == 1
    assert "missing are samples 12:24 of 24" in complaint
