"""Content hashes: known digests, one text for one value, and the digest of the code."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from manifests import __version__
from manifests.hashing import canonical_json, code_version, package_digest, sha256_bytes, sha256_file

ROOT = Path(__file__).resolve().parent.parent.parent
# FIPS 180-4 test vectors, as published by NIST.
VECTORS = {
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(("data", "digest"), VECTORS.items(), ids=["empty", "abc", "million-a"])
def test_sha256_agrees_with_the_published_vectors(tmp_path: Path, data: bytes, digest: str) -> None:
    path = tmp_path / "data"
    path.write_bytes(data)
    assert sha256_bytes(data) == digest
    assert sha256_bytes(memoryview(data)) == digest
    assert sha256_file(path) == digest


def test_canonical_json_sorts_keys_and_keeps_no_spaces() -> None:
    assert (
        canonical_json({"b": [1, 2.5, None], "a": {"d": True, "c": "é"}})
        == '{"a":{"c":"é","d":true},"b":[1,2.5,null]}'.encode()
    )


@given(JSON_VALUES)
def test_canonical_json_round_trips(value: object) -> None:
    text = canonical_json(value)
    assert json.loads(text) == value
    assert canonical_json(json.loads(text)) == text


@given(st.dictionaries(st.text(), JSON_VALUES, min_size=2, max_size=6))
def test_canonical_json_is_blind_to_key_order(value: dict[str, object]) -> None:
    assert canonical_json(dict(reversed(value.items()))) == canonical_json(value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_canonical_json_refuses_what_json_cannot_say(value: float) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical_json({"x": [value]})


def digest_of_copy(folder: Path) -> str:
    """Code version as a process sees it that imports the copy in ``folder``."""
    program = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from manifests.hashing import code_version\n"
        "print(code_version())\n"
    )
    return subprocess.run(
        [sys.executable, "-P", "-c", program], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def copy_of_the_code(folder: Path) -> Path:
    for package in ("manifests", "physics", "refine", "pipeline"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def test_code_version_is_release_and_digest() -> None:
    assert re.fullmatch(re.escape(__version__) + r"\+[0-9a-f]{12}", code_version())


def test_code_version_does_not_depend_on_where_the_code_lies(tmp_path: Path) -> None:
    assert digest_of_copy(copy_of_the_code(tmp_path)) == code_version()


@pytest.mark.parametrize("package", ["manifests", "physics", "refine", "pipeline"])
def test_code_version_changes_with_a_byte_in_any_package(tmp_path: Path, package: str) -> None:
    folder = copy_of_the_code(tmp_path)
    before = digest_of_copy(folder)
    with (folder / package / "__init__.py").open("a", encoding="utf-8") as stream:
        stream.write("\n")
    assert digest_of_copy(folder) != before


def test_code_version_changes_when_a_module_is_renamed(tmp_path: Path) -> None:
    folder = copy_of_the_code(tmp_path)
    (folder / "physics" / "one.py").write_text("", encoding="utf-8")
    before = digest_of_copy(folder)
    (folder / "physics" / "one.py").rename(folder / "physics" / "two.py")
    assert digest_of_copy(folder) != before


def digests_of_copy(folder: Path, *packages: str) -> str:
    """What `package_digest` says in a process of its own that imports the copy in ``folder``."""
    program = (
        f"import sys; sys.path.insert(0, {str(folder)!r})\n"
        "from manifests.hashing import package_digest\n"
        f"print(package_digest(*{packages!r}))\n"
    )
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def test_digest_of_a_package_changes_with_its_files_and_with_no_others(tmp_path: Path) -> None:
    folder = copy_of_the_code(tmp_path)
    physics, refine = digests_of_copy(folder, "physics"), digests_of_copy(folder, "refine")
    assert re.fullmatch("[0-9a-f]{64}", physics)
    assert physics == package_digest("physics"), "wherever the code lies"
    with (folder / "physics" / "registry.py").open("a", encoding="utf-8") as stream:
        stream.write("\n")
    edited = digests_of_copy(folder, "physics")
    (folder / "physics" / "one.py").write_text("", encoding="utf-8")
    added = digests_of_copy(folder, "physics")
    (folder / "physics" / "one.py").rename(folder / "physics" / "two.py")
    renamed = digests_of_copy(folder, "physics")
    (folder / "physics" / "notes.txt").write_text("no module", encoding="utf-8")
    assert len({physics, edited, added, renamed}) == 4
    assert digests_of_copy(folder, "physics") == renamed
    assert digests_of_copy(folder, "refine") == refine


def test_digest_of_several_packages_is_none_of_theirs() -> None:
    assert len({package_digest("physics"), package_digest("refine"), package_digest("physics", "refine")}) == 3
