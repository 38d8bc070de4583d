"""The command line: exit codes, one clear line for whatever the user got wrong, help with examples, honest output."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import numpy as np
import pytest
from PIL import Image

from manifests import Corpus, __version__
from manifests.records import SampleStatus
from physics.registry import MECHANISMS
from pipeline import cli
from pipeline.inspection_card import draw_cards
from pipeline.mechanism_reference import mechanism_reference, parameter_rows
from pipeline.progress import Interrupted
from pipeline.recipe import Recipe
from pipeline.remedies import REMEDIES
from tests.pipeline.conftest import digest, surface

if TYPE_CHECKING:
    from tests.pipeline.conftest import CommandLine

COMMANDS = (
    "generate",
    "extend",
    "merge",
    "repair",
    "plan",
    "verify",
    "info",
    "inspect",
    "sheet",
    "bank",
    "mechanisms",
    "schema",
    "report",
    "compare",
    "show",
    "reproduce",
    "columns",
    "export",
    "publish",
    "score",
)


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def say(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Callable[..., Said]:
    """The entry point within this process, run in an empty folder."""

    def run(*arguments: str | Path) -> Said:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["maphc2f", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Said(ended.value.code, shown.out, shown.err)

    return run


def one_line(said: Said | subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr."""
    text = said.err if isinstance(said, Said) else said.stderr
    assert text.count("\n") == 1, text
    assert text.startswith("error: ")
    assert "Traceback" not in text
    return text


# ---------------------------------------------------------------- help and version


def test_console_script_is_the_entry_point() -> None:
    (script,) = (e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == "maphc2f")
    assert script.value == "pipeline.cli:main"


