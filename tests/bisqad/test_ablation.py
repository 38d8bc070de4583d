"""The ablation: its summary, its table and its plot, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from bisqad import ablation
from bisqad.ablation import MEASURES, STEPS, ablate, summary
from bisqad.config import TrainConfig
from manifests.errors import CorpusError, OutputError

FIGURES = {
    "naive paste": {measure: [0.6, 0.7, 0.8] for measure in MEASURES},
    "+ SQE weights": {measure: [0.9, 0.9, 0.9] for measure in MEASURES},
}


def test_summary_is_mean_and_half_of_the_95_percent_interval() -> None:
    mean, half = summary([0.6, 0.7, 0.8])
    assert mean == pytest.approx(0.7)
    assert half == pytest.approx(1.96 * 0.1 / np.sqrt(3))


def test_one_seed_has_no_interval() -> None:
    assert summary([0.75]) == (0.75, 0.0)


def test_the_table_has_a_row_for_each_step_and_a_column_for_each_measure() -> None:
    lines = ablation._markdown(FIGURES).splitlines()
    assert len(lines) == 4
    assert {line.count("|") for line in lines} == {len(MEASURES) + 2}
    assert lines[0].split("|")[2].strip() == "image auroc"
    assert "| 0.700 ± 0.113 |" in lines[2]
    assert lines[3].startswith("| + SQE weights | 0.900 ± 0.000 |")


def test_results_are_written_as_json_table_and_picture(tmp_path: Path) -> None:
    ablation._write_results(tmp_path, FIGURES, [0, 1, 2])
    stored = json.loads((tmp_path / "ablation.json").read_bytes())
    assert stored == {"seeds": [0, 1, 2], "steps": FIGURES}
    assert (tmp_path / "ablation.md").read_text() == ablation._markdown(FIGURES)
    with Image.open(tmp_path / "ablation.png") as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    means = (np.abs(pixels - ablation._MEAN).sum(axis=2) == 0).sum()
    assert means > 2 * len(MEASURES) * 20  # a dot for each mean
    assert (pixels[0] == 255).all()


def test_a_higher_value_is_farther_to_the_right_in_the_plot() -> None:
    pixels = np.asarray(ablation.plot(FIGURES))
    for panel in range(len(MEASURES)):
        left = ablation._LEFT + ablation._PANEL * panel
        middles = []
        for row in range(2):
            top = ablation._TOP + ablation._ROW * row
            found = pixels[top : top + ablation._ROW, left - 10 : left + ablation._PANEL - 20]
            middles.append(np.argwhere((found == ablation._MEAN).all(axis=2))[:, 1].mean())
        assert middles[0] < middles[1] - 50


def test_equal_figures_can_be_drawn() -> None:
    same = {step.name: {measure: [1.0] for measure in MEASURES} for step in STEPS}
    assert ablation.plot(same).height > 100


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        ablation._write_results(tmp_path / "file", FIGURES, [0])


def test_a_corpus_without_stages_is_refused_before_anything_is_made(brick_path: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="--keep-stages"):
        ablate([brick_path], tmp_path, tmp_path / "out", TrainConfig(), seeds=[0])
    assert not (tmp_path / "out").exists()


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, TrainConfig]]:
    """What would have been trained, in place of hours; every run is judged by how many there were before it."""
    asked: list[tuple[Path, TrainConfig]] = []

    def train(corpus: Path, folder: Path, config: TrainConfig, **_: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        asked.append((folder, config))

    def evaluate(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(**{measure: SimpleNamespace(value=len(asked) / 100) for measure in MEASURES})

    monkeypatch.setattr(ablation, "train", train)
    monkeypatch.setattr(ablation, "evaluate", evaluate)
    return asked


def test_every_step_and_seed_has_a_run_of_its_own(
    corpus_path: Path, tmp_path: Path, trained: list[tuple[Path, TrainConfig]]
) -> None:
    said: list[str] = []
    found = ablate([corpus_path], tmp_path, tmp_path / "out", TrainConfig(), seeds=[0, 4], told=said.append)
    assert list(found) == [step.name for step in STEPS]
    assert len(trained) == len({folder for folder, _ in trained}) == 2 * len(STEPS)
    assert {(c.stage, c.method, c.seed) for _, c in trained} == {
        (s.changes["stage"], s.changes["method"], seed) for s in STEPS for seed in (0, 4)
    }
    assert len(said) == 2 * len(STEPS)


def test_an_ablation_that_was_stopped_does_not_train_again_what_is_done(
    corpus_path: Path, tmp_path: Path, trained: list[tuple[Path, TrainConfig]]
) -> None:
    first = ablate([corpus_path], tmp_path, tmp_path / "out", TrainConfig(), seeds=[0])
    done = len(trained)
    assert ablate([corpus_path], tmp_path, tmp_path / "out", TrainConfig(), seeds=[0]) == first
    assert len(trained) == done


def test_figures_of_other_settings_are_not_taken_for_those_asked(
    corpus_path: Path, tmp_path: Path, trained: list[tuple[Path, TrainConfig]]
) -> None:
    ablate([corpus_path], tmp_path, tmp_path / "out", TrainConfig(), seeds=[0])
    done = len(trained)
    other = TrainConfig.model_validate({"optimiser": {"epochs": 3}})
    try:
        ablate([corpus_path], tmp_path, tmp_path / "out", other, seeds=[0])
    except OutputError:  # to refuse is as good as to train again
        return
    assert len(trained) > done
