"""A publication is what its readers expect: mlcroissant, Hugging Face datasets, sha256sum, and our own reader."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from markdown_it import MarkdownIt
from PIL import Image

from manifests import Corpus
from manifests.console import ConsoleProgress
from manifests.errors import ConfigError, CorpusError, OutputError
from manifests.hashing import canonical_json
from pipeline.publishing.facts import About, local_paths
from pipeline.publishing.placing import HostLimits
from pipeline.publishing.publication import Publication, publish
from pipeline.verification import verify_corpus

ABOUT = About(
    title="Cracks | and <pits>",
    authors=("Lovelace, Ada", "Tile Works Ltd"),
    homepage="https://example.org/cracks",
    released="2026-01-02",
    version="1.0.0",
)
NOT_COMMERCIAL = "CC BY-NC-SA 4.0 (MVTec Software GmbH, MVTec AD)"


def _digests(dest: Path) -> dict[str, bytes]:
    return {p.relative_to(dest).as_posix(): p.read_bytes() for p in sorted(dest.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def published(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A publication of the finished corpus; not to be changed."""
    dest = tmp_path_factory.mktemp("published") / "dest"
    publish(finished, dest, ABOUT)
    return dest


def _relicense(out: Path, licence: str) -> None:
    """Give one category of a corpus another licence text."""
    info = json.loads((out / "corpus.json").read_bytes())
    info["licences"][0]["licence"] = licence
    (out / "corpus.json").write_bytes(canonical_json(info) + b"\n")


@pytest.fixture
def licensed(copied: Path, tmp_path: Path) -> Callable[..., Path]:
    """Publishes a copy of the corpus, one category of which has another licence text."""

    def make(licence: str) -> Path:
        _relicense(copied, licence)
        publish(copied, tmp_path / "dest", About(), verify=False)
        return tmp_path / "dest"

    return make


