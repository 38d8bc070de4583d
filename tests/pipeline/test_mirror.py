"""Corpora in a bucket: the bytes of one on disk, whatever the store does to the requests and whoever kills the run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from bisqad.datasets import CorpusDataset, CorpusStream
from manifests import Corpus
from manifests.errors import CorpusError, OutputError, StorageError
from manifests.object_store import ObjectPath
from manifests.records import FileRecord
from pipeline import mirror
from pipeline.generate import generate, prepare
from pipeline.mirror import cache_folder, fetch
from pipeline.recipe import Recipe
from pipeline.scoring import score_corpus
from pipeline.verification import verify_corpus
from tests.pipeline.conftest import RECIPE, ROOT, CommandLine, digest, surface
from tests.s3_proxy import BUCKET, KEY, MARKER, Bucket, Proxy

ON_DISK = "s3://…: is in a bucket; this needs a folder: copy the corpus to a disk first"
ONE = "data/builtin/brick/image/c/1/0/0/0"  # a shard of samples


def in_bucket(bucket: Bucket, prefix: str) -> dict[str, str]:
    """sha256 of every object by its key; log/ is no part of a corpus."""
    return {
        name: sha256(data).hexdigest() for name, data in bucket.objects(prefix).items() if not name.startswith("log/")
    }


def the_recipe() -> Recipe:
    return Recipe.model_validate(yaml.safe_load(RECIPE))


@pytest.fixture
def command(tmp_path: Path, s3: Proxy) -> CommandLine:
    """``maphc2f`` as a user runs it, the store in the environment."""
    return CommandLine(tmp_path, {**os.environ, "PYTHONPATH": str(ROOT)})


@pytest.fixture
def uploaded(s3: Proxy, bucket: Bucket, finished: Path, request: pytest.FixtureRequest) -> ObjectPath:
    """The finished corpus copied to the bucket, file by file: what anybody's upload of a corpus on disk gives."""
    prefix = f"uploaded/{request.node.name}"
    bucket.upload(finished, prefix)
    return ObjectPath(BUCKET, prefix)


@dataclass(frozen=True)
class Story:
    """A run that was joined by another, killed, and run again."""

    second: subprocess.CompletedProcess[str]
    left: dict[str, str]
    again: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def story(
    tmp_path_factory: pytest.TempPathFactory,
    s3_server: Proxy,
    s3_environment: dict[str, str],
    bucket: Bucket,
    recipe_file: Path,
) -> Story:
    """Killed without warning, with its workers, once some shards of samples have their records."""
    command = CommandLine(tmp_path_factory.mktemp("story"), {**os.environ, **s3_environment, "PYTHONPATH": str(ROOT)})
    arguments = ("generate", f"s3://{BUCKET}/story", "--config", recipe_file, "--workers", "2")
    first = command.start(*arguments)
    before = len(s3_server.seen)
    while not any(s.method == "PUT" and "commits/samples" in s.path for s in s3_server.seen[before:]):
        assert first.poll() is None, first.communicate()
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGSTOP)  # so that it does not finish before the second has looked
    second = command.run(*arguments)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    left = in_bucket(bucket, "story")
    return Story(second, left, command.run(*arguments))


def test_a_second_run_in_one_place_is_refused(story: Story) -> None:
    assert story.second.returncode == 2
    assert re.fullmatch(
        rf"error: s3://{BUCKET}/story: another maphc2f \(process \d+ on \S+\) is writing here; wait for it; .*\n",
        story.second.stderr,
    )


def test_a_killed_run_goes_on_to_the_bytes_of_a_corpus_on_disk(
    story: Story, bucket: Bucket, finished_digest: dict[str, str]
) -> None:
    assert story.left  # something was there
    assert "corpus.json" not in story.left  # and it did not look whole
    assert story.again.returncode == 0, story.again.stderr
    assert re.search(r"sources: \d+ \(\d+ kept from an earlier run\)", story.again.stdout)
    assert re.search(r"trajectories: 40 \(40 kept from an earlier run\)", story.again.stdout)
    assert in_bucket(bucket, "story") == finished_digest