def test_version_is_printed(maphc2f: CommandLine) -> None:
    done = maphc2f.run("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"maphc2f {__version__}\n", "")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_an_example(command: str, say: Callable[..., Said]) -> None:
    said = say(command, "--help")
    assert said.code == 0
    assert re.search(rf"Examples?: maphc2f {command}", said.out)


def test_help_names_every_command(say: Callable[..., Said]) -> None:
    said = say("--help")
    assert said.code == 0
    assert all(f" {command} " in said.out for command in COMMANDS)


def test_no_arguments_show_help(say: Callable[..., Said]) -> None:
    said = say()
    assert said.code == 2
    assert "Usage" in said.out
    assert said.err == ""


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["generate"], "Missing argument 'OUT'; see `maphc2f generate --help`"),
        (["generate", "out", "--bogus"], "No such option: --bogus"),
        (["generate", "out", "--cuont", "3"], r"No such option: --cuont.*--count"),
        (["generate", "out", "more"], "unexpected extra argument"),
        (["bogus"], "No such command 'bogus'"),
        (["generate", "out", "--workers", "0"], "Invalid value for '--workers'"),
        (["generate", "out", "--count", "many"], "Invalid value for '--count'"),
        (["generate", "out", "--count", "0"], "count: .* got 0"),
        (["generate", "out", "--count", "-5"], "count: .* got -5"),
        (["generate", "out", "--size", "7"], "size: .* got 7"),
        (["generate", "out", "--size", "100000"], "size: .* got 100000"),
        (["generate", "out", "--seed", "-1"], "seed: .* got -1"),
        (["generate", "out", "--seed", "1.5"], "Invalid value for '--seed'"),
        (["generate", "out", "--source", "foldr:x"], "did you mean 'folder'"),
        (["generate", "out", "--source", "folder"], "needs a path"),
        (["generate", "out", "--source", "builtin:x"], "takes no path"),
        (["generate", "out", "--source", "folder:nowhere"], "nowhere does not exist"),
        (["generate", "out", "--source", "mvtec:nowhere"], "nowhere does not exist"),
        (["generate", "out", "--source", "builtin", "--source", "builtin"], "comes from two sources"),
        (["generate", "out", "--config", "nowhere.yaml"], "nowhere.yaml: cannot be read"),
        (
            ["generate", "out", "--mechanism", "rust"],
            "--mechanism rust: there is none of this name; there are fracture, ",
        ),
        (
            ["generate", "out", "--mechanism", "fracture", "--mechanism", "Pitting"],
            "--mechanism Pitting: there is none",
        ),
        (["generate", "out", "--bank", "nowhere"], "--bank nowhere: holds no bank"),
        (["generate", "out", "--bank", "."], r"--bank \.: holds no bank"),
        (["plan", "out", "--mechanism", "rust"], "--mechanism rust: there is none"),
        (["bank", "out", "--mechanism", "rust"], "--mechanism rust: there is none"),
        (["bank", "out", "--bank", "nowhere"], "--bank nowhere: holds no bank"),
        (["bank", "out", "--picture", "bank.psd"], "bank.psd: expected a picture's name"),
        (["bank", "out", "--count", "0"], "count: .* got 0"),
        (["bank", "out", "--source", "folder:nowhere"], "nowhere does not exist"),
        (["plan", "out", "--policy", "nowhere.json"], r"policy nowhere\.json: cannot be read"),
        (["generate", "out", "--policy", "."], r"policy \.: cannot be read"),
        (["bank", "out", "--policy", "nowhere.json"], r"policy nowhere\.json: cannot be read"),
        (["plan", "out", "--policy", "nowhere.json", "--count", "0"], r"policy nowhere\.json: cannot be read"),
        (["mechanisms", "rust"], "mechanism 'rust': there is none of this name; there are fracture, "),
        (["plan", "out", "--count", "0"], "count: .* got 0"),
        (["inspect", "x.png", "--source", "folder:nowhere"], "nowhere does not exist"),
        (["inspect", "x.psd", "--source", "builtin"], "x.psd: expected a picture's name"),
        (["verify", "nowhere"], "nowhere: does not exist"),
        (["info", "nowhere"], "nowhere: does not exist"),
        (["info", "nowhere", "--json"], "nowhere: does not exist"),
        (["sheet", "nowhere", "x.png"], "nowhere: does not exist"),
        (["verify", "."], "is not a corpus"),
        (["info", "."], "is not a corpus"),
        (["sheet", ".", "x.png"], "is not a corpus"),
    ],
    ids=" ".join,
)
def test_bad_argument_is_one_line_and_exit_2(
    arguments: list[str], expected: str, say: Callable[..., Said], tmp_path: Path
) -> None:
    said = say(*arguments)
    assert said.code == 2
    assert re.search(expected, one_line(said))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cuont: 3", "unknown key 'cuont'; did you mean 'count'"),
        ("bank: {trajectorys: 40}", r"unknown key 'bank\.trajectorys'; did you mean 'trajectories'"),
        ("sources: [{kind: builtin, licens: x}]", r"unknown key 'sources\.0\.licens'; did you mean 'licence'"),
        ("size: 7", "size: "),
        ("sources: [{kind: folder, path: '${NOT_SET_ANYWHERE}'}]", "NOT_SET_ANYWHERE is not set"),
        ("sources: [{kind: builtin, categories: [brik]}]", "unknown category 'brik'; nearest known: brick"),
        ("mechanisms: {rust: {}}", r"unknown key 'mechanisms\.rust'; (did you mean|known: fracture, )"),
        ("mechanisms: {pitting: {wieght: 2}}", r"unknown key 'mechanisms\.pitting\.wieght'; did you mean 'weight'"),
        ("count: [", "not valid YAML"),
        ("- 1", "expected a mapping"),
    ],
)
def test_bad_recipe_is_one_line_and_exit_2(text: str, expected: str, say: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text, encoding="utf-8")
    said = say("generate", "out", "--config", "recipe.yaml")
    assert said.code == 2
    assert re.search(expected, one_line(said))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["plan", "generate"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("mechanisms: {}", r"policy policy\.json: Invalid JSON"),
        ("[]", r"policy policy\.json: expected a mapping"),
        ('{"corpus": "a", "samples": 1}', r"policy policy\.json: mechanisms: Field required"),
        (
            '{"corpus": "a", "samples": 1, "mechanisms": {"rust": {}}}',
            "policy: there is no mechanism 'rust'; there are fracture, ",
        ),
    ],
)
def test_bad_policy_is_one_line_and_exit_2(
    command: str, text: str, expected: str, say: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "policy.json").write_text(text, encoding="utf-8")
    said = say(command, "out", "--policy", "policy.json")
    assert said.code == 2
    assert re.search(expected, one_line(said))
    assert not (tmp_path / "out").exists()


