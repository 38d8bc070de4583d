"""The main job under fire: same bytes whatever the workers, killed anywhere, interrupted, resumed, on odd pictures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil  # type: ignore[import-untyped]  # comes with distributed
import pytest
from numpy.typing import NDArray
from PIL import Image

from manifests import Corpus
from manifests.corpus import read_array
from manifests.errors import ConfigError, OutputError, SourceError
from manifests.records import SampleStatus
from physics.registry import MECHANISMS
from pipeline.bank_sheet import draw_bank
from pipeline.contact_sheet import draw_sheet
from pipeline.generate import fill_bank, generate, prepare
from pipeline.recipe import Recipe, load_recipe
from pipeline.store import read_identity
from pipeline.verification import verify_corpus
from tests.pipeline.conftest import MECHANISMS_OF_RECIPE, ROOT, digest, surface

if TYPE_CHECKING:
    from tests.pipeline.conftest import CommandLine


SMALL = {"fracture": {"grid": 32, "snapshots": 4}, "pitting": {"grid": 32, "snapshots": 4}}
CRACKS = {"fracture": {"grid": 32, "snapshots": 4}}


def small_recipe(folder: Path, **changes: object) -> Recipe:
    """A quick recipe on a folder of photographs."""
    settings: dict[str, object] = {
        "count": 6,
        "size": 64,
        "sources": [{"kind": "folder", "path": str(folder)}],
        "mechanisms": SMALL,
        "bank": {"trajectories": 10},
        "foreground": {"mode": "texture"},
        "store": {"shard_images": 2},
    }
    return load_recipe(None, overrides={**settings, **changes})


def save(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def problems(out: Path) -> list[str]:
    return [str(problem) for problem in verify_corpus(out).problems]


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str], *, seconds: float = 60.0) -> None:
    """Wait until something is so; the process must not end before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ---------------------------------------------------------------- determinism


