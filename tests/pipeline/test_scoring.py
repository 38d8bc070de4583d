"""Scores of samples: in the pass that makes them, and of a finished corpus by any estimator."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.testing import assert_array_equal

from manifests import Corpus
from manifests.errors import CorpusError, InputError
from manifests.records import SampleStatus
from pipeline.generate import generate
from pipeline.recipe import Recipe
from pipeline.scoring import score_corpus
from pipeline.verification import verify_corpus
from refine.sqe import load_sqe, save_sqe

RECIPE = """
name: scored
count: 20
size: 64
seed: 0
sources: [{kind: builtin, categories: [brick]}]
mechanisms: {pitting: {grid: 32, snapshots: 4, area: {kind: loguniform, low: 0.01, high: 0.06}}}
bank: {trajectories: 20}
label: {least_visibility: 0.0}
store: {shard_images: 10}
"""


def recipe(**sqe: object) -> Recipe:
    return Recipe.model_validate({**yaml.safe_load(RECIPE), "sqe": sqe})


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("scored") / "corpus"
    generate(out, recipe(), workers=1)
    return out


@pytest.fixture
def copy(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "corpus"))


def test_every_accepted_sample_is_scored_as_it_is_made(scored: Path) -> None:
    corpus = Corpus(scored)
    quality, weight = corpus.scores()
    assert corpus.info.sqe_sha256 == load_sqe().sha256
    assert len(quality) == len(corpus) > 10
    assert ((quality > 0) & (quality <= 1)).all()
    assert_array_equal(weight, 1)
    assert np.ptp(quality) > 0


def test_scoring_later_by_the_same_estimator_gives_the_same_scores(copy: Path) -> None:
    made = score_corpus(copy, None)
    corpus = Corpus(copy)
    assert_array_equal(corpus.scores(made.sqe_sha256[:8])[0], corpus.scores()[0])
    assert not verify_corpus(copy).problems


def test_scoring_touches_no_picture_and_no_record(copy: Path) -> None:
    before = _hashes(copy)
    score_corpus(copy, None)
    after = _hashes(copy)
    assert {name for name in after if after[name] != before.get(name)} == {"corpus.json", *(after.keys() - before)}


def test_another_estimator_gives_a_table_of_its_own_and_generate_keeps_both(copy: Path, tmp_path: Path) -> None:
    other = load_sqe()
    other.weight_head[-1].bias.data += 1.0
    save_sqe(other, tmp_path / "other.safetensors")
    first, second = score_corpus(copy, None), score_corpus(copy, tmp_path / "other.safetensors")
    assert first.path != second.path
    generate(copy, recipe(), workers=1)
    corpus = Corpus(copy)
    assert {score.path for score in corpus.info.scores} == {first.path, second.path}
    assert corpus.scores(second.sqe_sha256)[1].min() > 0.7 > corpus.scores(first.sqe_sha256)[1].max()
    assert not verify_corpus(copy).problems


def test_a_flipped_bit_in_a_table_of_scores_is_found(copy: Path) -> None:
    made = score_corpus(copy, None)
    data = bytearray((copy / made.path).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / made.path).write_bytes(data)
    assert [problem.where for problem in verify_corpus(copy).problems] == [made.path]
    with pytest.raises(CorpusError, match=r"is not the one that corpus\.json names"):
        Corpus(copy).scores(made.sqe_sha256)


def test_a_file_that_is_no_estimator_is_refused(copy: Path, tmp_path: Path) -> None:
    (tmp_path / "no.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match=r"no\.safetensors"):
        score_corpus(copy, tmp_path / "no.safetensors")


def test_an_estimator_that_has_not_scored_the_corpus_is_named(scored: Path) -> None:
    with pytest.raises(CorpusError, match="'ab' is not one that scored it"):
        Corpus(scored).scores("ab")


def test_poor_samples_are_drawn_again_and_then_dropped(scored: Path, tmp_path: Path) -> None:
    least = float(np.median(Corpus(scored).scores()[0]))
    for below, out in (("redraw", tmp_path / "redrawn"), ("drop", tmp_path / "dropped")):
        generate(out, recipe(least=least, below=below), workers=1)
        assert not verify_corpus(out).problems
        assert Corpus(out).scores()[0].min() >= least
    first, redrawn, dropped = (
        {s.record.id: s.record for s in Corpus(p, statuses=None)}
        for p in (scored, tmp_path / "redrawn", tmp_path / "dropped")
    )
    poor = [k for k, record in first.items() if record.status is SampleStatus.OK and record.sqe < least]
    assert len(poor) > 3
    assert all(dropped[k].status is SampleStatus.POOR and dropped[k].area_px == 0 for k in poor)
    attempts = recipe().label.attempts
    assert any(redrawn[k].status is SampleStatus.OK and redrawn[k].attempts > attempts for k in poor)
    kept = [k for k in first if k not in poor]
    assert all(redrawn[k] == dropped[k] == first[k] for k in kept)


def test_nothing_is_scored_where_the_recipe_says_so(tmp_path: Path) -> None:
    generate(tmp_path / "corpus", recipe(enabled=False), workers=1)
    corpus = Corpus(tmp_path / "corpus")
    assert corpus.info.sqe_sha256 == ""
    assert set(corpus.table["sqe"].to_pylist()) == {0.0}
    with pytest.raises(CorpusError, match="were not scored; run `maphc2f score`"):
        corpus.scores()


def _hashes(out: Path) -> dict[str, str]:
    files = [path for path in out.rglob("*") if path.is_file() and "log" not in path.relative_to(out).parts]
    return {p.relative_to(out).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