def _empty(folder: Path) -> None:
    del folder


def _text_named_png(folder: Path) -> None:
    (folder / "a.png").write_text("this is no picture")


def _no_bytes(folder: Path) -> None:
    (folder / "a.png").touch()


def _one_pixel(folder: Path) -> None:
    Image.new("L", (1, 1)).save(folder / "a.png")


def _bomb(folder: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(folder / "a.png")


def _truncated(folder: Path) -> None:
    Image.fromarray(surface(1, (64, 64, 3))).save(folder / "a.jpg", quality=95)
    (folder / "a.jpg").write_bytes((folder / "a.jpg").read_bytes()[:600])


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        (_empty, "no image .* in it"),
        (_text_named_png, "none of its 1 files is a usable photograph .*not_an_image"),
        (_no_bytes, "none of its 1 files is a usable photograph .*empty"),
        (_one_pixel, "none of its 1 files is a usable photograph .*too_small"),
        (_bomb, "none of its 1 files is a usable photograph .*too_large"),
        (_truncated, "none of its 1 files is a usable photograph .*corrupt"),
    ],
)
@pytest.mark.parametrize("command", ["generate", "inspect"])
def test_folder_without_a_usable_photograph_is_one_line_and_exit_2(
    command: str, fill: Callable[[Path], None], expected: str, say: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "parts").mkdir()
    fill(tmp_path / "parts")
    said = say(command, "out" if command == "generate" else "out.png", "--source", "folder:parts")
    assert said.code == 2
    assert re.search(expected, one_line(said))
    assert not (tmp_path / "out" / "corpus.json").exists()
    assert not (tmp_path / "out.png").exists()


def test_bad_files_among_good_ones_are_recorded_and_the_batch_goes_on(
    photographs: Path, say: Callable[..., Said], tmp_path: Path
) -> None:
    _truncated(photographs)
    (photographs / "b.png").write_text("this is no picture")
    (photographs / "c.png").touch()
    Image.new("L", (1, 1)).save(photographs / "d.png")
    Image.new("1", (20_000, 20_000)).save(photographs / "e.png")
    (tmp_path / "recipe.yaml").write_text("{mechanisms: {fracture: {grid: 32}}, bank: {trajectories: 10}}")
    options = ("--config", "recipe.yaml", "--source", f"folder:{photographs}", "--count", "4", "--size", "64")
    said = say("generate", "out", *options)
    assert (said.code, said.err) == (0, "")
    counts = json.loads(say("info", "out", "--json").out)["counts"]
    assert counts["sources"] == {"ok": 4, "corrupt": 1, "empty": 1, "not_an_image": 1, "too_large": 1, "too_small": 1}
    assert counts["total"] == 4
    assert "1 corrupt, 1 empty, 1 not_an_image, 1 too_large, 1 too_small" in say("info", "out").out
    assert say("verify", "out").code == 0


def test_folder_that_holds_something_else_is_refused_and_left_alone(say: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "holiday" / "beach.jpg").write_bytes(b"precious")
    said = say("generate", "holiday", "--source", "builtin")
    assert said.code == 2
    assert "holds something else (beach.jpg)" in one_line(said)
    assert [path.name for path in (tmp_path / "holiday").iterdir()] == ["beach.jpg"]