@pytest.mark.parametrize("workers", [2, 3])
def test_any_number_of_workers_writes_the_same_bytes(
    workers: int, maphc2f: CommandLine, recipe_file: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    done = maphc2f.run("generate", "out", "--config", recipe_file, "--workers", str(workers))
    assert done.returncode == 0, done.stderr
    assert digest(tmp_path / "out") == finished_digest


def test_two_runs_with_seed_0_are_equal_and_seed_1_differs(photographs: Path, tmp_path: Path) -> None:
    first, second, other = (tmp_path / name for name in ("first", "second", "other"))
    generate(first, small_recipe(photographs), workers=1)
    generate(second, small_recipe(photographs, seed=0), workers=1)
    generate(other, small_recipe(photographs, seed=1), workers=1)
    assert digest(first) == digest(second)
    pairs = zip(Corpus(first), Corpus(other), strict=True)
    assert not any(np.array_equal(a.mask, b.mask) for a, b in pairs)


def test_sources_and_plan_of_one_seed_do_not_depend_on_later_settings(photographs: Path, tmp_path: Path) -> None:
    plain = prepare(tmp_path / "plain", small_recipe(photographs), workers=1)
    deep = prepare(tmp_path / "deep", small_recipe(photographs, render={"depth_to_width": [6.0, 6.0]}), workers=1)
    assert plain.plan == deep.plan


def test_several_defects_and_kept_stages_give_the_same_bytes_with_two_workers(several: Path, tmp_path: Path) -> None:
    recipe = read_identity(several).recipe
    generate(tmp_path / "out", recipe, workers=2, shared_bank=several)
    assert digest(tmp_path / "out") == digest(several)


def test_lost_shards_of_several_defects_and_stages_are_made_again_to_the_same_bytes(
    several: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(several, tmp_path / "out"))
    for name in ("stage_npcf", "instance"):
        shard = next((out / f"data/builtin/brick/{name}/c/0").rglob("0"))
        next(path for path in (shard, *shard.rglob("*")) if path.is_file()).unlink()
    outcome = generate(out, read_identity(several).recipe, workers=1)
    assert outcome.made == 5, "both belong to the first shard"
    assert digest(out) == digest(several)


def test_keeping_stages_leaves_every_other_array_as_it_was(several: Path, tmp_path: Path) -> None:
    recipe = read_identity(several).recipe
    plain = recipe.model_copy(update={"store": recipe.store.model_copy(update={"stages": ()})})
    info = generate(tmp_path / "plain", plain, workers=1, shared_bank=several).info
    with_stages, without = digest(several), digest(tmp_path / "plain")
    arrays = {name: found for name, found in with_stages.items() if name.startswith(("data/", "bank/"))}
    assert {name for name in arrays if "/stage_" in name} == arrays.keys() - without.keys() != set()
    assert all(without[name] == found for name, found in arrays.items() if "/stage_" not in name)
    assert with_stages["manifest.parquet"] == without["manifest.parquet"]
    kept = Corpus(several).info
    same = ("counts", "invariants", "statistics", "distributions", "mechanisms")
    assert all(getattr(kept, name) == getattr(info, name) for name in same)


# ---------------------------------------------------------------- killed


def test_killed_process_group_resumes_to_the_same_bytes(
    maphc2f: CommandLine, recipe_file: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("generate", out, "--config", recipe_file, "--workers")
    moments = np.random.default_rng(20)
    begun = (
        lambda: (out / "config.json").exists(),
        lambda: any((out / "data").rglob("c")),
        lambda: any((out / "bank").rglob("c")),
        lambda: any((out / "commits").glob("bank--*")),
        lambda: any((out / "commits").glob("samples--*")),
    )
    for stage, workers in zip(begun, "21212", strict=True):
        process = maphc2f.start(*command, workers)
        wait_for(stage, process)
        time.sleep(moments.uniform(0.0, 0.3))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert not (out / "corpus.json").exists() or digest(out) == finished_digest
    done = maphc2f.run(*command, "2")
    assert done.returncode == 0, done.stderr
    assert digest(out) == finished_digest


def test_workers_die_with_their_parent_and_write_nothing_more(
    maphc2f: CommandLine, recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    process = maphc2f.start("generate", out, "--config", recipe_file, "--workers", "2")
    wait_for(lambda: any((out / "commits").glob("sources--*")), process)
    family = psutil.Process(process.pid).children(recursive=True)
    assert len(family) >= 2
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    _, alive = psutil.wait_procs(family, timeout=5.0)
    assert not alive
    left = digest(out)
    time.sleep(0.5)
    assert digest(out) == left


# Forks before each run, so that imports and compilation are paid once. Dies at the n-th rename, which is the moment of
# every commit and of every table, just before it and just after it in turn; then the same call goes on.
_DIE_AT_EVERY_RENAME = """
import os, shutil, signal, sys
from pathlib import Path
from pipeline.generate import generate
from pipeline.recipe import load_recipe

out, recipe = Path(sys.argv[1]), load_recipe(Path(sys.argv[2]), overrides={})
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
    generate(out, recipe, workers=1)
    os._exit(0)

generate(out, recipe, workers=1)  # compiles what the children then inherit
for death in range(1, 1000):
    shutil.rmtree(out, ignore_errors=True)
    if run(death) == 0:
        break
    assert run(0) == 0
    shutil.copytree(out, out.parent / f"resumed{death}")
"""


def test_killed_at_any_rename_resumes_to_the_same_bytes(photographs: Path, tmp_path: Path) -> None:
    recipe = small_recipe(photographs, count=4, size=32, bank={"trajectories": 2, "groups": 2}, mechanisms=CRACKS)
    (tmp_path / "recipe.yaml").write_text(recipe.model_dump_json(), encoding="utf-8")  # JSON is YAML
    subprocess.run(
        [sys.executable, "-c", _DIE_AT_EVERY_RENAME, tmp_path / "undisturbed", tmp_path / "recipe.yaml"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=300,
        check=True,
    )
    expected = digest(tmp_path / "undisturbed")
    resumed = sorted(tmp_path.glob("resumed*"))
    assert len(resumed) >= len([name for name in expected if name.startswith("commits/")]) + 4
    assert [path.name for path in resumed if digest(path) != expected] == []


def test_leftovers_of_a_killed_run_are_swept(copied: Path, recipe_file: Path, finished_digest: dict[str, str]) -> None:
    torn = copied / "data/builtin/brick/image/c/1/0/0/0"
    torn.write_bytes(torn.read_bytes()[:100])
    (copied / "commits/samples--builtin--hex_nut--00000.json").write_text('{"stage": "samp')
    strays = ("corpus.json.77.writing", "data/builtin/brick/mask/c/7/0/0", "commits/bank--fracture--00009.json.writing")
    for stray in strays:
        (copied / stray).parent.mkdir(parents=True, exist_ok=True)
        (copied / stray).write_bytes(b"half")
    outcome = generate(copied, load_recipe(recipe_file, overrides={}), workers=1)
    assert outcome.made == 5 + 5  # the two shards that lost their proof
    assert digest(copied) == finished_digest


def test_folder_with_a_half_written_config_is_taken_for_new(photographs: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "log").mkdir(parents=True)
    (out / "config.json.4711.writing").write_bytes(b'{"code')
    generate(out, small_recipe(photographs), workers=1)
    assert problems(out) == []


# ---------------------------------------------------------------- interrupted


@pytest.mark.parametrize("workers", ["1", "2"])
def test_first_interrupt_says_how_to_go_on_and_resume_gives_the_same_bytes(
    workers: str, maphc2f: CommandLine, recipe_file: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = ("generate", out, "--config", recipe_file, "--workers", workers)
    process = maphc2f.start(*command)
    wait_for(lambda: any((out / "commits").glob("bank--*")), process)
    os.kill(process.pid, signal.SIGINT)
    shown, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Ctrl-C again stops at once" in shown
    assert complaint.count("\n") == 1
    assert "the same command goes on" in complaint
    assert not (out / "corpus.json").exists()
    done = maphc2f.run("generate", out, "--config", recipe_file)  # with any number of workers
    assert done.returncode == 0, done.stderr
    assert "kept from an earlier run" in done.stdout
    assert digest(out) == finished_digest


@pytest.mark.parametrize("later_s", [0.0, 1.0])
def test_interrupt_while_workers_start_is_not_lost_and_does_not_reach_them(
    later_s: float, maphc2f: CommandLine, recipe_file: Path, tmp_path: Path
) -> None:
    process = maphc2f.start("generate", "out", "--config", recipe_file, "--workers", "2")
    wait_for(lambda: len(psutil.Process(process.pid).children()) >= 3, process)  # two workers, and Python's own helper
    time.sleep(later_s)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to everyone
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert complaint.count("\n") == 1
    assert not (tmp_path / "out" / "corpus.json").exists()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_second_interrupt_stops_at_once(
    workers: str, maphc2f: CommandLine, recipe_text: str, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    long = tmp_path / "long.yaml"
    long.write_text(recipe_text.replace("trajectories: 20", "trajectories: 2000"), encoding="utf-8")
    out = tmp_path / "out"
    process = maphc2f.start("generate", out, "--config", long, "--workers", workers)
    wait_for(lambda: any((out / "commits").glob("bank--*")), process)
    family = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGINT)
    time.sleep(0.05)
    started = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 130
    assert time.monotonic() - started < 10.0
    assert complaint.count("\n") == 1
    assert not psutil.wait_procs(family, timeout=5.0)[1]


# ---------------------------------------------------------------- going on


def test_finished_corpus_is_left_alone(
    maphc2f: CommandLine, copied: Path, recipe_file: Path, finished_digest: dict[str, str]
) -> None:
    folders = (copied / name for name in ("data", "bank", "commits"))
    data = [path for folder in folders for path in sorted(folder.rglob("*")) if path.is_file()]
    before = [path.stat().st_mtime_ns for path in data]
    done = maphc2f.run("generate", copied, "--config", recipe_file)
    assert done.returncode == 0, done.stderr
    assert [path.stat().st_mtime_ns for path in data] == before
    assert digest(copied) == finished_digest
    assert json.loads((copied / "log/runs.jsonl").read_text().splitlines()[-1])["samples"] == 0


def test_other_recipe_is_refused_with_the_difference_and_nothing_changes(
    maphc2f: CommandLine, copied: Path, recipe_file: Path, finished_digest: dict[str, str]
) -> None:
    done = maphc2f.run("generate", copied, "--config", recipe_file, "--seed", "1", "--count", "25")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "count is 24 there and 25 here" in done.stderr
    assert "seed is 0 there and 1 here" in done.stderr
    assert digest(copied) == finished_digest


def test_other_code_version_is_refused(copied: Path, recipe_file: Path) -> None:
    config = json.loads((copied / "config.json").read_bytes())
    (copied / "config.json").write_text(json.dumps({**config, "code_version": "0.0.1+abc"}))
    with pytest.raises(OutputError, match=r"begun by code version 0\.0\.1\+abc"):
        generate(copied, load_recipe(recipe_file, overrides={}), workers=1)


def test_second_process_on_one_folder_is_refused(maphc2f: CommandLine, recipe_file: Path, tmp_path: Path) -> None:
    process = maphc2f.start("generate", "out", "--config", recipe_file)
    wait_for(lambda: (tmp_path / "out/log/lock").exists() and (tmp_path / "out/log/lock").read_text(), process)
    os.kill(process.pid, signal.SIGSTOP)  # it holds the folder and does not finish meanwhile
    try:
        done = maphc2f.run("generate", "out", "--config", recipe_file)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert done.returncode == 2
    assert f"process {process.pid}" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "lost",
    [
        "data/builtin/brick/image/c/1/0/0/0",
        "data/builtin/hex_nut/source/c/0/0/0/0",
        "data/builtin/hex_nut/source/zarr.json",
        "data/builtin/hex_nut/mask/zarr.json",
        "data/zarr.json",
        "bank/fracture/segments/c/1/0/0",
        "bank/fracture/zarr.json",
        "bank/pitting/depth/c/0/0/0/0",
        "data/builtin/brick/product/c/2/0/0",
        "commits/sources--builtin--brick--00000.json",
        "commits/bank--pitting--00001.json",
        "commits/samples--builtin--brick--00000.json",
        "inventory.parquet",
        "plan.parquet",
        "manifest.parquet",
        "corpus.json",
    ],
)
def test_lost_file_is_made_again(lost: str, copied: Path, recipe_file: Path, finished_digest: dict[str, str]) -> None:
    (copied / lost).unlink()
    generate(copied, load_recipe(recipe_file, overrides={}), workers=1)
    assert digest(copied) == finished_digest


def test_corpus_does_not_look_finished_while_a_shard_is_made_anew(
    copied: Path, recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (copied / "commits/samples--builtin--brick--00001.json").unlink()

    def fails(spec: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("pipeline.generate.store_samples", fails)
    with pytest.raises(OutputError):
        generate(copied, load_recipe(recipe_file, overrides={}), workers=1)
    assert not (copied / "corpus.json").exists()
    assert not (copied / "manifest.parquet").exists()


def test_corpus_does_not_look_finished_while_new_photographs_are_taken_in(
    photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generate(tmp_path / "out", small_recipe(photographs), workers=1)
    save(photographs / "part9.png", surface(9, (64, 64)))

    def fails(spec: object) -> None:
        raise OutputError("the disk is full")

    monkeypatch.setattr("pipeline.generate.store_sources", fails)
    with pytest.raises(OutputError):
        generate(tmp_path / "out", small_recipe(photographs), workers=1)
    assert not (tmp_path / "out" / "corpus.json").exists()


def test_photographs_that_came_and_went_since_give_the_same_as_a_new_corpus(tmp_path: Path) -> None:
    root = tmp_path / "parts"
    for category in ("a", "b", "c"):
        for k in range(2):
            save(root / category / f"{k}.png", surface(k, (64, 64)))
    recipe = small_recipe(root, count=12)
    generate(tmp_path / "old", recipe, workers=1)
    shutil.rmtree(root / "c")
    save(root / "a" / "2.png", surface(2, (64, 64)))
    generate(tmp_path / "old", recipe, workers=1)
    generate(tmp_path / "new", recipe, workers=1)
    assert digest(tmp_path / "old") == digest(tmp_path / "new")
    assert problems(tmp_path / "old") == []


def test_mended_photograph_is_noticed(photographs: Path, tmp_path: Path) -> None:
    whole = (photographs / "part1.png").read_bytes()
    (photographs / "part1.png").write_bytes(whole[:200])
    recipe = small_recipe(photographs)
    assert generate(tmp_path / "out", recipe, workers=1).info.counts.sources == {"ok": 3, "corrupt": 1}
    (photographs / "part1.png").write_bytes(whole)
    assert generate(tmp_path / "out", recipe, workers=1).info.counts.sources == {"ok": 4}
    assert problems(tmp_path / "out") == []


# ---------------------------------------------------------------- several mechanisms


def test_fields_are_stored_for_a_samples_own_mechanism_and_are_zero_for_others(finished: Path) -> None:
    corpus = Corpus(finished)
    every = {name for known in corpus.info.mechanisms.values() for name in known.fields}
    assert every == {"opening", "damage", "depth", "product"}
    filled = dict.fromkeys(every, 0)
    for sample in corpus:
        record = sample.record
        own = MECHANISMS[record.mechanism].fields
        assert tuple(sample.fields) == own
        for name in every:
            key = f"{record.dataset}/{record.category}"
            values = read_array(finished, "data", key, name, record.row, record.row + 1)[0]
            assert not values.any() or name in own
            filled[name] += bool(values.any())
    assert min(filled.values()) >= 10, "and are there where they belong"


def test_every_registered_mechanism_makes_samples_that_verify_and_can_be_drawn(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / "parts" / f"{k}.png", surface(k, (128, 128, 3)))
    small = {"grid": 64, "snapshots": 4, "area": {"low": 0.08, "high": 0.16}}
    recipe = small_recipe(
        tmp_path / "parts", size=128, count=4 * len(MECHANISMS), mechanisms=dict.fromkeys(MECHANISMS, small)
    )
    out = tmp_path / "out"
    info = generate(out, recipe, workers=1).info
    assert info.counts.by_mechanism == dict.fromkeys(MECHANISMS, 4)
    assert info.counts.trajectories == dict.fromkeys(MECHANISMS, 10)
    assert problems(out) == []
    corpus = Corpus(out)
    for name, known in MECHANISMS.items():
        mine = corpus.where(mechanism=name)
        assert len(mine) >= 2, name
        for field in known.fields:
            assert any(sample.fields[field].values.any() for sample in mine), (name, field)
    assert draw_sheet(corpus, list(range(len(corpus)))).height > 128
    assert draw_bank(out, recipe, info.counts.trajectories, each=2).height > 128 * len(MECHANISMS)


def test_no_state_comes_twice_in_one_turn_on_one_photograph_of_a_tiny_set(tmp_path: Path) -> None:
    """One photograph, one trajectory in its group, 3 states in range, 8 turns: all 24 ways are used."""
    save(tmp_path / "parts" / "one.png", surface(1, (64, 64)))
    few = {"grid": 32, "snapshots": 4, "severity": {"low": 0.5, "high": 1.0}}
    recipe = small_recipe(
        tmp_path / "parts", count=24, mechanisms={"pitting": few}, bank={"trajectories": 2, "groups": 2}
    )
    generate(tmp_path / "out", recipe, workers=1)
    rows = [sample.record for sample in Corpus(tmp_path / "out", statuses=None)]
    assert {row.trajectory for row in rows} == {0}
    assert len({(row.snapshot, row.dihedral) for row in rows}) == len(rows) == 24
    assert problems(tmp_path / "out") == []


def test_bank_too_small_for_that_is_refused_before_anything_is_simulated(tmp_path: Path) -> None:
    save(tmp_path / "parts" / "one.png", surface(1, (64, 64)))
    few = {"grid": 32, "snapshots": 4, "severity": {"low": 0.5, "high": 1.0}}
    recipe = small_recipe(
        tmp_path / "parts", count=25, mechanisms={"pitting": few}, bank={"trajectories": 3, "groups": 2}
    )
    with pytest.raises(ConfigError, match=r"3 are too few for 25 defects on one photograph .* at least 4, or auto"):
        generate(tmp_path / "out", recipe, workers=1)
    assert not (tmp_path / "out" / "bank").exists()


@pytest.mark.parametrize("name", ["fracture", "pitting"])
def test_defect_that_comes_in_from_the_edge_touches_the_parts_edge(name: str, tmp_path: Path) -> None:
    part = np.zeros((96, 96), dtype=np.uint8)
    part[16:80, 12:84] = 255
    for k in range(3):
        save(tmp_path / "parts" / f"{k}.png", surface(k, (96, 96)))
        save(tmp_path / "masks" / "parts" / f"{k}.png", part)
    entering = {"grid": 32 if name == "pitting" else 64, "snapshots": 4, "edge_share": 1.0}
    source = {"kind": "folder", "path": str(tmp_path / "parts"), "masks": str(tmp_path / "masks")}
    recipe = small_recipe(
        tmp_path, sources=[source], size=96, count=12, mechanisms={name: entering}, foreground={"margin_px": 0}
    )
    generate(tmp_path / "out", recipe, workers=1)
    corpus = Corpus(tmp_path / "out")
    assert len(corpus) >= 9
    field = {"fracture": "opening", "pitting": "depth"}[name]
    for sample in corpus:
        assert sample.record.from_edge
        inner = sample.foreground[1:-1, 1:-1]
        border = sample.foreground.copy()
        border[1:-1, 1:-1] &= ~(
            inner & sample.foreground[:-2, 1:-1] & sample.foreground[2:, 1:-1]
            & sample.foreground[1:-1, :-2] & sample.foreground[1:-1, 2:]
        )  # fmt: skip
        values = sample.fields[field].values
        assert (values[border] > 0.02 * values.max()).any()


def test_area_asked_is_reached_within_a_factor_on_a_surface_without_structure(tmp_path: Path) -> None:
    for k in range(4):
        save(tmp_path / "parts" / f"{k}.png", np.full((160, 160, 3), 120 + 10 * k, dtype=np.uint8))
    pitting = {
        "grid": 64,
        "snapshots": 4,
        "edge_share": 0.0,
        "area": {"kind": "loguniform", "low": 0.005, "high": 0.05},
    }
    recipe = small_recipe(
        tmp_path / "parts", size=160, count=24, mechanisms={"pitting": pitting}, store={"shard_images": 24}
    )
    info = generate(tmp_path / "out", recipe, workers=1).info
    rows = [sample.record for sample in Corpus(tmp_path / "out")]
    ratio = np.array([row.area_fraction / row.asked_area for row in rows if row.attempts == 1])
    assert len(ratio) >= 16
    assert 0.5 < np.median(ratio) < 2.0, ratio
    assert np.mean((ratio > 1 / 3) & (ratio < 3)) > 0.7, ratio
    (told,) = [row for row in info.distributions if row.quantity == "area"]
    assert told.samples == len(rows)
    assert told.got[2] == pytest.approx(np.median([row.area_fraction for row in rows]))


# ---------------------------------------------------------------- a bank that is there already


def simulated(out: Path) -> dict[str, int]:
    """Trajectories that the last run simulated, by mechanism."""
    last = json.loads((out / "log/runs.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    assert isinstance(last["simulated"], dict)
    return last["simulated"]


def other_choice(recipe: Recipe) -> Recipe:
    """Another recipe that can use the same bank: other weights, areas, severities, count and photographs."""
    plain = recipe.model_dump(mode="json")
    plain.update(count=10, name="other", sources=[{"kind": "builtin", "categories": ["coins"]}])
    plain["mechanisms"]["pitting"].update(weight=2.0, area={"low": 0.02, "high": 0.05})
    plain["mechanisms"]["fracture"].update(severity={"low": 0.5, "high": 1.0})
    return Recipe.model_validate(plain)


@pytest.mark.parametrize("workers", [1, 2])
def test_bank_of_another_recipe_is_used_again_with_the_same_bytes(
    workers: int, finished: Path, recipe_file: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    other = other_choice(load_recipe(recipe_file, overrides={}))
    generate(tmp_path / "shared", other, workers=workers, shared_bank=finished)
    assert set(simulated(tmp_path / "shared").values()) <= {0}, "nothing was simulated"
    generate(tmp_path / "alone", other, workers=1)
    assert simulated(tmp_path / "alone") == {"fracture": 20, "pitting": 20}
    assert digest(tmp_path / "shared") == digest(tmp_path / "alone")
    assert problems(tmp_path / "shared") == []
    assert digest(finished) == finished_digest, "the other corpus is left alone"


def test_bank_that_fits_in_part_is_used_in_part(finished: Path, recipe_file: Path, tmp_path: Path) -> None:
    plain = other_choice(load_recipe(recipe_file, overrides={})).model_dump(mode="json")
    plain["mechanisms"]["pitting"].update(edge_share=0.9)
    plain["bank"].update(trajectories=30)
    recipe = Recipe.model_validate(plain)
    notes: list[str] = []

    class Listening:
        def stage(self, name: str, total: int, done: int) -> None: ...
        def advance(self, items: int, failures: int) -> None: ...
        def note(self, text: str) -> None:
            notes.append(text)

    generate(tmp_path / "out", recipe, workers=1, shared_bank=finished, progress=Listening())
    # of fracture's shards 0-15 and 16-29 only the first is there; of pitting's none
    assert simulated(tmp_path / "out") == {"fracture": 14, "pitting": 30}
    assert notes == [f"16 trajectories copied from {finished}"]
    assert problems(tmp_path / "out") == []


def test_damaged_bank_is_computed_anew_where_it_is_damaged(copied: Path, recipe_file: Path, tmp_path: Path) -> None:
    other = other_choice(load_recipe(recipe_file, overrides={}))
    shard = copied / "bank/pitting/depth/c/0/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    generate(tmp_path / "out", other, workers=1, shared_bank=copied)
    assert simulated(tmp_path / "out") == {"fracture": 0, "pitting": 16}
    generate(tmp_path / "alone", other, workers=1)
    assert digest(tmp_path / "out") == digest(tmp_path / "alone")


def test_bank_alone_is_what_the_corpus_goes_on_with(
    recipe_file: Path, finished: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    recipe = load_recipe(recipe_file, overrides={})
    rows = fill_bank(tmp_path / "out", recipe, workers=1, shared_bank=finished)
    assert [(row.mechanism, row.trajectory) for row in rows] == [
        (m, t) for m in MECHANISMS_OF_RECIPE for t in range(20)
    ]
    made = digest(tmp_path / "out")
    assert not any(name.startswith(("commits/samples", "manifest", "corpus.json")) for name in made)
    assert made.items() <= finished_digest.items()
    generate(tmp_path / "out", recipe, workers=1)
    assert digest(tmp_path / "out") == finished_digest
    assert simulated(tmp_path / "out") == {}


# ---------------------------------------------------------------- odd pictures


@pytest.mark.parametrize("shape", [(64, 64), (64, 64, 3)], ids=["grey", "colour"])
def test_small_pictures_keep_their_channels(shape: tuple[int, ...], tmp_path: Path) -> None:
    save(tmp_path / "parts" / "one.png", surface(1, shape))
    out = tmp_path / "out"
    generate(out, small_recipe(tmp_path / "parts"), workers=1)
    assert {sample.image.shape for sample in Corpus(out)} == {(64, 64, 1 if len(shape) == 2 else 3)}
    assert len(Corpus(out)) == 6
    assert problems(out) == []


def test_size_32_works(photographs: Path, tmp_path: Path) -> None:
    outcome = generate(tmp_path / "out", small_recipe(photographs, size=32), workers=1)
    assert outcome.info.counts.by_status["ok"] >= 4
    assert problems(tmp_path / "out") == []


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
def test_photographs_that_are_not_square_work_with_every_fit(fit: str, tmp_path: Path) -> None:
    save(tmp_path / "parts" / "wide.png", surface(1, (60, 150, 3)))
    save(tmp_path / "parts" / "tall.png", surface(2, (150, 60, 3)))
    out = tmp_path / "out"
    generate(out, small_recipe(tmp_path / "parts", fit=fit), workers=1)
    assert problems(out) == []
    corpus = Corpus(out)
    assert len(corpus) == 6
    if fit == "pad":  # no defect on what was added
        for sample in corpus:
            wide = not sample.foreground[0].any()
            band = slice(19, 45)
            mask = sample.mask.copy()
            mask[band if wide else slice(None), slice(None) if wide else band] = 0
            assert not mask.any()


@pytest.mark.parametrize("value", [0, 128, 255])
def test_picture_without_any_structure_works(value: int, tmp_path: Path) -> None:
    save(tmp_path / "parts" / "flat.png", np.full((64, 64, 3), value, dtype=np.uint8))
    out = tmp_path / "out"
    outcome = generate(out, small_recipe(tmp_path / "parts"), workers=1)
    assert outcome.info.counts.total == 6
    assert problems(out) == []


def test_fewer_samples_than_categories_works(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        save(tmp_path / "parts" / name / "0.png", surface(1, (64, 64)))
    out = tmp_path / "out"
    info = generate(out, small_recipe(tmp_path / "parts", count=2), workers=1).info
    assert info.counts.by_category == {"folder/a": {"ok": 1}, "folder/b": {"ok": 1}}
    assert problems(out) == []
    assert len(Corpus(out)) == 2


def test_count_1_works(photographs: Path, tmp_path: Path) -> None:
    generate(tmp_path / "out", small_recipe(photographs, count=1), workers=1)
    assert len(Corpus(tmp_path / "out")) == 1
    assert problems(tmp_path / "out") == []


def test_user_masks_keep_defects_to_themselves(photographs: Path, tmp_path: Path) -> None:
    mask = np.zeros((64, 64), dtype=np.uint8)
    mask[8:40, 8:40] = 255
    for path in photographs.glob("*.png"):
        save(tmp_path / "masks" / "photographs" / path.name, mask)
    source = {"kind": "folder", "path": str(photographs), "masks": str(tmp_path / "masks")}
    out = tmp_path / "out"
    generate(out, small_recipe(photographs, sources=[source], foreground={"mode": "auto"}), workers=1)
    corpus = Corpus(out)
    assert len(corpus) >= 4
    for sample in corpus:
        assert not (sample.mask[mask == 0]).any()
        assert not any(field.values[mask == 0].any() for field in sample.fields.values())
    assert problems(out) == []


def test_override_object_keeps_defects_off_the_background(tmp_path: Path) -> None:
    yy, xx = np.mgrid[:96, :96]
    disc = (yy - 48) ** 2 + (xx - 48) ** 2 < 28**2
    for k in range(4):
        picture = surface(k, (96, 96)) // 8
        picture[disc] = surface(k + 10, (96, 96))[disc]
        save(tmp_path / "parts" / "nut" / f"{k}.png", picture)
    out = tmp_path / "out"
    foreground = {"mode": "texture", "overrides": {"nut": "object"}}
    generate(out, small_recipe(tmp_path / "parts", size=96, count=12, foreground=foreground), workers=1)
    corpus = Corpus(out)
    assert len(corpus) >= 9
    for sample in corpus:
        assert not sample.mask[~disc].any()
    assert problems(out) == []


def test_crop_to_nothing_usable_is_an_error_that_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    (folder / "b.png").write_text("not a picture")
    with pytest.raises(SourceError, match="none of its 2 files is a usable photograph"):
        generate(tmp_path / "out", small_recipe(folder), workers=1)
    assert not (tmp_path / "out" / "corpus.json").exists()


def save_as(folder: Path, name: bytes) -> None:
    """A photograph under a name that need not be text."""
    save(folder.parent / "plain.png", surface(1, (64, 64)))
    folder.mkdir()
    (folder.parent / "plain.png").rename(folder / os.fsdecode(name))


@pytest.mark.parametrize("name", ["каф é.png".encode(), b"a--b.png", b"a b'[red].png"])
def test_photograph_with_an_odd_name_works(name: bytes, tmp_path: Path) -> None:
    save_as(tmp_path / "parts", name)
    generate(tmp_path / "out", small_recipe(tmp_path / "parts"), workers=1)
    assert problems(tmp_path / "out") == []


@pytest.mark.parametrize("name", [b"caf\xe9.png", b"new\nline.png"])
def test_photograph_whose_name_is_no_text_is_refused_by_name(name: bytes, tmp_path: Path) -> None:
    save_as(tmp_path / "parts", name)
    with pytest.raises(SourceError, match=r"\.png' is not plain text; rename"):
        generate(tmp_path / "out", small_recipe(tmp_path / "parts"), workers=1)


@pytest.mark.parametrize("category", ["c", "image", "log"])
def test_category_named_like_a_part_of_the_store_works(category: str, tmp_path: Path) -> None:
    save(tmp_path / "parts" / category / "0.png", surface(1, (64, 64)))
    out = tmp_path / "out"
    recipe = small_recipe(tmp_path / "parts")
    generate(out, recipe, workers=1)
    assert generate(out, recipe, workers=1).made == 0
    assert len(Corpus(out)) == 6
    assert problems(out) == []


# ---------------------------------------------------------------- samples that fail


@pytest.mark.parametrize(
    ("label", "status"),
    [
        ({"min_area": 0.9, "max_area": 0.95, "attempts": 3, "least_visibility": 0}, SampleStatus.AREA_BELOW),
        ({"min_area": 1e-6, "max_area": 1e-5, "attempts": 3, "least_visibility": 0}, SampleStatus.AREA_ABOVE),
        ({"visible_threshold": 128, "attempts": 3}, SampleStatus.INVISIBLE),
    ],
)
def test_sample_that_fails_keeps_its_source_and_says_why(
    label: dict[str, object], status: SampleStatus, photographs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    generate(out, small_recipe(photographs, label=label), workers=1)
    corpus = Corpus(out, statuses=None)
    assert len(corpus) == 6
    assert len(Corpus(out)) == 0
    assert {sample.record.status for sample in corpus} == {status}
    for sample in corpus:
        np.testing.assert_array_equal(sample.image, sample.source)
        assert not sample.mask.any()
        assert sample.record.attempts == 3
        assert sample.record.area_px == 0
    assert problems(out) == []


def test_solver_that_may_not_iterate_is_recorded_as_not_converged(photographs: Path, tmp_path: Path) -> None:
    npcf, label = {"max_cycles": 1, "tolerance": 1e-9}, {"attempts": 2, "least_visibility": 0}
    generate(tmp_path / "out", small_recipe(photographs, npcf=npcf, label=label), workers=1)
    assert {s.record.status for s in Corpus(tmp_path / "out", statuses=None)} == {SampleStatus.NOT_CONVERGED}
    assert problems(tmp_path / "out") == []


def test_part_too_small_for_a_crack_is_recorded_as_off_foreground(photographs: Path, tmp_path: Path) -> None:
    speck = np.zeros((64, 64), dtype=np.uint8)
    speck[30:32, 30:32] = 255
    for path in photographs.glob("*.png"):
        save(tmp_path / "masks" / "photographs" / path.name, speck)
    source = {"kind": "folder", "path": str(photographs), "masks": str(tmp_path / "masks")}
    out = tmp_path / "out"
    generate(out, small_recipe(photographs, sources=[source], label={"attempts": 1}, count=12), workers=1)
    everything = list(Corpus(out, statuses=None))
    assert SampleStatus.OFF_FOREGROUND in {sample.record.status for sample in everything}
    assert not any(sample.mask[speck == 0].any() for sample in everything)
    assert problems(out) == []
