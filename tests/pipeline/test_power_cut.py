"""Power cuts: after any of them, what has a valid record is whole, and the next run ends with the same bytes.

A run is recorded: at every fsync, rename and removal, which names lead to which files, and what of them is on disk.
From that the folder is laid out as it may be found after the power failed at that moment. Contents that were not forced
to disk are lost; names that were not are either all kept, as a journal may have it, or all lost as well.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

from pipeline.recipe import Recipe
from tests.pipeline.conftest import ROOT, digest, surface
from tests.pipeline.test_generate import CRACKS, save, small_recipe

# Runs in a process of its own: records a run, lays out what the disk may hold, and resumes from some of it in children
# that inherit the compiled solvers.
_RECORD_AND_REPLAY = '''
import hashlib, os, shutil, sys
from pathlib import Path

from pipeline.generate import generate
from pipeline.recipe import load_recipe

out, replays, recipe = Path(sys.argv[1]), Path(sys.argv[2]), load_recipe(Path(sys.argv[3]), overrides={})
every = int(sys.argv[4])
real = {"fsync": os.fsync, "replace": os.replace, "unlink": os.unlink, "rename": os.rename}
content, listing, held, states = {}, {}, {}, []  # by inode; an open descriptor keeps its number from being used again


def scan(folder):
    """Names and inodes in a folder as of now: {name: (inode, is a folder)}."""
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            inode, is_folder = entry.inode(), entry.is_dir(follow_symlinks=False)
            if not is_folder and inode not in held:
                held[inode] = os.open(entry.path, os.O_RDONLY)
            found[entry.name] = (inode, is_folder)
    return found


def names(folder, number, durable):
    """Paths of all files that the names lead to: {relative path: inode}; names on disk only, or as of now."""
    found = {}
    for name, (inode, is_folder) in (listing.get(number, {}) if durable else scan(folder)).items():
        if name == "log":
            continue
        if is_folder:
            found.update({f"{name}/{path}": i for path, i in names(os.path.join(folder, name), inode, durable).items()})
        else:
            found[name] = inode
    return found


def look():
    if out.is_dir():
        number = out.stat().st_ino
        for durable in (False, True):
            state = {path: content.get(inode, b"") for path, inode in names(out, number, durable).items()}
            if not states or state not in states[-2:]:
                states.append(state)


def fsync(descriptor):
    real["fsync"](descriptor)
    path = os.readlink(f"/proc/self/fd/{descriptor}")
    if path == str(out) or path.startswith(f"{out}/"):
        inode = os.fstat(descriptor).st_ino
        if os.path.isdir(path):
            listing[inode] = scan(path)
        else:
            content[inode] = Path(path).read_bytes()
        look()


def watched(name):
    def change(*arguments, **options):
        look()
        result = real[name](*arguments, **options)
        look()
        return result
    return change


if out.is_dir():  # what an earlier run left has been on disk for long
    for folder in (out, *(path for path in out.rglob("*") if path.is_dir())):
        listing[folder.stat().st_ino] = scan(folder)
    for path in (path for path in out.rglob("*") if path.is_file()):
        content[path.stat().st_ino] = path.read_bytes()
generate(replays / "warm", recipe, workers=1)
os.fsync, os.replace, os.unlink, os.rename = fsync, watched("replace"), watched("unlink"), watched("rename")
generate(out, recipe, workers=1)
look()
os.fsync, os.replace, os.unlink, os.rename = (real[name] for name in ("fsync", "replace", "unlink", "rename"))
for number, state in enumerate(states):
    folder = replays / f"{number:05d}"
    for path, data in state.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    if number % every == 0 or number == len(states) - 1:
        if folder.is_dir():
            shutil.copytree(folder, replays / f"resumed{number:05d}")
        child = os.fork()
        if not child:
            generate(replays / f"resumed{number:05d}", recipe, workers=1)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0, number
'''


def record_and_replay(out: Path, recipe: Recipe, *, every: int) -> Path:
    """Run a job under watch; folders as they may be found afterwards, and some of them resumed."""
    replays = out.parent / "replays"
    replays.mkdir()
    described = out.parent / "recipe.yaml"
    described.write_text(recipe.model_dump_json(), encoding="utf-8")  # JSON is YAML
    subprocess.run(
        [sys.executable, "-c", _RECORD_AND_REPLAY, out, replays, described, str(every)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        timeout=400,
        check=True,
    )
    return replays


def torn(folder: Path) -> list[str]:
    """Files that a record names, and that are not what it says; records that are no JSON."""
    found = []
    for path in sorted((folder / "commits").glob("*.json")):
        try:
            record = json.loads(path.read_bytes())
        except ValueError:
            continue  # a torn record proves nothing, and nothing is believed of it
        for file in record["files"]:
            there = folder / file["path"]
            if not there.is_file() or hashlib.sha256(there.read_bytes()).hexdigest() != file["sha256"]:
                found.append(f"{folder.name}: {path.name}: {file['path']}")
    return found


def tiny(photographs: Path) -> Recipe:
    return small_recipe(photographs, count=4, size=32, bank={"trajectories": 2, "groups": 2}, mechanisms=CRACKS)


def test_power_cut_at_any_moment_of_a_new_corpus_loses_no_finished_shard(photographs: Path, tmp_path: Path) -> None:
    replays = record_and_replay(tmp_path / "out", tiny(photographs), every=12)
    states = [path for path in sorted(replays.iterdir()) if path.name.isdigit()]
    assert len(states) > 100
    assert [problem for state in states for problem in torn(state)] == []
    assert max(len(list((state / "commits").glob("*.json"))) for state in states) == 4
    expected = digest(tmp_path / "out")
    resumed = sorted(replays.glob("resumed*"))
    assert len(resumed) > 8
    assert [path.name for path in resumed if digest(path) != expected] == []


def test_power_cut_while_other_photographs_are_taken_in_leaves_no_record_of_what_was_overwritten(
    photographs: Path, tmp_path: Path
) -> None:
    from pipeline.generate import generate

    generate(tmp_path / "out", tiny(photographs), workers=1)
    save(photographs / "part1.png", surface(77, (64, 64)))
    save(photographs / "part9.png", surface(78, (64, 64)))
    replays = record_and_replay(tmp_path / "out", tiny(photographs), every=25)
    states = [path for path in sorted(replays.iterdir()) if path.name.isdigit()]
    assert [problem for state in states for problem in torn(state)] == []
    expected = digest(tmp_path / "out")
    assert [path.name for path in sorted(replays.glob("resumed*")) if digest(path) != expected] == []