def test_sha256sum_checks_every_file(published: Path) -> None:
    done = subprocess.run(["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=published, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = {line.split("  ", 1)[1] for line in (published / "SHA256SUMS").read_text().splitlines()}
    assert listed == _digests(published).keys() - {"SHA256SUMS", "publication.json"}
    told = Publication.model_validate_json((published / "publication.json").read_bytes())
    assert told.files == len(listed) + 1
    assert told.verified


def test_the_corpus_in_it_is_the_corpus(published: Path, finished: Path, finished_digest: dict[str, str]) -> None:
    assert not verify_corpus(published / "corpus").problems
    ours, theirs = Corpus(published / "corpus"), Corpus(finished)
    assert ours.table.equals(theirs.table)
    assert np.array_equal(ours[3].image, theirs[3].image)
    assert {name.removeprefix("corpus/") for name in _digests(published) if name.startswith("corpus/")} == set(
        finished_digest
    )
    assert (published / "corpus/manifest.parquet").samefile(finished / "manifest.parquet")


@pytest.mark.filterwarnings("ignore")  # of rdflib and its kind
def test_mlcroissant_finds_nothing_wrong_and_reads_the_manifest(published: Path) -> None:
    import mlcroissant

    dataset = mlcroissant.Dataset(published / "croissant.json")
    assert not dataset.metadata.ctx.issues.errors
    assert not dataset.metadata.ctx.issues.warnings
    table = pq.read_table(published / "corpus/manifest.parquet").to_pylist()
    records = list(dataset.records("manifest"))
    assert len(records) == len(table)
    for record, row in zip(records, table, strict=True):
        read = {key.removeprefix("manifest/"): value for key, value in record.items()}
        assert {k: v.decode() if isinstance(v, bytes) else v for k, v in read.items()} == {
            name: value for name, value in row.items() if name != "defects"
        }
    assert [record["splits/name"] for record in dataset.records("splits")] == ["train", "val", "test"]


@pytest.mark.filterwarnings("ignore")  # of rdflib and its kind
def test_mlcroissant_reads_pictures_splits_and_columns_of_the_preview(published: Path, finished: Path) -> None:
    import mlcroissant

    dataset = mlcroissant.Dataset(published / "croissant.json")
    groups = json.loads((published / "splits.json").read_bytes())["groups"]
    by_id = {sample.record.id: sample for sample in Corpus(finished)}
    records = list(dataset.records("preview"))
    assert {record["preview/id"].decode() for record in records} == set(by_id)
    assert len(records) == len(by_id)
    for record in records:
        sample = by_id[record["preview/id"].decode()]
        assert record["preview/group"] in groups[record["preview/split"].decode()]
        assert record["preview/area_px"] == sample.record.area_px
        assert np.array_equal(np.asarray(record["preview/mask"]), sample.mask)  # smaller than a thumbnail: as it is
        difference = np.asarray(record["preview/image"], dtype=float).reshape(sample.image.shape) - sample.image
        assert np.abs(difference).mean() < 3
        normal = np.asarray(record["preview/normal"], dtype=float).reshape(sample.image.shape) - sample.source
        assert np.abs(normal).mean() < 3


def test_mlcroissant_validate_passes_on_the_command_line(published: Path) -> None:
    command = [Path(sys.executable).with_name("mlcroissant"), "validate", "--jsonld", published / "croissant.json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()


@pytest.mark.filterwarnings("ignore")  # of the libraries under datasets
def test_hugging_face_datasets_loads_splits_and_pictures(
    published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from datasets import load_dataset

    preview = load_dataset(str(published), "preview", cache_dir=str(tmp_path))
    samples = json.loads((published / "splits.json").read_bytes())["samples"]
    assert {split: len(rows) for split, rows in preview.items()} == samples
    first = preview["train"][0]
    assert isinstance(first["image"], Image.Image)
    assert isinstance(first["mask"], Image.Image)
    assert first["split"] == "train"
    manifest = load_dataset(str(published), "manifest", split="manifest", cache_dir=str(tmp_path))
    assert manifest["id"][:] == pq.read_table(published / "corpus/manifest.parquet")["id"].to_pylist()


def test_no_photograph_and_no_trajectory_is_in_two_splits(published: Path) -> None:
    seen: dict[object, str] = {}
    corpus = Corpus(published / "corpus")
    groups = json.loads((published / "splits.json").read_bytes())["groups"]
    assert sum(len(corpus.where(group=members)) for members in groups.values()) == len(corpus)
    for split, members in groups.items():
        assert members
        for sample in corpus.where(group=members):
            own = [sample.record.source_sha256]
            own += [(defect.mechanism, defect.trajectory) for defect in sample.record.defects]
            for key in own:
                assert seen.setdefault(key, split) == split
    assert len(set(seen.values())) == 3


def test_card_has_the_header_that_a_hub_reads(published: Path) -> None:
    _, header, body = (published / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(header)
    assert card["pretty_name"] == ABOUT.title
    assert card["license"] == "cc0-1.0"
    assert card["size_categories"] == ["n<1K"]
    assert "image-segmentation" in card["task_categories"]
    for config in card["configs"]:
        for files in config["data_files"]:
            assert list(published.glob(files["path"])), files
    html = MarkdownIt("commonmark").enable("table").render(body)
    assert "<h1>Cracks | and &lt;pits&gt;</h1>" in html
    assert html.count("<table>") == 6
    for target in re.findall(r'(?:href|src)="([^":#]+)"', html):
        assert (published / target).is_file(), target


def test_the_programs_that_the_card_shows_run(published: Path) -> None:
    blocks = re.findall(r"```python\n(.*?)```", (published / "README.md").read_text(), re.DOTALL)
    with_ours, plain = blocks[1:]
    for block in (with_ours, plain):
        done = subprocess.run([sys.executable, "-c", block], cwd=published, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr


def test_citation_follows_the_rules_of_its_format(published: Path) -> None:
    """Citation File Format 1.2.0: required keys, none that it does not know, authors by the keys of theirs."""
    citation = yaml.safe_load((published / "CITATION.cff").read_text())
    assert {"authors", "cff-version", "message", "title"} <= citation.keys()
    known = {"abstract", "keywords", "license", "type", "url", "version", "date-released"}
    assert citation.keys() - {"authors", "cff-version", "message", "title"} == known
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "dataset"
    assert citation["license"] == "CC0-1.0"
    assert re.fullmatch(r"\d{4}-\d{2}-\d{2}", citation["date-released"])
    assert citation["authors"] == [{"family-names": "Lovelace", "given-names": "Ada"}, {"name": "Tile Works Ltd"}]
    assert len(set(citation["keywords"])) == len(citation["keywords"])


def test_what_was_not_given_is_left_out(finished: Path, tmp_path: Path) -> None:
    dest = tmp_path / "dest"
    publish(finished, dest, About(), verify=False)
    assert not (dest / "CITATION.cff").exists()
    croissant = json.loads((dest / "croissant.json").read_bytes())
    assert croissant["name"] == "small"
    assert not {"creator", "url", "datePublished", "version", "citeAs"} & croissant.keys()
    card = (dest / "README.md").read_text()
    assert "Cite it" not in card
    assert "Homepage" not in card
    created = re.search(r"\*\*Who created it.*?\*\* (.*)", (dest / "datasheet.md").read_text())
    assert created is not None
    assert created[1].startswith("*Not stated")


def test_a_non_commercial_corpus_says_so_first(licensed: Callable[..., Path]) -> None:
    dest = licensed(NOT_COMMERCIAL)
    card = (dest / "README.md").read_text().split("---\n", 2)
    assert yaml.safe_load(card[1])["license"] == "other"
    assert yaml.safe_load(card[1])["license_name"] == "mixed-non-commercial"
    for text in (card[2], (dest / "LICENCES.md").read_text(), (dest / "datasheet.md").read_text()):
        title, _, rest = text.strip().partition("\n")
        assert title.startswith("# ")
        assert rest.strip().startswith("> [!WARNING]\n> **NON-COMMERCIAL.")
        assert NOT_COMMERCIAL in rest
    assert "same licence" in (dest / "LICENCES.md").read_text()
    assert (
        "https://creativecommons.org/licenses/by-nc-sa/4.0/"
        in json.loads((dest / "croissant.json").read_bytes())["license"]
    )


@pytest.mark.parametrize("licence", ["not stated", "ask Jane | *she* knows"])
def test_an_unknown_licence_is_called_unknown_first(licensed: Callable[..., Path], licence: str) -> None:
    dest = licensed(licence)
    for text in ((dest / "README.md").read_text().split("---\n", 2)[2], (dest / "LICENCES.md").read_text()):
        assert text.strip().partition("\n")[2].strip().startswith("> [!WARNING]\n> **UNKNOWN LICENCE.")
    assert "**UNKNOWN." in (dest / "LICENCES.md").read_text()
    assert "NOT verified" in (dest / "README.md").read_text()


def test_publishing_again_gives_the_same_bytes(published: Path, finished: Path, tmp_path: Path) -> None:
    before = _digests(published)
    again = tmp_path / "again"
    publish(finished, again, ABOUT)
    assert _digests(again) == before
    publish(finished, again, About(title="Other"), verify=False)
    assert "# Other" in (again / "README.md").read_text()
    assert not (again / "CITATION.cff").exists()


def test_a_corpus_of_too_many_files_is_packed_and_unpacks_to_itself(
    finished: Path, finished_digest: dict[str, str], tmp_path: Path
) -> None:
    dest = tmp_path / "dest"
    told = publish(finished, dest, ABOUT, verify=False, limits=HostLimits(folder=8, archive_bytes=200_000))
    assert told.packed
    assert len(list((dest / "archives").iterdir())) > 1
    assert {path.name for path in (dest / "corpus").iterdir()} == {
        "config.json", "corpus.json", "inventory.parquet", "manifest.parquet", "plan.parquet"
    }  # fmt: skip
    assert len(Corpus(dest / "corpus")) == len(Corpus(finished))
    command = re.search(r"```sh\n(.*?)```", (dest / "README.md").read_text(), re.DOTALL)
    assert command is not None
    subprocess.run(["sh", "-c", command[1]], cwd=dest, check=True)
    assert not verify_corpus(dest / "corpus").problems
    assert np.array_equal(Corpus(dest / "corpus")[0].image, Corpus(finished)[0].image)


class _KilledAt:
    """Ends the process, as a power cut would, at one step."""

    def __init__(self, step: str, done: int) -> None:
        self.step, self.done = step, done

    def count(self, name: str, unit: str) -> Callable[[int, int], None]:
        def advance(done: int, total: int) -> None:
            if name == self.step and done >= self.done:
                os.kill(os.getpid(), signal.SIGKILL)

        return advance


@pytest.mark.parametrize("step", ["verifying", "placing", "packing", "previewing"])
def test_a_killed_publication_looks_unfinished_and_goes_on_to_the_same_bytes(
    published: Path, finished: Path, tmp_path: Path, step: str
) -> None:
    dest, packed = tmp_path / "dest", step == "packing"
    child = os.fork()
    if child == 0:
        publish(finished, dest, ABOUT, pack=packed, watcher=_KilledAt(step, 5))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    assert not (dest / "publication.json").exists()
    publish(finished, dest, ABOUT, pack=packed)
    if packed:
        publish(finished, tmp_path / "whole", ABOUT, pack=True)
        assert _digests(dest) == _digests(tmp_path / "whole")
    else:
        assert _digests(dest) == _digests(published)


def test_two_publications_into_one_folder_do_not_meet(finished: Path, tmp_path: Path) -> None:
    class Second:
        def count(self, name: str, unit: str) -> Callable[[int, int], None]:
            with pytest.raises(OutputError, match="another maphc2f is writing here"):
                publish(finished, tmp_path / "dest", ABOUT)
            return lambda done, total: None

    publish(finished, tmp_path / "dest", ABOUT, verify=False, watcher=Second())


def test_what_is_no_place_for_a_publication_is_refused(finished: Path, copied: Path, tmp_path: Path) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "letter.txt").write_text("mine")
    with pytest.raises(OutputError, match="holds something else"):
        publish(finished, full, ABOUT)
    assert [path.name for path in full.iterdir()] == ["letter.txt"]
    with pytest.raises(OutputError, match="is a file"):
        publish(finished, full / "letter.txt", ABOUT)
    for inside in (finished, finished / "data", finished.parent):
        with pytest.raises(OutputError, match="within the corpus"):
            publish(finished, inside, ABOUT)
    dest = tmp_path / "dest"
    publish(finished, dest, ABOUT, verify=False)
    _relicense(copied, NOT_COMMERCIAL)
    with pytest.raises(OutputError, match="another corpus"):
        publish(copied, dest, ABOUT)
    assert (dest / "publication.json").is_file()


def test_an_unsound_or_unfinished_corpus_is_refused(copied: Path, tmp_path: Path) -> None:
    victim = next((copied / "data").rglob("image/c/0/0/0/0"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(CorpusError, match="is not sound"):
        publish(copied, tmp_path / "dest", ABOUT)
    with pytest.raises(CorpusError, match="differs from the sha256"):
        publish(copied, tmp_path / "dest", ABOUT, verify=False)
    assert not (tmp_path / "dest/publication.json").exists()
    (copied / "corpus.json").unlink()
    with pytest.raises(CorpusError, match="not finished"):
        publish(copied, tmp_path / "other", ABOUT)
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    "about",
    [
        {"homepage": "example.org"},
        {"homepage": "javascript:alert(1)"},
        {"released": "2 January"},
        {"authors": (" , ",)},
        {"title": "two\nlines"},
    ],
)
def test_what_is_no_homepage_day_or_name_is_refused(about: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="expected"):
        About(**about)


def test_paths_of_the_publishers_machine_are_found(finished: Path) -> None:
    info = Corpus(finished).info
    assert local_paths(info) == []
    sources = [{"kind": "mvtec", "path": "/home/ada/tiles"}, {"kind": "visa", "path": "${VISA_ROOT}", "masks": "m"}]
    assert local_paths(info.model_copy(update={"config": {"sources": sources}})) == ["/home/ada/tiles", "m"]


def test_thumbnails_are_small_and_their_masks_lose_no_defect(tmp_path: Path) -> None:
    from pipeline.publishing.preview import THUMB_PX, _mask_png, _size

    mask = np.zeros((1024, 512), dtype=np.uint8)
    mask[777, 333] = 255
    assert _size(mask.shape) == (THUMB_PX // 2, THUMB_PX)
    (tmp_path / "mask.png").write_bytes(_mask_png(mask))
    small = np.asarray(Image.open(tmp_path / "mask.png"))
    assert set(np.unique(small)) == {0, 255}
    assert 1 <= (small > 0).sum() <= 4


def test_progress_of_every_step_is_told(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    with ConsoleProgress(Console()) as progress:
        publish(finished, tmp_path / "dest", ABOUT, pack=True, watcher=progress)
    told = capsys.readouterr().out
    for step in ("verifying shards", "placing files", "packing files", "previewing samples"):
        assert f"{step}: finished" in told