def test_output_that_is_a_file_is_refused(say: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    said = say("generate", "file")
    assert said.code == 2
    assert "is a file" in one_line(said)
    said = say("generate", "file/below")
    assert said.code == 2
    assert "a part of the path is a file" in one_line(said)
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("command", ["generate", "plan"])
def test_output_that_cannot_be_written_is_one_line_and_exit_2(
    command: str, say: Callable[..., Said], tmp_path: Path
) -> None:
    if os.geteuid() == 0:  # to whom every folder is open but those of the kernel
        out = Path("/proc/maphc2f")
    else:
        out = tmp_path / "closed" / "out"
        out.parent.mkdir(mode=0o555)
    said = say(command, out)
    assert said.code == 2
    assert "cannot be written" in one_line(said)


def test_size_limit_of_files_is_one_line_exit_2_and_the_same_command_goes_on(
    maphc2f: CommandLine, say: Callable[..., Said], recipe_file: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    small = ("bash", "-c", 'ulimit -f 64; exec "$0" "$@"')
    done = maphc2f.run("generate", "out", "--config", recipe_file, under=small)
    assert done.returncode == 2
    assert "grew over the size limit" in one_line(done)
    assert not (tmp_path / "out" / "corpus.json").exists()
    assert say("generate", "out", "--config", recipe_file).code == 0
    assert digest(tmp_path / "out") == finished_digest


# Disks of our own need the right to mount, which a process has in a namespace of its own where the system grants that.
_ON_A_DISK = """
mount -t tmpfs -o size={size} tmpfs disk && mkdir disk/out && {before} || exit 98
"$0" "$@"
code=$?
test -e disk/out/corpus.json && exit 99
exit $code
"""


def may_mount() -> bool:
    command = ["unshare", "-rm", "mount", "-t", "tmpfs", "tmpfs", "/tmp"]  # noqa: S108
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not may_mount(), reason="this system grants nobody a disk of his own; the size limit stands in")
@pytest.mark.parametrize("workers", ["1", "2"])
def test_full_disk_is_one_line_and_exit_2(
    workers: str, maphc2f: CommandLine, recipe_file: Path, tmp_path: Path
) -> None:
    (tmp_path / "disk").mkdir()
    under = ("unshare", "-rm", "bash", "-c", _ON_A_DISK.format(size="600k", before="true"))
    done = maphc2f.run("generate", "disk/out", "--config", recipe_file, "--workers", workers, under=under)
    assert done.returncode == 2, done.stderr
    assert "the disk is full" in one_line(done)


@pytest.mark.skipif(not may_mount(), reason="this system grants nobody a disk of his own; a closed folder stands in")
def test_read_only_disk_is_one_line_and_exit_2(maphc2f: CommandLine, recipe_file: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    under = ("unshare", "-rm", "bash", "-c", _ON_A_DISK.format(size="1m", before="mount -o remount,ro disk"))
    done = maphc2f.run("generate", "disk/out", "--config", recipe_file, under=under)
    assert done.returncode == 2, done.stderr
    assert "the file system is read-only" in one_line(done)


def test_sheet_that_cannot_be_written_is_one_line_and_exit_2(finished: Path, say: Callable[..., Said]) -> None:
    said = say("sheet", finished, "/proc/sheet.png")
    assert said.code == 2
    assert "/proc/sheet.png: cannot be written" in one_line(said)


@pytest.mark.parametrize(
    ("option", "value", "expected"),
    [
        ("--category", "bricks", "not in .*; there is brick, hex_nut"),
        ("--mechanism", "rust", "not in .*; there is fracture, pitting"),
        ("--sample", "0123456789abcdef", r"not in .*; there is ([0-9a-f]{16}, ){12}\.\.\."),
        ("--count", "0", "Invalid value for '--count'"),
    ],
)
def test_sheet_of_what_is_not_there_says_what_is(
    option: str, value: str, expected: str, finished: Path, say: Callable[..., Said], tmp_path: Path
) -> None:
    said = say("sheet", finished, "x.png", option, value)
    assert said.code == 2
    assert re.search(expected, one_line(said))
    assert not (tmp_path / "x.png").exists()


# ---------------------------------------------------------------- a corpus, whole or not


def test_whole_corpus_verifies(finished: Path, maphc2f: CommandLine) -> None:
    done = maphc2f.run("verify", finished)
    assert (done.returncode, done.stderr) == (0, "")
    assert "is whole (24 samples" in done.stdout


def test_damaged_corpus_is_exit_1_and_names_the_file(copied: Path, maphc2f: CommandLine) -> None:
    shard = copied / "data/builtin/brick/mask/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    done = maphc2f.run("verify", copied)
    assert done.returncode == 1
    assert "data/builtin/brick/mask/c/0/0/0: has other content" in done.stderr
    assert "1 problem(s)" in done.stderr


@pytest.mark.parametrize("command", ["verify", "info", "sheet"])
def test_unfinished_corpus_is_exit_1_and_says_so(command: str, copied: Path, say: Callable[..., Said]) -> None:
    (copied / "corpus.json").unlink()
    said = say(command, copied, *(["x.png"] if command == "sheet" else []))
    assert said.code == 1
    assert "not finished" in said.err
    assert "generate" in said.err


def test_info_says_what_is_there(finished: Path, say: Callable[..., Said]) -> None:
    said = say("info", finished)
    assert said.code == 0
    assert "small: 24 samples" in said.out
    assert "40 photographs, 40 trajectories" in said.out
    assert "CC0" in said.out


def test_info_as_json_is_the_file(finished: Path, say: Callable[..., Said]) -> None:
    said = say("info", finished, "--json")
    assert json.loads(said.out) == json.loads((finished / "corpus.json").read_bytes())


def test_sheet_is_written(finished: Path, say: Callable[..., Said], tmp_path: Path) -> None:
    said = say("sheet", finished, "new/folder/x.png", "--category", "brick", "--mechanism", "fracture", "--count", "5")
    assert said.code == 0
    with Image.open(tmp_path / "new/folder/x.png") as picture:
        assert np.asarray(picture).std() > 10


def test_inspection_cards_are_written(several: Path, say: Callable[..., Said], tmp_path: Path) -> None:
    said = say("sheet", several, "cards.png", "--stages", "--count", "2")
    assert (said.code, said.err) == (0, "")
    assert say("sheet", several, "all.png", "--stages").code == 0
    with Image.open(tmp_path / "cards.png") as two, Image.open(tmp_path / "all.png") as six:
        assert six.height > 2.5 * two.height
        assert np.asarray(two).std() > 10


def test_inspection_card_of_one_sample_is_asked_for_by_its_id(
    several: Path, say: Callable[..., Said], tmp_path: Path
) -> None:
    chosen = Corpus(several)[3].record.id
    assert say("sheet", several, "by-id.png", "--stages", "--sample", chosen).code == 0
    drawn = draw_cards(Corpus(several).where(id=chosen), [0])
    with Image.open(tmp_path / "by-id.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), np.asarray(drawn))


def test_inspection_cards_of_a_corpus_without_stages_are_one_line_and_exit_2(
    finished: Path, say: Callable[..., Said], tmp_path: Path
) -> None:
    said = say("sheet", finished, "cards.png", "--stages")
    assert said.code == 2
    assert re.search(r"keeps no stages .* --keep-stages, or with store\.stages", one_line(said))
    assert not (tmp_path / "cards.png").exists()


def test_stages_are_kept_on_demand_and_are_part_of_the_recipe(
    say: Callable[..., Said], recipe_file: Path, finished: Path
) -> None:
    options = ("--config", recipe_file, "--count", "4", "--bank", finished)
    said = say("generate", "out", *options, "--keep-stages")
    assert (said.code, said.err) == (0, "")
    assert json.loads(say("info", "out", "--json").out)["config"]["store"]["stages"] == ["paste", "render", "npcf"]
    assert say("verify", "out").code == 0
    assert say("sheet", "out", "cards.png", "--stages").code == 0
    said = say("generate", "out", *options)
    assert said.code == 2
    assert "was begun with another recipe" in one_line(said)
    assert "store.stages" in said.err


def test_plan_with_stages_is_that_of_generate_with_stages(
    say: Callable[..., Said], recipe_file: Path, finished: Path
) -> None:
    assert say("plan", "out", "--config", recipe_file, "--count", "4", "--keep-stages").code == 0
    options = ("--config", recipe_file, "--count", "4", "--bank", finished)
    assert say("generate", "out", *options).code == 2
    assert say("generate", "out", *options, "--keep-stages").code == 0


def test_info_counts_what_must_not_be(finished: Path, copied: Path, say: Callable[..., Said]) -> None:
    said = say("info", finished)
    assert "what must not be, counted over all 24 samples" in said.out
    rows = dict(re.findall(r"^│ ([a-z ]+?) +│ +(\d*) +│ +(?:\d*) +│$", said.out, flags=re.MULTILINE))
    assert rows["visibly changed outside the mask"] == rows["changed outside the support"] == "0"
    told = json.loads((copied / "corpus.json").read_bytes())
    told["invariants"] |= {"unlabelled_px": 12345, "instances_touching": 67, "faint_share": 0.125}
    (copied / "corpus.json").write_text(json.dumps(told), encoding="utf-8")
    said = say("info", copied)
    assert re.search(r"visibly changed outside the mask +│ +12,345 │", said.out)
    assert re.search(r"defects that touch each other +│ +│ +67 │", said.out)
    assert "outside the mask, changed too faintly to be seen: 12.5 % of the mask" in said.out


def test_interruption_of_a_job_is_exit_130(
    say: Callable[..., Said], recipe_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> NoReturn:
        raise Interrupted

    def leave(code: int) -> NoReturn:  # as os._exit, which would end the tests
        raise SystemExit(code)

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    for name in ("generate", "prepare", "fill_bank"):
        monkeypatch.setattr(f"pipeline.generate.{name}", interrupted)
    for command in ("generate", "plan", "bank"):
        said = say(command, "out", "--config", recipe_file)
        assert said.code == 130, command
        assert "the same command goes on from there" in said.err


def test_inspect_is_written_and_explains_its_choice(
    photographs: Path, say: Callable[..., Said], tmp_path: Path
) -> None:
    (photographs / "broken.png").write_bytes(b"")
    said = say("inspect", "x.png", "--source", f"folder:{photographs}", "--size", "64")
    assert said.code == 0
    assert "folder/photographs: texture" in said.out
    assert "not usable broken.png: empty" in said.out
    assert (tmp_path / "x.png").stat().st_size > 1000


def test_failed_samples_are_explained_with_the_remedy(
    photographs: Path, say: Callable[..., Said], tmp_path: Path
) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "{mechanisms: {fracture: {grid: 32}}, bank: {trajectories: 10}, label: {visible_threshold: 128, attempts: 2}}"
    )
    options = ("--config", "recipe.yaml", "--source", f"folder:{photographs}", "--count", "3", "--size", "64")
    said = say("generate", "out", *options)
    assert said.code == 0
    assert re.search(r"3 samples without a defect, invisible: .*label\.visible_threshold", said.out)


def test_remedies_name_settings_that_there_are() -> None:
    assert set(REMEDIES) == set(SampleStatus) - {SampleStatus.OK}
    named = {pair for text in REMEDIES.values() for pair in re.findall(r"(\w+)\.(\w+)", text)}
    assert {("npcf", "max_cycles"), ("placement", "defects")} <= named
    for section, setting in named:
        assert setting in type(getattr(Recipe(), section)).model_fields, (section, setting)
    assert all("area" in known.params.model_fields for known in MECHANISMS.values())


def test_plan_shows_a_table_and_an_estimate_and_makes_no_sample(
    say: Callable[..., Said], recipe_file: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    said = say("plan", "out", "--config", recipe_file)
    assert said.code == 0, said.err
    assert re.search(r"builtin/hex_nut\W+24\W+12\W+(fracture 6, pitting 6|pitting 6, fracture 6)\W+3", said.out)
    assert re.search(r"about .* on 1 worker\(s\) and .*B of disk, measured on", said.out)
    made = digest(tmp_path / "out")
    assert not any(name.startswith(("commits/samples", "manifest", "corpus.json")) for name in made)
    assert say("generate", "out", "--config", recipe_file).code == 0
    assert digest(tmp_path / "out") == finished_digest


def test_policy_is_followed_by_plan_and_generate_and_is_part_of_the_recipe(
    say: Callable[..., Said], recipe_file: Path, finished: Path, tmp_path: Path
) -> None:
    mechanisms = {"pitting": {"factor": 3, "area": [3, 1, 1, 1], "place": {"border": 0.2}}, "dent": {"factor": 9}}
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps({"corpus": "last", "samples": 9, "mechanisms": mechanisms}), encoding="utf-8")
    options = ("--config", recipe_file, "--count", "8", "--policy", policy)
    said = say("plan", "out", *options)
    assert (said.code, said.err) == (0, "")
    said = say("generate", "out", *options, "--bank", finished)
    assert (said.code, said.err) == (0, "")
    found = json.loads(say("info", "out", "--json").out)
    assert found["counts"]["by_mechanism"] == {"fracture": 2, "pitting": 6}, "a dent takes no part"
    assert found["config"]["policy"]["mechanisms"]["pitting"]["factor"] == 3
    assert say("verify", "out").code == 0
    said = say("generate", "out", *options[:-2])
    assert said.code == 2
    assert "was begun with another recipe (policy is " in one_line(said)


def test_only_the_mechanism_that_is_asked_for_is_made(
    say: Callable[..., Said], recipe_file: Path, tmp_path: Path
) -> None:
    options = ("--config", recipe_file, "--count", "4", "--mechanism", "pitting")
    assert say("generate", "out", *options).code == 0
    found = json.loads(say("info", "out", "--json").out)
    assert found["counts"]["by_mechanism"] == {"pitting": 4}
    assert found["counts"]["trajectories"] == {"pitting": 20}
    assert list(found["mechanisms"]) == ["pitting"]
    assert found["config"]["mechanisms"]["pitting"]["snapshots"] == 4, "as the recipe has it"
    assert say("verify", "out").code == 0
    said = say("generate", "out", *options[:-1], "fracture")
    assert said.code == 2
    assert "was begun with another recipe (mechanisms.fracture is null there" in one_line(said)


def test_bank_too_small_for_the_plan_is_one_line_and_exit_2(say: Callable[..., Said], tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(
        "{count: 3000, size: 64, sources: [{kind: builtin, categories: [coins]}], bank: {trajectories: 10},"
        " mechanisms: {pitting: {grid: 32, snapshots: 4}}}"
    )
    said = say("generate", "out", "--config", "recipe.yaml")
    assert said.code == 2
    assert re.search(r"bank\.trajectories: 10 are too few for \d+ defects .* at least \d+, or auto", one_line(said))


# ---------------------------------------------------------------- bank


def simulated(out: Path) -> dict[str, int]:
    """Trajectories that all runs together simulated, by mechanism."""
    total: dict[str, int] = {}
    for line in (out / "log/runs.jsonl").read_text(encoding="utf-8").splitlines():
        for name, number in json.loads(line)["simulated"].items():
            total[name] = total.get(name, 0) + number
    return total


def test_bank_is_filled_shown_and_drawn_and_generate_goes_on_with_it(
    say: Callable[..., Said], recipe_file: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    said = say("bank", "out", "--config", recipe_file)
    assert (said.code, said.err) == (0, "")
    for name, states in (("fracture", 6), ("pitting", 4)):
        assert re.search(rf"{name}\W+20\W+{states}\W", said.out)
    assert said.out.count(" ms ") == 4, "a trajectory and a state of each"
    with Image.open(tmp_path / "out-bank.png") as picture:
        assert np.asarray(picture).std() > 10
    made = digest(tmp_path / "out")
    assert not any(name.startswith(("commits/samples", "manifest", "corpus.json")) for name in made)
    again = say("bank", "out", "--picture", "again.png")  # of a folder that is there, as it was begun
    assert again.code == 0
    assert simulated(tmp_path / "out") == {"fracture": 20, "pitting": 20}
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "out-bank.png").read_bytes()
    assert say("generate", "out", "--config", recipe_file).code == 0
    assert digest(tmp_path / "out") == finished_digest
    assert simulated(tmp_path / "out") == {"fracture": 20, "pitting": 20}


def test_bank_of_a_finished_corpus_is_shown_and_nothing_is_changed(
    say: Callable[..., Said], finished: Path, recipe_file: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    log = (finished / "log/runs.jsonl").read_bytes()
    for options in ([], ["--config", recipe_file]):
        said = say("bank", finished, "--picture", "new/bank.png", *options)
        assert said.code == 0
        assert "bank of small" in said.out
        assert (tmp_path / "new/bank.png").stat().st_size > 5000
    assert digest(finished) == finished_digest
    assert (finished / "log/runs.jsonl").read_bytes() == log


def test_bank_of_a_finished_corpus_is_not_shown_as_another_recipes(
    say: Callable[..., Said], finished: Path, recipe_file: Path, tmp_path: Path
) -> None:
    said = say("bank", finished, "--config", recipe_file, "--seed", "1", "--picture", "x.png")
    assert said.code == 2
    assert "seed is 0 there and 1 here" in one_line(said)
    assert not (tmp_path / "x.png").exists()


def test_bank_that_is_there_is_copied_by_option_or_by_environment(
    say: Callable[..., Said], finished: Path, recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--config", recipe_file, "--count", "6")
    said = say("generate", "one", *options, "--bank", finished)
    assert said.code == 0
    assert f"40 trajectories copied from {finished}" in said.out
    assert simulated(tmp_path / "one") == {"fracture": 0, "pitting": 0}
    monkeypatch.setenv("MAPHC2F_BANK", str(finished))
    said = say("bank", "two", *options)
    assert said.code == 0
    assert said.out.count("copied") == 3, "the note, and the cost of each mechanism"
    assert simulated(tmp_path / "two") == {"fracture": 0, "pitting": 0}
    assert say("generate", "two", *options).code == 0
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


# ---------------------------------------------------------------- mechanisms


def test_mechanisms_are_listed_with_their_fields(maphc2f: CommandLine, tmp_path: Path) -> None:
    wide = replace(maphc2f, environment={**maphc2f.environment, "COLUMNS": "400"})
    done = wide.run("mechanisms")
    assert (done.returncode, done.stderr) == (0, "")
    for known in MECHANISMS.values():
        fields = ", ".join(known.fields)
        physical = "yes" if known.physical else "no"
        row = rf"{known.name}\W+{re.escape(known.summary)}\W+{physical}\W+{fields}\W+{known.params().snapshots}\b"
        assert re.search(row, done.stdout), known.name


@pytest.mark.parametrize("name", ["fracture", "pitting", "cutpaste"])
def test_mechanism_is_told_with_every_parameter_its_default_and_unit(name: str, maphc2f: CommandLine) -> None:
    wide = replace(maphc2f, environment={**maphc2f.environment, "COLUMNS": "400"})
    done = wide.run("mechanisms", name)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{MECHANISMS[name].title} ({name})" in done.stdout
    for row in parameter_rows(MECHANISMS[name].params()):
        assert all(cell in done.stdout for cell in row), row
        assert re.search(rf"^\W*{row[0]}\W", done.stdout, flags=re.MULTILINE)


def test_mechanisms_as_markdown_are_the_reference(say: Callable[..., Said]) -> None:
    said = say("mechanisms", "--markdown")
    assert (said.code, said.err, said.out) == (0, "", mechanism_reference())


# ---------------------------------------------------------------- schema


def references(schema: object) -> set[str]:
    """Every ``$ref`` anywhere in a schema."""
    if isinstance(schema, dict):
        own = {schema["$ref"]} if isinstance(schema.get("$ref"), str) else set()
        return own.union(*(references(value) for value in schema.values()))
    return set().union(*(references(value) for value in schema)) if isinstance(schema, list) else set()


def test_schema_is_one_json_document_whose_references_resolve(say: Callable[..., Said]) -> None:
    said = say("schema")
    assert (said.code, said.err) == (0, "")
    schema = json.loads(said.out)
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert schema["properties"]["count"]["minimum"] == 1
    assert references(schema) <= {f"#/$defs/{name}" for name in schema["$defs"]}
    for part in (schema, *schema["$defs"].values()):
        assert all("description" in value or "$ref" in value for value in part["properties"].values())


def test_reader_that_has_seen_enough_is_no_error(maphc2f: CommandLine, tmp_path: Path) -> None:
    script = f'"{sys.executable}" -m pipeline.cli schema | head -c 1; exit ${{PIPESTATUS[0]}}'
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=dict(maphc2f.environment), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"{", b"")