def test_no_credentials_are_in_objects_logs_and_output(story: Story, bucket: Bucket) -> None:
    told = (story.second.stdout, story.second.stderr, story.again.stdout, story.again.stderr)
    for data in (*bucket.objects("story").values(), *(text.encode() for text in told)):
        assert MARKER.encode() not in data
        assert KEY.encode() not in data
    assert {name for name in bucket.objects("story") if name.startswith("log/")} == {
        "log/progress.jsonl",
        "log/resources.jsonl",
        "log/runs.jsonl",
    }


def test_an_unreliable_store_changes_no_byte(
    s3: Proxy, bucket: Bucket, finished: Path, finished_digest: dict[str, str]
) -> None:
    with s3.unreliable(1, 0.15) as faults:
        generate(ObjectPath(BUCKET, "unreliable"), the_recipe(), workers=1, shared_bank=finished)
    assert set(faults) == {"refuse", "fail", "lose", "drop", "cut", "slow"}
    assert in_bucket(bucket, "unreliable") == finished_digest


def test_each_object_is_put_once_and_a_record_costs_a_look_at_the_lease(
    s3: Proxy, bucket: Bucket, finished: Path
) -> None:
    s3.seen.clear()
    generate(ObjectPath(BUCKET, "counted"), the_recipe(), workers=1, shared_bank=finished)
    seen = [s for s in s3.seen if s.path.startswith("counted/")]
    put = Counter(s.path for s in seen if s.method == "PUT" and "/log/" not in s.path and "zarr.json" not in s.path)
    objects = {f"counted/{name}" for name in in_bucket(bucket, "counted") if not name.endswith("zarr.json")}
    assert put == dict.fromkeys(objects, 1)
    records = sum("/commits/" in name for name in objects)
    assert sum(s.method == "GET" and s.path.endswith("lease.json") for s in seen) <= records + 6
    assert not [s for s in seen if s.method == "GET" and "/c/" in s.path]  # what was made here is not fetched again


def test_a_finished_corpus_is_left_as_it_is(s3: Proxy, uploaded: ObjectPath) -> None:
    s3.seen.clear()
    outcome = generate(uploaded, the_recipe(), workers=1)
    assert outcome.made == 0
    assert not [s for s in s3.seen if s.method == "PUT" and "/log/" not in s.path]
    assert sum(s.method in {"POST", "DELETE"} for s in s3.seen) == 1  # the lease


def test_lost_shards_are_made_again_and_strays_swept(
    bucket: Bucket, uploaded: ObjectPath, finished_digest: dict[str, str]
) -> None:
    bucket.remove(f"{uploaded.key}/{ONE}")
    bucket.remove(f"{uploaded.key}/commits/samples--builtin--hex_nut--00000.json")
    bucket.put(f"{uploaded.key}/data/builtin/brick/image/c/99/0/0/0", b"of nobody")
    outcome = generate(uploaded, the_recipe(), workers=1)
    assert outcome.made == 10
    assert in_bucket(bucket, uploaded.key) == finished_digest


def test_changed_photographs_give_the_corpus_that_a_disk_would_have(
    s3: Proxy, bucket: Bucket, photographs: Path, tmp_path: Path
) -> None:
    settings = {
        "count": 6,
        "size": 64,
        "sources": [{"kind": "folder", "path": str(photographs)}],
        "mechanisms": {"pitting": {"grid": 32, "snapshots": 4}},
        "bank": {"trajectories": 10},
        "foreground": {"mode": "texture"},
        "store": {"shard_images": 2},
    }
    recipe, place = Recipe.model_validate(settings), ObjectPath(BUCKET, "changed")
    for _ in range(2):
        generate(tmp_path / "disk", recipe, workers=1)
        generate(place, recipe, workers=1)
        assert in_bucket(bucket, "changed") == digest(tmp_path / "disk")
        (photographs / "part1.png").unlink(missing_ok=True)
        Image.fromarray(np.flipud(surface(9, (80, 64)))).save(photographs / "part2.png")


