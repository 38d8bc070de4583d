"""Where things lie: no two records in one file, and no path that leaves its root."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import get_args
from urllib.parse import unquote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from manifests import layout
from manifests.config import RefineStage
from manifests.fields import FIELDS
from manifests.layout import commit_name, safe_join, shard_file

PARTS = st.text(st.sampled_from("ab-.%2D_"), min_size=1, max_size=7)
KEYS = st.lists(PARTS, min_size=1, max_size=3).map("/".join)


def test_record_is_named_by_stage_key_and_shard() -> None:
    assert commit_name("samples", "builtin/brick", 3) == "samples--builtin--brick--00003.json"
    assert commit_name("sources", "my-parts/hex-nut_2.b", 0) == "sources--my-parts--hex-nut_2.b--00000.json"
    assert commit_name("bank", "fracture", 123456) == "bank--fracture--123456.json"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a/b--c", "a--b/c"),
        ("a-/b", "a/-b"),
        ("a--/b", "a/--b"),
        ("a/b", "a--b"),
        ("a---b/c", "a/-b/c"),
        ("a%2D/b", "a-/b"),
        ("a--b/c", "a-%2Db/c"),
    ],
)
def test_keys_that_look_alike_have_records_of_their_own(one: str, other: str) -> None:
    assert commit_name("samples", one, 0) != commit_name("samples", other, 0)


@given(key=KEYS, shard=st.integers(0, 10**7), stage=st.sampled_from(["sources", "bank", "samples"]))
@example(key="-/-", shard=0, stage="bank")
def test_stage_key_and_shard_can_be_read_back_from_the_name(key: str, shard: int, stage: str) -> None:
    name = commit_name(stage, key, shard)
    assert "/" not in name
    first, *parts, number = name.removesuffix(".json").split("--")
    assert (first, "/".join(unquote(part) for part in parts), int(number)) == (stage, key, shard)


@given(one=KEYS, other=KEYS)
def test_two_keys_never_share_a_name(one: str, other: str) -> None:
    assert (commit_name("samples", one, 0) == commit_name("samples", other, 0)) == (one == other)


def test_shard_file_is_where_zarr_puts_the_chunk() -> None:
    assert shard_file("data", "builtin/brick", "image", 7, 4) == "data/builtin/brick/image/c/7/0/0/0"
    assert shard_file("bank", "fracture", "load", 0, 1) == "bank/fracture/load/c/0"


def test_path_below_the_root_is_joined(tmp_path: Path) -> None:
    (tmp_path / "root" / "data").mkdir(parents=True)
    (tmp_path / "link").symlink_to("root")  # the corpus folder itself may be one
    for root in (tmp_path / "root", tmp_path / "link"):
        assert safe_join(root, "data/a") == tmp_path / "root" / "data" / "a"
        assert safe_join(root, "data/../data/./a") == tmp_path / "root" / "data" / "a"


def test_relative_root_is_a_root_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert safe_join(Path(), "data/a") == tmp_path / "data" / "a"
    with pytest.raises(ValueError, match="leaves"):
        safe_join(Path(), "../a")


@pytest.mark.parametrize(
    "relative",
    [
        "/etc/hostname",
        "..",
        "../beside",
        "data/../../beside",
        "data/./../..",
        "../root2/a",
        "out",
        "out/a",
        "file",
        "\0",
    ],
)
def test_path_that_leaves_the_root_is_refused(tmp_path: Path, relative: str) -> None:
    root = tmp_path / "root"
    (root / "data").mkdir(parents=True)
    (tmp_path / "root2").mkdir()
    (tmp_path / "beside").touch()
    (root / "out").symlink_to(tmp_path / "root2")
    (root / "file").symlink_to("../beside")
    with pytest.raises(ValueError, match=r"leaves|null byte"):
        safe_join(root, relative)


def test_links_in_a_circle_are_a_path_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to("one")
    assert not safe_join(tmp_path, "one/a").exists()


@given(parts=st.lists(st.sampled_from(["a", "..", ".", "b", "", "/", "c--d"]), max_size=6))
def test_joined_path_never_leaves_the_root(parts: list[str]) -> None:
    root = Path("/nowhere/root")
    try:
        joined = safe_join(root, "/".join(parts))
    except ValueError:
        return
    assert joined.is_relative_to(root)
    assert ".." not in joined.parts


def test_every_part_of_a_corpus_has_its_name_in_the_module_docstring() -> None:
    assert layout.__doc__ is not None
    drawn = set(re.findall(r"── ([\w.]+)", layout.__doc__))
    assert drawn == layout.TOP_LEVEL
    assert all(PurePosixPath(name).name == name for name in layout.TOP_LEVEL)


def test_stages_are_those_of_the_recipe_in_the_order_of_the_passes_with_arrays_of_their_own() -> None:
    assert layout.STAGES == get_args(RefineStage) == ("paste", "render", "npcf")
    names = [layout.stage_array(stage) for stage in layout.STAGES]
    assert not {*names, layout.INSTANCE} & {*layout.SAMPLE_ARRAYS, *layout.SOURCE_ARRAYS, *FIELDS}
