"""The loading benchmark works: all contenders give the same pictures; its figures are not judged here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import loading
from manifests import Corpus
from pipeline.generate import generate
from pipeline.recipe import Recipe

RECIPE = {
    "count": 12,
    "size": 64,
    "sources": [{"kind": "builtin", "categories": ["brick", "wood_grain"]}],
    "bank": {"trajectories": 10},
    "mechanisms": {"pitting": {"grid": 32, "snapshots": 4}},
    "label": {"least_visibility": 0.0},
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, loading.Copies]:
    work = tmp_path_factory.mktemp("loading")
    generate(work / "corpus", Recipe.model_validate(RECIPE), workers=1)
    corpus = Corpus(work / "corpus")
    return corpus, loading.copied(corpus, work)


# WebDataset leaves the files of its shards to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore:unclosed file:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


def images(loader: Any) -> torch.Tensor:
    return torch.cat([torch.cat([batch["image"], batch["mask"]], dim=1) for batch in loader])


def test_every_contender_gives_the_same_pictures_and_masks(made: tuple[Corpus, loading.Copies]) -> None:
    corpus, copies = made
    contenders = loading.contenders(corpus, copies, shuffle=False, workers=0)
    found = {name: images(make()) for name, make in contenders.items()}
    assert len(found) == 4
    assert all(torch.equal(pictures, found[loading.PNG]) for pictures in found.values())


def test_figures_become_a_page(made: tuple[Corpus, loading.Copies]) -> None:
    corpus, copies = made
    rows = list(loading.measure(corpus, copies, rounds=1, workers=(0,)))
    assert {(row.order, row.name) for row in rows} == {
        (order, name)
        for order in ("random", "sequential")
        for name in ("corpus, by position", "corpus, stream", loading.PNG, "WebDataset")
    }
    assert all(row.ratio == 1.0 for row in rows if row.name == loading.PNG)
    text = loading.page(corpus, rows, rounds=1, command="python -m benchmarks.loading")
    assert "written by `python -m benchmarks.loading`" in text
    assert text.count("(1.0 x)") >= 2
    written = Path(loading.__file__).parent.parent / "docs" / "loading.md"
    assert written.read_text(encoding="utf-8").startswith(text.split("## How fast")[0]), "written by another release"


def test_litdata_is_asked_through_pipes_and_takes_its_turns(
    made: tuple[Corpus, loading.Copies], tmp_path: Path
) -> None:
    """Its process is a stand-in here: the library itself wants an environment of its own."""
    corpus, copies = made
    fake = tmp_path / "python"
    answer = f'seconds {{"seconds": 0.5, "samples": {copies.count}}}'
    fake.write_text(
        f"#!/bin/sh\necho $@ >> {tmp_path}/asked\nwhile read line; do echo noise; echo '{answer}'; "
        f"echo $line >> {tmp_path}/asked; done\n"
    )
    fake.chmod(0o755)
    litdata = loading.LitData(str(fake), copies)
    rows = list(loading.measure(corpus, copies, rounds=2, workers=(0, 1), litdata=litdata))
    litdata.close()
    rates = [row.images_s for row in rows if row.name == "LitData"]
    assert rates == [copies.count / 0.5] * 4
    started, *asked = (tmp_path / "asked").read_text().splitlines()
    assert started.split()[1:] == [str(copies.folder), str(copies.count), str(loading.BATCH)]
    kinds = [(order, workers) for order in ("true", "false") for workers in (0, 1)]
    assert asked == [f'{{"shuffle": {o}, "workers": {w}}}' for o, w in kinds for _ in range(3)]


def test_litdata_that_lacks_samples_is_an_error(made: tuple[Corpus, loading.Copies], tmp_path: Path) -> None:
    fake = tmp_path / "python"
    fake.write_text('#!/bin/sh\nread line; echo \'seconds {"seconds": 0.5, "samples": 1}\'; read line\n')
    fake.chmod(0o755)
    litdata = loading.LitData(str(fake), made[1])
    with pytest.raises(RuntimeError, match="LitData gave"):
        litdata.epoch_s(shuffle=False, workers=0)
    litdata.close()


def test_page_is_written_from_a_corpus_that_is_made_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def quick(*arguments: Any, **options: Any) -> list[loading.Row]:
        return [loading.Row("random", 0, loading.PNG, 100.0, 1.0)]

    monkeypatch.setattr(loading, "measure", quick)
    loading.main(["--count", "11", "--page", str(tmp_path / "loading.md")])
    text = (tmp_path / "loading.md").read_text(encoding="utf-8")
    assert "11 samples of 256 x 256 px, grey and colour" in text
    assert "| PNG folder | 100 (1.0 x) |" in text