def test_another_recipe_and_foreign_objects_are_refused_before_anything_is_put(
    s3: Proxy, bucket: Bucket, uploaded: ObjectPath
) -> None:
    before = bucket.objects(uploaded.key)
    with pytest.raises(OutputError, match=rf"^{uploaded}: was begun with another recipe \(seed is 0 there and 1 here"):
        generate(uploaded, the_recipe().model_copy(update={"seed": 1}), workers=1)
    assert bucket.objects(uploaded.key) == before
    bucket.put("foreign/readme.txt", b"mine")
    with pytest.raises(OutputError, match=r"s3://parts/foreign: holds something else \(readme.txt\)"):
        generate(ObjectPath(BUCKET, "foreign"), the_recipe(), workers=1)
    assert bucket.objects("foreign") == {"readme.txt": b"mine"}


def test_verification_finds_nothing_in_a_sound_corpus(uploaded: ObjectPath, finished: Path) -> None:
    assert verify_corpus(uploaded) == verify_corpus(finished)


def test_verification_names_what_is_wrong_in_the_bucket(
    bucket: Bucket, uploaded: ObjectPath, finished: Path, tmp_path: Path
) -> None:
    data = bytearray((finished / ONE).read_bytes())
    data[len(data) // 2] ^= 1
    source = "data/builtin/hex_nut/source/c/0/0/0/0"
    bucket.put(f"{uploaded.key}/{ONE}", bytes(data))
    bucket.put(f"{uploaded.key}/{source}", bytes(len((finished / source).read_bytes())))
    bucket.remove(f"{uploaded.key}/data/builtin/brick/mask/c/2/0/0")
    bucket.put(f"{uploaded.key}/data/stray", b"x")
    found = {(problem.where, problem.what.split(",")[0]) for problem in verify_corpus(uploaded).problems}
    assert {where for where, _ in found} >= {ONE, source, "data/builtin/brick/mask/c/2/0/0", "data/stray"}
    assert not [text for problem in found for text in problem if "/tmp" in text]  # noqa: S108


def test_a_damaged_source_stops_a_run_that_needs_it(
    bucket: Bucket, uploaded: ObjectPath, finished: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MAPHC2F_CACHE", str(tmp_path / "fresh"))
    source = "data/builtin/hex_nut/source/c/0/0/0/0"
    bucket.put(f"{uploaded.key}/{source}", bytes(len((finished / source).read_bytes())))
    with pytest.raises(CorpusError, match=rf"{uploaded}/{source}: has other content than its record says"):
        generate(uploaded, the_recipe(), workers=1)


def test_what_one_machine_has_fetched_it_does_not_fetch_again(s3: Proxy, uploaded: ObjectPath, finished: Path) -> None:
    path = "data/builtin/brick/source/c/0/0/0/0"
    data = (finished / path).read_bytes()
    file = FileRecord(path=path, bytes=len(data), sha256=sha256(data).hexdigest())
    for number in range(2):
        s3.seen.clear()
        fetch(uploaded, [file], cache_folder() / f"target{number}")
        assert (cache_folder() / f"target{number}" / path).read_bytes() == data
    assert s3.seen == []


def test_a_corpus_is_read_from_the_bucket_as_from_disk(uploaded: ObjectPath, finished: Path) -> None:
    there, here = Corpus(str(uploaded)), Corpus(finished)
    assert there.info == here.info
    assert there.table == here.table
    for a, b in zip(there.where(mechanism="fracture"), here.where(mechanism="fracture"), strict=True):
        for name in ("image", "mask", "source", "foreground", "instances"):
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
        assert a.fields.keys() == b.fields.keys()
        for name, field in a.fields.items():
            np.testing.assert_array_equal(field.values, b.fields[name].values)
    np.testing.assert_array_equal(there[-1].image, here[-1].image)


def test_views_and_rows_in_any_order_are_those_of_a_corpus_on_disk(uploaded: ObjectPath, finished: Path) -> None:
    there, here = Corpus(str(uploaded)), Corpus(finished)
    chosen = [corpus.select("mechanism = 'pitting'").take([3, 0, 2]) for corpus in (there, here)]
    assert [s.record for s in chosen[0]] == [s.record for s in chosen[1]]
    np.testing.assert_array_equal(chosen[0][0].image, chosen[1][0].image)
    for rows in ([11, 2, 2, 0], [4], [], range(3, 9), range(12), list(range(11, -1, -1))):
        for name in ("image", "mask", "source"):
            found = there.read(name, "builtin/brick", [k % 4 for k in rows] if name == "source" else rows)
            kept = here.read(name, "builtin/brick", [k % 4 for k in rows] if name == "source" else rows)
            np.testing.assert_array_equal(found, kept, strict=True)


def test_torch_reads_a_corpus_in_a_bucket(uploaded: ObjectPath, finished: Path) -> None:
    there, here = CorpusDataset(str(uploaded)), CorpusDataset(finished)
    assert len(there) == len(here) == 24
    np.testing.assert_array_equal(there[7]["image"], here[7]["image"])
    streams = (CorpusStream(place, shuffle=False, columns=("index",)) for place in (str(uploaded), finished))
    for a, b in zip(*streams, strict=True):
        assert a["index"] == b["index"]
        np.testing.assert_array_equal(a["image"], b["image"])


def test_a_shard_is_read_in_one_request_an_array(s3: Proxy, bucket: Bucket, finished: Path) -> None:
    bucket.upload(finished, "whole")
    corpus = Corpus(f"s3://{BUCKET}/whole")
    s3.seen.clear()
    samples = [sample for _, samples in corpus.iter_shards() for sample in samples]
    assert len(samples) == 24
    assert all(sample.image.any() for sample in samples)
    gets = Counter(s.path for s in s3.seen if s.method == "GET" and "/c/" in s.path)
    assert len(gets) == 12  # image and mask of six shards
    assert max(gets.values()) <= 1 + 5  # five rows are few: the index, and each a request


def test_a_corpus_that_is_damaged_or_gone_is_said(s3: Proxy, bucket: Bucket, uploaded: ObjectPath) -> None:
    bucket.remove(f"{uploaded.key}/{ONE}")
    with pytest.raises(CorpusError, match=rf"{uploaded}/{ONE}: the shard is missing"):
        list(Corpus(str(uploaded)))
    bucket.put(f"{uploaded.key}/manifest.parquet", b"PAR1")
    with pytest.raises(CorpusError, match=r"manifest.parquet: is not the one that corpus.json names"):
        Corpus(str(uploaded))
    bucket.remove(f"{uploaded.key}/corpus.json")
    with pytest.raises(CorpusError, match="this corpus is not finished"):
        Corpus(str(uploaded))


def test_scores_are_those_of_a_corpus_on_disk(bucket: Bucket, uploaded: ObjectPath, copied: Path) -> None:
    score_corpus(copied, None)
    made = score_corpus(uploaded, None)
    assert in_bucket(bucket, uploaded.key) == digest(copied)
    np.testing.assert_array_equal(Corpus(uploaded).scores(made.sqe_sha256), Corpus(copied).scores(made.sqe_sha256))


def test_a_plan_in_the_bucket_is_the_plan_on_disk(s3: Proxy, bucket: Bucket, finished_digest: dict[str, str]) -> None:
    prepared = prepare(ObjectPath(BUCKET, "planned"), the_recipe(), workers=1)
    planned = in_bucket(bucket, "planned")
    assert len(prepared.plan) == 24
    assert planned.items() <= finished_digest.items()
    assert {"config.json", "inventory.parquet", "plan.parquet", "commits/sources--builtin--brick--00000.json"} <= {
        *planned
    }


def test_commands_take_an_address(command: CommandLine, uploaded: ObjectPath, recipe_file: Path) -> None:
    sample = Corpus(uploaded)[5].record.id
    for arguments in (
        ("sheet", uploaded, "sheet.png", "--count", "4"),
        ("bank", uploaded),
        ("show", uploaded, sample, "--out", "card.png"),
        ("generate", uploaded, "--config", recipe_file, "--profile"),
    ):
        done = command.run(*map(str, arguments))
        assert done.returncode == 0, done.stderr
    for name in ("sheet.png", "card.png"):
        with Image.open(command.folder / name) as picture:
            assert picture.width > 100
    assert list(command.folder.glob("*-bank.png"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("generate", "s3://no-such-bucket/out", "--source", "builtin"), "there is no such bucket"),
        (("verify", f"s3://{KEY}:{MARKER}@{BUCKET}/out"), "never in the address"),
        (("generate", f"s3://{BUCKET}/out", "--range", "0:5"), "--range with s3://parts/out: expected a folder"),
        (
            ("generate", f"s3://{BUCKET}/out", "--scheduler", "tcp://127.0.0.1:1"),
            "--scheduler with s3://parts/out: expected a folder",
        ),
        (("extend", f"s3://{BUCKET}/out", "--count", "5"), ON_DISK),
        (("merge", "a", "b", f"s3://{BUCKET}/out"), ON_DISK),
        (("repair", f"s3://{BUCKET}/out"), ON_DISK),
        (("export", f"s3://{BUCKET}/out", "there", "--format", "coco"), ON_DISK),
        (("export", "here", f"s3://{BUCKET}/out", "--format", "coco"), ON_DISK),
        (("publish", f"s3://{BUCKET}/out", "there"), ON_DISK),
        (("publish", "here", f"s3://{BUCKET}/out"), ON_DISK),
        (("report", f"s3://{BUCKET}/out", "there"), ON_DISK),
        (("report", "here", f"s3://{BUCKET}/out"), ON_DISK),
        (("compare", "here", f"s3://{BUCKET}/out", "there"), ON_DISK),
        (("reproduce", f"s3://{BUCKET}/out", "3f9c"), ON_DISK),
        (("bank", "here", "--picture", f"s3://{BUCKET}/bank.png"), ON_DISK),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(command: CommandLine, arguments: tuple[str, ...], told: str) -> None:
    done = command.run(*arguments)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert MARKER not in done.stdout + done.stderr
    assert not (command.folder / "s3:").exists()


def test_who_comes_second_must_have_made_the_same(s3: Proxy, bucket: Bucket) -> None:
    place = ObjectPath(BUCKET, "raced") / "commits/samples--a--b--00000.json"
    for _ in range(2):
        mirror._create(place, b"record")
    with pytest.raises(CorpusError, match="was written by another run, with other content"):
        mirror._create(place, b"another")
    assert bucket.objects("raced/commits") == {"samples--a--b--00000.json": b"record"}


def test_a_run_that_was_overtaken_puts_no_more_records(
    s3: Proxy, bucket: Bucket, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = b'{"token": "theirs", "host": "press-7", "machine": "press-7 boot", "process": 1}'
    monkeypatch.setattr("pipeline.generate.create_bank", lambda *_: bucket.put("overtaken/log/lease.json", other))
    with pytest.raises(OutputError, match=f"s3://{BUCKET}/overtaken: .*another run"):
        generate(ObjectPath(BUCKET, "overtaken"), the_recipe(), workers=1, shared_bank=finished)
    assert not [name for name in bucket.objects("overtaken") if name.startswith(("commits/bank", "corpus.json"))]
    assert bucket.objects("overtaken")["log/lease.json"] == other


def test_a_store_that_goes_away_ends_the_run_with_one_line(
    s3: Proxy, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object) -> None:
        monkeypatch.setattr(s3, "denied", True)

    monkeypatch.setattr("pipeline.generate.create_bank", deny)
    with pytest.raises(StorageError, match="access is denied"):
        generate(ObjectPath(BUCKET, "gone"), the_recipe(), workers=1, shared_bank=finished)
